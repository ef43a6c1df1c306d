"""Draws the README's image, docs/example.jpg, and records its figures.

  python -m tools.example && python -m tools.results

A photograph at quality 1: the original, AVIF, HEVC and gdc with its default
decoder. AVIF and HEVC have their best files that are no larger than that of
gdc. Below each is the same detail, enlarged: the busiest one of the original
(gdc.evaluation.showcase.busiest).

The photograph is the first by name of the bundled ones that no training saw
(bundled:heldout), whatever comes out. results/example.json holds the figures,
from which tools.results makes the caption.
"""
import argparse
import hashlib
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gdc import decoders, metrics
from gdc.codec import loading
from gdc.data import sources
from gdc.evaluation import baselines, records, sheets, showcase
from tools import comparisons

ROOT = pathlib.Path(__file__).parents[1]
OUT, RECORD = ROOT / 'docs' / 'example.jpg', ROOT / 'results' / 'example.json'
QUALITY = 1.0
MEASURES = 'psnr', 'lpips', 'dists'
PANEL, DETAIL = 400, 128  # pixels: a panel's width; side of the detail
FONT = 26  # pixels; four panels are shown at half their size


class Version(NamedTuple):
  """A decoded image, and what is recorded of its file."""

  image: np.ndarray
  record: dict[str, Any]


def compare(codec, image: np.ndarray) -> list[Version]:
  """Codes an image with gdc, and with the rivals at no more bytes.

  Args:
    codec: a loaded gdc codec.
    image: uint8 [height, width, 3], large enough for MEASURES.

  Returns:
    gdc with its default decoder first. Records have name, quality, bytes, and
    MEASURES by their keys in results files.
  """
  data = codec.compress(image, QUALITY, lossless='never')
  decoder = decoders.default(codec.decoders)
  made = [(
    f'gdc ({decoder})', QUALITY, data, codec.decompress(data, decoder=decoder)
  )]
  for name in comparisons.RIVALS:
    smaller, quality = baselines.at_most_bytes(name, image, len(data))
    made.append((
      baselines.BASELINES[name].title, quality, smaller,
      baselines.decode(smaller),
    ))
  shown = [metrics.OF_IMAGES[name] for name in MEASURES]
  against = {metric.key: metric.against(image) for metric in shown}
  return [
    Version(decoded, {
      'name': name, 'quality': quality, 'bytes': len(coded),
      **{key: measure(decoded) for key, measure in against.items()},
    })
    for name, quality, coded, decoded in made
  ]


def draw(image: np.ndarray, versions: list[Version]) -> Image.Image:
  """Draws an original and its versions, gdc last, above details and figures.

  Args:
    image: uint8 [height, width, 3].
    versions: see compare.
  """
  height, width, _ = image.shape
  crop, scale = showcase.busiest(image, DETAIL), PANEL / width
  magnify = PANEL / (crop[2] - crop[0])
  own, *others = versions
  panels = [(image, ['original', f'{width} x {height} pixels'])] + [
    (version.image, caption(version.record)) for version in (*others, own)
  ]
  return sheets.side_by_side([
    (
      sheets.with_detail(
        shown, crop, magnify, scale, Image.Resampling.LANCZOS
      ),
      lines,
    ) for shown, lines in panels
  ], font_size=FONT)


def caption(record) -> list[str]:
  """The lines below a version."""
  psnr, lpips, dists = (record[metrics.OF_IMAGES[n].key] for n in MEASURES)
  return [
    record['name'],
    f'{record["bytes"]:,} bytes, PSNR {psnr:.2f} dB',
    f'LPIPS {lpips:.3f}, DISTS {dists:.3f}',
  ]


def main():
  argparse.ArgumentParser(
    prog='python -m tools.example', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter
  ).parse_args()
  codec = loading.load('lean')
  files = sources.build('bundled:heldout')
  names = [path.stem for path in files.paths]
  name = min(names)
  image = files[names.index(name)]['image']
  versions = compare(codec, image)
  for version in versions:
    print(', '.join(caption(version.record)))
  page = baselines.encode('jpeg', np.asarray(draw(image, versions)), 92)
  decoder = decoders.default(codec.decoders)
  records.write(OUT, page)
  records.save({
    'photograph': name, 'quality': QUALITY, 'model': codec.name,
    'digest': codec.digest, 'decoder': decoder,
    'decoder_digest': codec.decoder_digests.get(decoder),
    'encoders': {
      rival: baselines.library(rival) for rival in comparisons.RIVALS
    },
    'image_sha256': hashlib.sha256(page).hexdigest(),
    'files': [version.record for version in versions],
  }, RECORD)
  print(f'python -m tools.results puts them into the caption of {OUT.name}.')


if __name__ == '__main__':
  main()
