"""Measures LPIPS of plain noise, a baseline for every score decoder.

  python benchmarks/plain_noise.py

Adds white noise to the autoencoder's image, as a multiple of its expected error
at that quality, and measures it like the decoders: means over the bundled
held-out images of PSNR in dB and of LPIPS with AlexNet, which results report,
and with VGG16, on whose features the one-step decoder was trained. A decoder
that lowers LPIPS by no more than noise of the same PSNR has not been shown to
add detail. Writes results/plain_noise.json.
"""
import argparse
import pathlib

from gdc.codec import loading
from gdc.data import sources
from gdc.evaluation import records, study, tables

OUT = pathlib.Path(__file__).parents[1] / 'results' / 'plain_noise.json'
QUALITIES = (1.0, 3.0)
# Noise is in units of the autoencoder's expected error, see codecs.
CODECS = {
  'gdc:mse': 'mse',
  'gdc:one_step': 'one_step',
  'gdc:flow@4': 'flow, 4 steps',
} | {
  f'gdc:mse+{noise}': f'mse and noise of {noise}'
  for noise in (0.05, 0.1, 0.15, 0.2, 0.3)
}


def main():
  argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  ).parse_args()
  codec = loading.load('lean')
  images = sources.bundled('heldout').paths
  curves = study.evaluate(
    codec, list(CODECS), images, QUALITIES, ('psnr', 'lpips', 'lpips-vgg')
  )
  rows = [
    {
      'quality': quality,
      'decoder': CODECS[label],
      'psnr': curve['results']['psnr-rgb'][i],
      'lpips': curve['results']['lpips-alex'][i],
      'lpips_vgg': curve['results']['lpips-vgg'][i],
    }
    for i, quality in enumerate(QUALITIES)
    for label, curve in curves.items()
  ]
  print(tables.summary(curves).text)
  meta = {'digest': codec.digest, 'pictures': f'bundled:heldout, {len(images)}'}
  records.save({'meta': meta, 'rows': rows}, OUT)


if __name__ == '__main__':
  main()
