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
    name: autoencoder, or a score decoder's entry in its bundle.
    spec: the network's record in the exported bundle; see codec.bundle.
    init: (key, batch) -> params. The batch fits initial scales.
    loss: (params, frozen, batch, key) -> (scalar, dict of scalars).
    frozen: parameters that are not trained, {} or a dict by owner.
    num_levels: quality levels of the autoencoder.
    autoencoder: the bundle of the frozen autoencoder; None in stage 1.
    visualise: (params, frozen, images) -> dict of images for TensorBoard.
    warm_starts: bundle entries usable for a warm start, in order of preference,
      with required record fields.
    teachers: the bundle's score decoders that it is trained upon.
    start: (params, exported) -> params that start from exported ones.
    exported: params -> those that the bundle keeps.
  """

  name: str
  spec: dict[str, Any]
  init: Callable
  loss: Callable
  frozen: Any
  num_levels: int
  autoencoder: bundle.Bundle | None
  visualise: Callable
  warm_starts: dict[str, dict[str, Any]]
  teachers: tuple[str, ...] = ()
  start: Callable = lambda params, exported: exported
  exported: Callable = lambda params: params


def sample_quality(
  key, batch: int, num_levels: int, low_share: float = 0.5
) -> jax.Array:
  """Draws [batch] qualities, stratified, the end levels included.

  Drawn in [0.5, num_levels + 0.5] and clipped to [1, num_levels]: qualities
  between the levels are trained too, and the end levels as often as those
  beside them.

  Args:
    key: jax.random key.
    batch: number of qualities.
    num_levels: quality levels of the autoencoder.
    low_share: share of draws below the middle quality, in [0, 1]; they are
      uniform on either side of it.
  """
  place = jnp.interp(
    stratified(key, batch), jnp.array([0, low_share, 1]),
    jnp.array([0, 0.5, 1]),
  )
  return jnp.clip(0.5 + num_levels * place, 1, num_levels)


def stratified(key, batch: int) -> jax.Array:
  """Draws [batch] in [0, 1), uniform each, evenly spread, shuffled."""
  offset_key, order_key = jax.random.split(key)
  t = (jax.random.uniform(offset_key) + jnp.arange(batch) / batch) % 1.0
  return jax.random.permutation(order_key, t)
