"""A small data set that stays on the devices, where crops are drawn, too.

Nothing is read or sent from step to step, so an accelerator does not wait for
its host. A batch depends on the seed and the step alone: a run that goes on
needs no state of an iterator. jax and numpy are all that is imported here.
"""
import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gdc import progress

# Of all that is drawn here: networks and noise are drawn from the seed, too.
_STREAM = 2


def check(side: int, crop: int, min_scale: float) -> None:
  """Raises ValueError unless crops can be drawn from squares of a side."""
  if side < crop:
    raise ValueError(
      f'data.cache_on_device is {side}: squares of data.crop, {crop} pixels, or more '
      'are expected.'
    )
  if not 0 < min_scale <= 1:
    raise ValueError(
      f'data.min_scale is {min_scale}: above 0, at most 1 is expected.'
    )


def grid(image: np.ndarray, side: int) -> np.ndarray:
  """Squares beside each other, row by row, from the upper left corner.

  Args:
    image: [height, width, channels]; what is left over is in no square.
    side: of the squares, pixels.

  Returns:
    [n, side, side, channels]; n may be 0.
  """
  rows, columns = (length // side for length in image.shape[:2])
  channels = image.shape[2]
  return (
    image[:rows * side, :columns * side]
    .reshape(rows, side, columns, side, channels)
    .swapaxes(1, 2)
    .reshape(-1, side, side, channels)
  )


def squares(
  source, side: int, balance: bool = False
) -> tuple[np.ndarray, list[str]]:
  """A source's pictures, cut into squares.

  Args:
    source: of sources.build, of pictures of any size.
    side: of the squares, pixels. Each picture gives as many as fit beside each
      other around its centre.
    balance: whether the groups will be needed.

  Returns:
    uint8 [n, side, side, 3], and the group of each: that of its picture where
    the source has groups, else ''.

  Raises:
    ValueError: a picture with a shorter side, or no groups to balance.
  """
  if balance and not hasattr(source, 'groups'):
    raise ValueError('balance needs a folder or the box as its source.')
  found, groups = [], []
  labels = getattr(source, 'groups', [''] * len(source))
  with progress.Bar(len(source), 'loading data') as bar:
    for i in range(len(source)):
      image = source[i]['image']
      height, width, _ = image.shape
      if side > min(height, width):
        raise ValueError(
          f'data.cache_on_device is {side}: picture {i} of {source}, of {width} x '
          f'{height} pixels (width x height), is smaller than such a square.'
        )
      found.append(grid(image[height % side // 2:, width % side // 2:], side))
      groups += [labels[i]] * len(found[-1])
      bar.advance()
  return np.concatenate(found), groups


def batches(
  pictures: np.ndarray,
  groups: list[str],
  *,
  batch_size: int,
  crop: int,
  min_scale: float,
  seed: int,
  balance: bool,
  whole: jax.sharding.Sharding,
  split: jax.sharding.Sharding,
) -> Callable[[int], Iterator[dict[str, jax.Array]]]:
  """Batches that are drawn on the devices.

  Pictures are drawn with replacement; see random_crop for what is done to them.

  Args:
    pictures: uint8 [n, side, side, 3], the same on every process.
    groups: the group of each.
    batch_size: global batch size.
    crop: side of the crops, pixels; at most side.
    min_scale: in (0, 1]; windows have a side of up to crop / min_scale pixels,
      and are scaled down.
    seed: of all that is drawn.
    balance: draw from each group in proportion to the square root of its size.
    whole: sharding of the pictures, every device having all of them.
    split: sharding of a batch.

  Returns:
    A function: steps done -> an endless iterator, from there on, of
    {'image': uint8 [batch, crop, crop, 3]}, global arrays.

  Raises:
    ValueError: see check.
  """
  check(pictures.shape[1], crop, min_scale)
  weights = np.ones(len(groups))
  if balance:
    _, group, sizes = np.unique(
      groups, return_inverse=True, return_counts=True
    )
    weights = sizes[group] ** -0.5
  weights = np.float32(weights / weights.sum())
  pictures, weights = jax.device_put((pictures, weights), whole)
  draw = jax.jit(
    functools.partial(_draw, seed, batch_size, crop, min_scale),
    in_shardings=whole, out_shardings=split,
  )

  def batches_from(first):
    for step in itertools.count(first):
      yield {'image': draw(pictures, weights, np.uint32(step))}

  return batches_from


def _draw(seed, batch_size, crop, min_scale, pictures, weights, step):
  """The batch of a step."""
  key = jax.random.fold_in(jax.random.key(seed), _STREAM)
  key = jax.random.fold_in(key, step)
  index_key, crop_key = jax.random.split(key)
  index = jax.random.choice(
    index_key, len(pictures), (batch_size,), p=weights
  )
  return jax.vmap(functools.partial(_crop, crop, min_scale, pictures))(
    index, jax.random.split(crop_key, batch_size)
  )


def _crop(crop, min_scale, pictures, index, key):
  """A random square window of a picture, scaled down, perhaps flipped."""
  scale_key, place_key, flip_key = jax.random.split(key, 3)
  side = pictures.shape[1]
  largest = min(side, round(crop / min_scale))
  scale = jax.random.uniform(scale_key, minval=min_scale, maxval=1.0)
  window = jnp.clip(jnp.round(crop / scale), crop, largest).astype(jnp.int32)
  corner = jax.random.randint(place_key, (2,), 0, side - window + 1)
  scaled = _scaled(pictures, index, corner, window, crop, largest)
  return jnp.where(jax.random.bernoulli(flip_key), scaled[:, ::-1], scaled)


def _scaled(pictures, index, corner, window, crop, largest):
  """A window of at most `largest` pixels a side, made `crop` pixels wide.

  Resampled by products with two matrices, which is what accelerators do best.
  Unlike Pillow, which cuts first, it sees what is beside the window.
  """
  # A piece of a fixed size that holds the window.
  start = jnp.minimum(corner, pictures.shape[1] - largest)
  piece = jax.lax.dynamic_slice(
    pictures, (index, start[0], start[1], 0), (1, largest, largest, 3)
  )[0].astype(jnp.float32)
  factor = crop / window.astype(jnp.float32)
  scaled = jax.image.scale_and_translate(
    piece, (crop, crop, 3), (0, 1), jnp.full(2, factor),
    (start - corner).astype(jnp.float32) * factor, 'lanczos3',
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.clip(jnp.round(scaled), 0, 255).astype(jnp.uint8)
