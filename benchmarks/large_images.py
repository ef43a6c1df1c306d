"""Measures time and peak memory of the command line on large images.

  python benchmarks/large_images.py --sizes 1,10,100
  python benchmarks/large_images.py --sizes 24 --decoders mse,one_step,flow

For every size in megapixels it makes a PNG, runs `gdc compress` on it and `gdc
decompress` on the file with every decoder (and of a region, if --region asks
for it), each in its own process, and prints wall time, time of all cores (which
other processes affect less) and peak resident memory; then wall time and memory
less those of a process that only imports jax. Reading and writing the PNGs is
included. Compiled programs go to a folder of this run: the first of --repeat
runs of a size compiles what is missing.

The images have sides 3 : 2 and consist of bundled photographs, mirrored to 1024
x 1024 or, every second one, enlarged to that size, so that there are smooth
parts and texture.

Peak memory is what the kernel reports for each child when it ends (wait4). On
Linux a child begins with its parent's peak, so this process imports only the
standard library, and the images are made in a child.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CELL = 1024
MAKE = '--make'


def sizes(text: str) -> list[float]:
  """Parses megapixels, separated by commas."""
  values = [float(word) for word in text.split(',')]
  if not all(0 < value <= 268 for value in values):
    raise argparse.ArgumentTypeError(
      f'sizes are megapixels above 0 and at most 268, not {text!r}'
    )
  return values


def parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    description='Time and memory of gdc compress and decompress by size.'
  )
  made.add_argument(
    '--sizes', type=sizes, default='1,10,100', metavar='LIST',
    help='in megapixels; default %(default)s',
  )
  made.add_argument(
    '--repeat', type=int, default=2, metavar='N',
    help='runs of every command; the first may compile; default 2',
  )
  made.add_argument(
    '--decoders', type=lambda text: text.split(','), default='mse',
    metavar='LIST', help='of decompress; default mse',
  )
  made.add_argument(
    '--region', type=int, default=0, metavar='SIDE',
    help='also decompress a square of this side in pixels, at the centre',
  )
  made.add_argument('--json', metavar='OUT', type=pathlib.Path)
  made.add_argument(MAKE, nargs=3, help=argparse.SUPPRESS)
  return made


def test_image(width: int, height: int):
  """Returns an image, uint8 [height, width, 3], see the module's docstring."""
  import numpy as np
  from PIL import Image

  from gdc.data import sources
  photos = sources.bundled('heldout')
  canvas = np.empty((height, width, 3), np.uint8)
  cells = [
    (top, left)
    for top in range(0, height, CELL) for left in range(0, width, CELL)
  ]
  for i, (top, left) in enumerate(cells):
    photo = photos[i % len(photos)]['image']
    if i % 2:
      photo = np.asarray(
        Image.fromarray(photo).resize((CELL, CELL), Image.Resampling.LANCZOS)
      )
    else:
      rows, columns = (CELL - n for n in photo.shape[:2])
      photo = np.pad(photo, ((0, rows), (0, columns), (0, 0)), 'symmetric')
    space = canvas[top:top + CELL, left:left + CELL]
    space[:] = photo[:space.shape[0], :space.shape[1]]
  return canvas


def make(path: str, width: str, height: str):
  """Writes an image as PNG."""
  from PIL import Image
  Image.fromarray(test_image(int(width), int(height))).save(
    path, compress_level=1
  )


def run(command: list[str], environment=None) -> tuple[float, float, float]:
  """Runs a process: wall seconds, peak resident MiB, seconds of all cores."""
  start = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, *command], cwd=ROOT, env=environment,
    stdout=subprocess.DEVNULL,
  )
  _, status, usage = os.wait4(process.pid, 0)
  seconds = time.perf_counter() - start
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise SystemExit(
      f'{" ".join(command)} ended with status {process.returncode}.'
    )
  # In KiB on Linux, in bytes on macOS.
  unit = 2**20 if sys.platform == 'darwin' else 2**10
  return seconds, usage.ru_maxrss / unit, usage.ru_utime + usage.ru_stime


def main():
  arguments = parser().parse_args()
  if arguments.make:
    make(*arguments.make)
    return
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    environment = {**os.environ, 'XDG_CACHE_HOME': str(folder / 'cache')}
    for name in ('GDC_CACHE_DIR', 'JAX_COMPILATION_CACHE_DIR'):
      environment.pop(name, None)
    floors = {}
    for code in ('pass', 'import jax'):
      run(['-c', code])  # from disk into memory
      floors[code] = run(['-c', code])
      print(
        f'python -c {code!r}: {floors[code][0]:.2f} s, '
        f'{floors[code][1]:.0f} MiB', flush=True
      )
    print(
      '\n    MP  command                     run  seconds  s less jax    s/MP  '
      '  all cores  peak MiB'
      '  MiB less jax  MiB/MP'
    )
    for size in arguments.sizes:
      width = round(math.sqrt(1e6 * size * 3 / 2))
      height = round(1e6 * size / width)
      source, coded, back = (
        folder / name for name in ('in.png', 'out.gdc', 'back.png')
      )
      run([__file__, MAKE, str(source), str(width), str(height)])
      side = arguments.region
      region = f'{(width - side) // 2},{(height - side) // 2},{side},{side}'
      commands = [('compress', [source, '-o', coded])]
      for name in arguments.decoders:
        words = [coded, '-o', back, '--decoder', name]
        commands.append((f'decompress {name}', words))
        if side:
          commands.append(
            (f'decompress {name} region', [*words, '--region', region])
          )
      for name, words in commands:
        command = [
          '-m', 'gdc', name.split()[0], *map(str, words), '--force'
        ]
        for number in range(1, arguments.repeat + 1):
          seconds, peak, cores = run(command, environment)
          own = [a - b for a, b in zip(
            (seconds, peak), floors['import jax'][:2], strict=True
          )]
          megapixels = width * height / 1e6
          rows.append({
            'width': width, 'height': height, 'command': name, 'run': number,
            'seconds': seconds, 'peak_mib': peak, 'cpu_seconds': cores,
            'seconds_less_jax': own[0], 'peak_mib_less_jax': own[1],
            'file_bytes': coded.stat().st_size,
          })
          print(
            f'{megapixels:6.1f}  {name:26}  {number:3}  {seconds:7.2f}  '
            f'{own[0]:10.2f}  {own[0] / megapixels:6.2f}  {cores:11.1f}  '
            f'{peak:8.0f}  '
            f'{own[1]:12.0f}  {own[1] / megapixels:6.1f}', flush=True
          )
  if arguments.json:
    arguments.json.write_text(
      json.dumps({'floors': floors, 'rows': rows}, indent=2) + '\n'
    )


if __name__ == '__main__':
  main()
