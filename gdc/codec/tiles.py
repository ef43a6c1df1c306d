"""Where the tiles of a picture lie, and what is taken from each. No jax.

A tile is a window of fixed size on a picture. What a network makes of it is
right except near those of its edges that are not the picture's: within a halo,
as wide as the network looks. Tiles overlap so that every output lies in one
tile that has it right. They start within the picture; the last ones may reach
beyond it, which costs little where tiles are computed in blocks.
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
  """Tiles along one axis; from 0 to length, each output is taken once.

  Args:
    length: of the axis.
    tile: length of a tile, more than 2 * halo if there are several.
    halo: outputs that are not right at an edge within the picture.

  Raises:
    ValueError: a tile has nothing but halo.
  """
  if length <= tile:
    return [Span(0, 0, length)]
  if tile <= 2 * halo:
    raise ValueError(
      f'A tile of {tile} has no room between halos of {halo}; it must be '
      f'longer than {2 * halo}.'
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
  """A tile of a picture; all in pixels.

  Attributes:
    rows: of the tile.
    columns: of the tile.
    shape: (height, width) of the tile.
    extent: int32 (height, width) of its part within the picture.
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
    """The tile's window on an array.

    Args:
      array: [height, width, channels] of the picture, at a stride; where it
        is shorter than the tile, its last row and column are repeated.
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
    """Writes the outputs that are taken from the tile into an array.

    Args:
      output: [tile height / stride, tile width / stride, channels].
      array: [height, width, channels] of the picture, at that stride.
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
  """The tiles of a picture, in raster order.

  Args:
    size: (height, width) of the picture.
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
