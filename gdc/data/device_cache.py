"""A small data set kept on the devices, where crops are drawn.

Nothing is read or sent during training, so an accelerator does not wait for
its host. A batch is a function of the seed and the step: a resumed run needs no
iterator state.
"""
import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gdc import progress

# Keeps these draws apart from those of networks and noise for the same seed.
_STREAM = 2


def grid(image: np.ndarray, side: int) -> np.ndarray:
  """Cuts adjacent squares from an image, row by row from the upper left.

  Args:
    image: [height, width, channels]; what is left over is dropped.
    side: side of the squares, pixels.

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
  """Cuts the images of a source into squares.

  Args:
    source: from sources.build.
    side: side of the squares, pixels. As many adjacent ones as fit are cut from
      the centre of each image.
    balance: whether the groups will be needed.

  Returns:
    uint8 [n, side, side, 3], and the group of each square's image; '' if the
    source has no groups.

  Raises:
    ValueError: an image is smaller than a square, or balance without groups.
  """
  if balance and not hasattr(source, 'groups'):
    raise ValueError('balance needs a folder or bundled: as its source.')
  found, groups = [], []
  labels = getattr(source, 'groups', [''] * len(source))
  with progress.Bar(len(source), 'loading data') as bar:
    for i in range(len(source)):
      image = source[i]['image']
      height, width, _ = image.shape
      if side > min(height, width):
        raise ValueError(
          f'data.cache_on_device {side} is larger than image {i} of {source}, '
          f'{width} x {height} pixels (width x height).'
        )
      found.append(grid(image[height % side // 2:, width % side // 2:], side))
      groups += [labels[i]] * len(found[-1])
      bar.advance()
  return np.concatenate(found), groups


def batches(
  images: np.ndarray,
  groups: list[str],
  *,
  batch_size: int,
  crop: int,
  min_scale: float,
  seed: int,
  balance: bool,
  whole: jax.sharding.Sharding,
  split: jax.sharding.Sharding,
  transpose: float = 0.0,
) -> Callable[[int], Iterator[dict[str, jax.Array]]]:
  """Draws batches on the devices, images with replacement.

  Args:
    images: uint8 [n, side, side, 3], the same on every process.
    groups: the group of each image.
    batch_size: global batch size.
    crop: side of the crops, pixels; at most the images' side.
    min_scale: in (0, 1]; see transforms.random_crop.
    seed: seed of everything that is drawn.
    balance: draw from each group in proportion to the square root of its size.
    whole: sharding that replicates the images on every device.
    split: sharding of a batch.
    transpose: share of crops whose rows become columns, in [0, 1].

  Returns:
    A function that maps the number of steps done to an endless iterator of
    {'image': uint8 [batch_size, crop, crop, 3]}, global arrays.
  """
  weights = np.ones(len(groups))
  if balance:
    _, group, sizes = np.unique(
      groups, return_inverse=True, return_counts=True
    )
    weights = sizes[group] ** -0.5
  weights = np.float32(weights / weights.sum())
  images, weights = jax.device_put((images, weights), whole)
  draw = jax.jit(
    functools.partial(_draw, seed, batch_size, crop, min_scale, transpose),
    in_shardings=whole, out_shardings=split,
  )
  return lambda first: (
    {'image': draw(images, weights, np.uint32(step))}
    for step in itertools.count(first)
  )


def _draw(
  seed, batch_size, crop, min_scale, transpose, images, weights, step
):
  """The batch of a step."""
  key = jax.random.fold_in(jax.random.key(seed), _STREAM)
  key = jax.random.fold_in(key, step)
  index_key, crop_key = jax.random.split(key)
  index = jax.random.choice(index_key, len(images), (batch_size,), p=weights)
  draw = functools.partial(_crop, crop, min_scale, transpose, images)
  return jax.vmap(draw)(index, jax.random.split(crop_key, batch_size))


def _crop(crop, min_scale, transpose, images, index, key):
  """A random square window of an image, scaled down, perhaps mirrored."""
  scale_key, place_key, flip_key = jax.random.split(key, 3)
  side = images.shape[1]
  largest = min(side, round(crop / min_scale))
  scale = jax.random.uniform(scale_key, minval=min_scale, maxval=1.0)
  window = jnp.clip(jnp.round(crop / scale), crop, largest).astype(jnp.int32)
  corner = jax.random.randint(place_key, (2,), 0, side - window + 1)
  scaled = _scaled(images, index, corner, window, crop, largest)
  drawn = jnp.where(jax.random.bernoulli(flip_key), scaled[:, ::-1], scaled)
  # A key beside the three: the other draws do not depend on it.
  turn = jax.random.bernoulli(jax.random.fold_in(key, 3), transpose)
  return jnp.where(turn, drawn.swapaxes(0, 1), drawn)


def _scaled(images, index, corner, window, crop, largest):
  """A window of at most `largest` pixels a side, resampled to `crop` pixels.

  Resampling is two matmuls. Unlike Pillow, which crops first, it uses the
  pixels around the window.
  """
  # A piece of static size that contains the window.
  start = jnp.minimum(corner, images.shape[1] - largest)
  piece = jax.lax.dynamic_slice(
    images, (index, start[0], start[1], 0), (1, largest, largest, 3)
  )[0].astype(jnp.float32)
  factor = crop / window.astype(jnp.float32)
  scaled = jax.image.scale_and_translate(
    piece, (crop, crop, 3), (0, 1), jnp.full(2, factor),
    (start - corner).astype(jnp.float32) * factor, 'lanczos3',
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.clip(jnp.round(scaled), 0, 255).astype(jnp.uint8)
