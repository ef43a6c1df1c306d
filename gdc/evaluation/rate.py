"""Rates: bits per pixel, and the Bjontegaard difference between two curves.

Bjontegaard, VCEG-M33 (2001), with piecewise interpolators in place of the
cubic fit: PCHIP, as in JCT-VC's spreadsheets, or Akima, as proposed by
Herglotz et al. 2022, 'Beyond Bjontegaard', https://arxiv.org/abs/2202.12565.
"""

from typing import NamedTuple

import numpy as np
from scipy import interpolate

INTERPOLATORS = {
  'pchip': interpolate.PchipInterpolator,
  'akima': interpolate.Akima1DInterpolator,
}
MIN_POINTS = 4


class BDRate(NamedTuple):
  """A Bjontegaard rate difference and the ground it stands on."""

  percent: float  # mean change of rate at equal quality; below 0: test saves
  quality_low: float  # the interval of quality that both curves cover,
  quality_high: float  # in the units of the measure
  overlap: float  # that interval over the span of both curves, in (0, 1]


def bits_per_pixel(num_bytes: int, height: int, width: int) -> float:
  """Rate of a file in bits per pixel of the picture, headers and all.

  Args:
    num_bytes: size of the whole file, in bytes.
    height: of the picture, in pixels.
    width: of the picture, in pixels.

  Returns:
    bpp, 8 * num_bytes / (height * width).

  Raises:
    ValueError: a negative size, or a picture without pixels.
  """
  if num_bytes < 0:
    raise ValueError(f'num_bytes is {num_bytes}: 0 or more is expected')
  if height < 1 or width < 1:
    raise ValueError(
      f'the picture is {height} x {width}: 1 x 1 or more is expected'
    )
  return 8.0 * num_bytes / (height * width)


def bd_rate(
  rate_anchor, quality_anchor, rate_test, quality_test, method: str = 'pchip'
) -> BDRate:
  """Mean difference of rate at equal quality, test against anchor.

  Log-rate is interpolated as a function of quality and integrated over the
  interval that both curves cover: 100 (exp(mean log ratio) - 1). Beside the
  percentage the interval comes back: a figure over a small overlap says
  little. The measure may grow with rate (PSNR) or fall with it (LPIPS), and
  must do so strictly, alike on both curves.

  Args:
    rate_anchor: [points], rates of the anchor, > 0, in any unit.
    quality_anchor: [points], the measure at these rates.
    rate_test: [points], rates of the test, in the anchor's unit.
    quality_test: [points], the measure at these rates.
    method: 'pchip' or 'akima'.

  Returns:
    BDRate: percent (-10.0 reads: ten per cent fewer bits than the anchor),
    quality_low, quality_high, overlap.

  Raises:
    ValueError: fewer than 4 points on a curve, a value that is not finite, a
      rate <= 0, a curve that turns back, no overlap, or an unknown method.
  """
  if method not in INTERPOLATORS:
    raise ValueError(
      f'method is {method!r}: one of {", ".join(map(repr, INTERPOLATORS))} '
      'is expected'
    )
  anchor, anchor_sign = _curve(rate_anchor, quality_anchor, 'anchor')
  test, test_sign = _curve(rate_test, quality_test, 'test')
  if anchor_sign != test_sign:
    raise ValueError(
      'quality grows with rate on one curve and falls on the other: the same '
      'measure is expected on both'
    )
  low = max(anchor[0][0], test[0][0])
  high = min(anchor[0][-1], test[0][-1])
  if low >= high:
    raise ValueError(
      f'the anchor covers qualities {anchor[0][0]:.4g} to '
      f'{anchor[0][-1]:.4g} and the test {test[0][0]:.4g} to '
      f'{test[0][-1]:.4g}: curves that overlap are expected'
    )
  means = [
    float(INTERPOLATORS[method](*curve).integrate(low, high)) / (high - low)
    for curve in (anchor, test)
  ]
  span = max(anchor[0][-1], test[0][-1]) - min(anchor[0][0], test[0][0])
  return BDRate(
    percent=100.0 * float(np.expm1(means[1] - means[0])),
    quality_low=float(low),
    quality_high=float(high),
    overlap=float((high - low) / span),
  )


def _curve(rate, quality, name):
  """((quality, log-rate) sorted by quality, +1 or -1 for the direction)."""
  rate = np.asarray(rate, np.float64)
  quality = np.asarray(quality, np.float64)
  if rate.ndim != 1 or rate.shape != quality.shape:
    raise ValueError(
      f'the {name} has rates of shape {rate.shape} and qualities of shape '
      f'{quality.shape}: two lists of one length are expected'
    )
  if len(rate) < MIN_POINTS:
    raise ValueError(
      f'the {name} has {len(rate)} points: {MIN_POINTS} or more are expected'
    )
  if not np.all(np.isfinite(rate)) or not np.all(np.isfinite(quality)):
    raise ValueError(
      f'the {name} has rates {rate} and qualities {quality}: finite numbers '
      'are expected'
    )
  if np.any(rate <= 0):
    raise ValueError(f'the {name} has rates {rate}: rates > 0 are expected')
  order = np.argsort(rate)
  rate, quality = rate[order], quality[order]
  steps = np.diff(quality)
  sign = 1 if quality[-1] > quality[0] else -1
  if np.any(np.diff(rate) == 0) or np.any(sign * steps <= 0):
    raise ValueError(
      f'the {name} turns back: at rates {rate} its qualities are {quality}, '
      'and a curve that only grows or only falls is expected'
    )
  return (quality[::sign], np.log(rate)[::sign]), sign


def at_rates(curve_bpp, values, bpp) -> list[float | None]:
  """A mean curve read at other rates, linear in the logarithm of bpp.

  Args:
    curve_bpp: rates of the curve, rising.
    values: of a measure at them.
    bpp: rates to read at.

  Returns:
    One value per rate; None beyond the curve's ends.
  """
  found = np.interp(np.log(bpp), np.log(curve_bpp), values, np.nan, np.nan)
  return [float(v) if np.isfinite(v) else None for v in found]
