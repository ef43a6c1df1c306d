"""Realism of a set: Frechet distance and KID over patches of 256 pixels.

How far the decoded pictures are, as a set, from the originals, in features of
a network (patch_features.py); no decoded patch is compared with its own
original. The protocol is that of Mentzer et al. 2020, 'High-fidelity generative
image compression', appendix A.7, https://arxiv.org/abs/2006.09965.

Values depend on the features, on the patches and on their number. They are
compared only where all three are the same:
- The Frechet distance between independent sets is biased upward, the more the
  fewer patches there are (Binkowski et al. 2018, see kid): two halves of one
  set are not at 0. With fewer patches than features the covariances are
  singular besides.
- KID is unbiased between independent sets. Decoded patches aren't independent
  of their originals: close to them KID falls below 0, the further the fewer
  patches there are (by 2 / n times what the kernel gives a patch and itself
  beyond what it gives two patches), and the Frechet distance to 0.
- 'FD-VGG16/256' is not FID: other features, other scale.
"""

from typing import NamedTuple

import numpy as np

_BLOCK = 1024  # rows of the kernel's matrix that are in memory at once


class Moments(NamedTuple):
  """What the Frechet distance needs of a set, in sums that can be merged.

  Sums are of the features as they are, in float64, and the mean is taken out
  at the end. Cancellation costs nothing to speak of: standard deviations of
  features after a ReLU are of the size of their means (0.8 of them or more on
  photographs, with VGG16), and even at a hundredth 12 digits would be left.

  Attributes:
    count: patches, n.
    total: float64 [d], the sum of features.
    outer: float64 [d, d], the sum of their outer products.
  """

  count: int
  total: np.ndarray
  outer: np.ndarray

  def __add__(self, other: 'Moments') -> 'Moments':
    """The moments of both sets together: exact up to float64's rounding."""
    return Moments(*(a + b for a, b in zip(self, other, strict=True)))

  def mean(self) -> np.ndarray:
    """The mean, float64 [d]; ValueError for a set of fewer than 2 patches."""
    self._check_count()
    return self.total / self.count

  def covariance(self) -> np.ndarray:
    """The covariance over n - 1, float64 [d, d]; ValueError below 2 patches."""
    mean = self.mean()
    return (self.outer - np.outer(mean, self.total)) / (self.count - 1)

  def _check_count(self):
    if self.count < 2:
      raise ValueError(
        f'the set has {self.count} patches: 2 or more are expected'
      )


def moments(features: np.ndarray) -> Moments:
  """The moments of features, [n, d]; n may be 0, where merging starts.

  Raises:
    ValueError: not [n, d].
  """
  features = _check_features(features).astype(np.float64)
  return Moments(len(features), features.sum(0), features.T @ features)


def distance(a: Moments, b: Moments) -> float:
  """Frechet distance between Gaussians of these moments.

  |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), the squared 2-Wasserstein
  distance: Heusel et al. 2017, 'GANs trained by a two time-scale update rule
  converge to a local Nash equilibrium', https://arxiv.org/abs/1706.08500. With
  Inception's features this is FID. It's symmetric. See the module's docstring:
  it is biased upward, so that only values over equal numbers of patches
  compare.

  Args:
    a: moments of one set.
    b: moments of the other, of the same features.

  Returns:
    The distance, >= 0, lower is better; 0 for equal moments up to rounding
    (1e-12 of the trace).

  Raises:
    ValueError: fewer than 2 patches in a set, or features of another number.
  """
  if a.total.shape != b.total.shape:
    raise ValueError(
      f'the sets have {len(a.total)} and {len(b.total)} features: equally many '
      'are expected'
    )
  shift = a.mean() - b.mean()
  covariances = a.covariance(), b.covariance()
  # With A = L L^T and B = M M^T, tr (A B)^(1/2) is the sum of the singular
  # values of L^T M. Unlike eigenvalues of A^(1/2) B A^(1/2) they are not rooted
  # after rounding, which would turn 1e-16 in each null direction into 1e-8.
  left, right = (_factor(c) for c in covariances)
  common = np.linalg.svd(left.T @ right, compute_uv=False).sum()
  traces = sum(np.trace(c) for c in covariances)
  return float(max(0.0, shift @ shift + traces - 2.0 * common))


def _factor(covariance):
  """L of full column rank with L L^T = covariance, [d, rank]."""
  values, vectors = np.linalg.eigh(covariance)
  noise = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  kept = values > noise
  return vectors[:, kept] * np.sqrt(values[kept])


def kid(x: np.ndarray, y: np.ndarray) -> float:
  """Kernel distance between two sets of features ('KID' with Inception's).

  The unbiased estimate of the squared maximum mean discrepancy with the kernel
  (x.y / d + 1)^3: Binkowski et al. 2018, 'Demystifying MMD GANs',
  https://arxiv.org/abs/1801.01401. All pairs are used, so that the value is
  one number, not a draw; torchmetrics and torch-fidelity report the mean over
  100 random subsets of 1000, which has the same expectation. Time grows with
  the square of the number of patches; the kernel's matrix is never in memory.

  Args:
    x: [n, d], features of one set.
    y: [m, d], features of the other.

  Returns:
    KID, lower is better; below 0 for sets that are alike, and for a set and
    itself. It isn't multiplied by 1000, as it is in some tables.

  Raises:
    ValueError: fewer than 2 patches in a set, or features of another number.
  """
  x, y = _check_features(x), _check_features(y)
  if x.shape[1] != y.shape[1]:
    raise ValueError(
      f'the sets have {x.shape[1]} and {y.shape[1]} features: equally many '
      'are expected'
    )
  for features in (x, y):
    if len(features) < 2:
      raise ValueError(
        f'a set has {len(features)} patches: 2 or more are expected'
      )
  between = sum(
    _kernel(a, b).sum() for a in _blocks(x) for b in _blocks(y)
  ) / (len(x) * len(y))
  return float(_within(x) + _within(y) - 2.0 * between)


def _within(features):
  """The kernel's mean over pairs of two different patches of one set."""
  total = 0.0
  for i, a in enumerate(_blocks(features)):
    same = _kernel(a, a)
    total += same.sum() - np.trace(same)
    for b in _blocks(features[(i + 1) * _BLOCK:]):
      total += 2.0 * _kernel(a, b).sum()
  return total / (len(features) * (len(features) - 1))


def _kernel(a, b):
  base = a @ b.T / a.shape[1] + 1.0
  return base * base * base


def _blocks(features):
  for start in range(0, len(features), _BLOCK):
    yield features[start:start + _BLOCK].astype(np.float64)


def _check_features(features) -> np.ndarray:
  features = np.asarray(features)
  if features.ndim != 2:
    raise ValueError(
      f'features have shape {features.shape}: [n, d] is expected'
    )
  return features
