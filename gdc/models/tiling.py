"""Evaluates exactly local networks tile by tile, with the whole image's result.

Every network here sees a bounded distance around a position. So an image of any
size can be cut into tiles of one size, each with a halo as wide as the
network's receptive field, and their centres are what the network would give for
the whole image. Memory is that of a tile, and one compiled program serves every
image.

Two things make it exact and cheap, without the networks' code knowing:

  At an image's border, layers with a kernel see zeros: zeros in their own
  input, not in the image. So everything in a tile beyond the border is set to
  zero before every such layer. Tiles start within the image (codec/tiles.py):
  what is beyond is always below or to the right.

  A small image in a large tile should cost what the image costs. With `block`,
  each gated block and dense layer is computed in blocks, in a loop of as many
  iterations as the image fills. On a CPU the blocks also fit its caches.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from gdc.models import layers


def evaluate(
  module: nn.Module, variables, *arguments, tile, extent,
  block: int | None = None, method=None,
):
  """Evaluates a network on a tile that is only partly image.

  Args:
    module: a network of this package: its layers act on single positions, or
      are `nn.Conv` or `layers.Depthwise`. A layer's resolution is told from
      the height of its input.
    variables: the module's variables.
    *arguments: arguments of the method; images among them are tiles.
    tile: (height, width) of the tile in pixels.
    extent: (height, width) of the image part, from the tile's first pixel;
      traced integers, multiples of the network's stride.
    block: side, in pixels, of the blocks that gated blocks and dense layers are
      computed in; divides the tile's sides and is a multiple of the stride.
      None: all at once.
    method: the module's method; None is __call__.

  Returns:
    What the method returns; values beyond the extent have no meaning.
  """
  with nn.intercept_methods(_Tile(tile, extent, block)):
    return module.apply(variables, *arguments, method=method)


class _Tile:
  """Stands between a network and its layers, see `evaluate`."""

  def __init__(self, tile, extent, block):
    self._tile, self._extent, self._block = tile, extent, block
    self._in_block = False

  def __call__(self, call, args, kwargs, context):
    module = context.module
    if self._in_block or kwargs or context.method_name != '__call__':
      return call(*args, **kwargs)
    if self._block and args[0].ndim == 4:
      if isinstance(module, layers.GatedBlock):
        return self._by_blocks(module, *args, halo=1)
      if isinstance(module, nn.Dense):
        return self._by_blocks(module, *args, halo=0)
    pixels = self._pixels(args[0]) if args[0].ndim == 4 else None
    return self._layer(module, call, args, (0, 0), pixels)

  def _layer(self, module, call, args, origin, pixels):
    """Applies a layer to a part of the tile that begins at a position."""
    if not isinstance(module, nn.Conv | layers.Depthwise):
      return call(*args)
    # Not a product with 0: values beyond the image may be anything.
    inside = self._inside(args[0].shape[1:3], origin, pixels)
    return call(jnp.where(inside, args[0], 0))

  def _pixels(self, x) -> int:
    """Returns the image pixels per position of x."""
    return self._tile[0] // x.shape[1]

  def _inside(self, shape, origin, pixels):
    """Returns [h, w, 1], whether positions are within the image."""
    rows, columns = (
      (start + jnp.arange(n)) * pixels < end
      for start, n, end in zip(origin, shape, self._extent, strict=True)
    )
    return rows[:, None, None] & columns[None, :, None]

  def _by_blocks(self, module, x, *rest, halo: int):
    """Applies the module to x block by block, as far as the image goes."""
    variables = module.variables
    layer = module.clone(parent=None, name=None)
    pixels = self._pixels(x)
    side = self._block // pixels
    size = [min(side + 2 * halo, n) for n in x.shape[1:3]]
    down, across = (-(-n // self._block) for n in self._extent)

    def compute(row, column):
      # A patch at the tile's edge is shifted inward.
      position = [
        jnp.clip(first - halo, 0, n - m)
        for first, n, m in zip((row, column), x.shape[1:3], size, strict=True)
      ]
      patch = jax.lax.dynamic_slice(
        x, (0, *position, 0), (x.shape[0], *size, x.shape[3])
      )

      def intercept(call, args, kwargs, context):
        if kwargs or context.method_name != '__call__':
          return call(*args, **kwargs)
        return self._layer(context.module, call, args, position, pixels)

      self._in_block = True
      try:
        with nn.intercept_methods(intercept):
          y = layer.apply(variables, patch, *rest)
      finally:
        self._in_block = False
      return jax.lax.dynamic_slice(
        y, (0, row - position[0], column - position[1], 0),
        (x.shape[0], side, side, y.shape[3]),
      )

    def write(i, out):
      row, column = i // across * side, i % across * side
      return jax.lax.dynamic_update_slice(
        out, compute(row, column), (0, row, column, 0)
      )

    like = jax.eval_shape(compute, 0, 0)
    out = jnp.zeros((*x.shape[:3], like.shape[3]), like.dtype)
    return jax.lax.fori_loop(0, down * across, write, out)
