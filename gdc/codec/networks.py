"""A bundle's networks, run on pictures of any size, on one device or several.

Pictures go through the networks tile by tile (models/tiling.py). Each network
is compiled once, for its tile; memory is that of a tile beside the picture,
its latents and, for score decoders, what they decode in float32. Several
devices take a tile each at a time (runner.py), and the result is the same.
"""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gdc.codec import bundle, forks, runner, tiles
from gdc.decoders import base, noise
from gdc.models import locality

STRIDE = locality.STRIDE
# Height and width in pixels. The autoencoder's holds a picture of the usual
# test size whole. The score networks look further and are slower: theirs is
# large, and computed in blocks, of which a small picture fills a few. A network
# that looks very far gets larger ones. They are the same for any number of
# devices, see Networks.
AUTOENCODER_TILE = (512, 768)
SCORE_TILE = (1024, 1024)
SCORE_BLOCK = 256
# Of the factors in the gated blocks' products; sums are float32, and so is what
# maps pixels and latents (docs/performance.md has what it gains and costs).
PRODUCTS = 'bfloat16'
_starting = forks.lock()


def in_turn(method):
  """Has calls of a method in several threads wait for self._networks.turn()."""
  @functools.wraps(method)
  def wrapped(self, *positional, **named):
    with self._networks.turn():
      return method(self, *positional, **named)
  return wrapped


class Networks:
  """The networks of a bundle; compiles each when it is first needed.

  A picture of several tiles is spread over the devices. The tiles are as large
  as for one device. The flow in the box would make 2.2 times as many pixels of
  a picture of 24 megapixels in tiles of half the sides, as their halos stay as
  they are, and its autoencoder 2.1 times as many in square tiles of 320. Eight
  devices would gain only up to a few megapixels, where there is little to do.
  """

  def __init__(
    self,
    model: bundle.Bundle,
    autoencoder_tile=AUTOENCODER_TILE,
    score_tile=SCORE_TILE,
    score_block: int | None = SCORE_BLOCK,
    products: str = PRODUCTS,
    devices=None,
  ):
    """Takes a bundle.

    Args:
      model: see bundle.load.
      autoencoder_tile: least (height, width) of the autoencoder's tiles in
        pixels; a tile is at least four times as long as its halo.
      score_tile: the same of the score networks' tiles.
      score_block: least side in pixels of the blocks that these are computed
        in, see tiling.evaluate. Not used on accelerators, which want large
        products. None: all at once.
      products: 'bfloat16' or 'float32'.
      devices: to compute on, of this process and of one kind; None: all that
        are of the kind of the first.

    Raises:
      ValueError: there are no such products, or the devices do not suit.
    """
    if products not in ('bfloat16', 'float32'):
      raise ValueError(
        f"products must be 'bfloat16' or 'float32', not {products!r}."
      )
    # Without devices, made when it is needed: it starts JAX, and a process
    # that has not started it can be forked.
    self._made = None if devices is None else runner.Runner(devices)
    self._bundle = model
    self._tile = tuple(autoencoder_tile)
    self._score_tile = tuple(score_tile)
    self._score_block = score_block
    self._products = products

  @property
  def _runner(self) -> runner.Runner:
    forks.check()
    with _starting:
      if self._made is None:
        self._made = runner.Runner()
    return self._made

  def turn(self):
    """The context that calls take place in, see Runner.turn."""
    return self._runner.turn()

  def analyse(self, image: np.ndarray, quality: float) -> np.ndarray:
    """The features of a picture: its latents before gains and rounding.

    Args:
      image: uint8 [height, width, 1 to 4]; alpha is not looked at.
      quality: that the analysis is made for.

    Returns:
      float32 [ceil(height / 16), ceil(width / 16), channels].
    """
    size = [-(-n // STRIDE) * STRIDE for n in image.shape[:2]]
    network, shape, halo = self._autoencoder('analyse')
    channels = self._bundle.tables.num_channels
    out = np.empty([n // STRIDE for n in size] + [channels], np.float32)

    def own(tile):
      return _rgb(tile.cut(image)), tile.extent

    found, shared = tiles.cover(size, shape, halo), (np.float32([quality]),)
    for tile, y in self._runner.run(network, found, own, shared):
      tile.paste(y, out, STRIDE)
    return out

  def synthesise(
    self, latents: np.ndarray, quality: float, dtype=np.uint8
  ) -> np.ndarray:
    """The autoencoder's picture.

    Args:
      latents: int32 [rows, columns, channels].
      quality: that they were coded at.
      dtype: uint8 for pixels, or float32 in [-1, 1].

    Returns:
      [16 * rows, 16 * columns, 3] of that type.
    """
    size = [n * STRIDE for n in latents.shape[:2]]
    out = np.empty([*size, 3], dtype)
    kind = 'pixels' if out.dtype == np.uint8 else 'synthesise'
    network, shape, halo = self._autoencoder(kind)

    def own(tile):
      return tile.cut(latents, STRIDE), tile.extent

    found, shared = tiles.cover(size, shape, halo), (np.float32([quality]),)
    for tile, x in self._runner.run(network, found, own, shared):
      tile.paste(x, out)
    return out

  def sample(
    self, entry: str, x_hat: np.ndarray, quality: float, rmse: float,
    steps: int, seed: int, realism: float,
  ) -> np.ndarray:
    """A score decoder's picture.

    Every step goes over all tiles before the next one starts, so each tile
    finds its neighbours' states around its own.

    Args:
      entry: of the bundle's decoders.
      x_hat: float32 [height, width, 3], the autoencoder's picture.
      quality: that it was coded at.
      rmse: its expected error, pictures in [-1, 1].
      steps: of sampling.
      seed: of the noise, 0 to 2^32 - 1.
      realism: in [0, 1], see base.mix.

    Returns:
      uint8 [height, width, 3].
    """
    network, shape, halo, stride = self._score(entry)
    channels = base.state_channels(self._bundle.decoders[entry][0])
    height, width = x_hat.shape[:2]
    padding = [(0, -n % stride) for n in (height, width)]
    if any(more for _, more in padding):
      x_hat = np.pad(x_hat, [*padding, (0, 0)], mode='edge')
    size = x_hat.shape[:2]

    def own(z, tile):
      return tile.cut(z), tile.cut(x_hat), np.int32(tile.origin), tile.extent

    # The first step makes its own state; what it is given takes no memory.
    z = np.broadcast_to(np.float32(0), (*size, channels))
    for i in range(steps):
      if i == steps - 1:
        after = np.empty((*size, 3), np.uint8)
      else:
        after = np.empty((*size, channels), np.float32)
      shared = (
        np.float32([quality]), np.float32([rmse]), np.int32([i, steps]),
        np.uint32(seed), np.float32(realism),
      )
      found = tiles.cover(size, shape, halo)
      for tile, y in self._runner.run(
        network, found, functools.partial(own, z), shared
      ):
        tile.paste(y[:, :, :after.shape[2]], after)
      z = after
    return z[:height, :width]

  # --- How each is laid over a picture --------------------------------------

  def _autoencoder(self, kind: str):
    """'analyse', 'synthesise' or 'pixels': (network, tile shape, halo)."""
    spec = self._bundle.autoencoder_spec
    part, other = 'analyse', 'synthesis'
    if kind != 'analyse':
      part, other = 'synthesise', 'analysis'
    params = {
      k: v for k, v in self._bundle.autoencoder_params.items()
      if k not in (other, 'prior')
    }
    look = locality.analysis if kind == 'analyse' else locality.synthesis
    halo = _round_up(look(spec['transforms'], spec['depths']), STRIDE)
    shape = tuple(_round_up(max(n, 4 * halo), STRIDE) for n in self._tile)
    height, width = shape
    if kind == 'analyse':
      tile = _array(np.uint8, height, width, 3)
    else:
      tile = _array(
        np.int32, height // STRIDE, width // STRIDE,
        self._bundle.tables.num_channels,
      )
    return runner.Network(
      kind, part, params,
      functools.partial(_make_autoencoder, kind, spec, shape, self._products),
      (tile, _array(np.int32, 2)), (_array(np.float32, 1),),
      [spec, shape, self._products],
    ), shape, halo

  def _score(self, entry: str):
    """A step of a score decoder: (network, tile shape, halo, stride)."""
    spec, params = self._bundle.decoders[entry]
    patch, depths = spec['patch'], spec['depths']
    stride = locality.score_stride(patch, depths)
    # Tiles begin where both the network and the noise can.
    unit = math.lcm(stride, noise.CELL)
    look = base.evaluations(spec) * locality.score_net(
      patch, depths, spec.get('refine', 0)
    )
    halo = _round_up(look, unit)
    block = self._score_block if self._runner.platform == 'cpu' else None
    block = block and _round_up(block, unit)
    shape = tuple(
      _round_up(max(n, 4 * halo), block or unit) for n in self._score_tile
    )
    z, x_hat = (
      _array(np.float32, *shape, n)
      for n in (base.state_channels(spec), 3)
    )
    place, one = _array(np.int32, 2), _array(np.float32, 1)
    return runner.Network(
      entry, entry, params,
      functools.partial(
        _make_score, base.ENTRIES[entry], spec, shape, block,
        self._products,
      ),
      (z, x_hat, place, place),
      (one, one, place, _array(np.uint32), _array(np.float32)),
      [spec, shape, block, self._products],
    ), shape, halo, stride


def _round_up(n: int, unit: int) -> int:
  return -(-n // unit) * unit


def _array(dtype, *shape):
  return jax.ShapeDtypeStruct(shape, dtype)


# --- What runs on a tile; traced, so the networks are imported here ----------


def _make_autoencoder(kind, spec, tile, products):
  """'analyse', 'synthesise' or 'pixels', on a tile."""
  from gdc.models import tiling
  net = bundle.build_autoencoder(spec)
  method = 'features' if kind == 'analyse' else 'decode'

  def run(params, own, shared):
    x, extent = own
    quality, = shared
    x = x.astype(jnp.float32)
    if kind == 'analyse':
      x = x / 127.5 - 1
    y = tiling.evaluate(
      net, {'params': params}, x[None], quality, tile=tile, extent=extent,
      products=products, method=method,
    )[0]
    if kind == 'analyse':
      return y
    y = jnp.clip(y, -1, 1)
    return _to_uint8(y) if kind == 'pixels' else y

  return _in_full(run)


def _make_score(process, spec, tile, block, products):
  """One step of a score decoder, on a tile.

  It makes the state at the first step, and of the last one returns the
  picture, its values from 0 to 255, in the state's first three channels.
  """
  from gdc.models import tiling
  net = bundle.build_score_net(spec)

  def run(params, own, shared):
    z, x_hat, origin, extent = own
    quality, rmse, step, seed, realism = shared
    decoder = base.Decoder(
      process, spec,
      lambda *arguments: tiling.evaluate(
        net, {'params': params}, *arguments, tile=tile, extent=extent,
        block=block, products=products,
      ),
      # As jax.random.key, without what jax_random_seed_offset adds.
      jax.random.wrap_key_data(
        jnp.stack([jnp.uint32(0), seed]), impl='threefry2x32'
      ),
      origin, extent,
    )
    i, steps = step
    z, x_hat = z[None], x_hat[None]
    z = jax.lax.cond(i == 0, lambda: decoder.begin(x_hat), lambda: z)
    z = decoder.advance(z, x_hat, quality, rmse, i, steps)
    picture = base.mix(x_hat, decoder.finish(z, x_hat, rmse), realism)
    picture = _to_uint8(picture).astype(jnp.float32)
    more = z.shape[-1] - picture.shape[-1]
    picture = jnp.pad(picture, ((0, 0), (0, 0), (0, 0), (0, more)))
    return jnp.where(i == steps - 1, picture, z)[0]

  return _in_full(run)


def _in_full(function):
  """Traces with full precision of float32 products; bfloat16 ones are exact.

  Accelerators would otherwise multiply in bfloat16 or TF32 throughout.
  """
  @functools.wraps(function)
  def wrapped(*arguments):
    with jax.default_matmul_precision('highest'):
      return function(*arguments)
  return wrapped


def _to_uint8(x):
  """[-1, 1] -> uint8, rounded."""
  return jnp.round(jnp.clip((x + 1) * 127.5, 0, 255)).astype(jnp.uint8)


def _rgb(tile):
  """uint8 [h, w, 1 to 4] -> [h, w, 3]: grey is repeated, alpha left out."""
  return tile[:, :, :3] if tile.shape[2] > 2 else tile[:, :, [0, 0, 0]]
