"""Stand-ins for rounding: exact values, the right gradients, uniform noise."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.models import quantization


def test_rounding_gives_exact_integers_and_the_gradient_of_the_identity():
  y = jnp.concatenate([
    jnp.linspace(-3, 3, 241), jnp.array([-1e5 - 0.3, 0.49999997, 12345.67])
  ])
  rounded = jax.jit(quantization.round_straight_through)(y)
  np.testing.assert_array_equal(rounded, np.round(np.asarray(y)))
  towards = jnp.arange(len(y)) + 1.0
  grad = jax.grad(
    lambda y: jnp.sum(towards * quantization.round_straight_through(y))
  )(y)
  np.testing.assert_array_equal(grad, towards)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_noise_is_uniform_in_the_unit_bin_and_differentiable(dtype):
  y = jnp.zeros((100, 200), dtype)
  noisy = quantization.add_uniform_noise(jax.random.key(0), y)
  assert noisy.dtype == dtype
  u = np.asarray(noisy, np.float64)
  assert u.min() >= -0.5 and u.max() <= 0.5
  count = np.histogram(u, 10, (-0.5, 0.5))[0]
  assert np.all(np.abs(count - 2000) < 6 * np.sqrt(2000 * 0.9))
  # Neighbours have their own draws.
  assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.03
  grad = jax.grad(
    lambda y: jnp.sum(quantization.add_uniform_noise(jax.random.key(0), y))
  )(y)
  assert np.all(np.asarray(grad) == 1)


def test_noise_comes_from_the_key():
  y = jnp.arange(12.0).reshape(3, 4)
  first, again, other = (
    quantization.add_uniform_noise(jax.random.key(k), y) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.all(np.asarray(first) != np.asarray(other))
