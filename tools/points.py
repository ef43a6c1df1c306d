"""The points of the sweeps: results files, read and held comparable.

Where a point stands is read from the config that its results carry, not from
its file's name, and points that differ in more than their sweep varies are
refused.
"""
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gdc import decoders
from gdc.data import sources

# Fields of a config that decide no figure.
BOOKKEEPING = {
  'name', 'fsdp', 'log_every', 'image_every', 'checkpoint_every',
  'checkpoints_kept',
}


# Of each stage, what is said of its networks and their sampling.
_SHOWN = {
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
    varies: fields that may differ from point to point.
    log_x: whether the axis is logarithmic.
    series: recorded config -> the curve that the point is on.
  """

  value: Callable[[Mapping], float]
  label: str
  varies: Sequence[str]
  log_x: bool = False
  series: Callable[[Mapping], str] = lambda record: record['stage']


class Point(NamedTuple):
  """One results file of a sweep."""

  path: pathlib.Path
  series: str
  value: float
  curve: Mapping  # of the score decoder, as study.evaluate made it
  reference: Mapping  # of the autoencoder alone


def _field(name: str, **more) -> Sweep:
  """A sweep along one field of the config, such as sampling.gamma."""
  section, field = name.split('.')
  return Sweep(lambda record: record[section][field], field, (name,), **more)


SWEEPS = {
  'noise_shift': Sweep(
    lambda record: record['diffusion']['noise_shift'], 'noise_shift',
    ('diffusion.noise_shift', 'sampling.grid'), log_x=True,
    series=lambda record: f'grid in {record["sampling"]["grid"]}',
  ),
  'source_noise': _field('flow.source_noise'),
  'gamma': _field('sampling.gamma'),
  'eta': _field('sampling.eta'),
  'warp': _field('sampling.warp'),
  'steps': Sweep(
    # What takes the time: a Heun step evaluates the network twice.
    lambda record: (
      record['sampling']['steps'] * decoders.DECODERS[record['stage']]
      .SAMPLERS[record['sampling']['sampler']].nfe
    ),
    'evaluations of the network',
    ('sampling.steps', 'sampling.sampler'),
    log_x=True,
    series=lambda record: (
      f'{record["stage"]}, {record["sampling"]["sampler"]}'
    ),
  ),
}


def read(folder, layout: Sweep) -> list[Point]:
  """The points of a sweep, by series and position.

  Args:
    folder: of the results files; it need not exist.
    layout: see Sweep.

  Raises:
    ValueError: a file that no run of gdc.main wrote, or points that differ in
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
        f'{path} has not the results of one score decoder with its config, as '
        f'gdc.main --out writes them: {e!r}.'
      ) from e
  _check_comparable(points, layout.varies)
  return sorted(points, key=lambda p: (p.series, p.value))


def _check_comparable(points, varies):
  """Raises ValueError if points differ where they may not."""
  first, places = {}, {}
  for point in points:
    stage = point.curve['meta']['config']['stage']
    place = point.series, point.value
    other = places.setdefault(place, point)
    if other is not point:
      raise ValueError(f'{other.path} and {point.path} are the same point.')
    # Two stages share the pictures and the bits, two points of one all else.
    for key, fields in (
      ('', _shared_fields(point)), (stage, _config_fields(point, varies))
    ):
      path, known = first.setdefault(key, (point.path, fields))
      # A field that one of them has not is of a newer version.
      different = sorted(
        name for name in known.keys() & fields.keys()
        if known[name] != fields[name]
      )
      if different:
        raise ValueError(
          f'{path} and {point.path} do not compare: they differ in '
          f'{", ".join(different)}.'
        )


def _shared_fields(point):
  return {
    'digest': point.curve['meta']['digest'],
    'quality': point.curve['results']['quality'],
    'the pictures': sorted({row['name'] for row in point.curve['images']}),
  }


def _config_fields(point, varies):
  flat = {}
  for name, value in point.curve['meta']['config'].items():
    if isinstance(value, Mapping):
      flat |= {f'{name}.{field}': item for field, item in value.items()}
    elif name not in BOOKKEEPING:
      flat[name] = value
  return {name: value for name, value in flat.items() if name not in varies}


def conditions(points: Sequence[Point], layout: Sweep) -> str:
  """A paragraph: what a sweep was measured on and with."""
  shown = points[0].curve
  meta = shown['meta']
  rates = ' and '.join(f'{bpp:.3f}' for bpp in shown['results']['bpp'])
  source = meta['config']['evaluation']['source']
  photographs = ''
  if source.startswith('bundled:'):
    count = sources.num_originals(row['name'] for row in shown['images'])
    photographs = f', crops of {count} photographs'
  said = [
    f'Means over the {meta["num_images"]} pictures of `{source}`{photographs}, '
    f'at {rates} bits per pixel.'
  ]
  stages = {
    p.curve['meta']['config']['stage']: p.curve['meta']['config']
    for p in points
  }
  for stage, config in stages.items():
    data = config['data']
    channels = ', '.join(map(str, config['score_net']['widths']))
    sentence = (
      f'The {stage} network ({channels} channels) was trained for '
      f'{config["steps"]:,} steps of {data["batch_size"]} crops of '
      f'{data["crop"]} pixels of `{data["source"]}`, seed {config["seed"]}'
    )
    if 'sampling.steps' not in layout.varies:
      sampling = config['sampling']
      sentence += f'; {sampling["sampler"]}, {sampling["steps"]} steps'
    for name in _SHOWN.get(stage, ()):
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
  """The machine of a result's meta, in words."""
  said = meta['machine']
  devices = ', '.join(said['devices'])
  return (
    f'{said["platform"]}, {said["cpus"]} CPU cores, jax '
    f'{meta["versions"]["jax"]} ({devices})'
  )
