"""What a stage of training is, and what all stages draw and measure."""
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gdc.codec import bundle


@dataclasses.dataclass(frozen=True)
class Stage:
  """One thing to train.

  Attributes:
    name: autoencoder, diffusion, flow or one_step; a score decoder's entry in
      its bundle.
    spec: what the exported bundle records of the network; see codec.bundle.
    init: (key, batch) -> params. The batch fits initial scales.
    loss: (params, frozen, batch, key) -> (scalar, dict of scalars).
    frozen: parameters that are not trained, {} or a dict by what they are of.
    num_levels: quality levels of the autoencoder.
    autoencoder: the bundle that the frozen autoencoder is from; None in
      stage 1.
    pictures: (params, frozen, images) -> dict of pictures to look at.
    origins: the parts of a bundle that it can start from, the best first, each
      with what its record must say.
    start: (params, exported) -> params that start from exported ones.
    exported: params -> what the bundle keeps of them.
  """

  name: str
  spec: dict[str, Any]
  init: Callable
  loss: Callable
  frozen: Any
  num_levels: int
  autoencoder: bundle.Bundle | None
  pictures: Callable
  origins: dict[str, dict[str, Any]]
  start: Callable = lambda params, exported: exported
  exported: Callable = lambda params: params


def sample_quality(key, batch: int, num_levels: int) -> jax.Array:
  """[batch] qualities, stratified uniform, the end levels as dense as others.

  Drawn in [0.5, num_levels + 0.5] and clipped to [1, num_levels]: qualities
  between the levels are trained too.
  """
  return jnp.clip(
    0.5 + num_levels * stratified(key, batch), 1, num_levels
  )


def stratified(key, batch: int) -> jax.Array:
  """[batch] in [0, 1), uniform each, evenly spread together, shuffled."""
  offset_key, order_key = jax.random.split(key)
  t = (jax.random.uniform(offset_key) + jnp.arange(batch) / batch) % 1.0
  return jax.random.permutation(order_key, t)


def mse_255(reference, decoded) -> jax.Array:
  """[b] mean square error of images in [-1, 1], on the scale of [0, 255]."""
  error = (reference - decoded).astype(jnp.float32) * 127.5
  return jnp.mean(error**2, axis=(1, 2, 3))


def psnr(mse) -> jax.Array:
  """Peak signal-to-noise ratio, dB, of a mean square error on [0, 255]."""
  return 10 * jnp.log10(255**2 / mse)
