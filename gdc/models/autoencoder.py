"""Stage 1: analysis and synthesis transforms, quality gains, factorized prior.

x_hat = D(round(E(x))): the bits of the codec come from here alone. One
network serves every quality: latents are multiplied by a gain per channel and
level before rounding and divided after it (Cui et al., arXiv 2003.02012), and
each block is modulated by the level; in between levels all of it is linear
(gains: linear in their logarithm).

Two pairs of transforms, both 16 times smaller than the image:

  lean  blocks at 1/8 and 1/16 of 1x1 products and 3x3 depthwise layers. It
        starts as an orthonormal transform codec: its projections are an 8x8
        DCT of three opponent colours and then a 2x2 Haar transform, ordered
        by frequency and truncated, and every residual branch is near zero.
  elic  strided 5x5 convolutions, residual bottlenecks, simplified attention:
        He et al. 2022 (ELIC), arXiv 2203.10886, section 4.

Images are [batch, height, width, 3] in [-1, 1] with sides that are multiples
of 16; latents are [batch, height/16, width/16, latent_channels].
"""
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gdc.models import entropy, layers, locality, prediction

STRIDE = locality.STRIDE


# --- The transform that `lean` starts from ----------------------------------


def _dct(n: int) -> np.ndarray:
  """Orthonormal DCT-II, [frequency, sample]."""
  k, i = np.arange(n)[:, None], np.arange(n)[None]
  d = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * np.sqrt(2 / n)
  d[0] /= np.sqrt(2)
  return d


def _by_variance(frequency: np.ndarray, colour: np.ndarray) -> np.ndarray:
  """Order of coefficients by the variance that a natural image gives them.

  The spectrum falls as 1/frequency^2; the opponent colours hold about a sixth
  of the brightness' variance. The shares lie between the two best of four
  sets that were compared by the error of the truncated transform on
  photographs (docs/training.md); they were not themselves compared.
  """
  share = np.array([1.0, 0.2, 0.13])[colour]
  return np.argsort(-share / (0.5 + frequency**2), kind='stable')


def initial_bases(patch_width: int, merge_width: int):
  """Orthonormal rows that start the two projections of `lean`.

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
  # Where the widths exceed a full basis, the surplus channels start at zero.
  merge = np.zeros((2, 2, patch_width, merge_width))
  merge[:, :, :n, :len(order)] = (
    haar[order].T.reshape(2, 2, n, len(order))
  )
  full = np.zeros((192, patch_width))
  full[:, :n] = patch.T
  return full, merge.reshape(4 * patch_width, merge_width)


def _constant(value: np.ndarray):
  """An initializer that returns the given matrix."""
  def init(key, shape, dtype=jnp.float32):
    del key
    if tuple(shape) != value.shape:
      raise ValueError(f'kernel of shape {shape}, basis of {value.shape}.')
    return jnp.asarray(value, dtype)
  return init


# --- lean -------------------------------------------------------------------


class LeanAnalysis(nn.Module):
  """Image and level weights to latents (before the gains)."""

  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)
  latent_channels: int = 256
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image, weights):
    patch, merge = initial_bases(*self.widths)
    h = layers.space_to_depth(image.astype(self.dtype), 8)
    for factor, basis, depth in (
      (1, patch, self.depths[0]), (2, merge, self.depths[1]),
    ):
      h = layers.space_to_depth(h, factor)
      h = nn.Dense(
        basis.shape[1], kernel_init=_constant(basis), dtype=self.dtype
      )(h)
      for _ in range(depth):
        h = layers.GatedBlock(dtype=self.dtype)(h, weights)
    return nn.Dense(
      self.latent_channels,
      kernel_init=_constant(np.eye(self.widths[1], self.latent_channels)),
    )(h.astype(jnp.float32))


class LeanSynthesis(nn.Module):
  """Latents (gains undone) and level weights to image; mirrors LeanAnalysis."""

  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, y, weights):
    patch, merge = initial_bases(*self.widths)
    h = nn.Dense(
      self.widths[1],
      kernel_init=_constant(np.eye(y.shape[-1], self.widths[1])),
      dtype=self.dtype,
    )(y)
    for factor, basis, depth in (
      (2, merge, self.depths[1]), (8, patch, self.depths[0]),
    ):
      for _ in range(depth):
        h = layers.GatedBlock(dtype=self.dtype)(h, weights)
      h = nn.Dense(
        basis.shape[0], kernel_init=_constant(basis.T), dtype=self.dtype
      )(h)
      h = layers.depth_to_space(h, factor)
    return h.astype(jnp.float32)


# --- elic -------------------------------------------------------------------


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

  Despite its name it is local: no position sees further than its kernels.
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


class ElicAnalysis(nn.Module):
  """Image to latents; the level acts through the gains alone."""

  widths: Sequence[int] = (256, 256, 256)
  latent_channels: int = 320
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image, weights):
    del weights
    h = image.astype(self.dtype)
    last = len(self.widths)
    for i, width in enumerate((*self.widths, self.latent_channels)):
      dtype = jnp.float32 if i == last else self.dtype
      h = nn.Conv(width, (5, 5), strides=(2, 2), dtype=dtype)(h)
      if i < last:
        for _ in range(3):
          h = ResidualBottleneck(dtype=self.dtype)(h)
      if i == 1:
        h = Attention(dtype=self.dtype)(h)
    return Attention()(h)


class ElicSynthesis(nn.Module):
  """Latents to image; mirrors ElicAnalysis.

  Upsampling is sub-pixel (a 5x5 convolution, then depth to space) instead of
  a transposed convolution: about half the time for the same reach.
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


# --- The autoencoder --------------------------------------------------------


class Autoencoder(nn.Module):
  """Transforms, gains and prior of one variable-rate codec.

  `log_rmse` is the autoencoder's own estimate of its root mean square error
  at each level, images in [-1, 1]; stage 1 fits it and stage 2 measures its
  noise in it.
  """

  transforms: str = 'lean'  # lean, elic
  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)  # lean only
  latent_channels: int = 256
  num_levels: int = 6
  # Gain of level 1; doubles every two levels, and is learned from there.
  initial_gain: float = 1.5
  # Latents that are coded as differences from their neighbours', see
  # prediction.differences.
  predicted_channels: Sequence[int] = ()
  dtype: jnp.dtype = jnp.float32

  @property
  def analysis_reach(self) -> int:
    """How far, in pixels, a latent sees; see locality.reach."""
    return locality.analysis(self.transforms, self.depths)

  @property
  def synthesis_reach(self) -> int:
    """How far, in pixels, a pixel sees into the latents."""
    return locality.synthesis(self.transforms, self.depths)

  def setup(self):
    prediction.check(self.predicted_channels, self.latent_channels)
    if self.transforms == 'lean':
      shape = {'widths': self.widths, 'depths': self.depths}
      kinds = LeanAnalysis, LeanSynthesis
    elif self.transforms == 'elic':
      shape = {'widths': self.widths}
      kinds = ElicAnalysis, ElicSynthesis
    else:
      raise ValueError(
        f"transforms must be 'lean' or 'elic', not {self.transforms!r}."
      )
    self.analysis = kinds[0](
      **shape, latent_channels=self.latent_channels, dtype=self.dtype
    )
    self.synthesis = kinds[1](**shape, dtype=self.dtype)
    self.prior = entropy.FactorizedPrior(
      channels=self.latent_channels, num_levels=self.num_levels
    )
    table = (self.num_levels, self.latent_channels)
    log_gain = np.log(self.initial_gain) + np.log(2) / 2 * np.repeat(
      np.arange(self.num_levels)[:, None], self.latent_channels, axis=1
    )
    self.log_gain = self.param('log_gain', _constant(log_gain), table)
    self.log_inverse_gain = self.param(
      'log_inverse_gain', _constant(-log_gain), table
    )
    self.log_rmse = self.param(
      'log_rmse', nn.initializers.constant(np.log(0.06)), (self.num_levels,)
    )

  def level_weights(self, quality):
    """[b] qualities in [1, num_levels] -> [b, num_levels]."""
    return layers.level_weights(quality, self.num_levels)

  def features(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """Image [b, h, w, 3] in [-1, 1], quality [b] -> latents before gains."""
    return self.analysis(image, self.level_weights(quality))

  def encode(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """Image [b, h, w, 3] in [-1, 1], quality [b] -> latents, real-valued."""
    gain = jnp.exp(self.level_weights(quality) @ self.log_gain)
    return self.features(image, quality) * gain[:, None, None]

  def decode(self, y: jax.Array, quality: jax.Array) -> jax.Array:
    """Latents [b, h, w, c], quality [b] -> image, not clipped."""
    weights = self.level_weights(quality)
    inverse_gain = jnp.exp(weights @ self.log_inverse_gain)
    return self.synthesis(y * inverse_gain[:, None, None], weights)

  def coded(self, y: jax.Array) -> jax.Array:
    """Latents, rounded or not, -> what is coded of them, of the same shape."""
    return prediction.differences(y, self.predicted_channels)

  def bin_bits(self, y: jax.Array, quality: jax.Array) -> jax.Array:
    """Bits of the unit bins around what is coded, at a quality [b]."""
    return self.prior.bin_bits(y, self.level_weights(quality))

  def rmse(self, quality: jax.Array) -> jax.Array:
    """[b] -> [b]: the expected error of decode, images in [-1, 1]."""
    return jnp.exp(self.level_weights(quality) @ self.log_rmse)

  def reconstruct(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """decode(round(encode(image))), clipped to [-1, 1]."""
    y = jnp.round(self.encode(image, quality))
    return jnp.clip(self.decode(y, quality), -1, 1)

  def __call__(self, image, quality):
    """Touches every parameter; for init."""
    y = self.encode(image, quality)
    x_hat = self.decode(y, quality)
    return x_hat, self.bin_bits(self.coded(y), quality), self.rmse(quality)
