"""Prints the commands of sweeps, training before sampling; runs nothing.

  python -m launch.sweep                       all of configs/sweeps
  python -m launch.sweep gamma eta --missing   two, without what is measured
  python -m launch.sweep warp --config.data.source=folder:PHOTOS | sh -e

Run from the repository's root. Lines are quoted for a shell. A sweep that
samples from another sweep's network includes the run that trains it. Flags of
the form --config.FIELD=VALUE go to every run.
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

SWEEPS = {
  'noise_shift': noise_shift,
  'source_noise': source_noise,
  'gamma': gamma,
  'eta': eta,
  'warp': warp,
  'steps': steps,
}


def plan(names: Sequence[str]) -> list[base.Run]:
  """Returns the runs of sweeps, those that train before those that sample.

  Args:
    names: keys of SWEEPS.
  """
  runs = [run for name in names for run in SWEEPS[name].runs()]
  # Keyed by file, as sweeps may sample from the same network.
  needed = {run.out: run for run in (r.trained or r for r in runs)}
  return [*needed.values(), *(run for run in runs if run.trained)]


def command(run: base.Run, extra: Sequence[str] = ()) -> str:
  """Returns the shell command of a run, with further flags."""
  words = [
    'python', '-m', 'gdc.main', '--config', run.config,
    '--workdir', run.workdir,
    *(f'--config.{name}={value}' for name, value in run.overrides.items()),
    *extra, f'--mode={run.mode}', '--out', run.out,
  ]
  return shlex.join(words)


def main(argv: Sequence[str] | None = None):
  """Prints the commands; exits with status 2 for wrong arguments."""
  parser = argparse.ArgumentParser(
    prog='python -m launch.sweep', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
  )
  parser.add_argument(
    'sweeps', nargs='*', metavar='SWEEP',
    help=f'one of {", ".join(SWEEPS)}; default: all',
  )
  parser.add_argument(
    '--mode', choices=('train', 'eval'), help='print only the runs that '
    'train, or only those that sample; each kind may run in parallel'
  )
  parser.add_argument(
    '--missing', action='store_true',
    help='leave out runs whose results file exists, unless others need the '
    'network that they train and it has no checkpoint',
  )
  argv = sys.argv[1:] if argv is None else argv
  # Not left to argparse, which takes a flag with a space for a name.
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
    needed = {run.trained.out for run in lacking if run.trained}
    runs = [run for run in runs if run in lacking or (
      run.out in needed
      and not any(
        path.name.isdigit()
        for path in pathlib.Path(run.workdir, 'checkpoints').glob('*')
      )
    )]
  for run in runs:
    if arguments.mode in (None, run.mode):
      print(command(run, extra))


if __name__ == '__main__':
  main()
