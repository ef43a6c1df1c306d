"""Noise that is a function of a key and a pixel's position.

It is drawn cell by cell, so a tile gets the very values that the whole image
would have there: an image that is sampled tile by tile equals one sampled at
once.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp

CELL = 16  # pixels; tiles begin at multiples of it


def normal(key: jax.Array, shape, origin=(0, 0), extent=None) -> jax.Array:
  """Returns standard normal noise of a tile.

  Args:
    key: typed key.
    shape: (batch, height, width, channels) of the tile.
    origin: (row, column) of the tile's first pixel, multiples of CELL; may be
      traced.
    extent: (height, width) of the part that is needed; may be traced. The rest
      is not all drawn. None: all.

  Returns:
    float32 array of that shape. Examples of a batch differ.

  Raises:
    ValueError: an origin, not traced, that is not a multiple of CELL.
  """
  b, h, w, c = shape
  for start in origin:
    if not isinstance(start, jax.core.Tracer) and start % CELL:
      raise ValueError(
        f'origin must be multiples of {CELL}, not {tuple(origin)}.'
      )
  extent = (h, w) if extent is None else extent
  down, across = (-(-n // CELL) for n in extent)
  top, left = (start // CELL for start in origin)

  def draw(i, out):
    row, column = i // across, i % across

    def cell(example):
      k = key
      for position in (example, top + row, left + column):
        k = jax.random.fold_in(k, position)
      return jax.random.normal(k, (CELL, CELL, c), jnp.float32)

    return jax.lax.dynamic_update_slice(
      out, jax.vmap(cell)(jnp.arange(b)), (0, row * CELL, column * CELL, 0)
    )

  rounded = (-(-n // CELL) * CELL for n in (h, w))
  out = jnp.zeros((b, *rounded, c), jnp.float32)
  return jax.lax.fori_loop(0, down * across, draw, out)[:, :h, :w]


def of_steps(key: jax.Array, shape, origin=(0, 0), extent=None) -> Callable:
  """Returns a sampler's noise_fn: step index, or -1 for the start -> noise.

  Arguments are those of `normal`.
  """
  return lambda i: normal(
    jax.random.fold_in(key, i + 1), shape, origin, extent
  )
