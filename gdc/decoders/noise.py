"""Noise that belongs to places: the same at a pixel however it is asked for.

A sampler's noise is a function of its key and of the pixel's position, drawn
cell by cell, so a part of a picture gets the very values that the whole
picture would have there. That is what makes a picture that is sampled tile by
tile equal to one sampled at once.
"""
import jax
import jax.numpy as jnp

CELL = 16  # pixels; parts begin at multiples of it


def normal(key: jax.Array, shape, origin=(0, 0), extent=None) -> jax.Array:
  """Standard normal noise of a part of a picture.

  Args:
    key: typed key.
    shape: (batch, height, width, channels) of the part.
    origin: (row, column) of the part's first pixel, multiples of CELL; may be
      traced.
    extent: (height, width) of what is needed of it; may be traced. The rest is
      not all drawn. None: all.

  Returns:
    float32 array of that shape. Examples of a batch differ.

  Raises:
    ValueError: an origin, not traced, that is not of such multiples.
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

  def turn(i, out):
    row, column = i // across, i % across

    def cell(example):
      k = key
      for place in (example, top + row, left + column):
        k = jax.random.fold_in(k, place)
      return jax.random.normal(k, (CELL, CELL, c), jnp.float32)

    return jax.lax.dynamic_update_slice(
      out, jax.vmap(cell)(jnp.arange(b)), (0, row * CELL, column * CELL, 0)
    )

  rounded = (-(-n // CELL) * CELL for n in (h, w))
  out = jnp.zeros((b, *rounded, c), jnp.float32)
  return jax.lax.fori_loop(0, down * across, turn, out)[:, :h, :w]
