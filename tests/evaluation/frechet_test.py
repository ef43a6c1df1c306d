"""Frechet distance and KID against closed forms and direct sums."""
import functools
import operator

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, ImageFilter

from gdc.evaluation import frechet
from gdc.models import inception, lpips, vgg

# --- Patches ----------------------------------------------------------------


@pytest.mark.parametrize('height,width,first,second', [
  (255, 1000, 0, 0),
  (256, 256, 1, 0),
  (383, 512, 2, 0),
  (384, 384, 1, 1),
  (512, 383, 2, 0),
  (512, 512, 4, 1),
  (640, 512, 4, 2),
  (1000, 700, 6, 6),
])
def test_patches_are_two_grids(height, width, first, second):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (height, width, 3), np.uint8)
  found = frechet.patches(image)
  assert found.dtype == np.uint8
  assert found.shape == (first + second, 256, 256, 3)
  corners = [
    (y, x)
    for start, count in ((0, first), (128, second)) if count
    for y in range(start, height - 255, 256)
    for x in range(start, width - 255, 256)
  ]
  for patch, (y, x) in zip(found, corners, strict=True):
    np.testing.assert_array_equal(patch, image[y:y + 256, x:x + 256])


def test_patches_take_8_bit_rgb():
  with pytest.raises(ValueError, match='float64.*uint8'):
    frechet.patches(np.zeros((256, 256, 3)))


# --- Features ---------------------------------------------------------------


def _texture(seed, height=512, width=512):
  """Noise of several scales: texture that a blur takes away."""
  rng = np.random.default_rng(seed)
  layers = [
    Image.fromarray(
      rng.integers(0, 256, (height // s, width // s, 3), np.uint8)
    ).resize((width, height), Image.Resampling.BICUBIC)
    for s in (1, 2, 4, 16)
  ]
  mean = np.mean([np.asarray(layer, np.float64) for layer in layers], 0)
  return mean.round().astype(np.uint8)


def _blur(image, radius):
  picture = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
  return np.asarray(picture)


def test_vgg16_is_the_mean_of_relu5_3():
  extractor = frechet.vgg16()
  assert extractor.label == 'FD-VGG16/256'
  assert extractor.keys == ('fd-vgg16-256', 'kid-vgg16-256')
  patches = frechet.patches(_texture(0, 256, 512))
  found = extractor(patches)
  assert found.shape == (2, 512) and found.dtype == np.float32
  maps = vgg.features(
    lpips.weights('vgg')['VGG16_0'], jnp.asarray(patches[:1], jnp.float32) / 255
  )
  assert maps[-1].shape == (1, 16, 16, 512)
  np.testing.assert_allclose(
    found[:1], np.mean(maps[-1], (1, 2)), rtol=1e-3, atol=1e-4
  )
  # A resumed run finds the same bits, whatever came before a patch.
  np.testing.assert_array_equal(extractor(patches[1:]), found[1:])
  assert extractor is frechet.vgg16()


def test_no_patches_have_no_features():
  found = frechet.vgg16()(np.zeros((0, 256, 256, 3), np.uint8))
  assert found.shape == (0, 512) and found.dtype == np.float32


@pytest.mark.parametrize('patches', [
  np.zeros((1, 256, 256, 3)),
  np.zeros((1, 128, 256, 3), np.uint8),
  np.zeros((256, 256, 3), np.uint8),
  [[0]],
])
def test_features_are_of_patches(patches):
  with pytest.raises(ValueError, match=r'uint8 \[n, 256, 256, 3\] is expected'):
    frechet.vgg16()(patches)


def test_distances_grow_with_blur():
  # Small patches, which the network takes as well, to save time.
  compute = frechet.vgg16().compute
  images = [_texture(seed, 64, 64) for seed in range(5)]
  features = [
    np.stack([compute(_blur(image, radius)) for image in images])
    for radius in (0, 0.7, 2)
  ]
  for measure in (
    frechet.kid,
    lambda x, y: frechet.distance(frechet.moments(x), frechet.moments(y)),
  ):
    same, little, much = (measure(features[0], x) for x in features)
    assert same < little < much
    assert little - same < 0.5 * (much - same)


@pytest.fixture(scope='module')
def weights():
  """Weights of Inception that are all alike, but whole."""
  return {
    name: np.full(shape, 0.01, np.float32)
    for name, shape in inception.shapes().items()
  }


def test_inception_reads_a_file(weights, tmp_path):
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file(weights, path)
  extractor = frechet.inception(path)
  assert extractor.label == 'FID/256'
  assert extractor.keys == ('fid-256', 'kid-256')
  assert extractor.dimension == 2048
  assert extractor(np.zeros((0, 256, 256, 3), np.uint8)).shape == (0, 2048)

  weights['Mixed_7c.branch1x1.bn.bias'] = np.ones(320, np.float32)
  safetensors.numpy.save_file(weights, path)
  other = frechet.inception(str(path))
  assert len({e.digest for e in (extractor, other, frechet.vgg16())}) == 3


def test_inception_refuses_other_files(tmp_path):
  with pytest.raises(ValueError, match='absent.pth is not a file'):
    frechet.inception(tmp_path / 'absent.pth')
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file({'a': np.zeros(1, np.float32)}, path)
  with pytest.raises(ValueError, match='w.safetensors does not hold.*missing'):
    frechet.inception(path)
  path = tmp_path / 'pt_inception-2015-12-05-6726825d.pth'
  path.write_bytes(b'half of it')
  with pytest.raises(ValueError, match='SHA-256 begins with.*damaged'):
    frechet.inception(path)


# --- Distances --------------------------------------------------------------


def _set(seed, n=200, d=6):
  """Correlated, skewed, off centre."""
  rng = np.random.default_rng(seed)
  mix = np.random.default_rng(100 + seed).normal(size=(d, d))
  return np.abs(rng.normal(size=(n, d)) @ mix + 1.0).astype(np.float32)


def _moments(mean, covariance, n=1000):
  """Those of a set with exactly this mean and covariance."""
  mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
  outer = (n - 1) * covariance + n * np.outer(mean, mean)
  return frechet.Moments(n, n * mean, outer)


def test_distance_of_gaussians():
  a = _moments([1, 2, 3], np.diag([1, 4, 9]))
  b = _moments([1, 0, 4], np.diag([4, 1, 9]))
  # |(0, 2, -1)|^2 + (1 - 2)^2 + (2 - 1)^2 + 0.
  np.testing.assert_allclose(frechet.distance(a, b), 7, rtol=1e-12)
  # The same, turned: the covariances then are not diagonal.
  turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
  turned = [
    _moments(turn @ m.mean(), turn @ m.covariance() @ turn.T) for m in (a, b)
  ]
  np.testing.assert_allclose(frechet.distance(*turned), 7, rtol=1e-12)


def test_distance_of_covariances_that_do_not_commute():
  # In two dimensions tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
  a, b = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, -0.5], [-0.5, 4]])
  product = a @ b
  root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
  expected = np.trace(a) + np.trace(b) - 2 * root
  found = frechet.distance(_moments([0, 0], a), _moments([0, 0], b))
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
  found = frechet.distance(frechet.moments(x), frechet.moments(y))
  np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_moments_are_those_of_numpy():
  x = _set(0) + np.float32(50)  # means 50 times the deviations
  found = frechet.moments(x)
  x = x.astype(np.float64)
  np.testing.assert_allclose(found.mean(), x.mean(0), rtol=1e-14)
  np.testing.assert_allclose(
    found.covariance(), np.cov(x, rowvar=False), rtol=1e-10, atol=1e-10
  )


def test_order_and_splits_do_not_matter():
  x, y = _set(0), _set(1)
  whole = frechet.distance(frechet.moments(x), frechet.moments(y))
  assert whole > 0.1
  shuffled = np.random.default_rng(2).permutation(x)
  parts = [
    frechet.moments(p) for p in np.split(shuffled, [0, 1, 70, 199])
  ]
  assert [p.count for p in parts] == [0, 1, 69, 129, 1]
  merged = functools.reduce(operator.add, parts)
  assert merged.count == 200
  np.testing.assert_allclose(
    frechet.distance(frechet.moments(y), merged), whole, rtol=1e-11
  )
  np.testing.assert_allclose(
    frechet.kid(y, shuffled), frechet.kid(x, y), rtol=1e-11
  )


@pytest.mark.parametrize('n,d', [(200, 6), (20, 100), (2, 6)])
def test_equal_sets_are_at_zero(n, d):
  found = frechet.moments(_set(0, n, d))
  distance = frechet.distance(found, found)
  assert 0 <= distance < 1e-11 * np.trace(found.covariance())
  assert frechet.distance(found, frechet.moments(_set(1, n, d))) > 0.1


def test_constant_sets():
  a, b = (frechet.moments(np.full((3, 4), v, np.float32)) for v in (1, 3))
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
    distance.append(
      frechet.distance(frechet.moments(x), frechet.moments(y))
    )
  assert min(kid) < 0
  assert abs(np.mean(kid)) < 3 * np.std(kid) / np.sqrt(len(kid))
  assert np.mean(distance) > 20 * np.std(distance) / np.sqrt(len(distance))


def test_sets_must_have_two_patches_and_equal_features():
  one, two, more = np.ones((1, 3)), np.eye(2, 3), np.eye(4)
  for pair in ((one, two), (two, one)):
    with pytest.raises(ValueError, match='has 1 patches: 2 or more'):
      frechet.kid(*pair)
    with pytest.raises(ValueError, match='has 1 patches: 2 or more'):
      frechet.distance(*map(frechet.moments, pair))
  with pytest.raises(ValueError, match='3 and 4 features'):
    frechet.kid(two, more)
  with pytest.raises(ValueError, match='3 and 4 features'):
    frechet.distance(frechet.moments(two), frechet.moments(more))
  with pytest.raises(ValueError, match=r'shape \(3,\).*\[n, d\]'):
    frechet.moments(np.ones(3))
