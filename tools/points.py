"""The points of the sweeps in results/sweeps, checked to be comparable.

A point's position is read from the config in its results file, not from the
file's name. Points that differ in more than their sweep varies are refused.
"""
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gdc import decoders
from gdc.data import sources

# Config fields that decide no figure.
BOOKKEEPING = {
  'name', 'fsdp', 'log_every', 'image_every', 'checkpoint_every',
  'checkpoints_kept',
}
# Config fields that are mentioned below a sweep's table, by stage.
_MENTIONED = {
  'flow': ('flow.source_noise',),
  'diffusion': (
    'diffusion.prediction', 'diffusion.noise_shift', 'sampling.grid',
  ),
}


class Sweep(NamedTuple):
  """How the points of a sweep are laid out.

  Attributes:
    value: recorded config -> position on the axis.
    label: of the axis.
    varies: fields that may differ between points.
    log_x: whether the axis is logarithmic.
    series: recorded config -> name of the curve that the point is on.
  """

  value: Callable[[Mapping], float]
  label: str
  varies: Sequence[str]
  log_x: bool = False
  series: Callable[[Mapping], str] = lambda record: record['stage']


class Point(NamedTuple):
  """One results file of a sweep.

  Attributes:
    path: of the file.
    series: the curve that it is on.
    value: its position on the axis.
    curve: results of the score decoder, see records.result.
    reference: results of the autoencoder alone.
  """

  path: pathlib.Path
  series: str
  value: float
  curve: Mapping
  reference: Mapping

  @property
  def config(self) -> Mapping:
    return self.curve['meta']['config']


def _field(name: str) -> Sweep:
  """A sweep along one field of the config, such as sampling.gamma."""
  section, field = name.split('.')
  return Sweep(lambda record: record[section][field], field, (name,))


def _nfe(record: Mapping) -> int:
  """Function evaluations per step."""
  decoder = decoders.DECODERS[record['stage']]
  return decoder.SAMPLERS[record['sampling']['sampler']].nfe


SWEEPS = {
  'noise_shift': _field('diffusion.noise_shift')._replace(
    varies=('diffusion.noise_shift', 'sampling.grid'), log_x=True,
    series=lambda record: f'grid in {record["sampling"]["grid"]}',
  ),
  'source_noise': _field('flow.source_noise'),
  'gamma': _field('sampling.gamma'),
  'eta': _field('sampling.eta'),
  'warp': _field('sampling.warp'),
  'steps': Sweep(
    lambda record: record['sampling']['steps'] * _nfe(record),
    'evaluations of the network',
    ('sampling.steps', 'sampling.sampler'),
    log_x=True,
    series=lambda record: (
      f'{record["stage"]}, {record["sampling"]["sampler"]}'
    ),
  ),
}


def read(folder, layout: Sweep) -> list[Point]:
  """Returns the points of a sweep, sorted by series and position.

  Args:
    folder: of the results files; it need not exist.
    layout: of the sweep.

  Raises:
    ValueError: a file that gdc.main did not write, or points that differ in
      more than the layout lets vary.
  """
  points = []
  for path in sorted(pathlib.Path(folder).glob('*.json')):
    curves = json.loads(path.read_text())
    try:
      reference = curves.pop('mse')
      (curve,) = curves.values()
      config = curve['meta']['config']
      points.append(Point(
        path, layout.series(config), layout.value(config), curve, reference
      ))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise ValueError(
        f'{path} does not hold the results of one score decoder with its '
        f'config, as gdc.main --out writes them: {e!r}.'
      ) from e
  _check_comparable(points, layout.varies)
  return sorted(points, key=lambda p: (p.series, p.value))


def _check_comparable(points, varies):
  """Raises ValueError if points differ where they must not."""
  first, places = {}, {}
  for point in points:
    other = places.setdefault((point.series, point.value), point)
    if other is not point:
      raise ValueError(f'{other.path} and {point.path} are the same point.')
    stage = point.config['stage']
    # All points share images and bits, those of one stage all else.
    for key, fields in (
      ('', _shared_fields(point)), (stage, _config_fields(point, varies))
    ):
      path, known = first.setdefault(key, (point.path, fields))
      # A field that only one of them has was added between the runs.
      different = sorted(
        name for name in known.keys() & fields.keys()
        if known[name] != fields[name]
      )
      if different:
        raise ValueError(
          f'{path} and {point.path} cannot be compared: they differ in '
          f'{", ".join(different)}.'
        )


def _shared_fields(point):
  return {
    'digest': point.curve['meta']['digest'],
    'quality': point.curve['results']['quality'],
    'the images': sorted({row['name'] for row in point.curve['images']}),
  }


def _config_fields(point, varies):
  flat = {}
  for name, value in point.config.items():
    if isinstance(value, Mapping):
      flat |= {f'{name}.{field}': item for field, item in value.items()}
    elif name not in BOOKKEEPING:
      flat[name] = value
  return {name: value for name, value in flat.items() if name not in varies}


def conditions(points: Sequence[Point], layout: Sweep) -> str:
  """Returns a paragraph about what a sweep was measured on and with."""
  shown = points[0].curve
  meta = shown['meta']
  rates = ' and '.join(f'{bpp:.3f}' for bpp in shown['results']['bpp'])
  source = points[0].config['evaluation']['source']
  photographs = ''
  if source.startswith('bundled:'):
    count = sources.num_originals(row['name'] for row in shown['images'])
    photographs = f', crops of {count} photographs'
  said = [
    f'Means over the {meta["num_images"]} images of `{source}`{photographs}, '
    f'at {rates} bits per pixel.'
  ]
  for stage, config in {p.config['stage']: p.config for p in points}.items():
    data, sampling = config['data'], config['sampling']
    channels = ', '.join(map(str, config['score_net']['widths']))
    start = f'from `{config["init_from"]}` ' if config.get('init_from') else ''
    sentence = (
      f'The {stage} network ({channels} channels) was trained {start}for '
      f'{config["steps"]:,} steps of {data["batch_size"]} crops of '
      f'{data["crop"]} pixels of `{data["source"]}`, seed {config["seed"]}'
    )
    if 'sampling.steps' not in layout.varies:
      sentence += f'; {sampling["sampler"]}, {sampling["steps"]} steps'
    for name in _MENTIONED.get(stage, ()):
      section, field = name.split('.')
      if name not in layout.varies and field in config[section]:
        sentence += f'; {field} {config[section][field]}'
    said.append(f'{sentence}.')
  machines = sorted({machine(p.curve['meta']) for p in points})
  said.append(
    f'Autoencoder `{meta["model"]}` (`{meta["digest"][:8]}`). '
    f'Evaluated on {" and ".join(machines)}.'
  )
  return ' '.join(said)


def machine(meta: Mapping) -> str:
  """The machine in a result's meta, in words."""
  said = meta['machine']
  devices = ', '.join(said['devices'])
  return (
    f'{said["platform"]}, {said["cpus"]} CPU cores, jax '
    f'{meta["versions"]["jax"]} ({devices})'
  )
