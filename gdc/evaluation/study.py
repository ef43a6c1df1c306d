"""A study: codecs side by side on a set of images, resumable.

The work is cut into units (see units), one image through one codec. Processes,
on one machine or on the hosts of a pod, take whole images and leave units in
one folder; whoever finds all of them there adds them up. Sums are over the
units in the order of the images, so the result is the same, to the last bit,
whichever process made which.
"""
import collections
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import gdc
from gdc import metrics
from gdc.codec import bitstream, jax_settings, loading, programs
from gdc.data import image_files
from gdc.evaluation import codecs, coding, records, units
from gdc.metrics import frechet, patch_features, rate

ORIGINAL = 'original'
UNITS = '.units'  # below the folder of the results


class Plan(NamedTuple):
  """A plan of an evaluation; it can be sent to other processes.

  Attributes:
    paths: image files, in order.
    codecs: names, see codecs.
    out: folder of the results, which all processes see.
    model: a bundled model, or a bundle folder.
    qualities: qualities of the gdc codecs.
    matched: qualities of gdc at which others are held to its bytes.
    metrics: names of metrics, in metrics.OF_IMAGES.
    features: 'vgg16' for FD-VGG16/256, a file of Inception's weights for
      FID/256, or None for neither.
  """

  paths: Sequence[pathlib.Path]
  codecs: Sequence[str]
  out: pathlib.Path
  model: str = gdc.DEFAULT_MODEL
  qualities: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
  matched: Sequence[float] = ()
  metrics: Sequence[str] = ('psnr', 'ms-ssim', 'lpips', 'dists')
  features: str | None = 'vgg16'


class Study:
  """A plan in this process, with the model and networks loaded.

  Attributes:
    plan: see Plan.
    names: image names: paths below the folder that all are in, without
      suffixes unless these are needed to tell them apart.
    coders: see codecs.build.
    codec: the gdc codec, None if no name asks for it.
    failed_codecs: label -> why; see `results`.
  """

  def __init__(
    self, plan: Plan, processes: int = 1, codec=None, strict: bool = False
  ):
    """Loads the model and the networks that measure.

    Args:
      plan: see Plan.
      processes: number that work at it side by side, for the record.
      codec: the gdc codec, if it is loaded already.
      strict: raise what a codec raises, and do not leave out its image.

    Raises:
      ValueError: what codecs.build raises, or an unknown metric.
      BundleError, OSError: a model or weights that cannot be read.
    """
    metrics.check(plan.metrics, metrics.OF_IMAGES)
    if not plan.metrics and not plan.features:
      raise ValueError('measures are none: at least one is expected')
    self.plan = plan
    self.names = _names(plan.paths)
    self.codec = codec
    own = any(codecs.parse(name).baseline is None for name in plan.codecs)
    if codec is None and (own or plan.matched):
      programs.keep()
      self.codec = loading.load(plan.model)
      for quality in plan.qualities:  # raises before anything is measured
        bitstream.quality_to_index(
          quality, self.codec.bundle.tables.num_qualities
        )
    self.coders = codecs.build(
      plan.codecs, self.codec, plan.qualities, plan.matched
    )
    self.extractor = _extractor(plan.features)
    self.failed_codecs = {}
    self._strict = strict
    self._made = records.circumstances(processes)
    self._store = units.Store(pathlib.Path(plan.out) / UNITS)
    self._seen = set()  # (label, shape) of what has been compiled
    self._digests = {}  # index -> digest of the image

  @property
  def rows(self) -> list[tuple[str, float]]:
    """(Name of the codec, quality) of every row of an image."""
    return [
      (coder.name, quality)
      for coder in self.coders for quality in coder.qualities
    ]

  # --- One image ------------------------------------------------------------

  @jax_settings.defaults()
  def work(self, index: int, on_row: Callable | None = None) -> None:
    """Evaluates what is missing of an image.

    A row is a dict: name, height, width, codec, quality, bytes, bpp, one column
    per metric (None if the image is too small for it), encode_seconds,
    decode_seconds. Images are measured as a viewer gets them, in 8 bits.

    Args:
      index: into the plan's paths.
      on_row: called with each row; with stored ones, with `skipped=True`.
    """
    image, _ = image_files.read_rgb(self.plan.paths[index])
    try:
      groups = collections.defaultdict(list)
      for coder in self.coders:
        unit = self._store.load(coder.label, self._key(index, coder, image))
        lacking = self._everything if unit is None else unit.lacks(
          self.plan.metrics, self._network
        )
        groups[coder.writer, lacking].append((coder, unit))
      against = {}  # filled as metrics are needed
      for (_, lacking), group in groups.items():
        if lacking:
          self._measure(index, image, group, lacking, against, on_row)
        elif on_row is not None:
          for row in (row for _, unit in group for row in unit.rows):
            on_row(row, skipped=True)
      if self.extractor is not None:
        key = self._key(index, None, image)
        if self._store.load(ORIGINAL, key) is None:
          self._store.save(ORIGINAL, key, units.Unit(
            [], [], self._made, self._network, self._features(image)[None]
          ))
    except Exception as error:
      error.add_note(f'(image {self.names[index]!r})')
      raise

  @property
  def _everything(self) -> tuple[str, ...]:
    """All metrics of the plan, as a unit that is missing lacks them."""
    features = () if self.extractor is None else (units.FEATURES,)
    return (*self.plan.metrics, *features)

  def _measure(self, index, image, group, lacking, against, on_row):
    """Makes what units of one writer lack, and saves them."""
    coders = [coder for coder, _ in group]
    names = [name for name in lacking if name != units.FEATURES]
    for name in set(names) - set(against):
      against[name] = metrics.OF_IMAGES[name].against(image)
    made = {coder.label: units.Unit([], [], self._made) for coder in coders}
    features = {coder.label: [] for coder in coders}
    places = {(coder.label, image.shape) for coder in coders}
    for coder, version in coding.versions(
      coders, image, warm_up=not places <= self._seen
    ):
      if isinstance(version, Exception):
        if self._strict:
          raise version
        words = f'{type(version).__name__}: {version}'.split()
        made[coder.label] = units.Unit(
          [], [], self._made, failure=' '.join(words)
        )
        continue
      row = self._row(index, coder, version, {
        name: against[name] and against[name](version.decoded)
        for name in names
      })
      made[coder.label].rows.append(row)
      made[coder.label].digests.append(
        units.row_digest(version.data, version.decoded)
      )
      if units.FEATURES in lacking:
        features[coder.label].append(self._features(version.decoded))
      if on_row is not None:
        on_row(row)
    self._seen |= places
    for coder, old in group:
      unit = made[coder.label]
      if features[coder.label] and not unit.failure:
        unit = unit._replace(
          network=self._network, features=np.stack(features[coder.label])
        )
      if old is not None and not unit.failure:
        unit = old.merged(unit)
      if unit is None:  # other files than before: measure all of it again
        self._measure(
          index, image, [(coder, None)], self._everything, against, None
        )
      else:
        self._store.save(coder.label, self._key(index, coder, image), unit)

  def _row(self, index, coder, version, measured) -> dict[str, Any]:
    height, width, _ = version.decoded.shape
    return {
      'name': self.names[index],
      'height': height,
      'width': width,
      'codec': coder.name,
      'quality': version.quality,
      'bytes': len(version.data),
      'bpp': rate.bits_per_pixel(len(version.data), height, width),
      **measured,
      'encode_seconds': version.encode_seconds,
      'decode_seconds': version.decode_seconds,
    }

  # --- All images -----------------------------------------------------------

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
      real = [
        unit.features[0] for unit in itertools.compress(originals, kept)
      ]
      found[coder.label] = records.result(
        coder, [self._shown(row) for unit in made for row in unit.rows],
        self.plan.metrics, self._of_sets(real, made),
        [unit.made for unit in made],
      )
      if failed:
        found[coder.label]['meta']['failed'] = failed
      if self.extractor is not None:
        found[coder.label]['meta'] |= {
          'features': metrics.of_sets(self.extractor.network)[0].label,
          'features_digest': self.extractor.digest,
          'num_patches': sum(map(len, real)),
          'kid_of_equal_sets': equal,
        }
    if not found:
      label, why = next(iter(self.failed_codecs.items()))
      raise ValueError(f'no codec could code any image: {label}: {why}')
    return found

  def _shown(self, row):
    """A row with the metrics that are asked for now, ahead of its times."""
    kept = {k: v for k, v in row.items() if k not in metrics.OF_IMAGES}
    times = {k: kept.pop(k) for k in ('encode_seconds', 'decode_seconds')}
    return kept | {k: row[k] for k in self.plan.metrics} | times

  def _of_sets(self, real, made) -> Mapping[str, list]:
    """Metrics of the set, a value per quality.

    None if there are too few patches, or an image has none: other means of the
    curve are over all images.
    """
    if self.extractor is None:
      return {}
    of_sets = metrics.of_sets(self.extractor.network)
    enough = min(map(len, real)) > 0 and sum(map(len, real)) > 1
    values = {metric.key: [] for metric in of_sets}
    x = np.concatenate(real)
    for i in range(len(made[0].rows)):
      y = np.concatenate([unit.features[i] for unit in made])
      for metric in of_sets:
        values[metric.key].append(metric.compute(x, y) if enough else None)
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
      self._digests[index] = units.image_digest(image)
    key = {
      'name': self.names[index], 'image': self._digests[index],
      'gdc': gdc.__version__, 'backend': jax.default_backend(),
    }
    if coder is None:
      return key | {'network': self._network}
    return key | {
      'codec': dict(coder.record), 'label': coder.label,
      'qualities': list(coder.qualities),
    }

  def _units(self, coder=None) -> list[units.Unit]:
    """The units of all images, in order; without a codec, of originals."""
    label = ORIGINAL if coder is None else coder.label
    made = [
      self._store.load(label, self._key(index, coder))
      for index in range(len(self.plan.paths))
    ]
    absent = [
      name for name, unit in zip(self.names, made, strict=True)
      if unit is None or unit.lacks(self.plan.metrics, self._network)
    ]
    if absent:
      raise ValueError(
        f'{label} has not been through {len(absent)} of {len(made)} images, '
        f'such as {absent[0]}: every process must leave its part in '
        f'{self.plan.out}, a folder that all of them see'
      )
    return made


def evaluate(
  codec,
  names: Sequence[str],
  paths: Sequence[pathlib.Path],
  qualities: Sequence[float],
  measured: Sequence[str] = ('psnr', 'lpips'),
  on_row: Callable | None = None,
) -> dict[str, dict[str, Any]]:
  """Runs a small study in this process, which leaves nothing behind.

  Args:
    codec: a loaded gdc codec.
    names: names of codecs, see codecs.
    paths: image files.
    qualities: qualities of the gdc codecs.
    measured: names of metrics, see Plan.metrics.
    on_row: see Study.work.

  Returns:
    label -> result, see records.result.

  Raises:
    ValueError: as Study; and whatever a codec raises for an image.
  """
  with tempfile.TemporaryDirectory() as out:
    study = Study(
      Plan(
        paths, names, pathlib.Path(out), codec.name, qualities,
        metrics=measured, features=None,
      ),
      codec=codec, strict=True,
    )
    for index in range(len(paths)):
      study.work(index, on_row)
    return study.results()


def _names(paths) -> list[str]:
  """Names of images: relative paths, with suffixes if two need them."""
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


def _extractor(features: str | None):
  if features is None:
    return None
  if features == 'vgg16':
    return patch_features.vgg16()
  return patch_features.inception(features)
