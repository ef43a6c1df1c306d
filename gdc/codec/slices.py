"""Slices: parts of an image's latents that are coded on their own.

The payload of a file is one slice after another. A slice needs nothing of the
others: its latents are predicted, its contexts chosen and its symbols coded as
if it were an image. So memory is that of a slice, threads can share the work,
and a window of a large image is decoded without the rest. Photographs of up to
2048 x 2048 pixels are one slice; docs/log.md, Contexts, has what several cost.

A model without contexts codes an image as one slice, whatever its size.
"""
import concurrent.futures
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import threadpoolctl

from gdc.codec import (
  bitstream,
  entropy_model,
  forks,
  prediction,
  range_coder,
)

# With the bundled model each holds some 65 MB.
MAX_THREADS = 8
_turn = forks.lock()
Area = tuple[slice, slice]  # rows and columns of positions


def encode(
  latents: np.ndarray, model: entropy_model.EntropyModel, quality_index: int,
  predicted: Sequence[int] = (),
) -> bytes:
  """Returns the payload of an image.

  Args:
    latents: int32 [channels, rows, columns].
    model: tables.Tables or contexts.Contexts.
    quality_index: of the image.
    predicted: channels that are coded as differences, see prediction.py.
  """
  def code(area: Area) -> bytes:
    symbols, rows = _to_symbols(latents, area, predicted)
    return range_coder.encode(symbols, model, quality_index, rows)

  *streams, last = _map(code, _areas(latents.shape[1:], model))
  # A stream may be empty; a varint is at least 1.
  return b''.join(itertools.chain.from_iterable(
    (bitstream.varint(1 + len(s)), s) for s in streams
  )) + last


def decode(
  payload: bytes, model: entropy_model.EntropyModel, quality_index: int,
  grid: tuple[int, int], predicted: Sequence[int] = (),
  window: Area | None = None,
) -> np.ndarray:
  """Returns the latents of a payload, or those of a window.

  Bytes that no encoder wrote give some latents or a BitstreamError. Work is
  bounded by the window, and by what the payload could hold.

  Args:
    payload: see encode.
    model: as for encode.
    quality_index: of the image.
    grid: rows and columns of the image's latents.
    predicted: as for encode.
    window: rows and columns to decode; None: all.

  Returns:
    int32 [channels, rows, columns], of the window.
  """
  window = window or (slice(0, grid[0]), slice(0, grid[1]))
  streams = list(_streams(payload, model, quality_index, grid))
  out = np.empty(
    [model.num_channels, *(w.stop - w.start for w in window)], np.int32
  )

  def code(part: tuple[Area, bytes]) -> None:
    area, stream = part
    shape = [s.stop - s.start for s in area]
    symbols = range_coder.decode(
      stream, model, quality_index, shape[0] * shape[1], shape[0]
    )
    prediction.from_differences(symbols, shape[0], predicted)
    target, source = zip(*map(_overlap, area, window), strict=True)
    out[:, *target] = symbols.reshape(-1, *shape)[:, *source]

  _map(code, [
    (area, stream)
    for area, stream in zip(_areas(grid, model), streams, strict=True)
    if all(
      s.start < w.stop and w.start < s.stop
      for s, w in zip(area, window, strict=True)
    )
  ])
  return out


def ideal_bits(
  latents: np.ndarray, model: entropy_model.EntropyModel, quality_index: int,
  predicted: Sequence[int] = (),
) -> float:
  """Returns the ideal code length of an image, without lengths of slices.

  See encode for the arguments.
  """
  def code(area: Area) -> float:
    symbols, rows = _to_symbols(latents, area, predicted)
    return model.ideal_bits(symbols, quality_index, rows)

  return sum(_map(code, _areas(latents.shape[1:], model)))


def least_bytes(
  grid: Sequence[int], model: entropy_model.EntropyModel, quality_index: int
) -> int:
  """Returns how many bytes a payload of `encode` has at least.

  See decode for the arguments.
  """
  bits = grid[0] * grid[1] * model.minimum_bits(quality_index)
  # A stream may be a few bytes below its share, see range_coder.encode.
  return max(0, int(bits // 8) - 8 * _count(grid, model))


def _count(grid: Sequence[int], model: entropy_model.EntropyModel) -> int:
  """Returns the number of slices."""
  side = _side(grid, model)
  return -(-grid[0] // side) * -(-grid[1] // side)


def _side(grid: Sequence[int], model: entropy_model.EntropyModel) -> int:
  return model.slice_side or max(grid)


def _areas(
  grid: Sequence[int], model: entropy_model.EntropyModel
) -> list[Area]:
  """Returns the rows and columns of each slice, in raster order."""
  side = _side(grid, model)
  return list(itertools.product(*(
    [slice(start, min(start + side, n)) for start in range(0, n, side)]
    for n in grid
  )))


def _streams(
  payload: bytes, model: entropy_model.EntropyModel, quality_index: int, grid
) -> Iterator[bytes]:
  """Yields the range coder's bytes of each slice."""
  num_slices = _count(grid, model)
  range_coder.check_claims(
    len(payload), model, quality_index, grid[0] * grid[1], num_slices
  )
  # A slice but the last takes a byte or more: absurd numbers end soon.
  reader = bitstream.Reader(payload)
  for number in range(1, num_slices):
    length = reader.varint(f'length of slice {number}') - 1
    yield reader.take(length, f'slice {number}')
  yield reader.rest()


def _to_symbols(
  latents: np.ndarray, area: Area, predicted: Sequence[int]
) -> tuple[np.ndarray, int]:
  """Returns what is coded of a slice, [channels, positions], and its rows."""
  part = latents[:, *area].copy()
  channels, rows, _ = part.shape
  symbols = part.reshape(channels, -1)
  return prediction.to_differences(symbols, rows, predicted), rows


def _overlap(own: slice, window: slice) -> tuple[slice, slice]:
  """Returns what both share of an axis, counted in the window and in `own`."""
  start, stop = max(own.start, window.start), min(own.stop, window.stop)
  return (
    slice(start - window.start, stop - window.start),
    slice(start - own.start, stop - own.start),
  )


def _map(function: Callable, items: list) -> list:
  """Returns function(item) of each item, from several threads."""
  cores = (
    len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
    else os.cpu_count() or 1
  )
  threads = min(len(items), cores, MAX_THREADS)
  with _one_blas_thread():
    if threads < 2:
      return [function(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      return list(pool.map(function, items))


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
  """A context in which products of matrices do not start threads.

  Those of contexts are small: threads cost more time than they save, and
  several times as much where other work shares the cores. The setting is of
  the process, hence the lock.
  """
  with _turn, _blas().limit(limits=1, user_api='blas'):
    yield


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
  """Returns what sets the number of BLAS threads."""
  return threadpoolctl.ThreadpoolController()
