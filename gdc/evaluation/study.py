"""A study: codecs side by side on a set of pictures, resumable.

The work is cut into units (see units), a picture through a codec. Processes,
on one machine or on the hosts of a pod, take whole pictures and leave units in
one folder; whoever finds all of them there adds them up. Sums are over the
units in the order of the pictures, so the result is the same, to the last bit,
whichever process made which.
"""
import collections
import functools
import itertools
import operator
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import gdc
from gdc.codec import bitstream, jax_settings, loading, programs
from gdc.data import image_files
from gdc.evaluation import codecs, measures, records, sweep, units
from gdc.metrics import frechet, patch_features

ORIGINAL = 'original'
UNITS = '.units'  # below the folder of the results


class Plan(NamedTuple):
  """What is evaluated; a process can be handed it.

  Attributes:
    paths: of the pictures, in order.
    codecs: names, see codecs.
    out: folder of the results, which all processes see.
    model: a model in the box, or a bundle folder.
    qualities: of the gdc codecs.
    matched: qualities of gdc at which others are held to its bytes.
    measures: keys of measures.MEASURES.
    features: 'vgg16' for FD-VGG16/256, a file of Inception's weights for
      FID/256, or None for neither.
  """

  paths: Sequence[pathlib.Path]
  codecs: Sequence[str]
  out: pathlib.Path
  model: str = gdc.DEFAULT_MODEL
  qualities: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
  matched: Sequence[float] = ()
  measures: Sequence[str] = ('psnr', 'ms-ssim', 'lpips', 'dists')
  features: str | None = 'vgg16'


class Study:
  """A plan in this process, with everything loaded that it needs.

  Attributes:
    plan: see Plan.
    names: of the pictures: their paths below what they have in common, without
      endings where these do without.
    coders: see codecs.build.
    codec: the gdc codec, None where no name asks for it.
    failed_codecs: label -> why; see `results`.
  """

  def __init__(self, plan: Plan, processes: int = 1):
    """Loads the model and the networks that measure.

    Args:
      plan: see Plan.
      processes: that work at it side by side, for the record.

    Raises:
      ValueError: what codecs.build raises, or an unknown measure.
      BundleError, OSError: a model or weights that can not be read.
    """
    measures.check(plan.measures)
    self.plan = plan
    self.names = _names(plan.paths)
    if not plan.measures and not plan.features:
      raise ValueError('measures are none: at least one is expected')
    own = any(codecs.parse(name).baseline is None for name in plan.codecs)
    if own or plan.matched:
      programs.keep()
      self.codec = loading.load(plan.model)
      for quality in plan.qualities:
        bitstream.quality_to_index(
          quality, self.codec.bundle.tables.num_qualities
        )
    else:
      self.codec = None
    self.coders = codecs.build(
      plan.codecs, self.codec, plan.qualities, plan.matched
    )
    self.extractor = _extractor(plan.features)
    self._made = records.circumstances(processes)
    self._store = units.Store(pathlib.Path(plan.out) / UNITS)
    self._seen = set()
    self._digests = {}
    self.failed_codecs = {}

  @property
  def rows(self) -> list[tuple[str, float]]:
    """(Name of the codec, quality) of every row of an image."""
    return [
      (coder.name, quality)
      for coder in self.coders for quality in coder.qualities
    ]

  @property
  def rows_per_picture(self) -> int:
    return len(self.rows)

  @jax_settings.defaults()
  def work(self, index: int, on_row: Callable | None = None) -> None:
    """Evaluates what is missing of a picture.

    Args:
      index: into the plan's paths.
      on_row: called with each row; with those that were there, with `skipped`.
    """
    path = self.plan.paths[index]
    image, _ = image_files.read_rgb(path)
    with sweep.naming(self.names[index]):
      todo = collections.defaultdict(list)
      for coder in self.coders:
        unit = self._store.load(coder.label, self._key(index, coder, image))
        lacking = self._everything if unit is None else unit.lacks(
          self.plan.measures, self._network
        )
        # Coders of one writer go together: they read the same bytes.
        todo[coder.writer, lacking].append((coder, unit))
      compare = {}  # filled as measures are needed
      for (_, lacking), group in todo.items():
        if lacking:
          self._measure(index, image, group, lacking, compare, on_row)
        elif on_row is not None:
          for row in (row for _, unit in group for row in unit.rows):
            on_row(row, skipped=True)
    if self.extractor is not None:
      key = self._key(index, None, image)
      if self._store.load(ORIGINAL, key) is None:
        self._store.save(ORIGINAL, key, units.Unit(
          [], [], self._made, self._network, self._features(image)[None]
        ))

  @property
  def _everything(self) -> tuple[str, ...]:
    """What a unit that is not there lacks."""
    features = () if self.extractor is None else (units.FEATURES,)
    return (*self.plan.measures, *features)

  def _measure(self, index, image, group, lacking, compare, on_row):
    """Makes what units of one writer lack, and saves them."""
    coders = [coder for coder, _ in group]
    extracting = units.FEATURES in lacking
    names = [name for name in lacking if name != units.FEATURES]
    compare |= measures.against(image, [n for n in names if n not in compare])
    digests = {coder.name: [] for coder in coders}
    features = {coder.name: [] for coder in coders}

    def keep(row, data, decoded):
      digests[row['codec']].append(units.row_digest(data, decoded))
      if extracting:
        features[row['codec']].append(self._features(decoded))

    failures = {}
    places = {(coder.label, image.shape) for coder in coders}
    made = sweep.picture(
      coders, self.names[index], image, {name: compare[name] for name in names},
      on_row, keep, not places <= self._seen, failures,
    )
    self._seen |= places
    for coder, old in group:
      if coder.label in failures:
        unit = units.Unit([], [], self._made, failure=failures[coder.label])
        self._store.save(coder.label, self._key(index, coder, image), unit)
        continue
      unit = units.Unit(made[coder.label], digests[coder.name], self._made)
      if extracting:
        unit = unit._replace(
          network=self._network, features=np.stack(features[coder.name])
        )
      if old is not None:
        unit = old.merged(unit)
      if unit is None:  # another picture than then: all of it anew
        self._measure(
          index, image, [(coder, None)], self._everything, compare, None
        )
      else:
        self._store.save(coder.label, self._key(index, coder, image), unit)

  def results(self) -> dict[str, dict[str, Any]]:
    """Adds up the units: label -> result, see records.result.

    An image that a codec cannot code is left out of that codec's means, and is
    in the `failed` of its meta: name -> why. A codec that can code none has no
    result; it is in `failed_codecs`.

    Raises:
      ValueError: a unit is missing.
    """
    originals = self._units() if self.extractor is not None else []
    x = np.concatenate([unit.features[0] for unit in originals] or [()])
    equal = frechet.kid(x, x) if len(x) > 1 else None
    found = {}
    self.failed_codecs = {}
    for coder in self.coders:
      made = self._units(coder)
      failed = {
        name: unit.failure
        for name, unit in zip(self.names, made, strict=True) if unit.failure
      }
      if len(failed) == len(made):
        self.failed_codecs[coder.label] = next(iter(failed.values()))
        continue
      kept = [not unit.failure for unit in made]
      made = list(itertools.compress(made, kept))
      real = list(itertools.compress(originals, kept))
      found[coder.label] = records.result(
        coder, [self._shown(row) for unit in made for row in unit.rows],
        self.plan.measures, self._distances(real, made),
        [unit.made for unit in made],
      )
      if failed:
        found[coder.label]['meta']['failed'] = failed
      if self.extractor is not None:
        found[coder.label]['meta'] |= {
          'features': self.extractor.label,
          'features_digest': self.extractor.digest,
          'num_patches': sum(unit.features.shape[1] for unit in real),
          'kid_of_equal_sets': equal,
        }
    if not found:
      label, why = next(iter(self.failed_codecs.items()))
      raise ValueError(f'no codec could code any image: {label}: {why}')
    return found

  def _shown(self, row):
    """A row with the measures that are asked for now, ahead of its times."""
    kept = {k: v for k, v in row.items() if k not in measures.MEASURES}
    times = {k: kept.pop(k) for k in ('encode_seconds', 'decode_seconds')}
    return kept | {k: row[k] for k in self.plan.measures} | times

  def _distances(self, originals, made) -> Mapping[str, list]:
    """Set-level measures, a value per quality.

    None where there are too few patches, or where a picture has none: other
    means of the curve are over all pictures.
    """
    if self.extractor is None:
      return {}
    patches = [unit.features.shape[1] for unit in originals]
    qualities = len(made[0].rows)
    values = {key: [None] * qualities for key in self.extractor.keys}
    if min(patches) == 0 or sum(patches) < 2:
      return values
    fd, kid = self.extractor.keys
    x = np.concatenate([unit.features[0] for unit in originals])
    real = _merged_moments(unit.features[0] for unit in originals)
    for i in range(qualities):
      decoded = _merged_moments(unit.features[i] for unit in made)
      values[fd][i] = frechet.distance(real, decoded)
      y = np.concatenate([unit.features[i] for unit in made])
      values[kid][i] = frechet.kid(x, y)
    return values

  @property
  def _network(self) -> str:
    return '' if self.extractor is None else self.extractor.digest

  def _features(self, image) -> np.ndarray:
    return self.extractor(patch_features.patches(image))

  def _key(self, index, coder=None, image=None) -> dict[str, Any]:
    """All that a unit depends on; of the original, without a codec."""
    if index not in self._digests:
      if image is None:
        image, _ = image_files.read_rgb(self.plan.paths[index])
      self._digests[index] = units.picture_digest(image)
    key = {
      'name': self.names[index], 'picture': self._digests[index],
      'gdc': gdc.__version__, 'backend': jax.default_backend(),
    }
    if coder is None:
      return key | {'network': self._network}
    return key | {
      'codec': dict(coder.record), 'label': coder.label,
      'qualities': list(coder.qualities),
    }

  def _units(self, coder=None) -> list[units.Unit]:
    """The units of all pictures, in order; without a codec, of originals."""
    label = ORIGINAL if coder is None else coder.label
    made = [
      self._store.load(label, self._key(index, coder))
      for index in range(len(self.plan.paths))
    ]
    absent = [
      name for name, unit in zip(self.names, made, strict=True)
      if unit is None or unit.lacks(self.plan.measures, self._network)
    ]
    if absent:
      raise ValueError(
        f'{label} has not been through {len(absent)} of {len(made)} pictures, '
        f'such as {absent[0]}: every process must leave its part in '
        f'{self.plan.out}, a folder that all of them see'
      )
    return made


def _names(paths) -> list[str]:
  """Names of images: what tells their paths apart, with endings if need be."""
  common = os.path.commonpath([path.parent for path in paths])
  below = [path.relative_to(common) for path in paths]
  count = collections.Counter(path.with_suffix('') for path in below)
  names = [
    (path if count[path.with_suffix('')] > 1 else path.with_suffix(''))
    .as_posix() for path in below
  ]
  if len(set(names)) < len(names):  # as of a.jpg, a.png and a.png.webp
    names = [path.as_posix() for path in below]
  return names


def _merged_moments(features) -> frechet.Moments:
  return functools.reduce(operator.add, map(frechet.moments, features))


def _extractor(features: str | None):
  if features is None:
    return None
  if features == 'vgg16':
    return patch_features.vgg16()
  return patch_features.inception(features)
