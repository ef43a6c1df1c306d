"""Bisection over real sizes."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdc.codec import rate_control, tables


@given(st.lists(st.integers(1, 60), min_size=2, max_size=100),
       st.integers(1, 70))
def test_never_above_the_target(sizes, target):
  """Even where sizes do not rise with quality."""
  if sizes[0] > target:
    with pytest.raises(rate_control.RateError, match=f'{sizes[0]} bytes'):
      rate_control.largest_within(sizes.__getitem__, len(sizes), target)
    return
  found = rate_control.largest_within(sizes.__getitem__, len(sizes), target)
  assert sizes[found] <= target
  if sizes == sorted(sizes):  # then it is the best one
    assert found == np.searchsorted(sizes, target, side='right') - 1


@given(st.lists(st.integers(20, 50), min_size=2, max_size=100),
       st.integers(15, 55))
def test_never_below_the_psnr(values, target):
  if values[-1] < target:
    with pytest.raises(rate_control.RateError, match=f'{values[-1]}.00 dB'):
      rate_control.smallest_above(values.__getitem__, len(values), target)
    return
  found = rate_control.smallest_above(values.__getitem__, len(values), target)
  assert values[found] >= target
  if values == sorted(values):
    assert found == np.searchsorted(values, target)


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
