"""LPIPS as training sees it: batches and gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.metrics import lpips, vgg


def images(seed, batch=2, side=32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(-1, 1, (batch, side, side, 3)), jnp.float32)


@pytest.mark.parametrize('network', ['alex', 'vgg'])
def test_each_example_is_its_own(network):
  params = lpips.weights(network)
  side = lpips.NETWORKS[network].smallest + 1
  a, b, c = (images(seed, side=side) for seed in range(3))
  distance = jax.jit(lpips.distance, static_argnums=3)
  together = distance(params, a, b, network)
  assert together.shape == (2,) and together.dtype == jnp.float32
  assert np.all(together > 0.05)
  # The other one of the batch is another now.
  again = distance(params, a, jnp.stack([b[0], c[1]]), network)
  np.testing.assert_allclose(again[0], together[0], rtol=1e-4)
  assert abs(again[1] - together[1]) > 1e-3


def test_layers_in_bfloat16_change_little(monkeypatch):
  params = lpips.weights('vgg')
  maps = []
  features = vgg.features

  def spy(*args, **fields):
    maps.extend(features(*args, **fields))
    return maps[-5:]

  monkeypatch.setattr(vgg, 'features', spy)
  reference = images(0)
  decoded = 0.7 * reference + 0.3 * images(1)

  @jax.jit
  def distances(params, reference, decoded):
    maps.clear()
    found = [
      lpips.distance(params, reference, decoded, 'vgg', dtype)
      for dtype in ('float32', 'bfloat16')
    ]
    return *found, lpips.with_statistics(params, reference, decoded)[0]

  exact, narrow, ours = distances(params, reference, decoded)
  assert [m.dtype for m in maps] == 10 * [jnp.bfloat16] + 10 * [jnp.float32]
  assert narrow.dtype == jnp.float32 and np.all(exact > 0.03)
  np.testing.assert_allclose(ours, exact, rtol=1e-5)
  np.testing.assert_allclose(narrow, exact, rtol=0.02)
  assert np.any(np.abs(narrow - exact) > 1e-5 * exact)


def test_alexnet_stays_in_float32():
  with pytest.raises(ValueError, match="bfloat16 needs 'vgg', not 'alex'"):
    lpips.distance({}, images(0), images(1), dtype='bfloat16')


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_step_along_the_gradient_comes_nearer(dtype):
  params = lpips.weights('vgg')
  reference, decoded = images(0, 1, 16), 0.9 * images(0, 1, 16) + 0.05

  @jax.jit
  def value_and_grad(decoded, params):
    return jax.value_and_grad(
      lambda d: lpips.distance(params, reference, d, 'vgg', dtype)[0]
    )(decoded)

  before, slope = value_and_grad(decoded, params)
  assert np.all(np.isfinite(slope)) and np.linalg.norm(slope) > 0
  step = 0.2 * before / jnp.sum(slope**2)
  after, _ = value_and_grad(decoded - step * slope, params)
  assert after < 0.95 * before


def moments(image, params, window):
  """Of a stage's unit maps in each window, from its definition."""
  maps = vgg.features(params['VGG16_0'], jnp.asarray(image) / 2 + 0.5)
  for x, side in zip(maps, window, strict=True):
    x = np.float64(x)
    x = x[0] / np.sqrt(np.sum(x[0]**2, -1, keepdims=True) + 1e-10)
    views = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))
    views = views[::side // 2, ::side // 2]
    yield views.mean((-2, -1)), np.sqrt(views.var((-2, -1)) + 1e-6)


def test_statistics_are_of_means_and_deviations_in_windows():
  params = lpips.weights('vgg')
  pair = images(3, 1, 64), images(4, 1, 64)
  _, found = jax.jit(lpips.with_statistics)(params, *pair)
  expected = 0.0
  for i, (a, b) in enumerate(zip(
    *(moments(image, params, (32, 16, 8, 4, 2)) for image in pair), strict=True
  )):
    head = params[f'NetLinLayer_{i}']['Conv_0']['kernel'][0, 0, :, 0]
    squares = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    expected += np.mean(squares @ np.float64(head))
  assert expected > 1e-3
  np.testing.assert_allclose(found, [expected], rtol=1e-3)


def test_statistics_forgive_detail_that_is_elsewhere_and_not_its_absence():
  params = lpips.weights('vgg')
  rng = np.random.default_rng(0)
  texture = rng.uniform(-0.5, 0.5, (1, 64, 64, 3)).astype(np.float32)
  moved, flat = np.roll(texture, (16, 8), (1, 2)), 0 * texture
  distance = jax.jit(lpips.with_statistics)
  (far, alike), (blurred, unlike) = (
    distance(params, texture, other) for other in (moved, flat)
  )
  assert alike[0] < 0.2 * far[0] and alike[0] < 0.1 * unlike[0]
  assert unlike[0] > 0.5 * blurred[0]


def test_statistics_need_a_window():
  with pytest.raises(ValueError, match='32 pixels or more, not 31 x 31'):
    lpips.with_statistics({}, images(0, side=31), images(1, side=31))
