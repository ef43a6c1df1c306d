"""The predictor of differences, by its definition, and its inverse."""
import numpy as np
import pytest

from gdc.codec import prediction

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 9), (9, 5)]


def random_symbols(rows, columns, low=-20, high=20, channels=4):
  rng = np.random.default_rng(rows * 100 + columns)
  size = channels, rows * columns
  return rng.integers(low, high, size, np.int32, endpoint=True)


def loco_differences(grid):
  """Predicts case by case, as in the paper, in unbounded integers."""
  def at(i, j):
    return int(grid[i, j]) if i >= 0 and j >= 0 else 0

  out = np.zeros_like(grid)
  for i, j in np.ndindex(grid.shape):
    left, above, corner = at(i, j - 1), at(i - 1, j), at(i - 1, j - 1)
    if corner >= max(left, above):
      predicted = min(left, above)
    elif corner <= min(left, above):
      predicted = max(left, above)
    else:
      predicted = left + above - corner
    out[i, j] = (at(i, j) - predicted + 2**31) % 2**32 - 2**31
  return out


@pytest.mark.parametrize('rows, columns', SHAPES)
@pytest.mark.parametrize('low, high', [(-20, 20), (-2**31, 2**31 - 1)])
def test_differences_are_from_the_median_edge_detector(
  rows, columns, low, high
):
  symbols = random_symbols(rows, columns, low, high)
  made = prediction.to_differences(symbols.copy(), rows, (3, 1))
  for channel in (1, 3):
    grid = symbols[channel].reshape(rows, columns)
    np.testing.assert_array_equal(
      made[channel].reshape(rows, columns), loco_differences(grid)
    )
  np.testing.assert_array_equal(made[[0, 2]], symbols[[0, 2]])


@pytest.mark.parametrize('rows, columns', SHAPES)
@pytest.mark.parametrize('low, high', [(-20, 20), (-2**31, 2**31 - 1)])
def test_differences_are_undone(rows, columns, low, high):
  symbols = random_symbols(rows, columns, low, high)
  coded = prediction.to_differences(symbols.copy(), rows, (0, 2, 3))
  decoded = prediction.from_differences(coded.copy(), rows, (0, 2, 3))
  np.testing.assert_array_equal(decoded, symbols)
  # Any int32 are differences of some symbols.
  other = prediction.from_differences(symbols.copy(), rows, (0, 2, 3))
  again = prediction.to_differences(other, rows, (0, 2, 3))
  np.testing.assert_array_equal(again, symbols)


def test_golden_differences():
  """Fixed latents, by hand: what files hold must never change."""
  least, most = -2**31, 2**31 - 1
  symbols = np.array([
    5, 7, 7, most,
    6, 9, 4, 0,
    least, 0, most, 1,
  ], np.int32)[None]
  expected = [[
    5, 2, 0, most - 7,  # from the left
    1, 2, -5, 3 - most,  # from 5, 7, 9 and 4 + most - 7
    # From 6, which wraps; least + 9 - 6; 0; most + 0 - 4.
    most - 5, -least - 3, most, 5 - most,
  ]]
  coded = prediction.to_differences(symbols.copy(), 3, (0,))
  np.testing.assert_array_equal(coded, expected)
  decoded = prediction.from_differences(coded, 3, (0,))
  np.testing.assert_array_equal(decoded, symbols)


def test_it_is_done_in_place():
  symbols = random_symbols(4, 6)
  assert prediction.to_differences(symbols, 4, (0,)) is symbols
  assert prediction.from_differences(symbols, 4, (0,)) is symbols
  np.testing.assert_array_equal(symbols, random_symbols(4, 6))


def test_no_channels_are_no_differences():
  symbols = random_symbols(4, 6)
  for function in (prediction.to_differences, prediction.from_differences):
    np.testing.assert_array_equal(function(symbols.copy(), 4, ()), symbols)
