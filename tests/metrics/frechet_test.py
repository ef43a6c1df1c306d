"""Frechet distance and KID against closed forms and direct sums."""
import numpy as np
import pytest

from gdc.metrics import frechet


def _set(seed, n=200, d=6):
  """Correlated, skewed, off centre."""
  rng = np.random.default_rng(seed)
  mix = np.random.default_rng(100 + seed).normal(size=(d, d))
  return np.abs(rng.normal(size=(n, d)) @ mix + 1.0).astype(np.float32)


def _exact(mean, covariance, n=1000):
  """A set with exactly this mean and covariance."""
  x = np.random.default_rng(0).normal(size=(n, len(mean)))
  x -= x.mean(0)
  white = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False)), x.T)
  return (np.linalg.cholesky(covariance) @ white).T + mean


def test_distance_of_gaussians():
  a = _exact([1, 2, 3], np.diag([1, 4, 9]))
  b = _exact([1, 0, 4], np.diag([4, 1, 9]))
  # |(0, 2, -1)|^2 + (1 - 2)^2 + (2 - 1)^2 + 0.
  np.testing.assert_allclose(frechet.distance(a, b), 7, rtol=1e-12)
  # The same, turned: the covariances then are not diagonal.
  turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
  np.testing.assert_allclose(
    frechet.distance(a @ turn.T, b @ turn.T), 7, rtol=1e-12
  )


def test_distance_of_covariances_that_do_not_commute():
  # In two dimensions tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
  a, b = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, -0.5], [-0.5, 4]])
  product = a @ b
  root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
  expected = np.trace(a) + np.trace(b) - 2 * root
  found = frechet.distance(_exact([0, 0], a), _exact([0, 0], b))
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_distance_with_fewer_patches_than_features():
  x, y = _set(0, 20, 100), _set(1, 30, 100)
  # Through the samples instead: tr (A B)^(1/2) is the nuclear norm of X Y^T.
  a, b = (
    (z - z.mean(0, np.float64)) / np.sqrt(len(z) - 1) for z in (x, y)
  )
  shift = x.mean(0, np.float64) - y.mean(0, np.float64)
  expected = (
    shift @ shift + np.sum(a * a) + np.sum(b * b)
    - 2 * np.linalg.norm(a @ b.T, 'nuc')
  )
  found = frechet.distance(x, y)
  np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_far_from_the_origin_no_digits_are_lost():
  x, y = _set(0), _set(1)
  far = np.float32(50)  # 50 times the deviations
  np.testing.assert_allclose(
    frechet.distance(x.astype(float) + far, y.astype(float) + far),
    frechet.distance(x, y), rtol=1e-10,
  )


def test_order_and_blocks_do_not_matter(monkeypatch):
  x, y = _set(0), _set(1)
  whole = frechet.distance(x, y), frechet.kid(x, y)
  assert whole[0] > 0.1
  shuffled = np.random.default_rng(2).permutation(x)
  monkeypatch.setattr(frechet, '_BLOCK', 69)
  np.testing.assert_allclose(
    (frechet.distance(y, shuffled), frechet.kid(y, shuffled)), whole,
    rtol=1e-11,
  )


@pytest.mark.parametrize('n,d', [(200, 6), (20, 100), (2, 6)])
def test_equal_sets_are_at_zero(n, d):
  x = _set(0, n, d)
  assert 0 <= frechet.distance(x, x) < 1e-11 * np.sum(np.var(x, 0))
  assert frechet.distance(x, _set(1, n, d)) > 0.1


def test_constant_sets():
  a, b = (np.full((3, 4), v, np.float32) for v in (1, 3))
  np.testing.assert_allclose(frechet.distance(a, b), 4 * 2.0**2)


def test_kid_is_the_double_loop(monkeypatch):
  monkeypatch.setattr(frechet, '_BLOCK', 4)
  x, y = _set(0, 11, 5), _set(1, 8, 5)

  def kernel(a, b):
    dot = sum(float(i) * float(j) for i, j in zip(a, b, strict=True))
    return (dot / 5 + 1) ** 3

  def within(z):
    pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
    return np.mean([kernel(z[i], z[j]) for i, j in pairs])

  between = np.mean([kernel(a, b) for a in x for b in y])
  np.testing.assert_allclose(
    frechet.kid(x, y), within(x) + within(y) - 2 * between, rtol=1e-10
  )


def test_kid_is_unbiased_where_the_distance_is_not():
  kid, distance = [], []
  for seed in range(200):
    x, y = np.random.default_rng(seed).normal(size=(2, 10, 4))
    kid.append(frechet.kid(x, y))
    distance.append(frechet.distance(x, y))
  assert min(kid) < 0
  assert abs(np.mean(kid)) < 3 * np.std(kid) / np.sqrt(len(kid))
  assert np.mean(distance) > 20 * np.std(distance) / np.sqrt(len(distance))
