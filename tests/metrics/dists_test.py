"""DISTS against its equations, and what it is for."""
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.metrics import dists, lpips, vgg


@pytest.fixture(scope='module')
def params():
  return {'vgg': lpips.weights('vgg')['VGG16_0'], 'heads': dists.weights()}


@jax.jit
def distance(params, a, b):
  a, b = (dists.describe(params['vgg'], x) for x in (a, b))
  return dists.distance(params['heads'], a, b)


def images(seed, batch=2, side=24):
  rng = np.random.default_rng(seed)
  return rng.uniform(0, 1, (batch, side, side, 3)).astype(np.float32)


def test_matches_the_equations_written_out_in_numpy(params):
  """Equations 5 to 7 of the paper, in float64, of the same maps."""
  a, b = images(0), 0.5 * images(0) + 0.2 * images(1)
  alpha, beta = (np.float64(params['heads'][k]) for k in ('alpha', 'beta'))
  features = jax.jit(lambda vgg_params, x: vgg.features(vgg_params, x, 'l2'))
  maps = [[x, *features(params['vgg'], x)] for x in (a, b)]
  similarity, first = 0.0, 0
  for x, y in zip(*maps, strict=True):
    x, y = (np.float64(m).reshape(2, -1, m.shape[-1]) for m in (x, y))
    part = slice(first, first := first + x.shape[-1])
    mean_x, mean_y = x.mean(1), y.mean(1)
    covariance = (x * y).mean(1) - mean_x * mean_y
    texture = (2 * mean_x * mean_y + 1e-6) / (mean_x**2 + mean_y**2 + 1e-6)
    structure = (2 * covariance + 1e-6) / (x.var(1) + y.var(1) + 1e-6)
    similarity += texture @ alpha[part] + structure @ beta[part]
  assert first == 1475
  expected = 1 - similarity / (alpha.sum() + beta.sum())
  found = distance(params, a, b)
  assert found.dtype == jnp.float32 and np.all(expected > 0.05)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_weights_are_fitted_and_their_licence_lies_beside_them(params):
  heads = params['heads']
  for name in ('alpha', 'beta'):
    assert heads[name].shape == (1475,) and heads[name].dtype == np.float32
    assert np.all(heads[name] >= 0)
  # The authors keep the sum of both at 1; texture has the larger part.
  assert heads['alpha'].sum() == pytest.approx(0.87605, abs=1e-5)
  assert heads['beta'].sum() == pytest.approx(0.12395, abs=1e-5)
  text = pathlib.Path(dists.__file__).with_name('DISTS_LICENSE').read_text()
  assert text.startswith('MIT License') and 'Keyan Ding' in text


def test_each_example_is_its_own(params):
  a, b = images(0), images(1)
  first, second = np.array(distance(params, a, b))
  # The other one of the batch is another now.
  a[1], b[1] = 0.5 * a[0], b[1] ** 2
  again, other = np.array(distance(params, a, b))
  assert again == pytest.approx(first, rel=1e-5)
  assert other != pytest.approx(second, rel=0.05)


def test_another_draw_of_a_texture_is_near_and_its_mean_is_far(params):
  """To the squared error it is the other way round."""
  a, b = images(0), images(1)
  flat = np.full_like(a, 0.5)
  assert np.mean((a - b) ** 2) > 1.9 * np.mean((a - flat) ** 2)
  near, far = distance(params, a, b), distance(params, a, flat)
  assert np.all(2 * near < far)
