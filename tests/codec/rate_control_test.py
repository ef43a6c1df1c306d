"""Bisection over sizes and PSNRs."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdc.codec import rate_control, tables


@given(st.lists(st.integers(1, 60), min_size=2, max_size=100),
       st.integers(1, 70))
def test_never_above_the_target(sizes, target):
  """Even where sizes do not rise with quality."""
  tried = [sizes[i] for i in {*rate_control.levels(len(sizes)), 0}]
  if min(sizes) > target or min(tried) > target and sizes[0] > target:
    with pytest.raises(rate_control.RateError, match=f'{min(tried)} bytes'):
      rate_control.largest_within(sizes.__getitem__, len(sizes), target)
    return
  found = rate_control.largest_within(sizes.__getitem__, len(sizes), target)
  assert sizes[found] <= target
  if sizes == sorted(sizes):  # then it is the best one
    assert found == np.searchsorted(sizes, target, side='right') - 1


def above(values, target, sizes=range(100)):
  return rate_control.smallest_above(
    values.__getitem__, sizes.__getitem__, len(values), target
  )


@given(st.lists(st.integers(20, 50), min_size=2, max_size=100),
       st.integers(15, 55))
def test_never_below_the_psnr(values, target):
  tried = [values[i] for i in rate_control.levels(len(values))]
  if max(tried) < target:
    with pytest.raises(rate_control.RateError, match=f'{max(tried)}.00 dB'):
      above(values, target)
    return
  found = above(values, target)
  assert values[found] >= target
  if values == sorted(values):
    assert found == np.searchsorted(values, target)


def test_where_order_fails_all_levels_are_tried():
  sizes = [9] * 81
  sizes[16], sizes[48] = 5, 6
  assert rate_control.largest_within(sizes.__getitem__, 81, 7) == 48
  with pytest.raises(rate_control.RateError, match='network made .* has 5 b'):
    rate_control.largest_within(sizes.__getitem__, 81, 4)
  values = [20] * 81  # worst at the best quality
  values[32], values[48] = 31, 40
  assert above(values, 30) == 32
  assert above(values, 30, sizes=range(100, 0, -1)) == 48
  with pytest.raises(rate_control.RateError, match='of 6 qualities .* 40.00'):
    above(values, 41)


def test_few_probes():
  probed = []

  def size(i):
    probed.append(i)
    return i

  assert rate_control.largest_within(size, 81, 37) == 37
  assert len(probed) <= 8


def test_the_guess_is_where_the_tables_expect_the_target():
  rng = np.random.default_rng(0)
  k = np.arange(-40, 41)[:, None]
  pmfs = []
  for scale in (0.5, 1, 2, 4):
    p = np.exp(-np.abs(k) / (scale * rng.uniform(0.9, 1.1, (1, 6))))
    pmfs.append(p / p.sum(axis=0))
  made = tables.from_pmfs(pmfs, [-40] * 4)
  bits = [made.entropy_bits(i) for i in range(4)]
  # The entropy of the densities that the tables were made from.
  exact = [-(p * np.log2(p)).sum() for p in pmfs]
  np.testing.assert_allclose(bits, exact, rtol=2e-3)
  for i in range(4):
    assert rate_control.guess_index(made, 100 * bits[i], 100) == i
  assert rate_control.guess_index(made, -5, 100) == 0
  assert rate_control.guess_index(made, 1e9, 100) == 3


def test_the_guess_of_a_psnr():
  rmse = [0.2, 0.1, 0.05]  # 20, 26.02 and 32.04 dB
  for psnr, index in ((1, 0), (20, 0), (25, 1), (30, 2), (60, 2)):
    assert rate_control.guess_index_of_psnr(rmse, psnr) == index


# --- Features for another quality -------------------------------------------


def _search(meets, guess, end):
  """Returns (features, index) of a search with fakes, and what was analysed.

  Args:
    meets: index that features were made for -> index that they give; one that
      is not there gives none.
  """
  analysed = []

  def analyse(index):
    analysed.append(index)
    return index

  def find(features):
    if features not in meets:
      raise rate_control.RateError(f'nothing of {features}')
    return meets[features]

  try:
    return rate_control.search(analyse, find, guess, end), analysed
  except rate_control.RateError as error:
    return str(error), analysed


@pytest.mark.parametrize('meets, found, analysed', [
  ({40: 40}, (40, 40), [40]),
  ({40: 56}, (40, 56), [40]),  # a level off
  ({40: 57, 57: 58}, (57, 58), [40, 57]),
  ({40: 10, 10: 30}, (10, 30), [40, 10]),  # no third time
  ({40: 0}, (40, 0), [40, 0]),  # met by features for the guess alone
  ({0: 3}, (0, 3), [40, 0]),  # not met by those
  ({}, 'nothing of 0', [40, 0]),
], ids=str)
def test_features_are_made_for_what_is_found(meets, found, analysed):
  assert _search(meets, 40, 0) == (found, analysed)


def test_the_end_is_tried_once():
  assert _search({}, 80, 80) == ('nothing of 80', [80])
