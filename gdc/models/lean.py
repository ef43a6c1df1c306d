"""The transforms `lean`: 1x1 convolutions and 3x3 depthwise layers.

They start as an orthonormal transform codec: their projections are an 8x8 DCT
of three opponent colours and then a 2x2 Haar transform, ordered by frequency
and truncated, and every residual branch is near zero. The blocks are at 1/8 and
1/16 of the image's resolution.
"""
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gdc.models import layers


def _dct(n: int) -> np.ndarray:
  """Orthonormal DCT-II, [frequency, sample]."""
  k, i = np.arange(n)[:, None], np.arange(n)[None]
  d = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * np.sqrt(2 / n)
  d[0] /= np.sqrt(2)
  return d


def _by_variance(frequency: np.ndarray, colour: np.ndarray) -> np.ndarray:
  """Orders coefficients by their variance in natural images.

  The spectrum falls as 1/frequency^2; the opponent colours hold about a sixth
  of the variance of the brightness (docs/log.md compares such shares).
  """
  share = np.array([1.0, 0.2, 0.13])[colour]
  return np.argsort(-share / (0.5 + frequency**2), kind='stable')


def initial_bases(patch_width: int, merge_width: int):
  """Returns the initial kernels of the two projections.

  Args:
    patch_width: channels at 1/8 resolution.
    merge_width: channels at 1/16 resolution.

  Returns:
    patch [8 * 8 * 3, patch_width] and merge [4 * patch_width, merge_width];
    columns are orthonormal, those beyond a full basis are zero.
  """
  d8, d2, d3 = _dct(8), _dct(2), _dct(3)  # a 3-point DCT is an opponent space
  patch = np.einsum('ui,vj,kc->uvkijc', d8, d8, d3).reshape(192, 192)
  u, v, colour = (a.ravel() for a in np.indices((8, 8, 3)))
  order = _by_variance(np.hypot(u, v), colour)[:patch_width]
  patch, u, v, colour = patch[order], u[order], v[order], colour[order]

  n = len(order)
  haar = np.einsum('ai,bj,xy->abxijy', d2, d2, np.eye(n)).reshape(4 * n, 4 * n)
  a, b, x = (i.ravel() for i in np.indices((2, 2, n)))
  frequency = np.hypot(2 * u[x] + a, 2 * v[x] + b) / 2
  order = _by_variance(frequency, colour[x])[:merge_width]
  merge = np.zeros((2, 2, patch_width, merge_width))
  merge[:, :, :n, :len(order)] = (
    haar[order].T.reshape(2, 2, n, len(order))
  )
  full = np.zeros((192, patch_width))
  full[:, :n] = patch.T
  return full, merge.reshape(4 * patch_width, merge_width)


class Analysis(nn.Module):
  """Image and level weights to latents (before the gains)."""

  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)
  latent_channels: int = 256
  dtype: jnp.dtype = jnp.float32
  matmul_dtype: str = 'float32'

  @nn.compact
  def __call__(self, image, weights):
    patch, merge = initial_bases(*self.widths)
    h = layers.space_to_depth(image.astype(self.dtype), 8)
    for factor, basis, depth in (
      (1, patch, self.depths[0]), (2, merge, self.depths[1]),
    ):
      h = layers.space_to_depth(h, factor)
      h = nn.Dense(
        basis.shape[1], kernel_init=layers.constant(basis), dtype=self.dtype
      )(h)
      for _ in range(depth):
        h = layers.GatedBlock(
          dtype=self.dtype, matmul_dtype=self.matmul_dtype
        )(h, weights)
    return nn.Dense(
      self.latent_channels,
      kernel_init=layers.constant(np.eye(self.widths[1], self.latent_channels)),
      precision=jax.lax.Precision.HIGHEST,
    )(h.astype(jnp.float32))


class Synthesis(nn.Module):
  """Latents (gains undone) and level weights to image; mirrors Analysis."""

  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)
  dtype: jnp.dtype = jnp.float32
  matmul_dtype: str = 'float32'

  @nn.compact
  def __call__(self, y, weights):
    patch, merge = initial_bases(*self.widths)
    h = nn.Dense(
      self.widths[1],
      kernel_init=layers.constant(np.eye(y.shape[-1], self.widths[1])),
      dtype=self.dtype,
    )(y)
    for factor, basis, depth in (
      (2, merge, self.depths[1]), (8, patch, self.depths[0]),
    ):
      for _ in range(depth):
        h = layers.GatedBlock(
          dtype=self.dtype, matmul_dtype=self.matmul_dtype
        )(h, weights)
      h = nn.Dense(
        basis.shape[0], kernel_init=layers.constant(basis.T), dtype=self.dtype
      )(h)
      h = layers.depth_to_space(h, factor)
    return h.astype(jnp.float32)
