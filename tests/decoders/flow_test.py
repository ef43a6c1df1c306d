"""Flow: the path, its units, and what its optimum does with two values."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.decoders import flow, samplers


def euler(predict, z, steps):
  grid = functools.partial(samplers.time_left, steps=steps)
  return jax.lax.fori_loop(
    0, steps, lambda i, z: samplers.euler(predict, (z, None), i, grid)[0], z
  )


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


X_HAT, NOISE = 0.5 * normal(0, 3, 4, 5, 3), normal(1, 3, 4, 5, 3)
RMSE = jnp.array([0.02, 0.06, 0.3])
SCALE = RMSE[:, None, None, None]
IMAGE = X_HAT + SCALE * normal(2, 3, 4, 5, 3)


def net(z, t):
  """Some smooth function of state and time."""
  return jnp.sin(2 * z) + t[:, None, None, None] * z


# --- The path ---------------------------------------------------------------


def test_residual_is_in_units_of_rmse_and_back():
  residual = flow.to_residual(IMAGE, X_HAT, RMSE)
  np.testing.assert_allclose(residual, normal(2, 3, 4, 5, 3), atol=1e-4)
  np.testing.assert_allclose(
    flow.from_residual(residual, X_HAT, RMSE), IMAGE, atol=1e-6
  )


def test_path_is_straight_from_source_to_image():
  r_0 = 0.5 * NOISE
  r_1 = flow.to_residual(IMAGE, X_HAT, RMSE)
  np.testing.assert_array_equal(r_0, 0.5 * NOISE)
  for t, expected in ((0.0, r_0), (1.0, r_1), (0.25, 0.75 * r_0 + 0.25 * r_1)):
    found = flow.interpolate(r_0, r_1, jnp.full(3, t))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
  # Each example is at its own time.
  found = flow.interpolate(r_0, r_1, jnp.array([0.0, 1.0, 0.0]))
  np.testing.assert_array_equal(found[1], r_1[1])
  np.testing.assert_array_equal(found[::2], r_0[::2])


def test_without_source_noise_the_start_is_the_autoencoder_output():
  for noise in (NOISE, normal(3, *NOISE.shape)):
    start = flow.from_residual(0.0 * noise, X_HAT, RMSE)
    np.testing.assert_array_equal(start, X_HAT)


# --- The loss ---------------------------------------------------------------


def test_loss_sees_state_and_time_and_compares_with_the_velocity():
  r_0, r_1, t = NOISE, normal(4, *NOISE.shape), jnp.array([0.1, 0.5, 0.9])

  def predict(r, at):
    np.testing.assert_array_equal(r, flow.interpolate(r_0, r_1, t))
    np.testing.assert_array_equal(at, t)
    return net(r, at)

  error = net(flow.interpolate(r_0, r_1, t), t) - (r_1 - r_0)
  loss = flow.loss(predict, r_0, r_1, t)
  assert loss.shape == (3,) and loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, jnp.mean(error**2, (1, 2, 3)), rtol=1e-5)


def test_the_true_velocity_costs_nothing():
  r_0, r_1 = NOISE, normal(4, *NOISE.shape)
  loss = flow.loss(lambda r, t: r_1 - r_0, r_0, r_1, jnp.full(3, 0.3))
  np.testing.assert_array_equal(loss, np.zeros(3))


def test_residual_units_are_the_same_flow_as_the_images():
  def image_net(z, t):
    return SCALE * net((z - X_HAT) / SCALE, t)

  source_noise, t = 0.5, jnp.array([0.2, 0.6, 0.8])
  z_0 = X_HAT + source_noise * SCALE * NOISE
  r_0 = source_noise * NOISE
  r_1 = flow.to_residual(IMAGE, X_HAT, RMSE)
  # The loss, but for its unit.
  z_t = (1 - t[:, None, None, None]) * z_0 + t[:, None, None, None] * IMAGE
  error = image_net(z_t, t) - (IMAGE - z_0)
  np.testing.assert_allclose(
    flow.loss(net, r_0, r_1, t), jnp.mean(error**2, (1, 2, 3)) / RMSE**2,
    rtol=1e-3,
  )
  # The image.
  found = flow.from_residual(euler(net, r_0, 3), X_HAT, RMSE)
  np.testing.assert_allclose(found, euler(image_net, z_0, 3), atol=1e-5)


# --- The optimum, for data of two values ------------------------------------

VALUES, SHARES = jnp.array([-1.0, 2.0]), jnp.array([0.75, 0.25])
MEAN = float(VALUES @ SHARES)


def optimal_velocity(source_noise):
  """E[r_1 - r_0 | r_t] where r_1 is one of VALUES, independent of r_0."""
  def predict(r, t):
    t = t[:, None]
    spread = (1 - t) * source_noise
    logits = jnp.log(SHARES) - 0.5 * (
      (r[..., None] - t[..., None] * VALUES) / spread[..., None]
    ) ** 2
    r_1 = jax.nn.softmax(logits, axis=-1) @ VALUES
    return (r_1 - r) / (1 - t)

  return predict


@pytest.mark.parametrize('source_noise', [0.0, 0.7])
def test_one_step_from_the_start_is_the_conditional_mean(source_noise):
  # At t = 0 the state says nothing of r_1: the velocity of least loss leads
  # to the mean of r_1, found here by the loss itself.
  n = 40_000
  rng = np.random.default_rng(5)
  r_1 = rng.choice(np.asarray(VALUES), (n, 1), p=np.asarray(SHARES))
  r_0 = source_noise * normal(6, n, 1)

  def risk(target):
    return jnp.mean(
      flow.loss(lambda r, t: target - r, r_0, r_1, jnp.zeros(n))
    )

  # The loss is a parabola in the target: its least point is one step away.
  slope, curvature = jax.grad(risk)(0.0), jax.grad(jax.grad(risk))(0.0)
  best = -slope / curvature
  error = 4 * np.std(r_1) / np.sqrt(n)
  np.testing.assert_allclose(best, MEAN, atol=error)
  end = euler(lambda r, t: best - r, r_0, 1)
  np.testing.assert_allclose(end, jnp.full((n, 1), MEAN), atol=error)


def test_without_noise_the_flow_cannot_split():
  # r_t = t r_1 tells the values apart as soon as t > 0, but every path starts
  # in the same point: whatever the velocity, they stay together.
  start = 0.0 * normal(7, 100, 1)
  def split(r, t):
    return MEAN + jnp.sin(r)

  assert len(np.unique(euler(split, start, 8))) == 1
  # A start of its own for each keeps them apart.
  apart = euler(split, 1e-3 * normal(7, 100, 1), 8)
  assert len(np.unique(apart)) == 100


@pytest.mark.parametrize('source_noise', [0.5, 1.0])
def test_with_noise_the_flow_gives_both_values_in_their_shares(source_noise):
  n = 8_000
  start = source_noise * normal(8, n, 1)
  predict = optimal_velocity(source_noise)
  one = euler(predict, start, 1)
  np.testing.assert_allclose(one, jnp.full((n, 1), MEAN), atol=1e-5)
  end = euler(predict, start, 200)
  distance = jnp.min(jnp.abs(end - VALUES), axis=-1)
  assert np.mean(distance < 1e-2) > 0.99
  share = np.mean(np.asarray(end) > 0.5)
  error = 4 * np.sqrt(0.25 * 0.75 / n)
  np.testing.assert_allclose(share, 0.25, atol=error + 0.01)


# --- The network's output ---------------------------------------------------


def test_nothing_said_is_the_autoencoder_itself():
  r_0 = 0.25 * normal(0, 2, 4, 4, 3)

  def predict(r, t):
    return flow.velocity(jnp.zeros_like(r), r, t)

  np.testing.assert_array_equal(euler(predict, r_0, 1), 0 * r_0)
  # More steps leave a part of the noise, never more than exp(-1) of it.
  for steps in (2, 8, 50):
    left = euler(predict, r_0, steps) / r_0
    assert np.max(np.abs(left)) < np.exp(-1)


@pytest.mark.parametrize('steps', [1, 3, 10])
def test_minus_t_r_takes_all_noise_out(steps):
  r_0 = 0.25 * normal(0, 2, 4, 4, 3)

  def predict(r, t):
    return flow.velocity(-t[:, None, None, None] * r, r, t)

  end = euler(predict, r_0, steps)
  np.testing.assert_allclose(end, 0 * r_0, atol=1e-6)


def test_every_velocity_can_be_said_also_at_the_end():
  r_0, r_1 = normal(1, 3, 2, 2, 3), normal(2, 3, 2, 2, 3)
  t = jnp.array([0.0, 0.5, 1.0])
  r_t = flow.interpolate(r_0, r_1, t)
  left = jnp.maximum(1 - t, flow.MIN_TIME_LEFT)[:, None, None, None]
  output = left * (r_1 - r_0 + r_t)
  np.testing.assert_allclose(
    flow.velocity(output, r_t, t), r_1 - r_0, atol=1e-5
  )


def test_the_end_is_where_the_velocity_leads():
  r_0, r_1 = normal(1, 3, 2, 2, 3), normal(2, 3, 2, 2, 3)
  t = jnp.array([0.0, 0.5, 0.9])
  r_t = flow.interpolate(r_0, r_1, t)
  # The output that stands for this path's velocity.
  output = (1 - t)[:, None, None, None] * (r_1 - r_0 + r_t)
  np.testing.assert_allclose(flow.end(output, r_t, t), r_1, atol=1e-5)
  # In one step from the start, the answer is the end.
  np.testing.assert_allclose(
    flow.end(output[:1], r_0[:1], t[:1]), output[:1], atol=1e-6
  )


# --- Times in training ------------------------------------------------------


@pytest.mark.parametrize('mean, std', [(0.0, 1.0), (-0.7, 0.4), (1.5, 2.0)])
def test_logit_normal_times_have_a_normal_logit(mean, std):
  u = (jnp.arange(20_000) + 0.5) / 20_000
  t = np.asarray(
    flow.logit_normal(u, mean, std), np.float64
  )
  assert np.all(np.diff(t) >= 0) and t.min() > 0 and t.max() < 1
  logit = np.log(t / (1 - t))
  np.testing.assert_allclose(np.mean(logit), mean, atol=0.02)
  np.testing.assert_allclose(np.std(logit), std, rtol=0.02)
  # A share of the normal distribution that is known.
  np.testing.assert_allclose(
    np.mean(np.abs(logit - mean) < std), 0.6827, atol=0.005
  )
  ends = flow.logit_normal(jnp.array([0.0, 1.0]), mean, std)
  assert np.all(np.isfinite(ends))
