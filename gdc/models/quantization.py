"""The two stand-ins for rounding while training (Minnen & Singh 2020, III-B).

Rounding has no useful gradient. The rate sees additive uniform noise, whose
density at the integers matches that of rounded values; the synthesis sees
rounded values with the gradient of the identity. arXiv 2007.08739.
"""
import jax
import jax.numpy as jnp


def add_uniform_noise(key: jax.Array, y: jax.Array) -> jax.Array:
  """y + u, u uniform in [-0.5, 0.5), independent for each element."""
  return y + jax.random.uniform(key, y.shape, y.dtype, -0.5, 0.5)


def round_straight_through(y: jax.Array) -> jax.Array:
  """Rounds to the nearest integer; the gradient is that of the identity."""
  return y + jax.lax.stop_gradient(jnp.round(y) - y)
