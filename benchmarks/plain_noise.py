"""What LPIPS says of plain noise: a baseline for every score decoder.

  python benchmarks/plain_noise.py

Adds white noise to the autoencoder's picture, as a multiple of its expected
error at that quality, and measures it like the decoders beside it: means over
the held-out pictures of the box of PSNR in dB and of LPIPS with AlexNet, which
results are reported in, and with VGG16, on whose features the one-step decoder
was trained. A decoder that lowers LPIPS by no more than noise of the same PSNR
has not been shown to make detail. Writes results/plain_noise.json.
"""
import argparse
import pathlib

import numpy as np

from gdc.codec import bitstream
from gdc.codec import codec as codec_lib
from gdc.data import sources
from gdc.evaluation import distortion, perceptual, records

OUT = pathlib.Path(__file__).parents[1] / 'results' / 'plain_noise.json'
QUALITIES = (1.0, 3.0)
NOISE = (0.05, 0.1, 0.15, 0.2, 0.3)  # of the autoencoder's RMSE
DECODERS = {
  'mse': {'decoder': 'mse'},
  'flow, 1 step': {'decoder': 'flow', 'steps': 1},
  'flow, 4 steps': {'decoder': 'flow', 'steps': 4},
}


def noisy(codec, data: bytes, amount: float, seed: int) -> np.ndarray:
  """The autoencoder's picture with noise of `amount` times its RMSE."""
  latents, header, _ = codec.read(data)
  quality = bitstream.index_to_quality(header.quality_index)
  x_hat = codec._networks.synthesise(latents, quality, np.float32)
  rmse = codec.rmse(quality)
  noise = np.random.default_rng(seed).standard_normal(x_hat.shape)
  y = np.rint((x_hat + amount * rmse * noise + 1) * 127.5)
  return np.clip(y, 0, 255).astype(np.uint8)[:header.height, :header.width]


def main():
  argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  ).parse_args()
  codec = codec_lib.load('lean')
  images = [image for _, image in sources.box_images('heldout')]
  rows = []
  for quality in QUALITIES:
    found = {}
    for i, image in enumerate(images):
      data = codec.compress(image, quality)
      pictures = {
        name: codec.decompress(data, **how) for name, how in DECODERS.items()
      } | {
        f'mse and noise of {n:g}': noisy(codec, data, n, i) for n in NOISE
      }
      for name, picture in pictures.items():
        found.setdefault(name, []).append((
          distortion.psnr(image, picture),
          perceptual.lpips(image, picture),
          perceptual.lpips(image, picture, 'vgg'),
        ))
    for name, values in found.items():
      psnr, alex, vgg = np.mean(values, axis=0)
      rows.append({
        'quality': quality, 'decoder': name, 'psnr': psnr, 'lpips': alex,
        'lpips_vgg': vgg,
      })
      print(f'{quality:g}  {name:20}  {psnr:.2f}  {alex:.4f}  {vgg:.4f}')
  meta = {'digest': codec.digest, 'pictures': f'box:heldout, {len(images)}'}
  records.save({'meta': meta, 'rows': rows}, OUT)


if __name__ == '__main__':
  main()
