"""Weights in files that torch wrote, read without torch and without code.

A .pth file is a pickle, which may name anything to be called. Here it may name
torch's constructor of tensors, its types of storage and OrderedDict, nothing
else, so that no file can run code. Both layouts are read: the zip archive
(torch 1.6 and later) and the older one, pickles and raw storages in a row. So
are .safetensors files.
"""

import collections
import io
import os
import pathlib
import pickle
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

_MAGIC = 0x1950A86A20F9469CFC6C  # of the older layout
_STORAGES = {
  'FloatStorage': '<f4',
  'DoubleStorage': '<f8',
  'HalfStorage': '<f2',
  'LongStorage': '<i8',
}
# What damaged files are seen to raise, from the readers of three formats.
_DAMAGE = (
  pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error,
  safetensors.SafetensorError, LookupError, TypeError, AttributeError,
  ValueError, ArithmeticError, RuntimeError, MemoryError, EOFError, OSError,
)


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The tensors of a state dict.

  Args:
    path: of a .pth or .pt file that holds a dict of tensors at its top, or of
      a .safetensors file.

  Returns:
    Name -> array, of the shapes and types in the file.

  Raises:
    ValueError: the file doesn't exist, isn't of these kinds, is damaged, or
      names anything but tensors.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path} is not a file: a file of weights is expected')
  try:
    if path.suffix == '.safetensors':
      return safetensors.numpy.load_file(path)
    with path.open('rb') as file:
      read = _read_zip if zipfile.is_zipfile(file) else _read_older
      file.seek(0)
      return read(file)
  except _DAMAGE as error:
    raise ValueError(
      f'{path} is not a readable file of weights, a dict of tensors that torch '
      f'or safetensors wrote: {error}'
    ) from error


class _Storage(NamedTuple):
  """A pickled mention of numbers that lie elsewhere in the file."""

  dtype: str
  key: str


class _Tensor(NamedTuple):
  """A pickled view of a storage; offset and strides in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def array(self, buffers: dict[str, bytes]) -> np.ndarray:
    flat = np.frombuffer(buffers[self.storage.key], self.storage.dtype)
    size = flat.itemsize
    # The buffer is checked against the view, unlike by as_strided.
    return np.ndarray(
      self.shape, flat.dtype, flat, self.offset * size,
      tuple(s * size for s in self.strides),
    )


def _rebuild_tensor(storage, offset, shape, strides, *unused):
  if not isinstance(storage, _Storage):
    raise pickle.UnpicklingError('a tensor without a storage')
  return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
  def find_class(self, module, name):
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _rebuild_tensor
    if module == 'torch' and name in _STORAGES:
      return _STORAGES[name]
    raise pickle.UnpicklingError(
      f'it names {module}.{name}: only tensors of '
      f'{", ".join(_STORAGES)} are expected'
    )

  def persistent_load(self, pid):
    kind, dtype, key = pid[:3]
    if kind != 'storage' or dtype not in _STORAGES.values():
      raise pickle.UnpicklingError(f'it holds {kind!r}: a storage is expected')
    return _Storage(dtype, key)


def _read_zip(file) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(file) as archive:
    entries = {  # all are in one folder, whose name is any
      name.partition('/')[2]: name for name in archive.namelist()
    }
    tensors = _Unpickler(io.BytesIO(archive.read(entries['data.pkl']))).load()
    keys = {t.storage.key for t in _checked(tensors).values()}
    buffers = {key: archive.read(entries[f'data/{key}']) for key in keys}
  return {name: t.array(buffers) for name, t in tensors.items()}


def _read_older(file) -> dict[str, np.ndarray]:
  magic, _, _ = (_Unpickler(file).load() for _ in range(3))
  if magic != _MAGIC:
    raise pickle.UnpicklingError('it does not begin as one of torch does')
  tensors = _Unpickler(file).load()
  dtypes = {
    t.storage.key: np.dtype(t.storage.dtype)
    for t in _checked(tensors).values()
  }
  buffers = {}
  for key in _Unpickler(file).load():
    (count,) = struct.unpack('<q', file.read(8))
    size = count * dtypes[key].itemsize
    buffers[key] = file.read(size)
    if len(buffers[key]) != size:
      raise EOFError(f'storage {key} is cut short')
  return {name: t.array(buffers) for name, t in tensors.items()}


def _checked(tensors: Any) -> dict[str, _Tensor]:
  if not isinstance(tensors, dict) or not all(
    isinstance(t, _Tensor) for t in tensors.values()
  ):
    raise pickle.UnpicklingError('a dict of tensors alone is expected')
  return tensors
