"""Differences from a prediction, coded for latents that vary slowly in space.

A factorized prior knows a channel's distribution, not its neighbourhood. In the
few channels that resemble their neighbours, the difference from a prediction is
coded: the median edge detector of LOCO-I (Weinberger et al. 2000,
https://doi.org/10.1109/83.855427, section III-A), the median of left, above,
and left + above - corner, with zeros beyond the borders.

Predictions are exact integers, differences are modulo 2^32. Training uses
models/prediction.py.
"""
from collections.abc import Sequence

import numpy as np


def to_differences(
  symbols: np.ndarray, rows: int, channels: Sequence[int]
) -> np.ndarray:
  """Replaces the symbols of some channels by their differences, in place.

  Args:
    symbols: int32 [channels, positions], row by row.
    rows: number of rows of positions.
    channels: the channels to replace, each once.

  Returns:
    symbols.
  """
  for channel in channels:
    own = symbols[channel].reshape(rows, -1)
    values = np.pad(own, ((1, 0), (1, 0)))
    own -= _predicted(values[1:, :-1], values[:-1, 1:], values[:-1, :-1])
  return symbols


def from_differences(
  symbols: np.ndarray, rows: int, channels: Sequence[int]
) -> np.ndarray:
  """Inverts to_differences, in place, for any int32.

  A symbol needs those to its left and above, so diagonals are computed one
  after another: rows + columns - 1 steps.
  """
  if not channels:
    return symbols
  channels = list(channels)
  own = symbols[channels].reshape(len(channels), rows, -1)
  columns = own.shape[2]
  width = columns + 1
  values = np.pad(own, ((0, 0), (1, 0), (1, 0)))
  flat = values.reshape(len(channels), -1)
  for diagonal in range(rows + columns - 1):
    top = max(0, diagonal - columns + 1)
    length = min(rows - 1, diagonal) - top + 1
    # One down and one left is `columns` further on.
    first = (top + 1) * width + diagonal - top + 1
    here, left, above, corner = (
      flat[:, start:start + (length - 1) * columns + 1:columns]
      for start in (first, first - 1, first - width, first - width - 1)
    )
    here += _predicted(left, above, corner)
  symbols[channels] = values[:, 1:, 1:].reshape(len(channels), -1)
  return symbols


def _predicted(left, above, corner):
  low, high = np.minimum(left, above), np.maximum(left, above)
  # The sum may wrap, but not where it is between the two.
  return np.where(
    corner >= high, low, np.where(corner <= low, high, left + above - corner)
  )
