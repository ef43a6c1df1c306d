"""Measures what a bundle's contexts save, and what lies between its levels.

  python benchmarks/contexts.py BUNDLE [--images SOURCE]
  python benchmarks/contexts.py BUNDLE --between 1.5,2.5 --fit SOURCE

Prints bits per pixel at each quality level, by the ideal code length: with the
bundle's static tables and with its contexts. --between adds qualities between
the levels, where the weights of contexts are interpolated, and compares with
contexts that are fitted there, on as many crops of the source as the bundle's
contexts.
"""
import argparse

import numpy as np

from gdc.codec import bitstream, loading, slices
from gdc.data import sources
from gdc.evaluation import tables
from gdc.training import contexts_step, fit_contexts


def fit_between(codec, qualities, source: str):
  """Returns contexts whose levels are these qualities."""
  record = codec.bundle.fitted_on
  crops = contexts_step.draw(
    sources.build(source), record['crops'], record['crop'], record['seed']
  )
  return fit_contexts.fit(
    lambda i: [
      contexts_step.symbols(codec, crop, qualities[i]) for crop in crops
    ], len(qualities),
  )


def measure(codec, images, quality: float, others: dict) -> dict:
  """Returns a row of the table.

  Args:
    codec: of a bundle with contexts.
    images: uint8 [height, width, 3] each.
    quality: a multiple of 1/16.
    others: name -> (contexts, quality index) to code with as well.
  """
  bundle = codec.bundle
  index = bitstream.quality_to_index(quality, bundle.tables.num_qualities)
  models = {
    'static': (bundle.tables, index), 'contexts': (bundle.contexts, index),
    **others,
  }
  bits, pixels = dict.fromkeys(models, 0.0), 0
  for image in images:
    latents = np.moveaxis(codec.encode(image, quality), -1, 0)
    pixels += image.shape[0] * image.shape[1]
    for name, (model, position) in models.items():
      bits[name] += slices.ideal_bits(
        latents, model, position, bundle.predicted_channels
      )
  row = {'quality': quality}
  row |= {name: round(b / pixels, 4) for name, b in bits.items()}
  row['saved, %'] = round(100 * (1 - bits['contexts'] / bits['static']), 2)
  if 'fitted' in bits:
    row['loss, %'] = round(100 * (bits['contexts'] / bits['fitted'] - 1), 2)
  return row


def table(rows) -> str:
  """Returns rows as a table for a terminal."""
  cells = [[f'{value:g}' for value in row.values()] for row in rows]
  return tables.Table('', '', list(rows[0]), cells).text


def _qualities(text: str) -> list[float]:
  return [float(word) for word in text.split(',')]


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  made = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('bundle', help='a bundle folder or pretrained name')
  made.add_argument(
    '--images', metavar='SOURCE', default='bundled:heldout',
    help='bundled:heldout or folder:PATH; default: %(default)s',
  )
  made.add_argument('--max-images', type=int, default=0, help='0 takes all')
  made.add_argument(
    '--between', metavar='Q,...', type=_qualities, default=[],
    help='multiples of 1/16 between the levels',
  )
  made.add_argument(
    '--fit', metavar='SOURCE', default='bundled:train',
    help='what to fit on; default: %(default)s',
  )
  return made


def main():
  asked = parser().parse_args()
  codec = loading.load(asked.bundle)
  if codec.bundle.contexts is None:
    parser().error(f'{asked.bundle} has no contexts.')
  images = [image for _, image in sources.files(asked.images).readable()]
  images = images[:asked.max_images or None]
  levels = np.arange(1.0, codec.bundle.autoencoder_spec['num_levels'] + 1)
  rows = [measure(codec, images, float(level), {}) for level in levels]
  print(table(rows), flush=True)
  if asked.between:
    fitted = fit_between(codec, asked.between, asked.fit)
    print(table([
      measure(codec, images, quality, {
        'fitted': (fitted, i * bitstream.QUALITY_STEPS)
      }) for i, quality in enumerate(asked.between)
    ]))


if __name__ == '__main__':
  main()
