"""Draws the README's image, docs/example.jpg, and prints its figures.

  python -m tools.example

A photograph that was not used in training, at quality 1: the original, and the
autoencoder and the flow decoding the same file, each above an enlarged detail.
JPEG's best file that is no larger is measured, but not shown.
"""
import argparse
import pathlib

import numpy as np
from PIL import Image

from gdc.codec import loading
from gdc.data import sources
from gdc.evaluation import baselines, heldout, records, sheets, showcase

OUT = pathlib.Path(__file__).parents[1] / 'docs' / 'example.jpg'
NAME = 'budgie_3b757806_v2_1_1'
QUALITY = 1.0
STEPS = 4
DETAIL = 200  # pixels


def main():
  argparse.ArgumentParser(
    prog='python -m tools.example', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter
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
  crop, smooth = showcase.busiest(image, DETAIL), Image.Resampling.LANCZOS
  page = sheets.side_by_side([
    (sheets.with_detail(decoded, crop, 2, resampling=smooth), lines)
    for decoded, lines in shown
  ])
  records.write(OUT, baselines.encode('jpeg', np.asarray(page), 92))


if __name__ == '__main__':
  main()
