"""What a network's output stands for in the flow."""
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.decoders import flow, samplers


def euler(predict, z, steps):
  return samplers.loop(
    lambda z, i: samplers.euler(predict, z, i, steps), z, steps
  )


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def test_nothing_said_is_the_autoencoder_itself():
  r_0 = flow.source(normal(0, 2, 4, 4, 3), 0.25)

  def predict(r, t):
    return flow.velocity(jnp.zeros_like(r), r, t)

  np.testing.assert_array_equal(euler(predict, r_0, 1), 0 * r_0)
  # More steps leave a part of the noise, never more than exp(-1) of it.
  for steps in (2, 8, 50):
    left = euler(predict, r_0, steps) / r_0
    assert np.max(np.abs(left)) < np.exp(-1)


@pytest.mark.parametrize('steps', [1, 3, 10])
def test_minus_t_r_takes_all_noise_out(steps):
  r_0 = flow.source(normal(0, 2, 4, 4, 3), 0.25)

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
