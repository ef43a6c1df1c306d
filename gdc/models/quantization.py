"""Rounding and prediction of latents as training sees them.

Rounding has no useful gradient. The rate sees additive uniform noise, whose
density at the integers matches that of rounded values; the synthesis sees
rounded values with the gradient of the identity (Minnen & Singh 2020, arXiv
2007.08739, section III-B).
"""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def add_uniform_noise(key: jax.Array, y: jax.Array) -> jax.Array:
  """Returns y + u, u uniform in [-0.5, 0.5), independent for each element."""
  return y + jax.random.uniform(key, y.shape, y.dtype, -0.5, 0.5)


def round_straight_through(y: jax.Array) -> jax.Array:
  """Rounds to the nearest integer; the gradient is that of the identity."""
  return y + jax.lax.stop_gradient(jnp.round(y) - y)


def differences(y: jax.Array, channels: Sequence[int]) -> jax.Array:
  """Subtracts predictions from some channels, as codec/prediction.py does.

  The prediction is from rounded neighbours, as a decoder has them. Their
  gradient is that of the identity (shared where two are equal): the analysis
  learns to be predictable.

  Args:
    y: [batch, height, width, channels], real-valued.
    channels: predicted channels, each once; the others stay as they are.

  Returns:
    The same shape; integers for integers.
  """
  if not channels:
    return y
  channels = np.asarray(channels)
  k = round_straight_through(y[..., channels])
  k = jnp.pad(k, ((0, 0), (1, 0), (1, 0), (0, 0)))
  left, above, corner = k[:, 1:, :-1], k[:, :-1, 1:], k[:, :-1, :-1]
  low, high = jnp.minimum(left, above), jnp.maximum(left, above)
  predicted = jnp.clip(left + above - corner, low, high)
  return jnp.asarray(y).at[..., channels].add(-predicted)
