"""Codecs side by side on a set of pictures: resumable, in several processes.

The work is cut into units (see units), a picture through a codec. Processes,
on one machine or on the hosts of a pod, take whole pictures and leave units in
one folder; whoever finds all of them there adds them up. Sums are over the
units in the order of the pictures, so the result is the same, to the last bit,
whichever process made which.
"""
import collections
import concurrent.futures
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdc.codec import codec as codec_lib
from gdc.codec import programs
from gdc.data import pictures
from gdc.evaluation import (
  codecs,
  frechet,
  measures,
  records,
  sweep,
  units,
)

ORIGINAL = 'original'
UNITS = '.units'  # below the folder of the results


class Plan(NamedTuple):
  """What is evaluated; a process can be handed it.

  Attributes:
    paths: of the pictures, in order; no two of one name.
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
  model: str = 'lean'
  qualities: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
  matched: Sequence[float] = ()
  measures: Sequence[str] = ('psnr', 'ms-ssim', 'lpips', 'dists')
  features: str | None = 'vgg16'


class Study:
  """A plan in this process, with everything loaded that it needs.

  Attributes:
    plan: see Plan.
    coders: see codecs.build.
    codec: the gdc codec, None where no name asks for it.
  """

  def __init__(self, plan: Plan):
    """Loads the model and the networks that measure.

    Raises:
      ValueError: what codecs.build raises, pictures of one name, or an
        unknown measure.
      BundleError, OSError: a model or weights that can not be read.
    """
    measures.check(plan.measures)
    self.plan = plan
    names = [path.stem for path in plan.paths]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
      raise ValueError(
        f'{len(twice)} names of pictures come twice, such as {min(twice)!r}: '
        'results tell pictures apart by their names without ending'
      )
    own = any(codecs.parse(name).baseline is None for name in plan.codecs)
    if own or plan.matched:
      programs.keep()
      self.codec = codec_lib.load(plan.model)
    else:
      self.codec = None
    self.coders = codecs.build(
      plan.codecs, self.codec, plan.qualities, plan.matched
    )
    self.extractor = _extractor(plan.features)
    self._store = units.Store(pathlib.Path(plan.out) / UNITS)
    self._seen = set()

  @property
  def rows_per_picture(self) -> int:
    return sum(len(coder.qualities) for coder in self.coders)

  def work(self, index: int, on_row: Callable | None = None) -> int:
    """Evaluates what is missing of a picture; returns its number of rows.

    Args:
      index: into the plan's paths.
      on_row: called with each row, also with those that were there.
    """
    path = self.plan.paths[index]
    image, _ = pictures.read_rgb(path)
    digest = units.picture_digest(image)
    with sweep.naming(path.name):
      todo = collections.defaultdict(list)
      for coder in self.coders:
        unit = self._store.load(coder.label, self._key(path, digest, coder))
        lacking = self._everything if unit is None else unit.lacks(
          self.plan.measures, self._network
        )
        # Coders of one writer go together: they read the same bytes.
        todo[coder.writer, lacking].append((coder, unit))
      compare = {}  # filled as measures are needed
      for (_, lacking), group in todo.items():
        if lacking:
          self._measure(path, image, digest, group, lacking, compare, on_row)
        elif on_row is not None:
          for row in (row for _, unit in group for row in unit.rows):
            on_row(row)
    if self.extractor is not None:
      key = self._key(path, digest)
      if self._store.load(ORIGINAL, key) is None:
        features = self._features(image)[None]
        self._store.save(
          ORIGINAL, key, units.Unit([], self._network, features)
        )
    return self.rows_per_picture

  @property
  def _everything(self) -> tuple[str, ...]:
    """What a unit that is not there lacks."""
    return units.Unit([{}]).lacks(self.plan.measures, self._network)

  def _measure(self, path, image, digest, group, lacking, compare, on_row):
    """Makes what units of one writer lack, and saves them."""
    coders = [coder for coder, _ in group]
    features = {coder.name: [] for coder in coders}

    def extract(row, decoded):
      features[row['codec']].append(self._features(decoded))

    extracting = units.FEATURES in lacking
    names = [name for name in lacking if name != units.FEATURES]
    compare |= measures.against(image, [n for n in names if n not in compare])
    place = coders[0].writer, image.shape
    made = sweep.picture(
      coders, path.stem, image,
      {name: compare[name] for name in names},
      on_row, extract if extracting else None,
      warm_up=place not in self._seen,
    )
    self._seen.add(place)
    for coder, old in group:
      unit = units.Unit(made[coder.label])
      if extracting:
        unit = unit._replace(
          network=self._network, features=np.stack(features[coder.name])
        )
      if old is not None:
        unit = old.merged(unit)
      if unit is None:  # other files than then: all of it anew
        self._measure(
          path, image, digest, [(coder, None)], self._everything, compare, None
        )
      else:
        self._store.save(coder.label, self._key(path, digest, coder), unit)

  def results(self) -> dict[str, dict[str, Any]]:
    """Adds up the units: label -> result, see records.result.

    Raises:
      ValueError: a unit is missing.
    """
    digests = [
      units.picture_digest(pictures.read_rgb(path)[0])
      for path in self.plan.paths
    ]
    originals = None
    if self.extractor is not None:
      originals = np.concatenate(
        [unit.features[0] for unit in self._units(digests)]
      )
    found = {}
    for coder in self.coders:
      made = self._units(digests, coder)
      rows = [self._shown(row) for unit in made for row in unit.rows]
      found[coder.label] = records.result(
        coder, rows, self.plan.measures, self._distances(originals, made)
      )
      if self.extractor is not None:
        found[coder.label]['meta'] |= {
          'features': self.extractor.label,
          'num_patches': len(originals),
        }
    return found

  def _shown(self, row):
    """A row with the measures that are asked for now, ahead of its times."""
    kept = {k: v for k, v in row.items() if k not in measures.MEASURES}
    times = {k: kept.pop(k) for k in ('encode_seconds', 'decode_seconds')}
    return kept | {k: row[k] for k in self.plan.measures} | times

  def _distances(self, originals, made) -> Mapping[str, list]:
    """Set-level measures, a value per quality; None where nothing can be."""
    if self.extractor is None:
      return {}
    fd, kid = self.extractor.keys
    qualities = len(made[0].rows)
    if len(originals) < 2:
      return {fd: [None] * qualities, kid: [None] * qualities}
    features = [
      np.concatenate([unit.features[i] for unit in made])
      for i in range(qualities)
    ]
    real = frechet.moments(originals)
    return {
      fd: [frechet.distance(real, frechet.moments(f)) for f in features],
      kid: [frechet.kid(originals, f) for f in features],
    }

  @property
  def _network(self) -> str:
    return '' if self.extractor is None else self.extractor.digest

  def _features(self, image) -> np.ndarray:
    return self.extractor(frechet.patches(image))

  def _key(self, path, digest, coder=None) -> dict[str, Any]:
    """All that a unit depends on; of the original, without a codec."""
    key = {'name': path.stem, 'picture': digest}
    if coder is None:
      return key | {'network': self._network}
    return key | {
      'codec': dict(coder.record), 'label': coder.label,
      'qualities': list(coder.qualities),
    }

  def _units(self, digests, coder=None) -> list[units.Unit]:
    """The units of all pictures, in order."""
    label = ORIGINAL if coder is None else coder.label
    made = [
      self._store.load(label, self._key(path, digest, coder))
      for path, digest in zip(self.plan.paths, digests, strict=True)
    ]
    absent = [
      path.name for path, unit in zip(self.plan.paths, made, strict=True)
      if unit is None or unit.lacks(self.plan.measures, self._network)
    ]
    if absent:
      raise ValueError(
        f'{label} has not been through {len(absent)} of {len(made)} pictures, '
        f'such as {absent[0]}: every process must leave its part in '
        f'{self.plan.out}, a folder that all of them see'
      )
    return made


def run(
  study: Study,
  jobs: int = 1,
  shard: tuple[int, int] = (0, 1),
  on_row: Callable[[Any], None] | None = None,
) -> None:
  """Evaluates this process' share of the pictures.

  Args:
    study: see Study, whose results() then adds up what all processes made.
    jobs: processes on this machine; more than one only on a CPU, since an
      accelerator belongs to one process, which uses all of its devices.
    shard: (i, n): every n-th picture, from the i-th on.
    on_row: called once per row, for progress; with None where another process
      made it.

  Raises:
    ValueError: jobs on an accelerator.
  """
  indices = range(shard[0], len(study.plan.paths), shard[1])
  if jobs == 1:
    for index in indices:
      study.work(index, on_row)
    return
  if jax.default_backend() != 'cpu':
    raise ValueError(
      f'jobs is {jobs}: 1 is expected on a {jax.default_backend()}, which one '
      'process must have for itself'
    )
  with concurrent.futures.ProcessPoolExecutor(
    jobs, multiprocessing.get_context('spawn'), _start, (study.plan,)
  ) as pool:
    futures = [pool.submit(_work, index) for index in indices]
    try:
      for future in concurrent.futures.as_completed(futures):
        for _ in range(future.result()):
          if on_row is not None:
            on_row(None)
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise


def meet() -> bool:
  """Waits for all processes of jax.distributed; whether this one adds up."""
  multihost_utils.sync_global_devices('evaluated')
  return jax.process_index() == 0


def _extractor(features: str | None):
  if features is None:
    return None
  if features == 'vgg16':
    return frechet.vgg16()
  return frechet.inception(features)


# --- A worker process -------------------------------------------------------

_study: Study | None = None


def _start(plan: Plan):
  """Loads the plan, before the first picture."""
  global _study
  # Each process keeps to one core: they would otherwise get in each other's
  # way. Read when the backend starts, which is later.
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'
  _study = Study(plan)


def _work(index: int) -> int:
  return _study.work(index, _stop_if_alone)


def _stop_if_alone(row):
  """Ends this process at the next row once the one that asked is gone."""
  del row
  if not multiprocessing.parent_process().is_alive():
    raise SystemExit
