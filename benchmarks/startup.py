"""Times whole processes: what a user waits for besides the work itself.

  python benchmarks/startup.py

`gdc compress` of a 768 x 512 image, from starting the interpreter to the file
on disk, with compiled programs kept by earlier runs, against `python -c 'import
jax'`; and `gdc --help`, against `python -c pass`. The commands take turns;
medians.

The image is a bundled held-out photograph (512 x 512) extended to the right by
its mirror image. Compiled programs are kept in a folder of this run.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WARM_UP = 2  # rounds; the first compiles, the second reads what it kept


def parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    description='Times whole processes of the command gdc.'
  )
  made.add_argument('--rounds', type=int, default=7, help='default 7')
  return made


def make_image(path):
  """Writes the image as PNG."""
  import numpy as np
  from PIL import Image

  from gdc.data import sources
  image = sources.bundled('heldout')[0]['image']
  image = np.pad(image, ((0, 0), (0, 256), (0, 0)), 'symmetric')
  assert image.shape == (512, 768, 3), image.shape
  Image.fromarray(image).save(path)


def seconds(command: list[str], environment) -> float:
  """Returns the wall time of a process."""
  start = time.perf_counter()
  subprocess.run(
    [sys.executable, *command], cwd=ROOT, env=environment, check=True,
    stdout=subprocess.DEVNULL,
  )
  return time.perf_counter() - start


def main():
  arguments = parser().parse_args()
  if arguments.rounds < 1:
    raise SystemExit(f'--rounds must be 1 or more, not {arguments.rounds}.')
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    make_image(folder / 'in.png')
    environment = {**os.environ, 'XDG_CACHE_HOME': str(folder / 'cache')}
    for name in ('GDC_CACHE_DIR', 'JAX_COMPILATION_CACHE_DIR'):
      environment.pop(name, None)
    commands = {
      'gdc compress': [
        '-m', 'gdc', 'compress', str(folder / 'in.png'), '-o',
        str(folder / 'out.gdc'), '--force',
      ],
      'import jax': ['-c', 'import jax'],
      'gdc --help': ['-m', 'gdc', '--help'],
      'pass': ['-c', 'pass'],
    }
    times = {name: [] for name in commands}
    for number in range(WARM_UP + arguments.rounds):
      for name, command in commands.items():
        taken = seconds(command, environment)
        if number >= WARM_UP:
          times[name].append(taken)
  medians = {name: statistics.median(t) for name, t in times.items()}
  for name, median in medians.items():
    print(
      f'{name:14} {median:7.3f} s   (from {min(times[name]):.3f} to '
      f'{max(times[name]):.3f})'
    )
  for name, floor in (('gdc compress', 'import jax'), ('gdc --help', 'pass')):
    print(f'{name} / {floor}: {medians[name] / medians[floor]:.2f}')


if __name__ == '__main__':
  main()
