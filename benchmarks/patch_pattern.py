"""Tests whether a score decoder leaves a pattern that repeats with its patches.

  python benchmarks/patch_pattern.py MODEL [MODEL ...] [--folder FOLDER]

Considers what a decoder adds to the autoencoder's image on smooth blocks of 32
x 32 pixels (standard deviation of brightness below --smooth). Each line gives
the share of its energy that repeats with the patches: the mean at each phase of
the patch less the overall mean. White noise has (1 - 1/16) / 64, 1.5 %; a
pattern has more.
"""
import argparse
import json
import pathlib

import numpy as np

from gdc.codec import loading
from gdc.data import image_files, sources

BLOCK = 32


def blocks(image: np.ndarray) -> np.ndarray:
  """Cuts [height, width, ...] into [n, BLOCK, BLOCK, ...]."""
  rows, columns = (n // BLOCK for n in image.shape[:2])
  cut = image[:rows * BLOCK, :columns * BLOCK]
  cut = cut.reshape(rows, BLOCK, columns, BLOCK, *image.shape[2:])
  return cut.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK, *image.shape[2:])


def energies(added: np.ndarray, patch: int) -> tuple[float, float]:
  """Returns the energies of [n, BLOCK, BLOCK, 3]: periodic, and total."""
  n, count = len(added), BLOCK // patch
  added = added - added.mean((1, 2), keepdims=True)
  phases = added.reshape(n, count, patch, count, patch, 3).mean((1, 3))
  return float(np.square(phases).mean()), float(np.square(added).mean())


def measure(
  codec, images, quality: float, decoder: str, smooth: float
) -> dict:
  """Returns a row of the table."""
  patch = codec.bundle.decoders[decoder][0]['patch']
  found, energy, total = 0, 0.0, 0.0
  for image in images:
    data = codec.compress(image, quality=quality, lossless='never')
    plain, real = (
      blocks(codec.decompress(data, name).astype(np.float32))
      for name in ('mse', decoder)
    )
    brightness = blocks(image.astype(np.float32).mean(-1))
    chosen = brightness.std((1, 2)) < smooth
    if chosen.any():
      periodic, both = energies((real - plain)[chosen], patch)
      found += int(chosen.sum())
      energy += periodic * chosen.sum()
      total += both * chosen.sum()
  return {
    'model': codec.digest[:8], 'quality': quality,
    'decoder': f'{decoder} {codec.decoder_digests[decoder][:8]}',
    'blocks': found,
    'added_rms': (total / found) ** 0.5 if found else None,
    'periodic_share': energy / total if total else None,
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('models', nargs='+', metavar='MODEL')
  parser.add_argument(
    '--folder', type=pathlib.Path,
    help='of images; default: the bundled held-out photographs',
  )
  parser.add_argument('--decoder', default='one_step')
  parser.add_argument('--smooth', type=float, default=6.0, help='of 255')
  arguments = parser.parse_args()
  if arguments.folder is None:
    images = [image for _, image in sources.bundled_images('heldout')]
  else:
    images = [
      image_files.read_rgb(path)[0] for path in sources.below(arguments.folder)
    ]
  for codec in map(loading.load, arguments.models):
    for quality in (1.0, 3.0):
      print(json.dumps(measure(
        codec, images, quality, arguments.decoder, arguments.smooth
      )))


if __name__ == '__main__':
  main()
