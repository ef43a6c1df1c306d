"""The end of the main job: a small study of its bundle on held-out images.

Every figure is of real files, decoded by the autoencoder alone and by the score
decoder that was trained.
"""
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdc import atomic, metrics, progress
from gdc.codec import jax_settings, loading
from gdc.data import image_files, sources
from gdc.evaluation import records, sheets, study, tables
from gdc.metrics import distortion, perceptual, rate

SHOWN = 3  # images that are shown side by side


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
  """Evaluates a bundle; writes images to look at, and figures.

  Args:
    bundle_path: a bundle folder.
    source: bundled:heldout or folder:PATH.
    qualities: each in the model's range.
    max_images: the first so many; 0 takes all. Images too small for LPIPS are
      left out, which is printed.
    decoder: the score decoder to compare with the autoencoder, if any.
    pictures: folder for the images; None writes none.
    results: file for the figures, records.result as JSON; None writes none.
    record: the run's config, for `config` in each result's meta; absolute
      paths in it are cut to their last names.

  Returns:
    What was written: name -> path.

  Raises:
    ValueError: the source is not one of files, or has none that can be read.
  """
  codec = loading.load(bundle_path)
  files = sources.files(source)
  smallest = metrics.OF_IMAGES['lpips'].smallest
  paths, small = [], []
  for path, image in itertools.islice(files.readable(), max_images or None):
    (small if min(image.shape[:2]) < smallest else paths).append(path)
  if small:
    names = ', '.join(path.stem for path in small)
    print(f'Left out, below {smallest} pixels: {names}')
  if not paths:
    raise ValueError(f'None of the files of {source} can be evaluated.')
  decoders = ['mse', decoder] if decoder else ['mse']
  written = {}
  if pictures is not None:
    written['pictures'] = '  '.join(
      _draw(codec, decoders, path, min(qualities), pathlib.Path(pictures))
      for path in paths[:SHOWN]
    )
  if results is None:
    return written
  total = len(paths) * len(qualities) * len(decoders)
  with progress.Bar(total, 'evaluating', tiles=False) as bar:
    measured = study.evaluate(
      codec, [f'gdc:{name}' for name in decoders], paths, list(qualities),
      on_row=lambda row: bar.advance(),
    )
  curves = {
    label.removeprefix('gdc:'): curve for label, curve in measured.items()
  }
  for curve in curves.values():
    curve['meta']['config'] = records.portable(record or {})
  records.save(curves, results)
  print(tables.summary(curves).text)
  return {**written, 'results': str(results)}


def panels(
  image: np.ndarray, num_bytes: int, decoded: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, list[str]]]:
  """Captions for an original and what was decoded from one file of it.

  Args:
    image: uint8 [height, width, 3], large enough for LPIPS.
    num_bytes: file size.
    decoded: title -> image of the same size.

  Returns:
    Arguments of sheets.side_by_side: the original, then each image with its
    title, size, PSNR and LPIPS (AlexNet).
  """
  height, width, _ = image.shape
  bpp = rate.bits_per_pixel(num_bytes, height, width)
  made = [(image, [f'original, {width} x {height}', ''])]
  for title, version in decoded.items():
    made.append((version, [
      f'{title}, {bpp:.3f} bpp ({num_bytes:,} bytes)',
      f'{distortion.psnr(image, version):.2f} dB, '
      f'LPIPS {perceptual.lpips(image, version):.3f}',
    ]))
  return made


def _draw(codec, decoders, path, quality, folder: pathlib.Path) -> str:
  """Shows an image and every decoder side by side; returns the file's path."""
  image, _ = image_files.read_rgb(path)
  data = codec.compress(image, quality, lossless='never')
  shown = panels(image, len(data), {
    'autoencoder' if decoder == 'mse' else decoder:
    codec.decompress(data, decoder=decoder) for decoder in decoders
  })
  folder.mkdir(parents=True, exist_ok=True)
  target = folder / f'{path.stem}_q{quality:g}.png'
  with atomic.replaced(target) as temporary:
    sheets.side_by_side(shown).save(temporary, format='PNG')
  return str(target)
