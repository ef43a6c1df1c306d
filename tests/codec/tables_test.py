"""Integer tables: always valid, and optimal."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdc.codec import tables


def laplacian_pmf(scales, radius):
  """Returns masses of -radius to radius, float64 [symbols, channels]."""
  x = np.arange(-radius, radius + 1)[:, None]
  scales = np.asarray(scales, np.float64)

  def cdf(x):
    tail = np.exp(-np.abs(x) / scales) / 2
    return np.where(x < 0, tail, 1 - tail)

  return cdf(x + 0.5) - cdf(x - 0.5)


def least_bits(mass):
  """Returns the expected bits of the best counts, by an optimal greedy."""
  counts = np.ones(len(mass), np.int64)
  heap = [(-m * np.log2(2), k) for k, m in enumerate(mass)]
  heapq.heapify(heap)
  for _ in range(tables.TOTAL - len(mass)):
    _, k = heap[0]
    counts[k] += 1
    heapq.heapreplace(heap, (-mass[k] * np.log2(1 + 1 / counts[k]), k))
  return -(mass * np.log2(counts / tables.TOTAL)).sum()


def valid_arrays():
  return {
    'counts': np.array([65535, 1, 1, 65000, 535, 1, 65535], np.uint16),
    'first': np.array([[0, -3, 5]], np.int32),
    'length': np.array([[2, 3, 2]], np.int32),
  }


@pytest.mark.parametrize('seed', range(3))
def test_counts_have_the_least_expected_length(seed):
  rng = np.random.default_rng(seed)
  pmf = np.sort(rng.dirichlet(np.full([4, 1, 90][seed], 0.2)))[:, None]
  pmf = pmf * 0.999 + 1e-5 * (pmf == 0)
  if seed == 2:
    pmf = laplacian_pmf([30.0], 400)
  made = tables.from_pmfs([pmf], [-3])
  first, counts = made.row(0, 0)
  kept = pmf[first + 3 : first + 3 + len(counts) - 1, 0]
  mass = np.append(kept, 1 - kept.sum())
  bits = -(mass * np.log2(counts / tables.TOTAL)).sum()
  np.testing.assert_allclose(bits, least_bits(mass), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
  st.lists(st.floats(0.01, 80), min_size=1, max_size=5),
  st.integers(0, 300),
  st.integers(-(2**31), 2**31 - 700),
)
def test_rows_are_valid_for_any_density(scales, radius, first):
  pmf = laplacian_pmf(scales, radius)
  made = tables.from_pmfs([pmf, pmf[radius:]], [first, first + radius])
  for q in range(2):
    for channel in range(len(scales)):
      start, counts = made.row(q, channel)
      assert counts.sum() == 2**16 and counts.min() >= 1
      assert len(counts) >= 2
      # The most probable symbol is always in the row.
      assert 0 <= first + radius - start < len(counts) - 1


def test_tails_go_to_the_escape_symbol():
  pmf = np.array([[2.0**-18, 0.25, 0.5 - 2.0**-17, 0.0, 0.25, 2.0**-18, 0]]).T
  made = tables.from_pmfs([pmf], [10])
  first, counts = made.row(0, 0)
  assert first == 11
  assert len(counts) == 5  # four kept, the hole among them, and escape
  assert counts[2] == 1 and counts[-1] == 1


def test_mass_outside_goes_to_the_escape_symbol():
  made = tables.from_pmfs([np.array([[0.25], [0.25]])], [0])
  np.testing.assert_array_equal(made.row(0, 0)[1], [16384, 16384, 32768])


def test_a_model_of_real_size_takes_seconds():
  rng = np.random.default_rng(0)
  scales = np.exp(rng.uniform(-3, 4, 192))
  made = tables.from_pmfs([laplacian_pmf(scales, 300)] * 3, [-300] * 3)
  assert made.first.shape == (3, 192)
  # Quantisation costs less than a thousandth of a bit per symbol.
  pmf = laplacian_pmf([3.0], 300)
  _, counts = tables.from_pmfs([pmf], [-300]).row(0, 0)
  entropy = -(pmf * np.log2(np.maximum(pmf, 1e-300))).sum()
  half = len(counts) // 2 - 1
  kept = pmf[300 - half : 301 + half, 0]
  bits = -(kept * np.log2(counts[:-1] / 2**16)).sum()
  assert entropy - 1e-3 < bits < entropy + 1e-3


def test_ideal_bits_adds_up():
  made = tables.Tables.from_arrays(valid_arrays())
  symbols = np.array([[0, 0], [-3, -2], [5, 5]], np.int32)
  expected = -(
    2 * np.log2(65535 / 65536)
    + np.log2(1 / 65536)
    + np.log2(65000 / 65536)
    + 2 * np.log2(1 / 65536)
  )
  assert made.ideal_bits(symbols, 0) == pytest.approx(expected, abs=1e-9)
  # Escapes: -4 is 1 away (side, end), 3 is 5 away (side, 2 + end, 2).
  symbols[1] = [-4, 3]
  expected = (
    -(
      2 * np.log2(65535 / 65536)
      + 2 * np.log2(535 / 65536)
      + 2 * np.log2(1 / 65536)
    )
    + 2
    + 6
  )
  assert made.ideal_bits(symbols, 0) == pytest.approx(expected, abs=1e-9)


def test_minimum_bits_is_the_cheapest_position():
  made = tables.Tables.from_arrays(valid_arrays())
  expected = -np.log2(np.array([65535, 65000, 65535]) / 65536).sum()
  assert made.minimum_bits(0) == pytest.approx(expected, rel=1e-12)
  # Channel 2 is cheapest where it escapes, besides the bits of the escape.
  cheapest = np.array([[0], [-2], [6]], np.int32)
  assert made.ideal_bits(cheapest, 0) == pytest.approx(expected + 2, abs=1e-9)


def test_arrays_round_trip_and_are_frozen():
  made = tables.Tables.from_arrays(valid_arrays())
  for name, array in made.to_arrays().items():
    np.testing.assert_array_equal(array, valid_arrays()[name])
    with pytest.raises(ValueError, match='read-only'):
      array[...] = 0


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('counts', [65535, 1, 1, 65000, 536, 1, 65535], 'channel 1 sum to 65537'),
    ('counts', [65535, 1, 1, 65000, 535, 1], '7 counts, there are 6'),
    ('counts', [65535, 1, 1, 65000, 535, 0, 0], 'count 5 is 0'),
    ('length', [[2, 3, 1]], '2 to 32769 counts'),
    ('length', [[2, -3, 8]], '2 to 32769 counts'),
    ('length', [[2, 5]], 'not empty'),
    ('first', [[0, 2**31 - 1, 0]], 'not an int32'),
    ('first', [0, 1, 2], '2 axes'),
  ],
)
def test_bad_arrays_are_named(name, value, message):
  arrays = valid_arrays()
  arrays[name] = np.array(value, arrays[name].dtype)
  with pytest.raises(ValueError, match=message):
    tables.Tables.from_arrays(arrays)


def test_wrong_dtypes_and_names_are_named():
  arrays = valid_arrays()
  for dtype in (np.float32, np.int64):
    with pytest.raises(ValueError, match='counts must be uint16'):
      tables.Tables.from_arrays(
        arrays | {'counts': arrays['counts'].astype(dtype)}
      )
  del arrays['first']
  with pytest.raises(ValueError, match=r"not \['counts', 'length'\]"):
    tables.Tables.from_arrays(arrays)


@pytest.mark.parametrize(
  'pmf, message',
  [
    (np.array([[0.5], [np.nan]]), 'nan'),
    (np.array([[0.5], [-0.1]]), 'non-negative'),
    (np.array([[0.5], [0.6]]), 'at most 1'),
    (np.full([2**15 + 1, 1], 2.0**-16), 'must have 2 to 32769 counts'),
  ],
)
def test_bad_pmfs_are_named(pmf, message):
  with pytest.raises(ValueError, match=message):
    tables.from_pmfs([pmf], [0])


def test_bad_indices_are_named():
  made = tables.Tables.from_arrays(valid_arrays())
  with pytest.raises(ValueError, match='quality_index must be 0 to 0, not -1'):
    made.row(-1, 0)
  with pytest.raises(ValueError, match='not int64'):
    made.ideal_bits(np.zeros([3, 1], np.int64), 0)
