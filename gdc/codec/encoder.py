"""Makes one image into a file: at which quality, or losslessly.

A quality promises an error of at most PROMISE times the expected one. So every
file is decoded once while it is made. Where the network fails the promise, or
its file would be larger than a lossless one, the image is kept losslessly
(lossless.py). docs/bitstream.md, "What a quality promises", has the rules;
docs/performance.md has their cost.
"""
import dataclasses
import functools

import numpy as np

from gdc import progress
from gdc.codec import (
  arguments,
  bitstream,
  lossless,
  networks,
  rate_control,
  slices,
  tiles,
)

# The largest error of 54 photographs at any quality is 1.62 times the expected
# one (docs/performance.md).
PROMISE = 3.0
_SMALL = 2**16  # bytes: a fast estimate below it is worth a fair one


@dataclasses.dataclass(frozen=True)
class Coded:
  """A file, and the PSNR in dB of its image by decoder mse."""

  index: int
  data: bytes
  psnr: float


class Encoder:
  """Makes files of one image.

  Attributes:
    notices: sentences, without a full stop, about the choices made.
  """

  def __init__(self, codec, image: np.ndarray, header, mode: str):
    """Takes an image.

    Args:
      codec: codec.Codec.
      image: uint8 [height, width, 1 to 4].
      header: function of the fields of a bitstream.Header that differ:
        quality_index and, of a lossless file, digest, lossless and alpha.
      mode: one of arguments.LOSSLESS; 'always' stands for `exact` alone.
    """
    self.notices = []
    self._codec = codec
    self._networks = codec._networks
    self._model = codec.bundle.entropy_model
    self._image = image
    self._header = header
    self._mode = mode
    self._grid = bitstream.grid(*image.shape[:2])

  # --- Targets --------------------------------------------------------------

  def at_quality(self, index: int) -> bytes:
    """Returns the file of a quality index, a higher one, or a lossless file."""
    if self._mode == 'never':
      return self._pack(self._latents(index), index)
    if self._is_flat(index):
      return self._exact
    coded, floor = self._code(index), self.floor(index)
    kept = coded.psnr >= floor
    if self._lossless_wins(coded, not kept):
      return self._exact
    if kept:
      return coded.data
    short = (
      f'at quality {_quality(index):g} the network reaches {coded.psnr:.1f} '
      f'dB, less than the {floor:.1f} dB that this quality promises'
    )
    for other in rate_control.levels(self._model.num_qualities):
      if other > index:
        better = self._code(other)
        if better.psnr >= floor and len(better.data) < len(self._exact):
          self.notices.append(f'coded at quality {_quality(other):g}: {short}')
          return better.data
    return self._lossless_because(f': {short}')

  def within(self, target_bytes: int) -> bytes:
    """Returns the best file found of at most target_bytes.

    Raises:
      RateError: none is found.
    """
    if self._mode == 'auto' and self._may_be(target_bytes) and (
      len(self._exact) <= target_bytes
    ):
      return self._lossless_because(', which the target allows')
    guess = rate_control.guess_index(
      self._model, 8 * (target_bytes - self._overhead), self._positions
    )
    try:
      features, index = rate_control.search(
        self._analyse, lambda features: rate_control.largest_within(
          lambda i: len(self._file(i, features)),
          self._model.num_qualities, target_bytes,
        ), guess, 0,
      )
    except rate_control.RateError as e:
      if self._mode == 'auto' and self._may_be(e.least):
        raise rate_control.RateError(
          f'{str(e).rstrip(".")}; losslessly it has {len(self._exact)}.'
        ) from e
      raise
    if self._mode == 'never':
      return self._file(index, features)
    best = self._code(index, features)
    del features
    if best.psnr < self.floor(index):
      # The network fails on this image: more quality may even be worse.
      for other in rate_control.levels(self._model.num_qualities):
        coded = self._code(other)
        if len(coded.data) <= target_bytes and coded.psnr > best.psnr:
          best = coded
      floor = self.floor(best.index)
      if best.psnr < floor:
        self.notices.append(
          'the best file that was found within the target has quality '
          f'{_quality(best.index):g} and {best.psnr:.1f} dB, less than the '
          f'{floor:.1f} dB that this quality promises'
        )
    return best.data

  def above(self, min_psnr: float) -> bytes:
    """Returns the smallest file found with at least min_psnr dB.

    Raises:
      RateError: none is found, and it must not be lossless.
    """
    count = self._model.num_qualities
    if self._mode == 'auto' and self._is_flat(0):
      return self._exact
    guess = rate_control.guess_index_of_psnr(
      [self._codec.rmse(_quality(i)) for i in range(count)], min_psnr
    )
    try:
      features, index = rate_control.search(
        self._analyse, lambda features: rate_control.smallest_above(
          lambda i: self._psnr(self._latents(i, features), i),
          lambda i: len(self._file(i, features)),
          count, min_psnr,
        ), guess, count - 1,
      )
    except rate_control.RateError as e:
      if self._mode == 'never':
        raise
      why = str(e).rstrip('.')
      return self._lossless_because(f': {why[0].lower()}{why[1:]}')
    data = self._file(index, features)
    del features
    if self._mode == 'auto' and self._lossless_wins(
      Coded(index, data, min_psnr)
    ):
      return self._exact
    return data

  def exact(self, target_bytes: int | None = None) -> bytes:
    """Returns the lossless file; RateError if it has more than target_bytes."""
    if target_bytes is not None and len(self._exact) > target_bytes:
      raise rate_control.RateError(
        f'The lossless file of this image has {len(self._exact)} bytes, more '
        f'than the target of {target_bytes}.'
      )
    return self._exact

  def floor(self, index: int) -> float:
    """Returns the PSNR in dB that a quality promises."""
    rmse = self._codec.rmse(_quality(index))
    return float(20 * np.log10(2 / (PROMISE * rmse)))  # a peak of 2

  # --- Lossless -------------------------------------------------------------

  @functools.cached_property
  def _exact(self) -> bytes:
    """The lossless file."""
    header = self._header(
      quality_index=None, digest=b'', lossless=True,
      alpha=b'' if self._image.shape[2] in (2, 4) else None,
    )
    with progress.during('trying lossless formats'):
      return bitstream.pack(header, lossless.encode(self._image))

  @functools.cached_property
  def _estimate(self) -> int:
    return lossless.estimate(self._image)

  @functools.cached_property
  def _fair_estimate(self) -> int:
    return lossless.estimate(self._image, is_fair=True)

  def _may_be(self, num_bytes: int) -> bool:
    """Whether the lossless file may have at most num_bytes, by estimates."""
    fast, fair = lossless.ESTIMATE_FACTORS
    num_bytes -= self._metadata
    return self._estimate <= max(fast * num_bytes, _SMALL) and (
      self._fair_estimate <= fair * num_bytes
    )

  def _is_flat(self, index: int) -> bool:
    """Whether the lossless file is smaller than any file of a quality."""
    least = self._overhead + slices.least_bytes(self._grid, self._model, index)
    flat = self._estimate <= least - self._metadata and (
      len(self._exact) <= least
    )
    if flat:
      self._lossless_because(
        f', fewer than any file of quality {_quality(index):g} has'
      )
    return flat

  def _lossless_wins(self, coded: Coded, has_failed: bool = False) -> bool:
    """Whether the lossless file is no larger; always made after a failure."""
    if not has_failed and not self._may_be(len(coded.data)) or (
      len(self._exact) > len(coded.data)
    ):
      return False
    self._lossless_because(
      f', where quality {_quality(coded.index):g} takes {len(coded.data):,}'
    )
    return True

  def _lossless_because(self, reason: str) -> bytes:
    """Returns the lossless file, with a notice."""
    self.notices.append(
      f'kept losslessly in {len(self._exact):,} bytes{reason}'
    )
    return self._exact

  # --- Lossy ----------------------------------------------------------------

  @property
  def _positions(self) -> int:
    return self._grid[0] * self._grid[1]

  @functools.cached_property
  def _overhead(self) -> int:
    """Bytes besides the payload, the same at every quality."""
    return len(bitstream.pack(self._header(quality_index=0), b''))

  @functools.cached_property
  def _metadata(self) -> int:
    """Bytes of EXIF and XMP, which a lossless file has too."""
    return self._overhead - len(
      bitstream.pack(self._header(quality_index=0, exif=b'', xmp=b''), b'')
    )

  def _code(self, index: int, features=None) -> Coded:
    """Codes and decodes the image at a quality, see _latents."""
    latents = self._latents(index, features)
    return Coded(
      index, self._pack(latents, index), self._psnr(latents, index)
    )

  def _analyse(self, index: int) -> np.ndarray:
    return self._networks.analyse(self._image, _quality(index))

  def _latents(self, index: int, features=None) -> np.ndarray:
    """Quantises features, or those of the quality, [rows, columns, channels].
    """
    overwrite = features is None
    if overwrite:
      features = self._analyse(index)
    return self._codec.quantise(features, _quality(index), overwrite)

  def _file(self, index: int, features) -> bytes:
    return self._pack(self._latents(index, features), index)

  def _pack(self, latents, index: int) -> bytes:
    """Returns the file of quantised latents."""
    payload = slices.encode(
      np.moveaxis(latents, -1, 0), self._model, index,
      self._codec.bundle.predicted_channels,
    )
    return bitstream.pack(self._header(quality_index=index), payload)

  def _psnr(self, latents, index: int) -> float:
    """Returns the PSNR in dB of decoder mse, over all colour samples."""
    height, width, channels = self._image.shape
    header = self._header(quality_index=index, alpha=None)
    colours = channels - (channels in (2, 4))
    total = 0
    for part in self._networks.synthesise_parts(
      tiles.Plane.of(latents, networks.STRIDE),
      [n * networks.STRIDE for n in self._grid], _quality(index),
      tiles.Window(0, 0, height, width),
    ):
      original = self._image[part.window.slices][:, :, :colours]
      decoded = arguments.to_channels(part.array, header)
      # Sums of squares beyond int32; exact in float64.
      error = original.astype(np.float64) - decoded
      total += int(np.vdot(error, error))
    mse = total / (height * width * colours)
    return float(10 * np.log10(255**2 / mse)) if mse else float('inf')


def _quality(index: int) -> float:
  return bitstream.index_to_quality(index)
