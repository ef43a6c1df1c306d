"""The network behind all score decoders.

A convolutional U-Net on space-to-depth input, made of the same gated blocks as
the autoencoder, with per-position normalisation and no attention: exactly
local. It sees the noisy state and the autoencoder's output side by side
(concatenated on channels), and the noise level and quality by modulation. It
answers with a gain and an offset for every value of the state: removing noise
or keeping it is then one number per position to predict, rather than a copy of
the noise to carry through every layer. The decoder defines what the answer
means (a velocity, v).
"""
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gdc.models import layers


class ScoreNet(nn.Module):
  """Score network; see the module's docstring.

  Attributes:
    widths: channels at 1/patch resolution, then at half of it, and so on.
    depths: blocks at each resolution on the way down, and again on the way
      up; the last resolution has its blocks once.
    patch: side of the input patches.
    num_levels: quality levels, see layers.level_weights.
    condition_features: width of the modulating condition.
    refine: channels of a branch at full resolution behind the output
      projection, 0 for none. The projection writes patches that do not
      overlap; this branch sees across their borders.
    dtype: dtype of the layers.
    matmul_dtype: see layers.GatedBlock.
  """

  widths: Sequence[int] = (96, 192, 256)
  depths: Sequence[int] = (1, 2, 4)
  patch: int = 4
  num_levels: int = 6
  condition_features: int = 128
  refine: int = 0
  dtype: jnp.dtype = jnp.float32
  matmul_dtype: str = 'float32'

  @nn.compact
  def __call__(
    self,
    z: jax.Array,
    x_hat: jax.Array,
    noise_level: jax.Array,
    quality: jax.Array,
  ) -> jax.Array:
    """Returns the network's answer for the decoder.

    Args:
      z: [b, h, w, 3] noisy state; h and w multiples of
        receptive_field.score_stride.
      x_hat: [b, h, w, 3] the autoencoder's output in [-1, 1].
      noise_level: [b] a time in [0, 1] or a log-SNR.
      quality: [b] in [1, num_levels].

    Returns:
      [b, h, w, 3] float32; zero at initialisation (nearly, with `refine`).
    """
    condition = jnp.concatenate([
      layers.sinusoidal_embedding(noise_level),
      layers.level_weights(quality, self.num_levels),
    ], axis=-1)
    for _ in range(2):
      condition = nn.silu(
        nn.Dense(self.condition_features, dtype=self.dtype)(condition)
      )

    def blocks(h, depth):
      for _ in range(depth):
        h = layers.GatedBlock(
          normalize=True, dtype=self.dtype, matmul_dtype=self.matmul_dtype
        )(h, condition)
      return h

    h = jnp.concatenate([z, x_hat], axis=-1).astype(self.dtype)
    h = layers.space_to_depth(h, self.patch)
    skips = []
    for i, (width, depth) in enumerate(
      zip(self.widths, self.depths, strict=True)
    ):
      if i:
        h = layers.space_to_depth(h, 2)
      h = blocks(nn.Dense(width, dtype=self.dtype)(h), depth)
      skips.append(h)
    h = skips.pop()
    for skip, depth in zip(
      reversed(skips), reversed(self.depths[:-1]), strict=True
    ):
      up = nn.Dense(4 * skip.shape[-1], dtype=self.dtype)(h)
      h = blocks(layers.depth_to_space(up, 2) + skip, depth)
    h = layers.rms_normalize(h).astype(jnp.float32)
    h = nn.Dense(
      self.patch**2 * 6, kernel_init=nn.initializers.zeros,
      precision=jax.lax.Precision.HIGHEST,
    )(h)
    gain, offset = (
      layers.depth_to_space(part, self.patch) for part in jnp.split(h, 2, -1)
    )
    out = gain * z + offset
    if self.refine:
      h = jnp.concatenate([out, z, x_hat], axis=-1).astype(self.dtype)
      h = nn.Dense(self.refine, dtype=self.dtype)(h)
      h = layers.Modulation(dtype=self.dtype)(h, condition)
      h = layers.Depthwise(dtype=self.dtype)(nn.leaky_relu(h, 0.1))
      h = nn.leaky_relu(h, 0.1).astype(jnp.float32)
      out += nn.Dense(
        3, kernel_init=layers.NEAR_ZERO, precision=jax.lax.Precision.HIGHEST
      )(h)
    return out
