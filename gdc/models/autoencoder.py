"""Stage 1: analysis and synthesis transforms, quality gains, factorized prior.

x_hat = D(round(E(x))): the bits of the codec come from here alone. One network
serves every quality: latents are multiplied by a gain per channel and level
before rounding and divided after it (Cui et al., arXiv 2003.02012), and blocks
may be modulated by the level; in between levels all of it is linear (gains:
linear in their logarithm).

Each pair of transforms is a module, lean.py or elic.py; latents are 16 times
smaller than the image. To add a pair, write its module, with the classes
Analysis and Synthesis, and add it to receptive_field.TRANSFORMS.

Images are [batch, height, width, 3] in [-1, 1], height and width multiples of
16; latents are [batch, height/16, width/16, latent_channels].
"""
import importlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gdc.models import entropy, layers, quantization, receptive_field


class Autoencoder(nn.Module):
  """Transforms, gains and prior of one variable-rate codec.

  `log_rmse` is the autoencoder's own estimate of its root mean square error at
  each level, images in [-1, 1]; stage 1 fits it and stage 2 measures its noise
  in it.

  Attributes:
    transforms: a key of receptive_field.TRANSFORMS.
    widths: channels per resolution.
    depths: blocks per resolution; lean only.
    latent_channels: number of coded channels.
    num_levels: number of quality levels.
    initial_gain: gain of level 1; doubles every two levels, then is learned.
    predicted_channels: latents that are coded as differences from their
      neighbours', see quantization.differences.
    dtype: dtype of the transforms' layers.
    matmul_dtype: see layers.GatedBlock.
  """

  transforms: str = 'lean'
  widths: Sequence[int] = (192, 256)
  depths: Sequence[int] = (3, 3)
  latent_channels: int = 256
  num_levels: int = 6
  initial_gain: float = 1.5
  predicted_channels: Sequence[int] = ()
  dtype: jnp.dtype = jnp.float32
  matmul_dtype: str = 'float32'

  def setup(self):
    channels = self.predicted_channels
    if len(set(channels)) < len(channels) or not all(
      0 <= channel < self.latent_channels for channel in channels
    ):
      raise ValueError(
        'predicted_channels must be different channels from 0 to '
        f'{self.latent_channels - 1}, not {list(channels)}.'
      )
    known = tuple(receptive_field.TRANSFORMS)
    if self.transforms not in known:
      raise ValueError(
        f'transforms must be one of {known}, not {self.transforms!r}.'
      )
    module = importlib.import_module(f'gdc.models.{self.transforms}')
    self.analysis = self._transform(module.Analysis)
    self.synthesis = self._transform(module.Synthesis)
    self.prior = entropy.FactorizedPrior(
      channels=self.latent_channels, num_levels=self.num_levels
    )
    table = (self.num_levels, self.latent_channels)
    log_gain = np.log(self.initial_gain) + np.log(2) / 2 * np.repeat(
      np.arange(self.num_levels)[:, None], self.latent_channels, axis=1
    )
    self.log_gain = self.param('log_gain', layers.constant(log_gain), table)
    self.log_inverse_gain = self.param(
      'log_inverse_gain', layers.constant(-log_gain), table
    )
    self.log_rmse = self.param(
      'log_rmse', nn.initializers.constant(np.log(0.06)), (self.num_levels,)
    )

  def _transform(self, kind):
    """Makes a transform; each has those of our fields that it needs."""
    names = 'widths', 'depths', 'latent_channels', 'dtype', 'matmul_dtype'
    return kind(**{
      name: getattr(self, name) for name in names
      if name in kind.__dataclass_fields__
    })

  def level_weights(self, quality):
    """[b] qualities in [1, num_levels] -> [b, num_levels]."""
    return layers.level_weights(quality, self.num_levels)

  def features(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """Image [b, h, w, 3] in [-1, 1], quality [b] -> latents before gains."""
    return self.analysis(image, self.level_weights(quality))

  def encode(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """Image [b, h, w, 3] in [-1, 1], quality [b] -> latents, real-valued."""
    gain = jnp.exp(
      layers.at_quality(self.level_weights(quality), self.log_gain)
    )
    return self.features(image, quality) * gain[:, None, None]

  def decode(self, y: jax.Array, quality: jax.Array) -> jax.Array:
    """Latents [b, h, w, c], quality [b] -> image, not clipped."""
    weights = self.level_weights(quality)
    inverse_gain = jnp.exp(layers.at_quality(weights, self.log_inverse_gain))
    return self.synthesis(y * inverse_gain[:, None, None], weights)

  def coded(self, y: jax.Array) -> jax.Array:
    """Latents, rounded or not -> the values to code, of the same shape."""
    return quantization.differences(y, self.predicted_channels)

  def bin_bits(self, y: jax.Array, quality: jax.Array) -> jax.Array:
    """Bits of the unit bins around the coded values, at qualities [b]."""
    return self.prior.bin_bits(y, self.level_weights(quality))

  def rmse(self, quality: jax.Array) -> jax.Array:
    """[b] -> [b]: the expected error of decode, images in [-1, 1]."""
    return jnp.exp(
      layers.at_quality(self.level_weights(quality), self.log_rmse)
    )

  def reconstruct(self, image: jax.Array, quality: jax.Array) -> jax.Array:
    """decode(round(encode(image))), clipped to [-1, 1]."""
    y = jnp.round(self.encode(image, quality))
    return jnp.clip(self.decode(y, quality), -1, 1)

  def __call__(self, image, quality):
    """Uses every parameter; for init."""
    y = self.encode(image, quality)
    x_hat = self.decode(y, quality)
    return x_hat, self.bin_bits(self.coded(y), quality), self.rmse(quality)
