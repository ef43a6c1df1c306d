"""What training sees of codec/prediction.py: differences of rounded latents."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gdc.models import quantization


def differences(y: jax.Array, channels: Sequence[int]) -> jax.Array:
  """What is coded of latents before rounding; integers for integers.

  The prediction is from rounded neighbours, as a decoder has them. Their
  gradient is that of the identity (shared where two are equal): the analysis
  learns to be predictable.

  Args:
    y: [batch, height, width, channels], real-valued.
    channels: those that are predicted, each once; the others are as in y.

  Returns:
    The same shape.
  """
  if not channels:
    return y
  channels = np.asarray(channels)
  k = quantization.round_straight_through(y[..., channels])
  k = jnp.pad(k, ((0, 0), (1, 0), (1, 0), (0, 0)))
  left, above, corner = k[:, 1:, :-1], k[:, :-1, 1:], k[:, :-1, :-1]
  low, high = jnp.minimum(left, above), jnp.maximum(left, above)
  predicted = jnp.clip(left + above - corner, low, high)
  return jnp.asarray(y).at[..., channels].add(-predicted)


def check(channels: Sequence[int], count: int) -> None:
  """Raises ValueError unless all are channels of `count`, each once."""
  if len(set(channels)) < len(channels) or not all(
    0 <= channel < count for channel in channels
  ):
    raise ValueError(
      f'predicted_channels must be different channels from 0 to {count - 1}, '
      f'not {list(channels)}.'
    )
