"""The finished pieces of an evaluation, from which a stopped one goes on.

A unit is one picture through one codec at all its qualities: rows of figures,
and the features of the decoded pictures' patches. Its file's name holds the
digest of all that it depends on, so that a unit of another picture, model or
encoder is never taken for it. Measures can be added to a unit later.
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

# Goes up with every change of what a figure means.
VERSION = 2
FEATURES = 'features'  # among the measures that a unit lacks


class Unit(NamedTuple):
  """One picture through one codec.

  Attributes:
    rows: of sweep.picture, one per quality.
    digests: of each row's file and decoded picture, see `row_digest`.
    made: with what and when, see records.circumstances.
    network: digest of the network that made the features; '' for none.
    features: float32 [qualities, patches, dimension].
    failure: why the codec cannot code the image: there are no rows then.
  """

  rows: list[dict[str, Any]]
  digests: list[str]
  made: Mapping[str, Any]
  network: str = ''
  features: np.ndarray = np.zeros((0, 0, 0), np.float32)
  failure: str = ''

  def lacks(self, names: Sequence[str], network: str) -> tuple[str, ...]:
    """The measures that are not in it; FEATURES for other features."""
    if self.failure:
      return ()
    lacking = [n for n in names if any(n not in row for row in self.rows)]
    if network not in ('', self.network):
      lacking.append(FEATURES)
    return tuple(lacking)

  def merged(self, other: 'Unit') -> 'Unit | None':
    """With what another has more; None if they are of other pictures.

    Neither files nor decoded pictures need be the same on another machine, and
    no row may have figures of two.
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
    """A unit, or None if there is none, or no whole one.

    Args:
      label: of the codec.
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
  """SHA-256 of a file and of the picture that was decoded from it."""
  found = hashlib.sha256(hashlib.sha256(data).digest())
  found.update(picture_digest(decoded).encode())
  return found.hexdigest()


def picture_digest(image: np.ndarray) -> str:
  """SHA-256 of a picture's size and samples, uint8 [height, width, 3]."""
  found = hashlib.sha256(f'{image.shape}'.encode())
  found.update(np.ascontiguousarray(image).tobytes())
  return found.hexdigest()
