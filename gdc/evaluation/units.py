"""Finished pieces of an evaluation; a stopped one continues from them.

A unit is one image through one codec at all its qualities: rows of figures, and
the features of the decoded image's patches. Its file is named by a digest of
all that it depends on, so a unit of another image, model or encoder is never
taken for it. Metrics can be added to a unit later.
"""
import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdc.evaluation import records

VERSION = 2  # increases when a figure changes its meaning
FEATURES = 'features'  # among the metrics that a unit lacks


class Unit(NamedTuple):
  """One image through one codec.

  Attributes:
    rows: one per quality, see study.Study.
    digests: one per row, of its file and decoded image, see `row_digest`.
    made: versions, machine and date, see records.circumstances.
    network: digest of the network that made the features; '' without any.
    features: float32 [qualities, patches, dimension].
    failure: why the codec cannot code the image; '' if it can. No rows then.
  """

  rows: list[dict[str, Any]]
  digests: list[str]
  made: Mapping[str, Any]
  network: str = ''
  features: np.ndarray = np.zeros((0, 0, 0), np.float32)
  failure: str = ''

  def lacks(self, names: Sequence[str], network: str) -> tuple[str, ...]:
    """Returns the metrics that are not in it; FEATURES for other features."""
    if self.failure:
      return ()
    lacking = [n for n in names if any(n not in row for row in self.rows)]
    if network not in ('', self.network):
      lacking.append(FEATURES)
    return tuple(lacking)

  def merged(self, other: 'Unit') -> 'Unit | None':
    """Adds the metrics of another; None if files or decoded images differ.

    They may, on another machine, and no row may have figures of two images.
    """
    if self.digests != other.digests:
      return None
    rows = [new | old for old, new in zip(self.rows, other.rows, strict=True)]
    newer = other if other.network else self
    return newer._replace(rows=rows, made=self.made)


class Store:
  """A folder of units; several processes may write to it side by side."""

  def __init__(self, folder):
    self._folder = pathlib.Path(folder)

  def load(self, label: str, key: Mapping[str, Any]) -> Unit | None:
    """Reads a unit; None if there is none, or a damaged one.

    Args:
      label: the codec's label.
      key: all that the unit depends on, as JSON can hold it.
    """
    try:
      with np.load(self._path(label, key), allow_pickle=False) as file:
        record = json.loads(str(file['record']))
        return Unit(**record, features=file['features'])
    except (
      OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile,
    ):
      return None

  def save(self, label: str, key: Mapping[str, Any], unit: Unit) -> None:
    """Writes a unit, whole or not at all."""
    content = io.BytesIO()
    record = unit._asdict()
    features = record.pop('features')
    np.savez(content, record=json.dumps(record), features=features)
    records.write(self._path(label, key), content.getvalue())

  def _path(self, label, key) -> pathlib.Path:
    canonical = json.dumps([VERSION, key], sort_keys=True)
    name = hashlib.sha256(canonical.encode()).hexdigest()
    return self._folder / label.replace(':', '-') / f'{name[:32]}.npz'


def row_digest(data: bytes, decoded: np.ndarray) -> str:
  """SHA-256 of a file and of the image that was decoded from it."""
  found = hashlib.sha256(hashlib.sha256(data).digest())
  found.update(image_digest(decoded).encode())
  return found.hexdigest()


def image_digest(image: np.ndarray) -> str:
  """SHA-256 of an image's size and samples, uint8 [height, width, 3]."""
  found = hashlib.sha256(f'{image.shape}'.encode())
  found.update(np.ascontiguousarray(image).tobytes())
  return found.hexdigest()
