"""Measures what slices cost in bytes, and what threads save in time.

  python benchmarks/slices.py [--model MODEL] [--quality Q] [--side PIXELS]

An image of --side x --side pixels, as benchmarks/large_images.py makes it, is
analysed once. Its latents are then coded in slices of several sizes, and, in
those of the format, with one thread and with more: the median of --rounds, in
turns, of predictions, contexts and range coder, without networks.
"""
import argparse
import pathlib
import runpy
import statistics
import time

import numpy as np

from gdc.codec import bitstream, contexts, loading, slices

SIDES = 32, 64, 128, 256  # positions
IMAGES = pathlib.Path(__file__).with_name('large_images.py')


def seconds(run) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('--model', default='lean', help='default %(default)s')
  made.add_argument('--quality', type=float, default=3, help='default 3')
  made.add_argument('--side', type=int, default=4096, help='default 4096')
  made.add_argument('--threads', type=int, default=2, help='at most; default 2')
  made.add_argument('--rounds', type=int, default=5, help='default 5')
  return made


def main():
  asked = parser().parse_args()
  codec = loading.load(asked.model)
  model, predicted = codec.bundle.entropy_model, codec.bundle.predicted_channels
  if codec.bundle.contexts is None:
    parser().error(f'{asked.model} has no contexts, and so no slices.')
  index = bitstream.quality_to_index(asked.quality, model.num_qualities)
  image = runpy.run_path(str(IMAGES))['test_image'](asked.side, asked.side)
  latents = np.moveaxis(codec.encode(image, asked.quality), -1, 0)
  grid = latents.shape[1:]

  usual, sizes = contexts.SLICE_SIDE, {}
  for side in SIDES:
    contexts.SLICE_SIDE = side
    sizes[side] = len(slices.encode(latents, model, index, predicted))
  contexts.SLICE_SIDE = usual
  for side, size in sizes.items():
    more = 100 * (size / sizes[max(SIDES)] - 1)
    print(f'slices of {side} x {side} positions: {size} bytes, {more:+.2f} %')

  payload = slices.encode(latents, model, index, predicted)
  times = {}
  for _ in range(asked.rounds):
    for threads in range(1, asked.threads + 1):
      slices.MAX_THREADS = threads
      for name, run in (
        ('encode', lambda: slices.encode(latents, model, index, predicted)),
        ('decode', lambda: slices.decode(
          payload, model, index, grid, predicted
        )),
      ):
        times.setdefault((name, threads), []).append(seconds(run))
  for (name, threads), found in times.items():
    median = statistics.median(found)
    ratio = statistics.median(times[name, 1]) / median
    print(f'{name}, {threads} threads: {median:.3f} s, {ratio:.2f} times')


if __name__ == '__main__':
  main()
