"""A sweep: pictures x qualities x decoders -> rows, means and results files.

Rates are those of the bytes that the codec wrote, container and all. A
picture is compressed once per quality, and every decoder reads those same
bytes. A mean is the mean of the pictures' own figures (the bpp of each, the
PSNR of each), every picture weighing the same whatever its size: the protocol
of CompressAI and of MS-ILLM. Its results format is CompressAI's, so that
either's plots read the other's files.
"""

import collections
import datetime
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import gdc
from gdc.evaluation import baselines, distortion, perceptual, rate

# Name of a measure, which is its column in the rows -> its key in CompressAI's
# results, and the function of (reference, decoded).
MEASURES = {
  'psnr': ('psnr-rgb', distortion.psnr),
  'lpips': ('lpips-alex', perceptual.lpips),
}

# Columns of a row that every codec has -> their keys in CompressAI's results.
COLUMNS = {
  'bpp': 'bpp',
  'encode_seconds': 'encoding_time',
  'decode_seconds': 'decoding_time',
}

PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'pillow', 'constriction')

Row = dict[str, Any]
OnRow = Callable[[Row], None] | None


def label(decoder: Mapping[str, Any]) -> str:
  """The name of a decoder's curve: 'mse', 'flow', 'flow@4'."""
  steps = decoder.get('steps')
  return decoder['decoder'] + ('' if steps is None else f'@{steps}')


def evaluate(
  codec,
  images: Iterable[tuple[str, np.ndarray]],
  qualities: Sequence[float],
  decoders: Sequence[Mapping[str, Any]] = ({'decoder': 'mse'},),
  measures: Sequence[str] = ('psnr', 'lpips'),
  on_row: OnRow = None,
  warm_up: bool = True,
) -> dict[str, dict[str, Any]]:
  """Sweeps a codec of this package over pictures.

  Args:
    codec: has compress(image, quality) -> bytes, decompress(data, decoder,
      steps, seed) -> uint8 [height, width, 3], resolve(decoder, steps), name
      and digest.
    images: pairs of a name and uint8 [height, width, 3]; read once, so a
      generator will do.
    qualities: on the codec's scale.
    decoders: arguments of decompress, such as {'decoder': 'flow', 'steps': 4,
      'seed': 0}; their labels must differ.
    measures: names in MEASURES.
    on_row: called with each row as it is made, for progress.
    warm_up: compress and decompress each new picture size once before it is
      timed, so that seconds do not include compilation.

  Returns:
    One result per decoder, by label:
      name, description: of the curve.
      meta: the model's name and digest, arguments, versions, machine, date.
      results: lists over qualities, in the order given: quality, bpp (the
        mean of the pictures' bpp), psnr-rgb in dB, lpips-alex,
        encoding_time and decoding_time in seconds.
      images: rows, one per picture and quality: name, height, width, codec,
        quality, bytes, bpp, one column per measure, encode_seconds,
        decode_seconds.

  Raises:
    ValueError: no pictures, no or repeated qualities, decoders' labels that
      repeat, an unknown measure; and what a measure raises for a picture,
      with a note that names it.
  """
  qualities = list(qualities)
  labels = [label(decoder) for decoder in decoders]
  decompress = {
    name: functools.partial(codec.decompress, **decoder)
    for name, decoder in zip(labels, decoders, strict=True)
  }
  if not labels or len(decompress) < len(labels):
    raise ValueError(
      f'decoders are {labels}: at least one, all different, are expected'
    )
  rows = _sweep(
    codec.compress,
    decompress,
    images,
    qualities,
    measures,
    f'gdc-{codec.name}:',
    on_row,
    warm_up,
  )
  entries = {
    name: codec.resolve(decoder['decoder'], decoder.get('steps'))[0]
    for name, decoder in zip(labels, decoders, strict=True)
  }
  results = {}
  for name, decoder in zip(labels, decoders, strict=True):
    meta = {
      'model': codec.name,
      'digest': codec.digest,
      'decoder': dict(decoder),
      # Which of the bundle's it is: flow with one step may be another.
      'entry': entries[name],
    }
    results[name] = _result(
      f'gdc-{codec.name}:{name}',
      f'gdc, model {codec.name}, decoder {name}',
      meta,
      rows[name],
      qualities,
      measures,
      warm_up,
    )
  return results


def baseline(
  name: str,
  images: Iterable[tuple[str, np.ndarray]],
  qualities: Sequence[int],
  measures: Sequence[str] = ('psnr', 'lpips'),
  on_row: OnRow = None,
) -> dict[str, dict[str, Any]]:
  """Sweeps JPEG, WebP or AVIF over pictures; one result, in evaluate's form.

  Args:
    name: a key of baselines.BASELINES.
    images: pairs of a name and uint8 [height, width, 3].
    qualities: integers on the encoder's own scale.
    measures: names in MEASURES.
    on_row: called with each row as it is made.

  Returns:
    {name: result}, the result as evaluate makes it.

  Raises:
    ValueError: as evaluate and baselines.encode.
  """
  qualities = list(qualities)
  rows = _sweep(
    functools.partial(baselines.encode, name),
    {name: baselines.decode},
    images,
    qualities,
    measures,
    '',
    on_row,
    warm_up=False,
  )
  settings = baselines.BASELINES[name]
  meta = {'model': name, 'digest': None, 'settings': dict(settings.options)}
  return {
    name: _result(
      name,
      f'{settings.format} through Pillow, 4:2:0',
      meta,
      rows[name],
      qualities,
      measures,
      warm_up=False,
    )
  }


def save(results: Mapping[str, Any], path: str | os.PathLike) -> None:
  """Writes results, or one of them, as JSON, whole or not at all.

  JSON has no infinity: the PSNR of an equal picture is written as null.

  Args:
    results: what evaluate or baseline returned, or one value of it, which is
      a file that CompressAI's plots read.
    path: of the file; its folder is made if need be.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(_finite(results), indent=2, allow_nan=False)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    temporary.write_text(text + '\n')
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _sweep(
  compress, decompress, images, qualities, measures, prefix, on_row, warm_up
):
  """{label: rows}; decompress is {label: function of bytes}."""
  unknown = [name for name in measures if name not in MEASURES]
  if unknown:
    raise ValueError(
      f'measures has {unknown}: any of {", ".join(map(repr, MEASURES))} are '
      'expected'
    )
  if not qualities or len(set(qualities)) < len(qualities):
    raise ValueError(
      f'qualities is {qualities}: at least one, all different, are expected'
    )
  rows = collections.defaultdict(list)
  shapes_seen = set()
  for name, image in images:
    try:
      distortion.check_image(image)
      height, width, _ = image.shape
      if warm_up and image.shape not in shapes_seen:
        data = compress(image, qualities[0])
        for decode in decompress.values():
          decode(data)
        shapes_seen.add(image.shape)
      for quality in qualities:
        data, encode_seconds = _timed(compress, image, quality)
        for key, decode in decompress.items():
          decoded, decode_seconds = _timed(decode, data)
          row = {
            'name': name,
            'height': height,
            'width': width,
            'codec': prefix + key,
            'quality': quality,
            'bytes': len(data),
            'bpp': rate.bits_per_pixel(len(data), height, width),
          }
          for measure in measures:
            row[measure] = MEASURES[measure][1](image, decoded)
          row |= {
            'encode_seconds': encode_seconds,
            'decode_seconds': decode_seconds,
          }
          rows[key].append(row)
          if on_row is not None:
            on_row(row)
    except Exception as error:
      error.add_note(f'This was picture {name!r}.')
      raise
  if not rows:
    raise ValueError('images is empty: at least one picture is expected')
  return rows


def _timed(function, *args):
  """(function(*args), seconds); what it returns is on the host already."""
  start = time.perf_counter()
  value = function(*args)
  return value, time.perf_counter() - start


def _result(name, description, meta, rows, qualities, measures, warm_up):
  """One curve in CompressAI's results format, with its rows."""
  columns = COLUMNS | {measure: MEASURES[measure][0] for measure in measures}
  means = {'quality': list(qualities)}
  for column, key in columns.items():
    means[key] = [
      float(np.mean([row[column] for row in rows if row['quality'] == quality]))
      for quality in qualities
    ]
  return {
    'name': name,
    'description': description,
    'meta': meta
    | {
      'num_images': len(rows) // len(qualities),
      'averaging': "mean over pictures of each picture's own figure",
      'timing': 'wall-clock seconds per picture, '
      + ('compilation excluded' if warm_up else 'first calls included'),
      'versions': _versions(),
      'machine': {
        'platform': f'{platform.system()} {platform.machine()}',
        'processor': platform.processor() or platform.machine(),
        'cpus': os.cpu_count(),
        'devices': [device.device_kind for device in jax.devices()],
      },
      'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    },
    'results': means,
    'images': rows,
  }


def _versions():
  """{package: version}, 'unknown' for one that is not installed."""
  versions = {'gdc': gdc.__version__, 'python': platform.python_version()}
  for package in PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = 'unknown'
  return versions


def _finite(value):
  """A copy for JSON: numpy scalars become Python's, inf and nan None."""
  if isinstance(value, Mapping):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
