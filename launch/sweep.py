"""Prints the command lines of sweeps, training before sampling; runs nothing.

  python -m launch.sweep                       all of configs/sweeps
  python -m launch.sweep gamma eta --missing   two, less what is measured
  python -m launch.sweep warp --config.data.source=folder:PHOTOS | sh -e

Run from the repository's root. A line is quoted for a shell. A sweep that
samples from a network of another one brings along the run that trains it.
Flags of the form --config.FIELD=VALUE go to every run.
"""
import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

from configs.sweeps import (
  base,
  eta,
  gamma,
  noise_shift,
  source_noise,
  steps,
  warp,
)
from launch import checkpoints

SWEEPS = {
  'noise_shift': noise_shift,
  'source_noise': source_noise,
  'gamma': gamma,
  'eta': eta,
  'warp': warp,
  'steps': steps,
}


def plan(names: Sequence[str]) -> list[base.Run]:
  """The runs of sweeps and those that they sample from, in an order that works.

  Args:
    names: keys of SWEEPS.
  """
  runs = [run for name in names for run in SWEEPS[name].runs()]
  # By file: two sweeps may sample from the same network.
  needed = {run.out: run for run in (r.trained or r for r in runs)}
  return [*needed.values(), *(run for run in runs if run.trained)]


def command(run: base.Run, extra: Sequence[str] = ()) -> str:
  """The command line of a run, as a shell takes it.

  Args:
    run: of a plan.
    extra: further flags, as words.
  """
  words = [
    'python', '-m', 'gdc.main', '--config', run.config,
    '--workdir', run.workdir,
    *(f'--config.{name}={value}' for name, value in run.overrides.items()),
    *extra, f'--mode={run.mode}', '--out', run.out,
  ]
  return shlex.join(words)


def main(argv: Sequence[str] | None = None):
  """Prints; exits with 2 and a line for arguments that make no sense."""
  parser = argparse.ArgumentParser(
    prog='python -m launch.sweep', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
  )
  parser.add_argument(
    'sweeps', nargs='*', metavar='SWEEP',
    help=f'of {", ".join(SWEEPS)}; default: all',
  )
  parser.add_argument(
    '--mode', choices=('train', 'eval'), help='print only the runs that '
    'train, or only those that sample: either may run side by side'
  )
  parser.add_argument(
    '--missing', action='store_true',
    help='leave out runs whose results file is there, but for those that train '
    'a network which others need and which is not there',
  )
  argv = sys.argv[1:] if argv is None else argv
  # Apart from argparse, which takes a flag with a space in it for a name.
  extra = [word for word in argv if word.startswith('--config.')]
  arguments = parser.parse_args([word for word in argv if word not in extra])
  for name in arguments.sweeps:
    if name not in SWEEPS:
      parser.error(f'no sweep {name!r}, only {", ".join(SWEEPS)}')
  runs = plan(arguments.sweeps or list(SWEEPS))
  varied = {name for run in runs for name in run.overrides}
  for word in extra:
    field, equals, _ = word.removeprefix('--config.').partition('=')
    if not equals:
      parser.error(f'{word!r} is not of the form --config.FIELD=VALUE')
    if field in varied:
      parser.error(f'{word!r} sets a field that these sweeps set themselves')
  if arguments.missing:
    lacking = [run for run in runs if not pathlib.Path(run.out).exists()]
    # A network that is to be sampled from must be there, measured or not.
    needed = {run.trained.out for run in lacking if run.trained}
    runs = [run for run in runs if run in lacking or (
      run.out in needed
      and checkpoints.newest(pathlib.Path(run.workdir)) is None
    )]
  for run in runs:
    if arguments.mode in (None, run.mode):
      print(command(run, extra))


if __name__ == '__main__':
  main()
