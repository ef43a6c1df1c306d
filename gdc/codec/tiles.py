"""Layout of tiles on an image, and the outputs taken from each.

A tile is a window of fixed size. Outputs are valid except within a halo of the
interior tile edges, as wide as the network's receptive field. Tiles overlap so
that every output is valid in one of them. They start within the image; the last
ones may extend beyond it, which costs little where tiles are computed in
blocks.
"""
import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
  """One axis of a tile: where it starts, and the outputs taken from it."""

  origin: int
  first: int
  last: int  # exclusive


def spans(length: int, tile: int, halo: int) -> list[Span]:
  """Lays tiles along one axis, so that each output is taken once.

  Args:
    length: length of the axis.
    tile: length of a tile, more than 2 * halo if there are several.
    halo: number of invalid outputs at an interior edge.

  Raises:
    ValueError: a tile is all halo.
  """
  if length <= tile:
    return [Span(0, 0, length)]
  if tile <= 2 * halo:
    raise ValueError(
      f'A tile of {tile} with halos of {halo} must be longer than {2 * halo}.'
    )
  found, first = [], 0
  while first < length:
    origin = max(0, first - halo)
    end = origin + tile
    last = length if end >= length else end - halo
    found.append(Span(origin, first, last))
    first = last
  return found


@dataclasses.dataclass(frozen=True)
class Tile:
  """A tile of an image; all in pixels.

  Attributes:
    rows: vertical span.
    columns: horizontal span.
    shape: (height, width) of the tile.
    extent: int32 (height, width) of its part within the image.
  """

  rows: Span
  columns: Span
  shape: tuple[int, int]
  extent: np.ndarray

  @property
  def origin(self) -> tuple[int, int]:
    """(row, column) of the tile's first pixel."""
    return self.rows.origin, self.columns.origin

  def cut(self, array: np.ndarray, stride: int = 1) -> np.ndarray:
    """Cuts the tile's window out of an array.

    Args:
      array: [height, width, channels] of the image, at a stride; its last row
        and column are repeated beyond its end.
      stride: pixels per position of the array.

    Returns:
      [tile height / stride, tile width / stride, channels], contiguous.
    """
    row, column = (n // stride for n in self.origin)
    height, width = (n // stride for n in self.shape)
    part = array[row:row + height, column:column + width]
    missing = [(0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)]
    if missing[0][1] or missing[1][1]:
      return np.pad(part, missing, mode='edge')
    return np.ascontiguousarray(part)

  def paste(self, output, array: np.ndarray, stride: int = 1):
    """Writes the tile's valid outputs into an array.

    Args:
      output: [tile height / stride, tile width / stride, channels].
      array: [height, width, channels] of the image, at that stride.
      stride: pixels per position of the array.
    """
    target, source = zip(*(
      (
        slice(span.first // stride, span.last // stride),
        slice(
          (span.first - span.origin) // stride,
          (span.last - span.origin) // stride,
        ),
      )
      for span in (self.rows, self.columns)
    ), strict=True)
    array[target] = np.asarray(output)[source]


def cover(size, shape, halo: int) -> Iterator[Tile]:
  """Yields the tiles of an image, in raster order.

  Args:
    size: (height, width) of the image.
    shape: (height, width) of a tile.
    halo: see spans; sizes, shapes and halo are multiples of all strides.
  """
  axes = (spans(n, t, halo) for n, t in zip(size, shape, strict=True))
  for rows, columns in itertools.product(*axes):
    extent = [
      min(t, n - span.origin)
      for n, t, span in zip(size, shape, (rows, columns), strict=True)
    ]
    yield Tile(rows, columns, tuple(shape), np.int32(extent))
