"""An exactly local network, evaluated tile by tile, equal to the whole.

Every network here looks a bounded way around a position and no further. So a
picture of any size can be cut into tiles of one size, each with enough of its
surroundings (a halo as wide as the network's reach), and what is kept of the
results is what the network would have made of the whole picture. Memory is
that of a tile, and one compiled program serves every picture.

Two things make it exact and cheap, and neither shows in the networks' code:

  At a picture's border, layers with a kernel see zeros: zeros in their own
  input, not in the picture. A tile that reaches over the border therefore has
  everything beyond it set to zero before every such layer. Tiles are laid so
  that they start within the picture (codec/tiles.py): what is beyond is always
  below or to the right.

  A small picture in a large tile should cost what the picture costs. With
  `block`, each gated block and product of a tile is computed in blocks, in a
  loop of as many turns as the picture fills. On a CPU the blocks also fit its
  caches.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from gdc.models import layers


def evaluate(
  module: nn.Module, variables, *arguments, tile, extent,
  block: int | None = None, products=jnp.float32, method=None,
):
  """Evaluates a network on a tile of which only a part is picture.

  Args:
    module: a network of this package: its layers act on single positions, or
      are `nn.Conv` or `layers.Depthwise`. A layer's resolution is told from
      the height of its input.
    variables: of the module.
    *arguments: of its method; pictures among them are tiles.
    tile: (height, width) of the tile in pixels.
    extent: (height, width) of the part, from the tile's first pixel, that is
      picture; traced integers. Multiples of the network's stride.
    block: side, in pixels, of the blocks that gated blocks and products are
      computed in; divides the tile's sides and is a multiple of the stride.
      None: all at once.
    products: type of the factors of the products in gated blocks; their sums
      are float32.
    method: of the module; None is __call__.

  Returns:
    What the method returns; what lies beyond the extent has no meaning.
  """
  with nn.intercept_methods(_Tile(tile, extent, block, products)):
    return module.apply(variables, *arguments, method=method)


class _Tile:
  """Stands between a network and its layers, see `evaluate`."""

  def __init__(self, tile, extent, block, products):
    self._tile, self._extent, self._block = tile, extent, block
    self._products = products
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
    """A layer on a part of the tile, from a position on."""
    x = args[0]
    if isinstance(module, nn.Conv | layers.Depthwise):
      # Not a product: what is beyond the picture may be anything.
      inside = self._inside(x.shape[1:3], origin, pixels)
      return call(jnp.where(inside, x, 0))
    if layers.is_block_product(module) and self._products != jnp.float32:
      return layers.narrow_dense(module, x, self._products)
    return call(*args)

  def _pixels(self, x) -> int:
    """Pixels of the picture per position of x."""
    return self._tile[0] // x.shape[1]

  def _inside(self, shape, origin, pixels):
    """[h, w, 1]: whether positions from an origin on are of the picture."""
    rows, columns = (
      (start + jnp.arange(n)) * pixels < end
      for start, n, end in zip(origin, shape, self._extent, strict=True)
    )
    return rows[:, None, None] & columns[None, :, None]

  def _by_blocks(self, module, x, *rest, halo: int):
    """The module on x, block by block, as far as the picture goes."""
    variables = module.variables
    layer = module.clone(parent=None, name=None)
    pixels = self._pixels(x)
    side = self._block // pixels
    size = [min(side + 2 * halo, n) for n in x.shape[1:3]]
    down, across = (-(-n // self._block) for n in self._extent)

    def compute(row, column):
      # A patch at the tile's edge begins or ends with it, as the tile does.
      place = [
        jnp.clip(first - halo, 0, n - m)
        for first, n, m in zip((row, column), x.shape[1:3], size, strict=True)
      ]
      patch = jax.lax.dynamic_slice(
        x, (0, *place, 0), (x.shape[0], *size, x.shape[3])
      )

      def intercept(call, args, kwargs, context):
        if kwargs or context.method_name != '__call__':
          return call(*args, **kwargs)
        return self._layer(context.module, call, args, place, pixels)

      self._in_block = True
      try:
        with nn.intercept_methods(intercept):
          y = layer.apply(variables, patch, *rest)
      finally:
        self._in_block = False
      return jax.lax.dynamic_slice(
        y, (0, row - place[0], column - place[1], 0),
        (x.shape[0], side, side, y.shape[3]),
      )

    def turn(i, out):
      row, column = i // across * side, i % across * side
      return jax.lax.dynamic_update_slice(
        out, compute(row, column), (0, row, column, 0)
      )

    like = jax.eval_shape(compute, 0, 0)
    out = jnp.zeros((*x.shape[:3], like.shape[3]), like.dtype)
    return jax.lax.fori_loop(0, down * across, turn, out)
