"""Realism of a set: Frechet distance and KID over features of patches.

Both say how far the decoded images are, as a set, from the originals; no
decoded patch is compared with its own original. The protocol is that of Mentzer
et al. 2020, 'High-fidelity generative image compression', appendix A.7,
https://arxiv.org/abs/2006.09965.

Values compare only for the same features, the same patches and the same number
of them:
- The Frechet distance between independent sets is biased upward, the more the
  fewer patches there are (Binkowski et al. 2018, see kid): two halves of one
  set are not at 0. With fewer patches than features the covariances are
  singular as well.
- KID is unbiased between independent sets. Decoded patches are not independent
  of their originals: close to them KID falls below 0, and the Frechet distance
  to 0.
- 'FD-VGG16/256' is not FID: other features, other scale.
"""
import numpy as np

_BLOCK = 1024  # patches whose features are float64 in memory at once


def distance(x: np.ndarray, y: np.ndarray) -> float:
  """Frechet distance between Gaussians of the sets' means and covariances.

  |mean_x - mean_y|^2 + tr(X + Y - 2 (X Y)^(1/2)), the squared 2-Wasserstein
  distance: Heusel et al. 2017, 'GANs trained by a two time-scale update rule
  converge to a local Nash equilibrium', https://arxiv.org/abs/1706.08500. With
  Inception's features this is FID. It is symmetric.

  Args:
    x: [n, d], features of one set, n >= 2.
    y: [m, d], features of the other, m >= 2.

  Returns:
    The distance, >= 0, lower is better; 0 for equal sets up to rounding
    (1e-12 of the trace).
  """
  (mean_x, covariance_x), (mean_y, covariance_y) = _moments(x), _moments(y)
  shift = mean_x - mean_y
  # With X = L L^T and Y = M M^T, tr (X Y)^(1/2) is the sum of the singular
  # values of L^T M. Unlike eigenvalues of X^(1/2) Y X^(1/2) they are not rooted
  # after rounding, which would turn 1e-16 in each null direction into 1e-8.
  common = np.linalg.svd(
    _factor(covariance_x).T @ _factor(covariance_y), compute_uv=False
  ).sum()
  traces = np.trace(covariance_x) + np.trace(covariance_y)
  return float(max(0.0, shift @ shift + traces - 2.0 * common))


def kid(x: np.ndarray, y: np.ndarray) -> float:
  """Kernel distance between two sets of features ('KID' with Inception's).

  The unbiased estimate of the squared maximum mean discrepancy with the kernel
  (x.y / d + 1)^3: Binkowski et al. 2018, 'Demystifying MMD GANs',
  https://arxiv.org/abs/1801.01401. All pairs are used, so that the value is
  one number, not a draw; torchmetrics and torch-fidelity report the mean over
  100 random subsets of 1000, which has the same expectation. Time grows with
  the square of the number of patches; the kernel's matrix is never in memory.

  Args:
    x: [n, d], features of one set, n >= 2.
    y: [m, d], features of the other, m >= 2.

  Returns:
    KID, lower is better, not multiplied by 1000 as in some tables; below 0 for
    sets that are alike, and for a set and itself.
  """
  between = sum(
    _kernel(a, b).sum() for a in _blocks(x) for b in _blocks(y)
  ) / (len(x) * len(y))
  return float(_within(x) + _within(y) - 2.0 * between)


def _blocks(features):
  for start in range(0, len(features), _BLOCK):
    yield features[start:start + _BLOCK].astype(np.float64)


def _moments(features):
  """Mean [d] and covariance over n - 1, [d, d]."""
  mean = sum(block.sum(0) for block in _blocks(features)) / len(features)
  outer = sum((b - mean).T @ (b - mean) for b in _blocks(features))
  return mean, outer / (len(features) - 1)


def _factor(covariance):
  """L of full column rank with L L^T = covariance, [d, rank]."""
  values, vectors = np.linalg.eigh(covariance)
  noise = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  kept = values > noise
  return vectors[:, kept] * np.sqrt(values[kept])


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
