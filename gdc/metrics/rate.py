"""Rates: bits per pixel, and Bjontegaard's differences between two curves.

Bjontegaard, VCEG-M33 (2001): the mean difference of rate at equal quality, or
of quality at equal rate, over what both curves cover, with log-rate for rate.
Curves are interpolated by his cubic polynomial, fitted by least squares
('cubic'), by PCHIP, as in JCT-VC's spreadsheets ('pchip'), or by Akima
('akima'), as Herglotz et al. 2022 propose, 'Beyond Bjontegaard',
https://arxiv.org/abs/2202.12565. The cubic may swing between points, and misses
them if there are more than four: compare it with the other two before quoting
it.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import interpolate


def _cubic(x, y, low, high) -> float:
  integral = np.polynomial.Polynomial.fit(x, y, 3).integ()
  return integral(high) - integral(low)


def _piecewise(interpolator, x, y, low, high) -> float:
  return interpolator(x, y).integrate(low, high)


# (x rising, y, low, high) -> integral of the curve from low to high.
METHODS = {
  'pchip': functools.partial(_piecewise, interpolate.PchipInterpolator),
  'akima': functools.partial(_piecewise, interpolate.Akima1DInterpolator),
  'cubic': _cubic,
}
MIN_POINTS = 4


class BDRate(NamedTuple):
  """A Bjontegaard rate difference, and the interval that it is over."""

  percent: float  # mean change of rate at equal quality; below 0: test saves
  quality_low: float  # ends of the interval that both curves cover,
  quality_high: float  # in the units of the metric
  overlap: float  # that interval over the span of both curves, in (0, 1]


class BDQuality(NamedTuple):
  """A Bjontegaard quality difference, and the interval that it is over."""

  difference: float  # mean change of the metric at equal rate, in its units
  rate_low: float  # ends of the interval that both curves cover,
  rate_high: float  # in the unit of the rates
  overlap: float  # that interval over the span of both, in log-rate, in (0, 1]


def bits_per_pixel(num_bytes: int, height: int, width: int) -> float:
  """Returns the rate of a whole file, in bits per pixel of the image."""
  return 8.0 * num_bytes / (height * width)


def bd_rate(
  rate_anchor, quality_anchor, rate_test, quality_test, method: str = 'pchip'
) -> BDRate:
  """Mean difference of rate at equal quality, test against anchor.

  100 (exp(mean log ratio) - 1), the mean over the interval of quality that both
  curves cover: a figure over a small overlap says little. The metric may grow
  with rate (PSNR) or fall with it (LPIPS), strictly, and alike on both curves.

  Args:
    rate_anchor: [points], rates of the anchor, > 0, in any unit.
    quality_anchor: [points], the metric at these rates.
    rate_test: [points], rates of the test, in the anchor's unit.
    quality_test: [points], the metric at these rates.
    method: 'pchip', 'akima' or 'cubic'.

  Returns:
    BDRate; a percent of -10.0 is ten per cent fewer bits than the anchor.

  Raises:
    ValueError: fewer than 4 points on a curve, a value that is not finite, a
      rate <= 0, a curve that turns back, no overlap, or an unknown method.
  """
  anchor = _points(rate_anchor, quality_anchor, 'anchor')
  test = _points(rate_test, quality_test, 'test')
  signs = _direction(anchor, 'anchor'), _direction(test, 'test')
  if signs[0] != signs[1]:
    raise ValueError(
      'quality grows with rate on one curve and falls on the other: the same '
      'measure is expected on both'
    )
  # Quality must rise along x, whichever way it runs with rate.
  anchor, test = (
    (quality[:: signs[0]], np.log(rate)[:: signs[0]])
    for rate, quality in (anchor, test)
  )
  mean, low, high, overlap = _mean_difference(
    anchor, test, method, 'qualities', float
  )
  return BDRate(100.0 * float(np.expm1(mean)), low, high, overlap)


def bd_quality(
  rate_anchor, quality_anchor, rate_test, quality_test, method: str = 'pchip'
) -> BDQuality:
  """Mean difference of a metric at equal rate, test minus anchor.

  BD-PSNR if the metric is PSNR. Unlike for bd_rate, a curve may turn back in
  quality.

  Args:
    rate_anchor: see bd_rate, as all others.
    quality_anchor: [points].
    rate_test: [points].
    quality_test: [points].
    method: 'pchip', 'akima' or 'cubic'.

  Returns:
    BDQuality; a difference of +0.5 is half a decibel better in PSNR, and 0.5
    worse in LPIPS.

  Raises:
    ValueError: fewer than 4 points on a curve, a value that is not finite, a
      rate <= 0 or one that comes twice on a curve, no overlap, or an unknown
      method.
  """
  curves = (
    _points(rate_anchor, quality_anchor, 'anchor'),
    _points(rate_test, quality_test, 'test'),
  )
  mean, low, high, overlap = _mean_difference(
    *((np.log(rate), quality) for rate, quality in curves), method, 'rates',
    np.exp,
  )
  return BDQuality(mean, float(np.exp(low)), float(np.exp(high)), overlap)


def rate_at(rate, quality, values) -> np.ndarray:
  """Rates at which a curve reaches qualities: PCHIP of log-rate, as in bd_rate.

  Args:
    rate: [points], > 0.
    quality: [points], the metric at these rates, which only grows or only
      falls with them.
    values: [n], within the span of `quality`; nan comes back outside.

  Returns:
    [n], in the unit of the rates.

  Raises:
    ValueError: as bd_rate, of the anchor.
  """
  curve = _points(rate, quality, 'anchor')
  sign = _direction(curve, 'anchor')
  rate, quality = (axis[::sign] for axis in curve)
  curve = interpolate.PchipInterpolator(
    quality, np.log(rate), extrapolate=False
  )
  return np.exp(curve(values))


def _mean_difference(anchor, test, method, axis, unit):
  """Compares two curves (x rising, y) over the x that both cover.

  Returns:
    Mean of test minus anchor, ends of the interval, its share of both spans.
  """
  if method not in METHODS:
    raise ValueError(
      f'method is {method!r}: one of {", ".join(map(repr, METHODS))} is '
      'expected'
    )
  low, high = max(anchor[0][0], test[0][0]), min(anchor[0][-1], test[0][-1])
  if low >= high:
    spans = [
      f'{unit(x[0]):.4g} to {unit(x[-1]):.4g}' for x, _ in (anchor, test)
    ]
    raise ValueError(
      f'the anchor covers {axis} {spans[0]} and the test {spans[1]}: curves '
      'that overlap are expected'
    )
  means = [
    float(METHODS[method](*curve, low, high)) / (high - low)
    for curve in (anchor, test)
  ]
  span = max(anchor[0][-1], test[0][-1]) - min(anchor[0][0], test[0][0])
  return (
    float(means[1] - means[0]), float(low), float(high),
    float((high - low) / span),
  )


def _points(rate, quality, name):
  """Checks a curve; returns (rate, quality), sorted by rate."""
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
  if np.any(np.diff(rate) == 0):
    raise ValueError(
      f'the {name} has rates {rate}: rates that are all different are expected'
    )
  return rate, quality


def _direction(curve, name) -> int:
  """Returns 1 or -1 for a metric that grows or falls with rate, strictly."""
  rate, quality = curve
  sign = 1 if quality[-1] > quality[0] else -1
  if np.any(sign * np.diff(quality) <= 0):
    raise ValueError(
      f'the {name} turns back: at rates {rate} its qualities are {quality}, '
      'and a curve that only grows or only falls is expected'
    )
  return sign
