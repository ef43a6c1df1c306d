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


class Window(NamedTuple):
  """A rectangle of an image, in pixels; bottom and right are exclusive."""

  top: int
  left: int
  bottom: int
  right: int

  @property
  def shape(self) -> tuple[int, int]:
    """(height, width)."""
    return self.bottom - self.top, self.right - self.left

  @property
  def slices(self) -> tuple[slice, slice]:
    """Indices of the window in the image."""
    return slice(self.top, self.bottom), slice(self.left, self.right)

  def grown(self, margin: int, size, unit: int = 1) -> 'Window':
    """Returns the window with a margin, as far as an image goes.

    Args:
      margin: in pixels.
      size: (height, width) of the image.
      unit: sides of the result are moved outwards to multiples of it, or to
        those of the image.
    """
    first = [max(0, (n - margin) // unit * unit) for n in self[:2]]
    last = [
      min(most, -(-(n + margin) // unit) * unit)
      for n, most in zip(self[2:], size, strict=True)
    ]
    return Window(*first, *last)


class Plane(NamedTuple):
  """An array of a window of an image.

  Attributes:
    array: [rows, columns, channels].
    window: what it covers.
    stride: pixels per row and column.
  """

  array: np.ndarray
  window: Window
  stride: int = 1

  @classmethod
  def of(cls, array: np.ndarray, stride: int = 1) -> 'Plane':
    """Returns the plane of a whole image."""
    rows, columns = array.shape[:2]
    return cls(array, Window(0, 0, rows * stride, columns * stride), stride)

  @classmethod
  def empty(cls, window: Window, channels: int, dtype) -> 'Plane':
    """Returns a plane of a window, to be filled, with a stride of 1."""
    return cls(np.empty([*window.shape, channels], dtype), window)

  def put(self, part: 'Plane') -> None:
    """Writes a part of the plane, with the same stride."""
    top, left = (
      (n - start) // self.stride
      for n, start in zip(part.window[:2], self.window[:2], strict=True)
    )
    rows, columns = part.array.shape[:2]
    self.array[top:top + rows, left:left + columns] = part.array


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

  def cut(self, plane: Plane) -> np.ndarray:
    """Cuts the tile out of a plane whose edges are repeated where it ends.

    Returns:
      [tile height / stride, tile width / stride, channels], contiguous.
    """
    part, missing = [], [(0, 0)]
    for origin, length, begin, end in zip(
      self.origin, self.shape, plane.window[:2], plane.window[2:], strict=True
    ):
      first, last = max(origin, begin), min(origin + length, end)
      part.append(slice(
        (first - begin) // plane.stride, (last - begin) // plane.stride
      ))
      missing.insert(-1, (
        (first - origin) // plane.stride,
        (origin + length - last) // plane.stride,
      ))
    found = plane.array[tuple(part)]
    if any(map(any, missing)):
      return np.pad(found, missing, mode='edge')
    return np.ascontiguousarray(found)

  def valid(self, output, window: Window, stride: int = 1) -> Plane:
    """Returns the tile's valid outputs, as far as they are in a window.

    Args:
      output: [tile height / stride, tile width / stride, channels].
      window: of the image.
      stride: pixels per row and column of the output.
    """
    part, ends = [], []
    for span, begin, end in zip(
      (self.rows, self.columns), window[:2], window[2:], strict=True
    ):
      first, last = max(span.first, begin), min(span.last, end)
      ends.append((first, last))
      part.append(slice(
        (first - span.origin) // stride, (last - span.origin) // stride
      ))
    (top, bottom), (left, right) = ends
    return Plane(
      np.asarray(output)[tuple(part)], Window(top, left, bottom, right), stride
    )

  def paste(self, output, plane: Plane) -> None:
    """Writes the tile's valid outputs into a plane, as far as it goes."""
    plane.put(self.valid(output, plane.window, plane.stride))


def cover(
  size, shape, halo: int, window: Window | None = None
) -> Iterator[Tile]:
  """Yields the tiles of an image, in raster order.

  Args:
    size: (height, width) of the image.
    shape: (height, width) of a tile.
    halo: see spans; sizes, shapes and halo are multiples of all strides.
    window: only tiles with outputs in it; None: all.
  """
  window = window or Window(0, 0, *size)
  axes = (
    [s for s in spans(n, t, halo) if s.first < end and s.last > begin]
    for n, t, begin, end in zip(
      size, shape, window[:2], window[2:], strict=True
    )
  )
  for rows, columns in itertools.product(*axes):
    extent = [
      min(t, n - span.origin)
      for n, t, span in zip(size, shape, (rows, columns), strict=True)
    ]
    yield Tile(rows, columns, tuple(shape), np.int32(extent))
