"""The end of the main job: a bundle on held-out photographs.

Every figure is of real files: a picture is compressed to bytes, the bytes are
decoded, by the autoencoder alone and by the score decoder that was trained,
and the decoded 8-bit picture is measured.
"""
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdc import atomic, progress
from gdc.codec import jax_settings, loading
from gdc.data import sources
from gdc.evaluation import codecs, records, report, sweep, tables
from gdc.metrics import distortion, perceptual, rate

PICTURES = 3  # how many photographs are shown side by side


@jax_settings.defaults()
def run(
  bundle_path,
  *,
  source: str,
  qualities: Sequence[float],
  max_images: int = 0,
  decoder: str | None = None,
  pictures: str | os.PathLike | None = None,
  results: str | os.PathLike | None = None,
  record: Mapping[str, Any] | None = None,
) -> dict[str, str]:
  """Evaluates a bundle; writes pictures to look at, and figures.

  Args:
    bundle_path: a bundle folder.
    source: bundled:heldout or folder:PATH.
    qualities: each in the model's range.
    max_images: the first so many; 0 takes all. Pictures that are too small
      for LPIPS are left out, and that is said.
    decoder: the score decoder to compare with the autoencoder; None: no one.
    pictures: folder of the pictures; None makes none.
    results: file of the figures, records.result's as JSON; None makes none.
    record: of the run, for `config` in each result's meta. Results are for
      others to read: absolute paths in it are cut to their last names.

  Returns:
    What was written: name -> path.

  Raises:
    ValueError: the source is not one of files.
  """
  codec = loading.load(bundle_path)
  files = sources.files(source)
  images = [
    (path.stem, image)
    for path, image in itertools.islice(files.readable(), max_images or None)
  ]
  if not images:
    raise ValueError(f'None of the files of {source} can be read.')
  smallest = perceptual.NETWORKS['alex'][1]
  small = [n for n, image in images if min(image.shape[:2]) < smallest]
  if small:
    print(f'Left out, below {smallest} pixels: {", ".join(small)}')
    images = [(n, image) for n, image in images if n not in small]
  names = ['mse', decoder] if decoder else ['mse']
  paths = {}
  if pictures is not None:
    folder = pathlib.Path(pictures)
    shown = _pictures(codec, names, images, min(qualities), folder)
    paths['pictures'] = '  '.join(map(str, shown))
  if results is None:
    return paths

  coders = codecs.build(
    [f'gdc:{name}' for name in names], codec, list(qualities)
  )
  total = len(images) * len(qualities) * len(coders)
  with progress.Bar(total, 'evaluating', tiles=False) as bar:
    measured = sweep.evaluate(
      coders, images, on_row=lambda row: bar.advance()
    )
  curves = {
    label.removeprefix('gdc:'): curve for label, curve in measured.items()
  }
  for curve in curves.values():
    curve['meta']['config'] = records.portable(record or {})
  records.save(curves, results)
  print(report.format_table(tables.summary(curves)))
  return {**paths, 'results': str(results)}


def panels(
  image: np.ndarray, num_bytes: int, decoded: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, list[str]]]:
  """Captions for an original and what was decoded from one file of it.

  Args:
    image: uint8 [height, width, 3], large enough for LPIPS.
    num_bytes: of the file.
    decoded: title -> picture of the same size.

  Returns:
    Arguments of report.side_by_side: the original, then each picture with its
    title, size, PSNR and LPIPS (AlexNet).
  """
  height, width, _ = image.shape
  bpp = rate.bits_per_pixel(num_bytes, height, width)
  made = [(image, [f'original, {width} x {height}', ''])]
  for title, picture in decoded.items():
    made.append((picture, [
      f'{title}, {bpp:.3f} bpp ({num_bytes:,} bytes)',
      f'{distortion.psnr(image, picture):.2f} dB, '
      f'LPIPS {perceptual.lpips(image, picture):.3f}',
    ]))
  return made


def _pictures(codec, names, images, quality, folder: pathlib.Path):
  """Original and every decoder, side by side; returns the files' paths."""
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name, image in images[:PICTURES]:
    data = codec.compress(image, quality, lossless='never')
    shown = panels(image, len(data), {
      'autoencoder' if decoder == 'mse' else decoder:
      codec.decompress(data, decoder=decoder) for decoder in names
    })
    path = folder / f'{name}_q{quality:g}.png'
    with atomic.replaced(path) as temporary:
      report.side_by_side(shown).save(temporary, format='PNG')
    paths.append(path)
  return paths
