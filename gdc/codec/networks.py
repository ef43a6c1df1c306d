"""A bundle's networks on images of any size, on one device or several.

Images go through the networks tile by tile (models/tiling.py). Each network is
compiled once, for its tile; memory is that of a tile beside the image, its
latents and, for score decoders, their float32 states. Several devices take a
tile each at a time (runner.py); the result is the same.
"""
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gdc import decoders
from gdc.codec import bundle, forks, runner, tiles
from gdc.decoders import base, noise
from gdc.models import receptive_field

STRIDE = receptive_field.STRIDE
# Height and width in pixels. The autoencoder's tile holds an image of the usual
# test size. The score networks see further and are slower: their tile is large
# and computed in blocks, of which a small image fills a few. Both are the same
# for any number of devices, and grow with a network's receptive field.
AUTOENCODER_TILE = (512, 768)
SCORE_TILE = (1024, 1024)
SCORE_BLOCK = 256
# See layers.GatedBlock; docs/performance.md has what it gains and costs.
MATMUL_DTYPE = 'bfloat16'
_starting = forks.lock()


def in_turn(method):
  """Makes calls of a method in several threads wait for Networks.turn()."""
  @functools.wraps(method)
  def wrapped(self, *positional, **named):
    with self._networks.turn():
      return method(self, *positional, **named)
  return wrapped


class Networks:
  """The networks of a bundle; compiles each when it is first needed."""

  def __init__(
    self,
    model: bundle.Bundle,
    autoencoder_tile=AUTOENCODER_TILE,
    score_tile=SCORE_TILE,
    score_block: int | None = SCORE_BLOCK,
    matmul_dtype: str = MATMUL_DTYPE,
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
        matmuls. None: all at once.
      matmul_dtype: 'bfloat16' or 'float32', see layers.GatedBlock.
      devices: to compute on, of this process and of one kind; None: all that
        are of the kind of the first.

    Raises:
      ValueError: an unknown dtype, or unsuitable devices.
    """
    if matmul_dtype not in ('bfloat16', 'float32'):
      raise ValueError(
        f"matmul_dtype must be 'bfloat16' or 'float32', not {matmul_dtype!r}."
      )
    # Without devices, made when it is needed: it starts JAX, and a process
    # that has not started it can be forked.
    self._made = None if devices is None else runner.Runner(devices)
    self._bundle = model
    self._tile = tuple(autoencoder_tile)
    self._score_tile = tuple(score_tile)
    self._score_block = score_block
    self._matmul_dtype = matmul_dtype

  @property
  def _runner(self) -> runner.Runner:
    forks.check()
    with _starting:
      if self._made is None:
        self._made = runner.Runner()
    return self._made

  def turn(self):
    """Returns the context that calls take place in, see Runner.turn."""
    return self._runner.turn()

  def analyse(self, image: np.ndarray, quality: float) -> np.ndarray:
    """Returns the features of an image: latents before gains and rounding.

    Args:
      image: uint8 [height, width, 1 to 4]; alpha is ignored.
      quality: quality to analyse at.

    Returns:
      float32 [ceil(height / 16), ceil(width / 16), channels].
    """
    size = [-(-n // STRIDE) * STRIDE for n in image.shape[:2]]
    network, shape, halo = self._autoencoder('analyse')
    channels = self._bundle.tables.num_channels
    out = tiles.Plane.of(
      np.empty([n // STRIDE for n in size] + [channels], np.float32), STRIDE
    )
    pixels = tiles.Plane.of(image)

    def own(tile):
      return _rgb(tile.cut(pixels)), tile.extent

    found, shared = tiles.cover(size, shape, halo), (np.float32([quality]),)
    for tile, y in self._runner.run(network, found, own, shared):
      tile.paste(y, out)
    return out.array

  def synthesise(
    self, latents: tiles.Plane, size, quality: float,
    window: tiles.Window | None = None, dtype=np.uint8,
  ) -> tiles.Plane:
    """Returns the autoencoder's image, or a window of it.

    Args:
      latents: int32, with the stride of STRIDE; at least of `seen` pixels.
      size: (height, width) of the whole image, multiples of STRIDE.
      quality: quality they were coded at.
      window: of the image; None: all.
      dtype: uint8 for pixels, or float32 in [-1, 1].

    Returns:
      Three channels of that type. A window equals that of the whole image.
    """
    window = window or tiles.Window(0, 0, *size)
    out = tiles.Plane.empty(window, 3, dtype)
    for part in self.synthesise_parts(latents, size, quality, window, dtype):
      out.put(part)
    return out

  def synthesise_parts(
    self, latents: tiles.Plane, size, quality: float, window: tiles.Window,
    dtype=np.uint8,
  ) -> Iterator[tiles.Plane]:
    """Yields what `synthesise` returns, a tile's part at a time."""
    kind = 'pixels' if np.dtype(dtype) == np.uint8 else 'synthesise'
    network, shape, halo = self._autoencoder(kind)

    def own(tile):
      return tile.cut(latents), tile.extent

    found = tiles.cover(size, shape, halo, window)
    for tile, x in self._runner.run(
      network, found, own, (np.float32([quality]),)
    ):
      yield tile.valid(x, window)

  def sample(
    self, entry: str, x_hat: tiles.Plane, size, quality: float, rmse: float,
    steps: int, seed: int, realism: float, window: tiles.Window | None = None,
  ) -> np.ndarray:
    """Returns a score decoder's image, or a window of it.

    Every step covers all tiles before the next one starts, so each tile finds
    its neighbours' states around its own. Of a window, a step covers what later
    ones see.

    Args:
      entry: a key of the bundle's decoders.
      x_hat: float32, the autoencoder's image, at least of `seen` pixels.
      size: (height, width) of the whole image.
      quality: quality it was coded at.
      rmse: its expected error, images in [-1, 1].
      steps: number of sampling steps.
      seed: noise seed, 0 to 2^32 - 1.
      realism: in [0, 1], see base.mix.
      window: of the image; None: all.

    Returns:
      uint8 [height, width, 3]. A window equals that of the whole image.
    """
    network, shape, halo, stride = self._score(entry)
    window = window or tiles.Window(0, 0, *size)
    size = [_round_up(n, stride) for n in size]
    channels = network.own[0].shape[-1]

    def own(state, tile):
      return (
        tile.cut(state), tile.cut(x_hat), np.int32(tile.origin), tile.extent
      )

    # The first step makes its own state; this one takes no memory.
    state = tiles.Plane.of(
      np.broadcast_to(np.float32(0), (*size, channels))
    )
    for i in range(steps):
      if i == steps - 1:
        after = tiles.Plane.empty(window, 3, np.uint8)
      else:
        after = tiles.Plane.empty(
          window.grown((steps - 1 - i) * halo, size, stride), channels,
          np.float32,
        )
      shared = (
        np.float32([quality]), np.float32([rmse]), np.int32([i, steps]),
        np.uint32(seed), np.float32(realism),
      )
      for tile, y in self._runner.run(
        network, tiles.cover(size, shape, halo, after.window),
        functools.partial(own, state), shared,
      ):
        tile.paste(y[:, :, :after.array.shape[2]], after)
      state = after
    return state.array

  def seen(
    self, window: tiles.Window, size, entry: str | None = None, steps: int = 1
  ) -> tiles.Window:
    """Returns the pixels of its input that a network sees for a window.

    Args:
      window: of the network's output.
      size: (height, width) of the whole image, multiples of STRIDE.
      entry: a score decoder; None: the synthesis, which sees latents. Their
        window has sides that are multiples of STRIDE.
      steps: number of sampling steps of the score decoder.
    """
    if entry is None:
      return window.grown(self._autoencoder('synthesise')[2], size, STRIDE)
    _, _, halo, stride = self._score(entry)
    return window.grown(steps * halo, size, stride)

  # --- Layout of each network's tiles ---------------------------------------

  def _autoencoder(self, kind: str):
    """'analyse', 'synthesise' or 'pixels': (network, tile shape, halo)."""
    spec = self._bundle.autoencoder_spec
    analysis = kind == 'analyse'
    unused = 'prior', 'synthesis' if analysis else 'analysis'
    params = {
      k: v for k, v in self._bundle.autoencoder_params.items()
      if k not in unused
    }
    receptive = (
      receptive_field.analysis if analysis else receptive_field.synthesis
    )
    halo = _round_up(receptive(spec), STRIDE)
    shape = tuple(_round_up(max(n, 4 * halo), STRIDE) for n in self._tile)
    height, width = shape
    if analysis:
      tile = _array(np.uint8, height, width, 3)
    else:
      tile = _array(
        np.int32, height // STRIDE, width // STRIDE,
        self._bundle.tables.num_channels,
      )
    return runner.Network(
      kind, 'analyse' if analysis else 'synthesise', params,
      functools.partial(
        _make_autoencoder, kind, spec, shape, self._matmul_dtype
      ),
      (tile, _array(np.int32, 2)), (_array(np.float32, 1),),
      [spec, shape, self._matmul_dtype],
    ), shape, halo

  def _score(self, entry: str):
    """A step of a score decoder: (network, tile shape, halo, stride)."""
    spec, params = self._bundle.decoders[entry]
    decoder, fields = decoders.from_record(entry, spec)
    stride = receptive_field.score_stride(fields)
    # Tiles begin where both the network and the noise can.
    unit = math.lcm(stride, noise.CELL)
    halo = _round_up(decoder.nfe * receptive_field.score_net(fields), unit)
    block = self._score_block if self._runner.platform == 'cpu' else None
    block = block and _round_up(block, unit)
    shape = tuple(
      _round_up(max(n, 4 * halo), block or unit) for n in self._score_tile
    )
    state, x_hat = (
      _array(np.float32, *shape, n) for n in (3 + decoder.memory_channels, 3)
    )
    place, one = _array(np.int32, 2), _array(np.float32, 1)
    return runner.Network(
      entry, entry, params,
      functools.partial(
        _make_score, decoder, fields, shape, block, self._matmul_dtype
      ),
      (state, x_hat, place, place),
      (one, one, place, _array(np.uint32), _array(np.float32)),
      [spec, shape, block, self._matmul_dtype],
    ), shape, halo, stride


def _round_up(n: int, unit: int) -> int:
  return -(-n // unit) * unit


def _array(dtype, *shape):
  return jax.ShapeDtypeStruct(shape, dtype)


# --- Programs of a tile; traced, so the networks are imported here ------------


def _make_autoencoder(kind, spec, tile, matmul_dtype):
  """'analyse', 'synthesise' or 'pixels', on a tile."""
  from gdc.models import autoencoder, tiling
  net = autoencoder.Autoencoder(**spec, matmul_dtype=matmul_dtype)
  method = 'features' if kind == 'analyse' else 'decode'

  def run(params, own, shared):
    x, extent = own
    quality, = shared
    x = x.astype(jnp.float32)
    if kind == 'analyse':
      x = x / 127.5 - 1
    y = tiling.evaluate(
      net, {'params': params}, x[None], quality, tile=tile, extent=extent,
      method=method,
    )[0]
    if kind == 'analyse':
      return y
    y = jnp.clip(y, -1, 1)
    return _to_uint8(y) if kind == 'pixels' else y

  return _full_precision(run)


def _make_score(decoder, fields, tile, block, matmul_dtype):
  """One step of a score decoder, on a tile.

  The state's two parts are one array here. The first step makes it; the last
  one returns the image instead, its values from 0 to 255, in the first three
  channels.
  """
  from gdc.models import score_net, tiling
  net = score_net.ScoreNet(**fields, matmul_dtype=matmul_dtype)

  def run(params, own, shared):
    packed, x_hat, origin, extent = own
    quality, rmse, (i, steps), seed, realism = shared
    packed, x_hat = packed[None], x_hat[None]

    def network(z, level):
      return tiling.evaluate(
        net, {'params': params}, z, x_hat, level, quality, tile=tile,
        extent=extent, block=block,
      )

    # As jax.random.key, but independent of jax_random_seed_offset.
    key = jax.random.wrap_key_data(
      jnp.stack([jnp.uint32(0), seed]), impl='threefry2x32'
    )
    noise_fn = noise.of_steps(key, x_hat.shape, origin, extent)
    state = jax.lax.cond(
      i == 0, lambda: decoder.begin(noise_fn, x_hat),
      lambda: (packed[..., :3], packed[..., 3:]),
    )
    state = decoder.step(network, state, x_hat, rmse, i, steps, noise_fn)
    image = base.mix(x_hat, decoder.finish(state, x_hat, rmse), realism)
    image = _to_uint8(image).astype(jnp.float32)
    z, memory = state
    return jnp.concatenate(
      [jnp.where(i == steps - 1, image, z), memory], axis=-1
    )[0]

  return _full_precision(run)


def _full_precision(function):
  """Traces with full precision of float32 matmuls; bfloat16 ones are exact.

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
  """uint8 [h, w, 1 to 4] -> [h, w, 3]: repeats grey, drops alpha."""
  return tile[:, :, :3] if tile.shape[2] > 2 else tile[:, :, [0, 0, 0]]
