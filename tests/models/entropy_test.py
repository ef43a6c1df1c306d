"""The prior is a density, cheap to trust: sums, tails, closed form, bounds."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.models import entropy, layers

CHANNELS, LEVELS = 3, 4


@functools.cache
def initial_tables(channels=CHANNELS, num_levels=LEVELS, seed=0):
  prior = entropy.FactorizedPrior(channels, num_levels)
  variables = jax.jit(prior.init)(
    jax.random.key(seed), jnp.zeros((1, 1, 1, channels)),
    jnp.ones((1, num_levels)),
  )
  return jax.device_get(variables['params'])


def random_tables(seed, spread=0.7):
  """Far from the start: skewed, with several modes, of various scales."""
  rng = np.random.default_rng(seed)
  return {
    k: (v + spread * rng.standard_normal(v.shape)).astype(np.float32)
    for k, v in initial_tables().items()
  }


def weights_at(quality, num_levels=LEVELS):
  return layers.level_weights(jnp.array([quality]), num_levels)


@jax.jit
def bin_bits(tables, y, quality=1.0):
  """Bits [positions, channels] of y [positions, channels]."""
  levels, channels = tables['log_scale'].shape
  return entropy.FactorizedPrior(channels, levels).apply(
    {'params': tables}, jnp.asarray(y)[None, None], weights_at(quality, levels)
  )[0, 0]


def at_scale(tables, scale):
  return {**tables, 'log_scale': np.full_like(
    tables['log_scale'], np.log(scale)
  )}


# --- A probability mass function --------------------------------------------


@pytest.mark.parametrize('quality', [1, 4, 2.3, 3.5])
@pytest.mark.parametrize('seed', [0, 1])
def test_bins_sum_to_one(seed, quality):
  tables = random_tables(seed)
  k = np.arange(-30_000, 30_001)
  prob = entropy.bin_prob(tables, weights_at(quality)[0], k)
  assert prob.shape == (len(k), CHANNELS) and prob.dtype == np.float64
  assert np.all(prob >= 0)
  np.testing.assert_allclose(prob.sum(0), 1, rtol=1e-6)


@pytest.mark.parametrize('quality', [1, 3.25])
def test_host_probabilities_are_those_of_the_training_bits(quality):
  tables = random_tables(2)
  k = np.arange(-40, 41)
  bits = bin_bits(tables, np.repeat(k[:, None], CHANNELS, 1) * 1.0, quality)
  prob = entropy.bin_prob(tables, weights_at(quality)[0], k)
  assert np.min(bits) < 3 and np.max(bits) > 100  # the middle and the tails
  np.testing.assert_allclose(bits, -np.log2(prob), rtol=1e-4, atol=1e-5)


def test_levels_and_channels_have_their_own_parameters():
  tables = random_tables(3)
  y = np.random.default_rng(0).normal(0, 3, (5, CHANNELS)).astype(np.float32)
  for level in range(LEVELS):
    bits = bin_bits(tables, y, level + 1.0)
    for channel in range(CHANNELS):
      only = {k: v[level, channel][None, None] for k, v in tables.items()}
      alone = bin_bits(only, y[:, channel:channel + 1])
      np.testing.assert_allclose(alone[:, 0], bits[:, channel], rtol=1e-5)


def test_examples_of_a_batch_have_their_own_quality():
  tables = random_tables(4)
  prior = entropy.FactorizedPrior(CHANNELS, LEVELS)
  y = np.random.default_rng(1).normal(0, 3, (2, 2, 3, CHANNELS))
  y = y.astype(np.float32)
  weights = layers.level_weights(jnp.array([1.0, 3.5]), LEVELS)
  apply = jax.jit(prior.apply)
  both = apply({'params': tables}, y, weights)
  assert both.shape == y.shape and both.dtype == jnp.float32
  for i in range(2):
    alone = apply({'params': tables}, y[i:i + 1], weights[i:i + 1])
    np.testing.assert_allclose(both[i], alone[0], rtol=1e-5)


@pytest.mark.parametrize('seed', range(4))
def test_cumulative_increases_for_any_parameters(seed):
  tables = random_tables(seed, spread=3.0)
  params = {
    k: v.astype(np.float64)
    for k, v in entropy.at_quality(tables, np.eye(LEVELS)).items()
  }
  y = np.linspace(-50, 50, 4001)[None, :, None]
  y = np.broadcast_to(y, (LEVELS, 4001, CHANNELS))
  logits = entropy.cumulative_logits(params, y, xp=np)
  assert np.all(np.diff(logits, axis=1) > 0)


# --- The initial density ----------------------------------------------------


@pytest.mark.parametrize('scale', [0.3, 1.0, 8.0])
@pytest.mark.parametrize('zero_bias', [True, False])
def test_initial_density_is_logistic(scale, zero_bias):
  # Initial biases average to zero over the units, so they change nothing yet.
  tables = at_scale(initial_tables(), scale)
  if zero_bias:
    tables = {
      k: np.zeros_like(v) if 'bias' in k else v for k, v in tables.items()
    }
  else:
    assert np.max(np.abs(tables['bias_0'])) > 0.1
  k = np.arange(-40, 41)

  def cdf(x):
    return 0.5 * (1 + np.tanh(x / (2 * scale)))

  # Of the tails take the mirror image, where the difference is exact.
  expected = cdf(0.5 - np.abs(k)) - cdf(-0.5 - np.abs(k))
  prob = entropy.bin_prob(tables, np.eye(LEVELS)[1], k)
  np.testing.assert_allclose(
    prob, np.repeat(expected[:, None], CHANNELS, 1), rtol=1e-5, atol=1e-15
  )


def test_initial_mean_magnitude_is_as_the_fitted_scale_assumes():
  # Stage 1 starts log_scale at log(mean |y| / (2 log 2)).
  tables = at_scale(initial_tables(), 50.0)
  k = np.arange(-5000, 5001)
  prob = entropy.bin_prob(tables, np.eye(LEVELS)[0], k)
  np.testing.assert_allclose(
    np.abs(k) @ prob, 2 * np.log(2) * 50, rtol=1e-4
  )


# --- Tails ------------------------------------------------------------------


@jax.jit
def gradients(tables, y, quality=1.0):
  """Of the sum of bits, by the tables and by y."""
  return jax.grad(
    lambda t, y: jnp.sum(bin_bits(t, y, quality)), (0, 1)
  )(tables, y)


@pytest.mark.parametrize('y', [-1e4, 1e4])
@pytest.mark.parametrize('scale', [0.1, 1.0, 20.0])
def test_bits_and_gradients_survive_far_tails(y, scale):
  tables = at_scale(random_tables(5), scale)
  y = jnp.full((1, CHANNELS), y)
  bits = bin_bits(tables, y)
  assert np.all(np.isfinite(bits)) and np.all(np.asarray(bits) > 50)
  by_tables, by_y = gradients(tables, y)
  # Bits grow away from the centre: the gradient points back to it.
  assert np.all(np.isfinite(by_y)) and np.all(by_y * np.sign(y) > 1e-3)
  # A wider density makes an outlier cheaper.
  assert np.all(by_tables['log_scale'][0] < -1)
  for name, grad in by_tables.items():
    assert np.all(np.isfinite(grad)), name
    assert np.any(grad[0] != 0), name


def test_gradients_are_finite_everywhere():
  y = np.linspace(-300, 300, 601)[:, None] * np.ones((1, CHANNELS))
  grads = gradients(random_tables(6), jnp.asarray(y, jnp.float32), 2.5)
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


# --- Information bounds -----------------------------------------------------


@pytest.mark.parametrize('scale', [0.2, 0.5, 1.0, 4.0, 30.0])
def test_training_bits_bound_evaluation_bits_bound_entropy(scale):
  # Latents that follow the prior itself, here a logistic density: noise makes
  # them costlier than rounding, and rounding than their differential entropy.
  tables = at_scale(initial_tables(channels=1, num_levels=1), scale)
  rng = np.random.default_rng(7)
  n = 200_000
  y = rng.logistic(0, scale, (n, 1)).astype(np.float32)
  u = rng.uniform(-0.5, 0.5, (n, 1)).astype(np.float32)
  noisy = np.asarray(bin_bits(tables, y + u), np.float64)
  rounded = np.asarray(bin_bits(tables, np.round(y)), np.float64)
  entropy_bits = (np.log(scale) + 2) / np.log(2)

  def error(sample):
    return 4 * np.std(sample) / np.sqrt(n)

  assert np.mean(noisy - rounded) >= -error(noisy - rounded)
  assert np.mean(rounded) >= entropy_bits - error(rounded)
  k = np.arange(-1000, 1001)
  prob = entropy.bin_prob(tables, np.ones(1), k)[:, 0]
  mass = prob[prob > 0]
  discrete = -np.sum(mass * np.log2(mass))
  np.testing.assert_allclose(np.mean(rounded), discrete, atol=error(rounded))
  if scale >= 4:  # wide bins cost nothing: all three agree
    np.testing.assert_allclose(np.mean(noisy), entropy_bits, atol=0.02)
  if scale <= 0.5:
    assert np.mean(noisy) > np.mean(rounded) > entropy_bits + 0.05
