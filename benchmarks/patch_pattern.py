"""Tests whether a score decoder leaves a pattern that repeats with its network.

  python benchmarks/patch_pattern.py MODEL [MODEL ...] [--folder FOLDER]

Considers what a decoder adds to the autoencoder's image on smooth blocks
(standard deviation of brightness below --smooth). Each line gives the share of
its energy that repeats with the network's patches, in blocks of 32 pixels, and
with its coarsest positions, 16 pixels for the bundled ones, in blocks of 64:
the mean at each phase less the overall mean. White noise has (1 - 1/16) / 64 =
1.5 % and (1 - 1/256) / 16 = 6.2 %; a pattern has more.
"""
import argparse
import json
import pathlib

import numpy as np

from gdc.codec import loading
from gdc.data import image_files, sources
from gdc.models import receptive_field


def blocks(image: np.ndarray, side: int) -> np.ndarray:
  """Cuts [height, width, ...] into [n, side, side, ...]."""
  rows, columns = (n // side for n in image.shape[:2])
  cut = image[:rows * side, :columns * side]
  cut = cut.reshape(rows, side, columns, side, *image.shape[2:])
  return cut.swapaxes(1, 2).reshape(-1, side, side, *image.shape[2:])


def energies(added: np.ndarray, period: int) -> tuple[float, float]:
  """Returns the energies of [n, side, side, 3]: periodic, and total."""
  n, count = len(added), added.shape[1] // period
  added = added - added.mean((1, 2), keepdims=True)
  phases = added.reshape(n, count, period, count, period, 3).mean((1, 3))
  return float(np.square(phases).mean()), float(np.square(added).mean())


def measure(
  codec, images, quality: float, decoder: str, smooth: float
) -> dict:
  """Returns a row of the table."""
  fields = codec.bundle.decoders[decoder][0]
  coarsest = receptive_field.score_stride(fields)
  row = {
    'model': codec.digest[:8], 'quality': quality,
    'decoder': f'{decoder} {codec.decoder_digests[decoder][:8]}',
  }
  pairs = []
  for image in images:
    data = codec.compress(image, quality=quality, lossless='never')
    plain, real = (
      codec.decompress(data, name).astype(np.float32)
      for name in ('mse', decoder)
    )
    pairs.append((image.astype(np.float32).mean(-1), real - plain))
  for period, side in ((fields['patch'], 32), (coarsest, 64)):
    added = np.concatenate([
      blocks(added, side)[blocks(brightness, side).std((1, 2)) < smooth]
      for brightness, added in pairs
    ])
    periodic, total = energies(added, period) if len(added) else (0.0, 0.0)
    row |= {
      f'blocks of {side}': len(added), f'added_rms in {side}': total**0.5,
      f'share of period {period}': periodic / total if total else None,
    }
  return row


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
