"""Draws the README's image, and prints the numbers of its caption.

  python benchmarks/example.py

A held-out photograph through the bundled model at quality 1: original,
autoencoder and flow, both from the same bytes, and the most detailed part of
each, enlarged twice. JPEG's best file that is no larger is measured too, but
not shown. Writes docs/example.jpg.
"""
import argparse
import pathlib

import numpy as np

from gdc.codec import loading
from gdc.data import sources
from gdc.evaluation import baselines, heldout, records, report, showcase

OUT = pathlib.Path(__file__).parents[1] / 'docs' / 'example.jpg'
NAME = 'budgie_3b757806_v2_1_1'
QUALITY = 1.0
STEPS = 4
DETAIL = 200  # pixels


def main():
  argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  ).parse_args()
  codec = loading.load('lean')
  files = sources.build('bundled:heldout')
  index = [path.stem for path in files.paths].index(NAME)
  image = files[index]['image']
  data = codec.compress(image, QUALITY)
  jpeg, jpeg_quality = baselines.at_most_bytes('jpeg', image, len(data))
  shown = heldout.panels(image, len(data), {
    'autoencoder': codec.decompress(data, decoder='mse'),
    f'flow, {STEPS} steps': codec.decompress(data, 'flow', steps=STEPS),
  })
  _, beside = heldout.panels(image, len(jpeg), {
    f'JPEG, quality {jpeg_quality}': baselines.decode(jpeg)
  })
  for _, lines in (*shown[1:], beside):
    print(', '.join(lines))
  page = report.side_by_side(
    shown, crop=showcase.busiest(image, DETAIL), resampling='lanczos'
  )
  records.write(OUT, baselines.encode('jpeg', np.asarray(page), 92))


if __name__ == '__main__':
  main()
