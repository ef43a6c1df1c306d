import numpy as np
import pytest

from gdc.evaluation import rate

RATES = np.array([0.1, 0.2, 0.35, 0.6, 1.0])
PSNRS = np.array([27.1, 29.4, 31.2, 33.4, 35.3])


def test_bits_per_pixel():
  assert rate.bits_per_pixel(1000, 100, 80) == 1.0
  assert rate.bits_per_pixel(30, 1, 1) == 240.0
  with pytest.raises(ValueError, match='0 x 7'):
    rate.bits_per_pixel(3, 0, 7)
  with pytest.raises(ValueError, match='-3'):
    rate.bits_per_pixel(-3, 1, 7)


@pytest.mark.parametrize('method', ['pchip', 'akima'])
def test_ten_per_cent_fewer_bits_at_every_quality(method):
  result = rate.bd_rate(RATES, PSNRS, 0.9 * RATES, PSNRS, method)
  assert result.percent == pytest.approx(-10.0, abs=1e-9)
  assert result[1:] == (27.1, 35.3, 1.0)


@pytest.mark.parametrize('method', ['pchip', 'akima'])
def test_partial_overlap_of_exact_lines(method):
  """Log-rate linear in quality: both interpolators are exact.

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
    (dict(rate_test=[0.1, 0.2, 0.2, 0.3, 0.4]), 'test turns back'),
    (dict(quality_test=[27, 29, 31, 33, np.inf]), 'finite'),
    (dict(quality_test=-PSNRS), 'grows.*falls'),
    (dict(quality_test=PSNRS[:4]), r'\(5,\).*\(4,\)'),
    (dict(method='cubic'), "'cubic'.*'pchip', 'akima'"),
  ],
)
def test_errors(change, words):
  good = dict(
    rate_anchor=RATES, quality_anchor=PSNRS, rate_test=RATES, quality_test=PSNRS
  )
  with pytest.raises(ValueError, match=words):
    rate.bd_rate(**(good | change))


def test_a_curve_is_read_between_its_points_and_not_beyond():
  # Twice the bits, one more: linear in the logarithm.
  found = rate.at_rates([0.1, 0.2, 0.4], [1.0, 2.0, 3.0], [
    0.05, 0.1, 0.1 * 2**0.5, 0.3, 0.4, 0.5
  ])
  assert found[0] is None and found[-1] is None
  np.testing.assert_allclose(
    found[1:-1], [1, 1.5, 2 + np.log2(1.5), 3], rtol=1e-6
  )
