"""The codec: picture -> bytes -> picture.

What is exact: the latents. They are integers, coded with integer tables that
were frozen at export, so every machine reads the same ones from a file. The
picture made from them is floating point and need not be the same on another
kind of machine; by how much it differs has not been measured.
"""
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from gdc.codec import bitstream, bundle, decoders, range_coder
from gdc.models import autoencoder


class Codec:
  """A loaded bundle, ready to compress and decompress.

  Attributes:
    name: the bundle's.
    digest: of the autoencoder, 64 hex digits; files carry the first eight.
    decoders: names that decompress takes; 'mse' is the autoencoder alone.
  """

  def __init__(self, model: bundle.Bundle):
    self.bundle = model
    self.name = model.name
    self.digest = model.digest
    self.decoders = ('mse', *model.decoders)
    self._autoencoder = bundle.build_autoencoder(model.autoencoder_spec)
    self._params = jax.device_put(model.autoencoder_params)
    self._nets = {
      process: (spec, bundle.build_score_net(spec), jax.device_put(params))
      for process, (spec, params) in model.decoders.items()
    }
    self._encode = jax.jit(_in_float32(self._encode_fn))
    self._decode = jax.jit(_in_float32(self._decode_fn))
    self._sample = jax.jit(_in_float32(self._sample_fn), static_argnums=0)

  # --- Compression ----------------------------------------------------------

  def compress(self, image: np.ndarray, quality: float = 3.0) -> bytes:
    """Compresses a picture.

    Args:
      image: uint8 [height, width, 3], sRGB, any size from 1x1 up.
      quality: 1 (smallest file) to 6 (best picture); rounded to 1/16.

    Returns:
      The file, as docs/bitstream.md describes it.

    Raises:
      ValueError: wrong type or shape, or quality out of range.
    """
    image = _check_image(image)
    tables = self.bundle.tables
    index = bitstream.quality_to_index(quality, tables.num_qualities)
    latents = self.encode(image, bitstream.index_to_quality(index))
    height, width = image.shape[:2]
    header = bitstream.Header(
      width=width,
      height=height,
      quality_index=index,
      digest=bytes.fromhex(self.digest[:8]),
    )
    symbols = latents.reshape(-1, latents.shape[-1]).T
    payload = range_coder.encode(symbols, tables, index)
    return bitstream.pack(header, payload)

  def encode(self, image: np.ndarray, quality: float) -> np.ndarray:
    """The integer latents of a picture.

    Args:
      image: uint8 [height, width, 3].
      quality: a multiple of 1/16.

    Returns:
      int32 [ceil(height / 16), ceil(width / 16), channels].
    """
    padding = [(0, -n % autoencoder.STRIDE) for n in image.shape[:2]]
    padded = np.pad(image, (*padding, (0, 0)), mode='edge')
    y = self._encode(self._params, padded[None], np.float32([quality]))
    return np.asarray(y)[0]

  def _encode_fn(self, params, image, quality):
    x = image.astype(jnp.float32) / 127.5 - 1
    y = self._autoencoder.apply({'params': params}, x, quality, method='encode')
    # Far beyond any table; keeps what a broken input gives within int32.
    return jnp.round(jnp.clip(jnp.nan_to_num(y), -2**20, 2**20)).astype(
      jnp.int32
    )

  # --- Decompression --------------------------------------------------------

  def decompress(
    self,
    data: bytes,
    decoder: str = 'flow',
    steps: int | None = None,
    seed: int | None = None,
  ) -> np.ndarray:
    """Decompresses a file.

    Args:
      data: the file's bytes.
      decoder: 'mse', the autoencoder alone (closest in PSNR), or 'flow' or
        'diffusion', which make its output realistic.
      steps: sampling steps of a score decoder; None takes the model's own.
      seed: of a score decoder's noise; None takes the file's checksum, so
        that a file always gives the same picture.

    Returns:
      uint8 [height, width, 3].

    Raises:
      BitstreamError: the file is damaged, or of another model or version.
      ValueError: the model has no such decoder, or steps is not positive.
    """
    self._check_decoder(decoder, steps, seed)
    latents, header, checksum = self.read(data)
    quality = np.float32([bitstream.index_to_quality(header.quality_index)])
    x_hat = self._decode(self._params, latents[None], quality)
    if decoder != 'mse':
      spec, net, params = self._nets[decoder]
      h, w = x_hat.shape[1:3]
      padding = ((0, 0), (0, -h % net.stride), (0, -w % net.stride), (0, 0))
      x_hat = jnp.pad(x_hat, padding, mode='edge')
      x_hat = self._sample(
        decoder,
        {'net': params, 'autoencoder': self._params},
        x_hat,
        quality,
        jax.random.key(checksum if seed is None else seed),
        np.int32(spec['sampling']['steps'] if steps is None else steps),
      )
    picture = np.asarray(_to_uint8(x_hat))[0]
    return np.ascontiguousarray(picture[:header.height, :header.width])

  def read(self, data: bytes):
    """Reads a file down to its latents, which are exact.

    Returns:
      latents: int32 [ceil(height / 16), ceil(width / 16), channels].
      header: bitstream.Header.
      checksum: the file's CRC-32.

    Raises:
      BitstreamError: see decompress.
    """
    header, payload, checksum = bitstream.unpack(data)
    expected = self.digest[:8]
    if header.digest.hex() != expected:
      raise bitstream.BitstreamError(
        f'This file was made with model {header.digest.hex()}; the loaded '
        f'model {self.name!r} is {expected}.'
      )
    rows, columns = (
      -(-n // autoencoder.STRIDE) for n in (header.height, header.width)
    )
    symbols = range_coder.decode(
      payload,
      self.bundle.tables,
      header.quality_index,
      rows * columns,
    )
    latents = np.ascontiguousarray(symbols.T).reshape(rows, columns, -1)
    return latents, header, checksum

  def ideal_bits(self, data: bytes) -> float:
    """The length of a file's latents under the tables, without a container.

    Raises:
      BitstreamError: see decompress.
    """
    latents, header, _ = self.read(data)
    symbols = latents.reshape(-1, latents.shape[-1]).T
    return self.bundle.tables.ideal_bits(symbols, header.quality_index)

  def _decode_fn(self, params, latents, quality):
    x_hat = self._autoencoder.apply(
      {'params': params}, latents.astype(jnp.float32), quality,
      method='decode',
    )
    return jnp.clip(x_hat, -1, 1)

  def _sample_fn(self, process, params, x_hat, quality, key, steps):
    spec, net, _ = self._nets[process]
    rmse = self._autoencoder.apply(
      {'params': params['autoencoder']}, quality, method='rmse'
    )
    return decoders.sample(
      process, spec, net, params['net'], x_hat, quality, rmse, key, steps
    )

  def _check_decoder(self, decoder, steps, seed):
    if decoder not in self.decoders:
      raise ValueError(
        f'Model {self.name!r} has no decoder {decoder!r}; it has '
        f'{", ".join(self.decoders)}.'
      )
    if steps is not None and not 1 <= steps <= 10_000:
      raise ValueError(f'steps must be from 1 to 10000, not {steps}.')
    if seed is not None and not 0 <= seed < 2**32:
      raise ValueError(f'seed must be from 0 to 2^32 - 1, not {seed}.')


def load(name_or_path='lean') -> Codec:
  """Loads a codec: a bundle in the box by name, or a bundle folder by path."""
  return Codec(bundle.load(name_or_path))


def keep_compiled_programs():
  """Keeps XLA's compiled programs on disk between runs of the commands.

  In JAX_COMPILATION_CACHE_DIR if that is set, else in the user's cache.
  """
  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    if cache.startswith('~'):
      return  # a user without a home
    jax.config.update(
      'jax_compilation_cache_dir', os.path.join(cache, 'gdc', 'xla')
    )
    jax.config.update('jax_compilation_cache_max_size', 1 << 30)


def _check_image(image) -> np.ndarray:
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(
      'An image is uint8 [height, width, 3], not '
      f'{image.dtype} {list(image.shape)}.'
    )
  if 0 in image.shape:
    raise ValueError(f'An image needs at least one pixel, not {image.shape}.')
  if image.shape[0] * image.shape[1] > bitstream.MAX_PIXELS:
    raise ValueError(
      f'An image has at most {bitstream.MAX_PIXELS} pixels, not '
      f'{image.shape[1]} x {image.shape[0]}.'
    )
  return image


def _in_float32(function):
  """Traces with full float32 products.

  Accelerators would otherwise multiply in bfloat16 or TF32, which rounds far
  more coarsely than a CPU does.
  """
  @functools.wraps(function)
  def wrapped(*arguments):
    with jax.default_matmul_precision('highest'):
      return function(*arguments)
  return wrapped


@jax.jit
def _to_uint8(x):
  """[-1, 1] -> uint8, rounded."""
  return jnp.round(jnp.clip((x + 1) * 127.5, 0, 255)).astype(jnp.uint8)
