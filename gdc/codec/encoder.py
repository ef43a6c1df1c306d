"""From an image to a file: at which quality, or losslessly.

A quality promises an error: PROMISE times what the model expects at most. So
every file is decoded once while it is made. Where the network misses that, and
where its file would be larger than a lossless one, the image is kept
losslessly (lossless.py). docs/bitstream.md, "What a quality promises", has the
rules; docs/performance.md what they cost.
"""
import dataclasses
import functools

import numpy as np

from gdc import progress
from gdc.codec import (
  bitstream,
  lossless,
  prediction,
  range_coder,
  rate_control,
  samples,
)

MODES = ('auto', 'never', 'always')
# Of 217 photographs none had more than 2.02 times the expected error at any
# quality (docs/performance.md).
PROMISE = 3.0
_ROWS = 64  # of an image, compared at a time
_SMALL = 2**16  # bytes, by the fast estimate: worth a fair one


@dataclasses.dataclass(frozen=True)
class Coded:
  """A file, and the PSNR in dB of its image of decoder mse."""

  index: int
  data: bytes
  psnr: float


class Encoder:
  """One image on its way to a file; every method makes one.

  Attributes:
    notices: sentences, without a full stop, about what was chosen.
  """

  def __init__(self, codec, image: np.ndarray, header, mode: str):
    """Takes an image.

    Args:
      codec: codec.Codec.
      image: uint8 [height, width, 1 to 4].
      header: makes a bitstream.Header of what differs: quality_index, digest,
        and, of a lossless file, lossless and alpha.
      mode: one of MODES.
    """
    self.notices = []
    self._codec = codec
    self._networks = codec._networks
    self._tables = codec.bundle.tables
    self._channels = codec.bundle.predicted_channels
    self._image = image
    self._header = header
    self._mode = mode

  # --- What is asked for ----------------------------------------------------

  def at_quality(self, index: int) -> bytes:
    """A file of this quality index, or what is kept instead."""
    quality = bitstream.index_to_quality(index)
    if self._mode == 'always':
      return self._exact
    if self._mode == 'never':
      return self._pack(self._symbols(self._analyse(index), index), index)
    if self._is_flat(index):
      return self._exact
    coded, floor = self._checked(index), self.floor(index)
    kept = coded.psnr >= floor
    may_win = not kept or self._may_be(len(coded.data))
    if may_win and len(self._exact) <= len(coded.data):
      self._say_smaller(coded)
      return self._exact
    if kept:
      return coded.data
    short = (
      f'at quality {quality:g} the network reaches {coded.psnr:.1f} dB, less '
      f'than the {floor:.1f} dB that this quality promises'
    )
    for other in rate_control.levels(self._tables.num_qualities):
      if other > index:
        better = self._checked(other)
        if better.psnr >= floor and len(better.data) < len(self._exact):
          self.notices.append(
            f'coded at quality {bitstream.index_to_quality(other):g}: {short}'
          )
          return better.data
    self.notices.append(
      f'kept losslessly in {len(self._exact):,} bytes: {short}'
    )
    return self._exact

  def within(self, target_bytes: int) -> bytes:
    """The best file that is found of at most so many bytes.

    Raises:
      RateError: none is found.
    """
    if self._mode == 'always' or (
      self._mode == 'auto' and self._may_be(target_bytes)
    ):
      if len(self._exact) <= target_bytes:
        if self._mode == 'auto':
          self.notices.append(
            f'kept losslessly in {len(self._exact):,} bytes, which the target '
            'allows'
          )
        return self._exact
      if self._mode == 'always':
        raise rate_control.RateError(
          f'The lossless file of this image has {len(self._exact)} bytes, '
          f'more than the target of {target_bytes}.'
        )
    guess = rate_control.guess_index(
      self._tables, 8 * (target_bytes - self._overhead), self._positions
    )
    try:
      features, index = rate_control.search(
        self._analyse, lambda features: rate_control.largest_within(
          lambda i: len(self._pack(self._symbols(features, i), i)),
          self._tables.num_qualities, target_bytes,
        ), guess, 0,
      )
    except rate_control.RateError as e:
      if self._mode == 'auto' and self._may_be(e.least):
        raise rate_control.RateError(
          f'{str(e).rstrip(".")}; losslessly it has {len(self._exact)}.'
        ) from e
      raise
    if self._mode == 'never':
      return self._pack(self._symbols(features, index), index)
    best = self._coded(self._symbols(features, index), index)
    del features
    if best.psnr < self.floor(index):
      # The network fails on this image: more quality may even be worse.
      for other in rate_control.levels(self._tables.num_qualities):
        coded = self._checked(other)
        if len(coded.data) <= target_bytes and coded.psnr > best.psnr:
          best = coded
      floor = self.floor(best.index)
      if best.psnr < floor:
        self.notices.append(
          'the best file that was found within the target has quality '
          f'{bitstream.index_to_quality(best.index):g} and {best.psnr:.1f} '
          f'dB, less than the {floor:.1f} dB that this quality promises'
        )
    return best.data

  def above(self, min_psnr: float) -> bytes:
    """The smallest file that is found with at least so many dB.

    Raises:
      RateError: none is found; only if it must not be lossless.
    """
    count = self._tables.num_qualities
    if self._mode == 'always' or self._mode == 'auto' and self._is_flat(0):
      return self._exact
    guess = rate_control.guess_index_of_psnr(
      [
        self._codec.rmse(bitstream.index_to_quality(i)) for i in range(count)
      ],
      min_psnr,
    )
    try:
      features, index = rate_control.search(
        self._analyse, lambda features: rate_control.smallest_above(
          lambda i: self._psnr(self._symbols(features, i), i),
          lambda i: len(self._pack(self._symbols(features, i), i)),
          count, min_psnr,
        ), guess, count - 1,
      )
    except rate_control.RateError as e:
      if self._mode == 'never':
        raise
      self.notices.append(
        f'kept losslessly in {len(self._exact):,} bytes: {str(e)[0].lower()}'
        f'{str(e)[1:].rstrip(".")}'
      )
      return self._exact
    data = self._pack(self._symbols(features, index), index)
    del features
    may_win = self._mode == 'auto' and self._may_be(len(data))
    if may_win and len(self._exact) <= len(data):
      self._say_smaller(Coded(index, data, min_psnr))
      return self._exact
    return data

  def floor(self, index: int) -> float:
    """The PSNR in dB that a quality promises."""
    rmse = self._codec.rmse(bitstream.index_to_quality(index))
    return float(20 * np.log10(2 / (PROMISE * rmse)))  # a peak of 2

  # --- Losslessly -----------------------------------------------------------

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
    """Whether the lossless file may have at most so many bytes."""
    fast, fair = lossless.ESTIMATE_FACTORS
    return self._estimate <= max(fast * num_bytes, _SMALL) and (
      self._fair_estimate <= fair * num_bytes
    )

  def _is_flat(self, index: int) -> bool:
    """Whether a lossless file is smaller than any of this quality can be."""
    least = self._overhead + (
      self._positions * self._tables.minimum_bits(index) // 8 - 8
    )
    flat = self._estimate <= least and len(self._exact) <= least
    if flat:
      self.notices.append(
        f'kept losslessly in {len(self._exact):,} bytes, fewer than any file '
        f'of quality {bitstream.index_to_quality(index):g} has'
      )
    return flat

  def _say_smaller(self, coded: Coded):
    self.notices.append(
      f'kept losslessly in {len(self._exact):,} bytes, where quality '
      f'{bitstream.index_to_quality(coded.index):g} takes '
      f'{len(coded.data):,}'
    )

  # --- By the network -------------------------------------------------------

  @property
  def _positions(self) -> int:
    height, width = self._image.shape[:2]
    return -(-height // samples.STRIDE) * -(-width // samples.STRIDE)

  @functools.cached_property
  def _overhead(self) -> int:
    """All that is not payload; the same at every quality."""
    return len(bitstream.pack(self._header(quality_index=0), b''))

  def _analyse(self, index: int) -> np.ndarray:
    return self._networks.analyse(
      self._image, bitstream.index_to_quality(index)
    )

  def _symbols(self, features, index: int) -> np.ndarray:
    return self._codec._quantise(features, bitstream.index_to_quality(index))

  def _checked(self, index: int) -> Coded:
    return self._coded(self._symbols(self._analyse(index), index), index)

  def _coded(self, symbols, index: int) -> Coded:
    data = self._pack(symbols, index)
    return Coded(index, data, self._psnr(symbols, index))

  def _pack(self, symbols, index: int) -> bytes:
    """The file of latents, which are as they were afterwards."""
    rows = self._rows
    prediction.to_differences(symbols, rows, self._channels)
    payload = range_coder.encode(symbols, self._tables, index)
    prediction.from_differences(symbols, rows, self._channels)
    return bitstream.pack(self._header(quality_index=index), payload)

  @property
  def _rows(self) -> int:
    return -(-self._image.shape[0] // samples.STRIDE)

  def _psnr(self, symbols, index: int) -> float:
    """PSNR in dB of the image of 'mse', over all colour samples."""
    height, width, channels = self._image.shape
    header = self._header(quality_index=index, alpha=None)
    colours = channels - (channels in (2, 4))
    decoded = self._networks.synthesise(
      samples.grid(symbols, header), bitstream.index_to_quality(index)
    )
    total = 0
    for top in range(0, height, _ROWS):
      rows = slice(top, min(top + _ROWS, height))
      band = samples.finish(decoded[rows, :width], header)
      error = self._image[rows, :, :colours].astype(np.int32) - band
      total += int(np.vdot(error, error))
    mse = total / (height * width * colours)
    return float(10 * np.log10(255**2 / mse)) if mse else float('inf')
