"""The codec: image -> bytes -> image.

The latents are exact: integers, coded with integer tables that integer contexts
choose, so every machine reads the same ones from a file. The image made from
them is floating point and may differ between kinds of machines.

networks.py runs the networks on images of any size, tile by tile; encoder.py
chooses the quality of a file, or a lossless one.
"""
import functools

import numpy as np

from gdc import decoders, progress
from gdc.codec import (
  arguments,
  bitstream,
  bundle,
  encoder,
  forks,
  networks,
  retired,
  slices,
)
from gdc.codec import (
  lossless as lossless_lib,
)
from gdc.codec import (
  tiles as tiles_lib,
)


class Codec:
  """A loaded bundle, ready to compress and decompress.

  Threads may share one, and it can be pickled; see docs/python.md.

  Attributes:
    name: name of the bundle.
    digest: digest of the autoencoder, 64 hex digits; files carry the first
      eight.
    decoders: names that decompress takes; 'mse' is the autoencoder alone.
    decoder_digests: of each score decoder's weights, 64 hex digits.
  """

  def __init__(self, model: bundle.Bundle, **tiles):
    """Takes a bundle; compiles nothing and does not start JAX yet.

    Args:
      model: see bundle.load.
      **tiles: sizes of tiles and blocks, and devices; see networks.Networks.

    Raises:
      RuntimeError: JAX was already running when this process was forked.
    """
    forks.check()
    self.bundle = model
    self.name = model.name
    self.digest = model.digest
    self.decoders = ('mse', *model.decoders)
    self.decoder_digests = model.decoder_digests
    self._networks = networks.Networks(model, **tiles)
    self._tiles = tiles
    self._origin = None  # set by loading.load

  def __reduce__(self):
    """Pickles a loaded codec as its name or path, others with their weights."""
    make, given = self._origin or (
      functools.partial(Codec, **self._tiles), (self.bundle,)
    )
    return _unpickled, (make, *given)

  # --- Compression ----------------------------------------------------------

  @networks.in_turn
  def compress(
    self,
    image: np.ndarray,
    quality: float | None = None,
    *,
    target_bytes: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    seed: int | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    lossless: str = 'auto',
    notices: list[str] | None = None,
  ) -> bytes:
    """Compresses an image.

    At most one of quality, target_bytes, target_bpp and min_psnr is given.

    Args:
      image: uint8 [height, width, channels] of any size from 1x1 up: grey, grey
        and alpha, RGB, or RGB and alpha. Alpha is kept without loss. Arrays of
        jax and tensors of torch on a CPU are accepted too.
      quality: 1 (smallest file) to 6 (best image), rounded to 1/16; default 3.
      target_bytes: upper limit of the file; the best file found is returned.
      target_bpp: the same in bits per pixel.
      min_psnr: lower limit of the PSNR in dB, by decoder 'mse' over all colour
        samples; the smallest file found is returned.
      seed: default seed of the score decoders, 0 to 2^32 - 1, in place of the
        file's checksum; four more bytes.
      icc: profile of the colours, stored in the file; None or b'' is sRGB.
      exif: metadata stored in the file, from their TIFF header or the prefix
        Exif\\0\\0 on, at most 2^20 bytes; None or b'': none. The image is taken
        for upright: set the orientation in it to 1.
      xmp: an XMP packet, likewise.
      lossless: 'auto' keeps the image losslessly where that takes no more
        bytes, and where the network misses what the quality promises
        (docs/bitstream.md); 'never'; or 'always', without a quality.
      notices: a list that receives a sentence about each such choice.

    Returns:
      The file, as docs/bitstream.md describes it.

    Raises:
      ValueError: wrong type or shape, a value out of range, a profile that does
        not fit the image, or bytes that are not EXIF.
      RateError: a ValueError; no file that meets the target was found.
    """
    image = arguments.as_image(image)
    icc = arguments.as_icc(icc, image)
    exif, xmp = arguments.as_exif(exif), arguments.as_xmp(xmp)
    arguments.check_lossless(lossless, quality)
    if notices is not None and not isinstance(notices, list):
      raise ValueError(
        f'notices must be a list, or None, not {type(notices).__name__}.'
      )
    target, value = arguments.as_target(
      quality=quality, target_bytes=target_bytes, target_bpp=target_bpp,
      min_psnr=min_psnr,
    )
    height, width = image.shape[:2]
    header = functools.partial(
      bitstream.Header, width, height, digest=bytes.fromhex(self.digest[:8]),
      seed=arguments.as_seed(seed), icc=icc, exif=exif, xmp=xmp,
      grey=image.shape[2] < 3,
      alpha=image[:, :, -1].tobytes() if image.shape[2] in (2, 4) else None,
    )
    # Fails on a bad header before the networks run.
    bitstream.pack(header(quality_index=0, alpha=None), b'')
    coder = encoder.Encoder(self, image, header, lossless)
    if target == 'target_bpp':
      target = 'target_bytes'
      value = int(min(value * height * width / 8, 2**62))
    if lossless == 'always':
      data = coder.exact(value if target == 'target_bytes' else None)
    elif target == 'target_bytes':
      progress.plan(analyse=1, pixels=lossless == 'auto')
      data = coder.within(value)
    elif target == 'min_psnr':
      progress.plan(analyse=1, pixels=7)  # about so many qualities are decoded
      data = coder.above(value)
    else:
      progress.plan(analyse=1, pixels=lossless == 'auto')
      data = coder.at_quality(
        bitstream.quality_to_index(value, self.bundle.tables.num_qualities)
      )
    if notices is not None:
      notices += coder.notices
    return data

  @networks.in_turn
  def encode(self, image: np.ndarray, quality: float) -> np.ndarray:
    """Returns the integer latents of an image.

    Args:
      image: uint8 [height, width, 1 to 4].
      quality: a multiple of 1/16.

    Returns:
      int32 [ceil(height / 16), ceil(width / 16), channels].
    """
    quality = arguments.number('quality', quality)
    features = self._networks.analyse(arguments.as_image(image), quality)
    return self.quantise(features, quality, overwrite=True)

  def quantise(
    self, features: np.ndarray, quality: float, overwrite: bool = False
  ) -> np.ndarray:
    """Returns the integer latents of features.

    Args:
      features: float32 [rows, columns, channels].
      quality: a multiple of 1/16.
      overwrite: whether the latents may take the memory of the features, which
        is most of what compressing a large image needs.

    Returns:
      int32 [rows, columns, channels].
    """
    gain = np.exp(self._at_quality('log_gain', quality))
    latents = features.view(np.int32) if overwrite else (
      np.empty(features.shape, np.int32)
    )
    for row, values in enumerate(features):
      y = np.rint(values * gain)
      # Far beyond any table: keeps the output of a broken model within int32.
      latents[row] = np.clip(np.nan_to_num(y), -2**20, 2**20)
    return latents

  def _at_quality(self, name: str, quality: float) -> np.ndarray:
    """Interpolates a parameter table of the autoencoder between qualities.

    It equals layers.level_weights without importing flax.
    """
    table = self.bundle.autoencoder_params[name]
    levels = np.arange(1, len(table) + 1, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(np.float32(quality) - levels))
    return weights @ table

  def rmse(self, quality: float) -> float:
    """Returns the expected RMSE of 'mse' at a quality, of images in [-1, 1].

    It is the model's estimate over its training images, and scales the noise of
    the score decoders.
    """
    return float(np.exp(self._at_quality('log_rmse', quality)))

  # --- Decompression --------------------------------------------------------

  @networks.in_turn
  def decompress(
    self,
    data: bytes,
    decoder: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    realism: float | None = None,
    region: tuple[int, int, int, int] | None = None,
  ) -> np.ndarray:
    """Decompresses a file, or a region of it.

    A lossless file, of any model, gives its image whatever the decoder.

    Args:
      data: the file's bytes.
      decoder: 'mse', the autoencoder alone (closest in PSNR), or 'one_step',
        'flow' or 'diffusion', which make its output realistic. None takes the
        first of one_step, flow and diffusion that the model has, or else mse;
        with several steps, one_step is passed over.
      steps: sampling steps of a score decoder; None takes the model's own.
      seed: of a score decoder's noise; None takes the file's, so that a file
        always gives the same image, on the same machine and software.
      realism: from 0, the image of 'mse', to 1, that of the score decoder;
        between them decoders.base.mix. None is 1.
      region: (x, y, width, height) in pixels, within the image; None: all. The
        result equals the crop of the whole image, but only the tiles and slices
        that it needs are decoded.

    'mse' refuses steps and realism above 0, and has no use for a seed.

    Returns:
      uint8 [height, width, channels], as many as were compressed; of the
      region, if one is given.

    Raises:
      BitstreamError: the file is damaged, or of another model or version.
      ValueError: the model has no such decoder, or a value is out of range.
    """
    self.check_decoder(decoder, steps, seed, realism)
    header, payload, checksum = bitstream.unpack(arguments.as_bytes(data))
    window = arguments.as_window(region, header)
    if header.lossless:
      image = lossless_lib.decode(payload, header)
      return np.ascontiguousarray(image[window.slices])
    decoder, steps = self.resolve(decoder, steps)
    realism = 1.0 if realism is None else realism
    self._check_model(header)
    size = [n * networks.STRIDE for n in header.grid]
    own_seed = checksum if header.seed is None else header.seed
    quality = bitstream.index_to_quality(header.quality_index)
    net = self._networks
    if decoder == 'mse' or realism == 0:
      progress.plan(pixels=1)
      latents = self._latents(header, payload, net.seen(window, size))
      image = net.synthesise(latents, size, quality, window).array
    else:
      progress.plan(synthesise=1, **{decoder: steps})
      seen = net.seen(window, size, decoder, steps)
      latents = self._latents(header, payload, net.seen(seen, size))
      x_hat = net.synthesise(latents, size, quality, seen, np.float32)
      del latents
      image = net.sample(
        decoder, x_hat, size, quality, self.rmse(quality), steps,
        own_seed if seed is None else seed, realism, window,
      )
    return arguments.to_channels(image, header, window)

  def resolve(self, decoder: str | None = None, steps: int | None = None):
    """Returns the decoder that `decompress` uses, and its number of steps.

    Args:
      decoder: one of `decoders`, or None for the default.
      steps: as for decompress.

    Returns:
      (name, steps); steps is None for 'mse'.
    """
    if decoder is None:
      decoder = decoders.default(self.decoders, steps)
    if decoder == 'mse':
      return decoder, None
    if steps is None:
      steps = self.bundle.decoders[decoder][0]['sampling']['steps']
    return decoder, steps

  def read(self, data: bytes):
    """Reads a file down to its latents, which are exact.

    Returns:
      latents: int32 [ceil(height / 16), ceil(width / 16), channels].
      header: bitstream.Header.
      seed: default seed of the score decoders.

    Raises:
      BitstreamError: see decompress.
    """
    header, payload, checksum = bitstream.unpack(arguments.as_bytes(data))
    seed = checksum if header.seed is None else header.seed
    self._check_model(header)
    return self._latents(header, payload).array, header, seed

  def _check_model(self, header: bitstream.Header) -> None:
    """Raises BitstreamError unless a file has latents of this model."""
    if header.lossless:
      raise bitstream.BitstreamError(
        'This file is kept losslessly: it has no latents, only its image.'
      )
    expected = self.digest[:8]
    if header.digest.hex() != expected:
      raise bitstream.BitstreamError(
        f'This file was made with model {header.digest.hex()}; the loaded '
        f'model {self.name!r} is {expected}'
        + retired.where(header.digest.hex())
      )
    rows, columns = header.grid
    if rows * columns > bitstream.MAX_POSITIONS:
      raise bitstream.BitstreamError(
        f'too large: {header.width} x {header.height} pixels take '
        f'{columns} x {rows} latents'
      )

  def _latents(
    self, header: bitstream.Header, payload: bytes,
    window: tiles_lib.Window | None = None,
  ) -> tiles_lib.Plane:
    """Decodes the latents of an unpacked file, or of a window of its image."""
    stride = networks.STRIDE
    if window is None:
      window = tiles_lib.Window(0, 0, *(n * stride for n in header.grid))
    top, left, bottom, right = (n // stride for n in window)
    latents = slices.decode(
      payload, self.bundle.entropy_model, header.quality_index, header.grid,
      self.bundle.predicted_channels, (slice(top, bottom), slice(left, right)),
    )
    return tiles_lib.Plane(np.moveaxis(latents, 0, -1), window, stride)

  def ideal_bits(self, data: bytes) -> float:
    """Returns the ideal code length of a file's latents, without a container.

    Raises:
      BitstreamError: see decompress.
    """
    latents, header, _ = self.read(data)
    return slices.ideal_bits(
      np.moveaxis(latents, -1, 0), self.bundle.entropy_model,
      header.quality_index, self.bundle.predicted_channels,
    )

  def check_decoder(self, decoder, steps=None, seed=None, realism=None):
    """Raises ValueError unless `decompress` takes these."""
    if decoder is None:
      decoder = decoders.default(self.decoders, steps)
    if decoder not in self.decoders:
      raise ValueError(
        f'Model {self.name!r} has no decoder {decoder!r}; it has '
        f'{", ".join(self.decoders)}.'
      )
    arguments.check_sampling(decoder, steps, seed, realism)


class _Forked(Codec):
  """A codec unpickled in a forked child: every use raises forks.check's error.

  Raised while unpickling, the error would end the worker of a pool, which then
  hangs.
  """

  def __init__(self):
    pass

  def __getattr__(self, name):
    forks.check()
    raise AttributeError(name)


def _unpickled(make, *given) -> Codec:
  """Unpickles a codec."""
  try:
    forks.check()
  except RuntimeError:
    return _Forked()
  return make(*given)
