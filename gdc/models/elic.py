"""The transforms `elic`: strided convolutions and residual bottlenecks.

He et al. 2022 (ELIC), arXiv 2203.10886, section 4.
"""
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gdc.models import layers


class ResidualBottleneck(nn.Module):
  """1x1, 3x3, 1x1 with ReLU at half the width; ELIC, figure 4."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    c = x.shape[-1]
    h = nn.relu(nn.Dense(c // 2, dtype=self.dtype)(x))
    h = nn.relu(nn.Conv(c // 2, (3, 3), dtype=self.dtype)(h))
    return x + nn.Dense(c, dtype=self.dtype)(h)


class Attention(nn.Module):
  """Simplified attention: a convolutional gate; Cheng et al. 2001.01568.

  Despite its name it is local: a position sees no further than the kernels.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    value, gate = x, x
    for _ in range(3):
      value = ResidualBottleneck(dtype=self.dtype)(value)
      gate = ResidualBottleneck(dtype=self.dtype)(gate)
    gate = nn.Dense(x.shape[-1], dtype=self.dtype)(gate)
    return x + value * nn.sigmoid(gate)


class Analysis(nn.Module):
  """Image to latents; the level acts through the gains alone."""

  widths: Sequence[int] = (256, 256, 256)
  latent_channels: int = 320
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image, weights):
    del weights
    h = image.astype(self.dtype)
    for i, width in enumerate(self.widths):
      h = nn.Conv(width, (5, 5), strides=(2, 2), dtype=self.dtype)(h)
      for _ in range(3):
        h = ResidualBottleneck(dtype=self.dtype)(h)
      if i == 1:
        h = Attention(dtype=self.dtype)(h)
    with jax.default_matmul_precision('highest'):
      h = nn.Conv(self.latent_channels, (5, 5), strides=(2, 2))(
        h.astype(jnp.float32)
      )
      return Attention()(h)


class Synthesis(nn.Module):
  """Latents to image; mirrors Analysis.

  Upsampling is sub-pixel (a 5x5 convolution, then depth to space) instead of a
  transposed convolution: about half the time for the same receptive field.
  """

  widths: Sequence[int] = (256, 256, 256)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, y, weights):
    del weights
    h = Attention(dtype=self.dtype)(y.astype(self.dtype))
    for i, width in enumerate((*reversed(self.widths), 3)):
      h = nn.Conv(4 * width, (5, 5), dtype=self.dtype)(h)
      h = layers.depth_to_space(h, 2)
      if i == 1:
        h = Attention(dtype=self.dtype)(h)
      if i < len(self.widths):
        for _ in range(3):
          h = ResidualBottleneck(dtype=self.dtype)(h)
    return h.astype(jnp.float32)
