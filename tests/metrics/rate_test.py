import numpy as np
import pytest

from gdc.metrics import rate

RATES = np.array([0.1, 0.2, 0.35, 0.6, 1.0])
PSNRS = np.array([27.1, 29.4, 31.2, 33.4, 35.3])


def test_bits_per_pixel():
  assert rate.bits_per_pixel(1000, 100, 80) == 1.0
  assert rate.bits_per_pixel(30, 1, 1) == 240.0


@pytest.mark.parametrize('method', rate.METHODS)
def test_ten_per_cent_fewer_bits_at_every_quality(method):
  result = rate.bd_rate(RATES, PSNRS, 0.9 * RATES, PSNRS, method)
  assert result.percent == pytest.approx(-10.0, abs=1e-9)
  assert result[1:] == (27.1, 35.3, 1.0)


@pytest.mark.parametrize('method', rate.METHODS)
def test_partial_overlap_of_exact_lines(method):
  """Log-rate linear in quality: every method is exact.

  log r = q / 10 against q / 10 + (q - 30) / 100 over [30, 34]: mean log ratio
  0.02.
  """
  anchor = np.linspace(28, 34, 4)
  test = np.linspace(30, 38, 6)
  result = rate.bd_rate(
    np.exp(anchor / 10),
    anchor,
    np.exp(test / 10 + (test - 30) / 100),
    test,
    method,
  )
  assert result.percent == pytest.approx(100 * np.expm1(0.02))
  assert (result.quality_low, result.quality_high) == (30, 34)
  assert result.overlap == pytest.approx(4 / 10)


def test_order_of_points_and_sign_of_quality_do_not_matter():
  shuffled = [3, 0, 4, 1, 2]
  straight = rate.bd_rate(RATES, PSNRS, 0.7 * RATES**1.1, PSNRS - 0.5)
  mixed = rate.bd_rate(
    RATES[shuffled], PSNRS[shuffled], 0.7 * RATES**1.1, PSNRS - 0.5
  )
  falling = rate.bd_rate(RATES, -PSNRS, 0.7 * RATES**1.1, 0.5 - PSNRS)
  assert straight.percent == pytest.approx(mixed.percent)
  assert straight.percent == pytest.approx(falling.percent)
  assert (falling.quality_low, falling.quality_high) == (-34.8, -27.1)


def test_swapping_the_curves_inverts_the_ratio():
  forth = rate.bd_rate(RATES, PSNRS, 0.7 * RATES**1.1, PSNRS - 0.5).percent
  back = rate.bd_rate(0.7 * RATES**1.1, PSNRS - 0.5, RATES, PSNRS).percent
  assert (1 + forth / 100) * (1 + back / 100) == pytest.approx(1.0)


@pytest.mark.parametrize(
  'change, words',
  [
    (dict(rate_test=RATES[:3], quality_test=PSNRS[:3]), 'test has 3 points: 4'),
    (dict(quality_test=PSNRS + 20), '27.1 to 35.3.*47.1 to 55.3.*overlap'),
    (dict(rate_anchor=RATES - 0.1), 'anchor.*rates > 0'),
    (dict(quality_test=[27, 29, 28, 30, 31]), 'test turns back'),
    (dict(rate_test=[0.1, 0.2, 0.2, 0.3, 0.4]), 'test.*all different'),
    (dict(quality_test=[27, 29, 31, 33, np.inf]), 'finite'),
    (dict(quality_test=-PSNRS), 'grows.*falls'),
    (dict(quality_test=PSNRS[:4]), r'\(5,\).*\(4,\)'),
    (dict(method='spline'), "'spline'.*'pchip', 'akima', 'cubic'"),
  ],
)
def test_errors(change, words):
  good = dict(
    rate_anchor=RATES, quality_anchor=PSNRS, rate_test=RATES, quality_test=PSNRS
  )
  with pytest.raises(ValueError, match=words):
    rate.bd_rate(**(good | change))


# PSNR in dB against bpp, and a measure that falls and has more points.
JPEG_LIKE = ([0.13, 0.24, 0.41, 0.66, 1.02], [26.9, 29.1, 31.4, 33.5, 35.6])
BETTER = ([0.11, 0.2, 0.37, 0.61, 0.99], [27.3, 29.8, 32.0, 34.3, 36.1])
LPIPS = (
  [0.12, 0.22, 0.4, 0.7, 1.1, 1.5], [0.41, 0.33, 0.22, 0.14, 0.081, 0.06]
)
LESS = ([0.1, 0.21, 0.37, 0.64, 0.9], [0.35, 0.25, 0.17, 0.108, 0.085])


@pytest.mark.parametrize(
  'anchor, test, method, percent, difference',
  [
    (JPEG_LIKE, BETTER, 'cubic', -24.178592705, 1.134481876),
    (JPEG_LIKE, BETTER, 'pchip', -24.681887129, 1.157807858),
    (JPEG_LIKE, BETTER, 'akima', -24.678115238, 1.158938473),
    (LPIPS, LESS, 'cubic', -36.404540586, -0.065699015),
    (LPIPS, LESS, 'pchip', -36.948154161, -0.066291020),
    (LPIPS, LESS, 'akima', -36.960796195, -0.066338188),
  ],
)
def test_golden_values_of_another_implementation(
  anchor, test, method, percent, difference
):
  """Made with PyPI's bjontegaard 1.3.0: bd_rate and bd_psnr.

  The rate differences of the falling measure with its sign turned, which that
  package needs; min_overlap=0, require_matching_points=False.
  """
  by_rate = rate.bd_rate(*anchor, *test, method)
  by_quality = rate.bd_quality(*anchor, *test, method)
  assert by_rate.percent == pytest.approx(percent, abs=1e-6)
  assert by_quality.difference == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize('method', rate.METHODS)
def test_half_a_decibel_more_at_every_rate(method):
  result = rate.bd_quality(RATES, PSNRS, RATES, PSNRS + 0.5, method)
  assert result.difference == pytest.approx(0.5, abs=1e-9)
  assert result[1:] == pytest.approx((0.1, 1.0, 1.0))


@pytest.mark.parametrize('method', rate.METHODS)
def test_quality_over_partly_common_rates(method):
  """Quality linear in log-rate; what differs is 1 at rate 1, 3 at rate 4."""
  anchor = np.array([0.25, 0.5, 1, 2, 4])
  test = np.array([1, 2, 4, 8, 16.0])
  result = rate.bd_quality(
    anchor, 30 + np.log2(anchor), test, 31 + 2 * np.log2(test), method
  )
  assert result == pytest.approx((2.0, 1.0, 4.0, 2 / 6))


def test_quality_that_turns_back_has_a_mean_difference_but_no_rate():
  turned = [27, 29, 28, 30, 31]
  worse = np.array(turned[::-1]) - 1
  shift = rate.bd_quality(RATES, turned, RATES[::-1], worse)
  assert shift.difference == pytest.approx(-1)
  with pytest.raises(ValueError, match='turns back'):
    rate.bd_rate(RATES, turned, RATES, turned)


@pytest.mark.parametrize(
  'change, words',
  [
    (dict(rate_test=[2, 3, 4, 5, 6]), 'rates 0.1 to 1 .* 2 to 6: .*overlap'),
    (dict(rate_test=[0.1, 0.2, 0.2, 0.3, 0.4]), 'test.*all different'),
    (dict(rate_anchor=RATES[:3], quality_anchor=PSNRS[:3]), '3 points: 4'),
    (dict(quality_test=[27, 29, np.nan, 33, 35]), 'finite'),
    (dict(method='linear'), "'linear'.*'pchip', 'akima', 'cubic'"),
  ],
)
def test_errors_of_quality(change, words):
  good = dict(
    rate_anchor=RATES, quality_anchor=PSNRS, rate_test=RATES, quality_test=PSNRS
  )
  with pytest.raises(ValueError, match=words):
    rate.bd_quality(**(good | change))


def test_rates_at_qualities():
  """Log-rate linear in quality: PCHIP is exact."""
  quality = np.array([28.0, 30.0, 33.0, 34.0])
  rates = np.exp(quality / 10)
  for sign in (1, -1):
    found = rate.rate_at(rates, sign * quality, sign * np.array([28, 31.5, 34]))
    np.testing.assert_allclose(found, np.exp([2.8, 3.15, 3.4]))
    assert np.isnan(rate.rate_at(rates, sign * quality, sign * 35.0))
  with pytest.raises(ValueError, match='turns back'):
    rate.rate_at(RATES, [27, 29, 28, 30, 31], [28])
