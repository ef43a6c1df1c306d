"""What the range coder asks of a model: which table codes which symbol.

Two models exist: tables.Tables has one table per quality and channel, and
contexts.Contexts chooses the table by what is decoded already.
"""
import abc
from collections.abc import Callable
from typing import Any

import numpy as np


def frozen(name: str, given, dtype, ndim: int) -> np.ndarray:
  """Returns a read-only copy of a model's array.

  Raises:
    ValueError: another type or number of axes.
  """
  array = np.array(given)
  if array.dtype != dtype or array.ndim != ndim:
    raise ValueError(
      f'{name} must be {np.dtype(dtype)} with {ndim} axes, not {array.dtype} '
      f'of shape {array.shape}'
    )
  array.setflags(write=False)
  return array


class EntropyModel(abc.ABC):
  """Chooses a row of integer counts for each symbol of a slice."""

  @property
  @abc.abstractmethod
  def rows(self) -> Any:
    """The rows that symbols are coded with, tables.Tables."""

  @property
  @abc.abstractmethod
  def num_qualities(self) -> int:
    """Number of quality indices."""

  @property
  @abc.abstractmethod
  def num_channels(self) -> int:
    """Number of channels of the symbols."""

  @property
  def slice_side(self) -> int | None:
    """Positions along each side of a slice; None: an image is one slice."""
    return None

  @abc.abstractmethod
  def visit(
    self,
    symbols: np.ndarray,
    height: int,
    quality_index: int,
    code: Callable[[np.ndarray, int | np.ndarray], None],
    fills: bool = False,
  ) -> None:
    """Goes through the symbols of a slice, in coding order.

    Args:
      symbols: int32 [channels, positions], row by row.
      height: number of rows of positions.
      quality_index: of the image.
      code: called with symbols that are coded at once, int32 of any shape, and
        the index in `rows` of their table: an int for all, or uint8 of the same
        shape. It must fill the symbols if `fills` is set.
      fills: whether `symbols` are to be filled by `code`.
    """

  @abc.abstractmethod
  def minimum_bits(self, quality_index: int) -> float:
    """Returns the fewest bits that one position can take, over all channels."""

  @abc.abstractmethod
  def entropy_bits(self, quality_index: int) -> float:
    """Returns the expected bits of one position, over all channels."""

  def ideal_bits(
    self, symbols: np.ndarray, quality_index: int, height: int = 1
  ) -> float:
    """Returns the ideal code length of symbols, escapes included.

    range_coder.encode comes within a few bytes of it.

    Args:
      symbols: int32 [channels, positions], row by row.
      quality_index: of the image.
      height: number of rows of positions.
    """
    self.check_symbols(symbols)
    self.check_quality_index(quality_index)
    total = 0.0

    def add(values, rows):
      nonlocal total
      total += self.rows.bits(values, rows)

    self.visit(symbols, height, quality_index, add)
    return total

  def check_symbols(self, symbols: np.ndarray) -> None:
    """Raises ValueError unless symbols are int32 [channels, positions]."""
    if symbols.dtype != np.int32 or symbols.ndim != 2 or (
      len(symbols) != self.num_channels
    ):
      raise ValueError(
        f'symbols must be int32 [{self.num_channels}, positions], not '
        f'{symbols.dtype} {list(symbols.shape)}'
      )

  def check_quality_index(self, quality_index: int) -> None:
    """Raises ValueError unless the model has the quality index."""
    if not 0 <= quality_index < self.num_qualities:
      raise ValueError(
        f'quality_index must be 0 to {self.num_qualities - 1}, '
        f'not {quality_index}'
      )
