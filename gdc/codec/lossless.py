"""An image kept exactly: the payload of a file with the lossless flag.

The payload holds what Pillow's PNG, WebP and TIFF writers make of the image,
less what the header says already: the sides, signatures and wrappers. They are
put back before Pillow reads it, so a file cannot claim one size in its header
and another in its payload. docs/bitstream.md has the layout.

A large image is kept in strips of whole rows, which bounds the memory of both
ways. Each strip is what is smallest of the samples as they are, PNG, WebP and,
of black and white, TIFF with CCITT Group 4.
"""
import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
from PIL import (
  Image,
  ImageChops,
  PngImagePlugin,
  TiffImagePlugin,
  WebPImagePlugin,
)

from gdc.codec import bitstream, wrappers

# Pixels of a strip; the format has this number, too.
STRIP_PIXELS = 2**24
RAW, PNG, WEBP, GROUP4 = range(4)
NAMES = ('raw', 'PNG', 'WebP', 'TIFF G4')
# What `estimate` gives is at most so many times what `encode` makes, fast and
# fair, but for patterns: those are so small that a fair one costs little.
ESTIMATE_FACTORS = (8, 2.5)

_FASTEST, _FAIR = ({'method': m, 'quality': q} for m, q in ((0, 0), (4, 80)))
# A strip of at most so many pixels is written with these settings, the slow
# ones if the best file so far has at most so many bytes: they take up to some
# 20 seconds a MiB.
_WEBP_SETTINGS = (
  (2**62, 2**62, _FASTEST),
  (2**62, 2**62, _FAIR),
  (2**24, 2**20, {'method': 4, 'quality': 100}),
  (2**22, 2**62, {'method': 1, 'quality': 20}),
  (2**20, 2**62, {'method': 2, 'quality': 30}),
  (2**22, 2**20, {'method': 5, 'quality': 75}),
  (2**22, 2**19, {'method': 6, 'quality': 100}),
)
_DAMAGES = (
  OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError,
  struct.error, zlib.error, OverflowError,
)


# --- Writing ----------------------------------------------------------------


def encode(image: np.ndarray) -> bytes:
  """The payload of an image.

  Args:
    image: uint8 [height, width, 1 to 4].

  Returns:
    bytes that `decode` makes this image of.
  """
  parts = []
  for rows, is_last in _strips(*image.shape[:2]):
    strip = np.ascontiguousarray(image[rows])
    kind, data = _smallest(strip)
    parts.append(bytes([kind]))
    if not is_last:
      parts.append(bitstream.varint(len(data)))
    parts.append(data)
  return b''.join(parts)


def estimate(image: np.ndarray, is_fair: bool = False) -> int:
  """A number of bytes, at most ESTIMATE_FACTORS[is_fair] times `encode`'s.

  The fast one takes about a hundredth of the time of `encode`, the fair one a
  twentieth (a photograph of 768 x 512).
  """
  total = 0
  for rows, _ in _strips(*image.shape[:2]):
    strip = np.ascontiguousarray(image[rows])
    picture = _pillow(strip)
    sizes = [len(wrappers.png(picture, compress_level=6 if is_fair else 1))]
    if max(picture.size) <= wrappers.MAX_WEBP_SIDE:
      settings = (_FASTEST, _FAIR) if is_fair else (_FASTEST,)
      sizes += [len(wrappers.webp(picture, s)) for s in settings]
    bilevel = _bilevel(picture)
    if bilevel:  # which Group 4 may suit far better
      sizes += [len(wrappers.group4(bilevel, inverted)) for inverted in (0, 1)]
    total += min(sizes)
  return min(total, image.size)


def _smallest(strip: np.ndarray) -> tuple[int, bytes]:
  """(kind, data) of what is smallest of a strip."""
  picture = _pillow(strip)
  found = [(len(data), kind, data) for kind, data in _candidates(picture)]
  found.append((strip.size, RAW, strip.tobytes()))
  for _, kind, data in sorted(found, key=lambda f: f[0]):
    # Nothing is believed of a writer, nor of what is left out and put back.
    with contextlib.suppress(bitstream.BitstreamError):
      if np.array_equal(_decode(kind, data, strip.shape), strip):
        return kind, data
  raise AssertionError('raw is always there')


def _candidates(picture):
  """Yields (kind, data) of one strip, from several writers and settings."""
  width, height = picture.size
  sizes = [width * height * len(picture.getbands())]
  if max(width, height) <= wrappers.MAX_WEBP_SIDE:
    for pixels, most, options in _WEBP_SETTINGS:
      # Slow settings change nothing in noise.
      noise = width * height > 2**16 and min(sizes) > 0.9 * sizes[0]
      if width * height <= pixels and min(sizes) <= most and not (
        pixels < 2**62 and noise
      ):
        data = wrappers.webp(picture, options)
        sizes.append(len(data))
        yield WEBP, data
  reduced = _reduced(picture)
  for other in reduced:
    data = wrappers.png(other, compress_level=6)
    sizes.append(len(data))
    yield PNG, data
    if len(data) < 1.3 * min(sizes):
      yield PNG, wrappers.png(other, optimize=True)
  bilevel = _bilevel(picture)
  if bilevel:
    for inverted in (0, 1):
      yield GROUP4, bytes([inverted]) + wrappers.group4(bilevel, inverted)


def _reduced(picture) -> list[Image.Image]:
  """The same image in the modes in which PNG may be small."""
  made = [picture]
  if picture.mode in ('RGB', 'RGBA'):
    red, green, blue, *alpha = picture.split()
    if not any(
      ImageChops.difference(red, band).getbbox() for band in (green, blue)
    ):
      made = [Image.merge('LA', (red, *alpha)) if alpha else red]
  plain = made[0]
  if plain.mode in ('L', 'RGB'):
    colours = plain.getcolors(256)
    if colours is not None:
      made.append(_bilevel(picture) or plain.quantize(len(colours)))
  return made


def _bilevel(picture) -> Image.Image | None:
  """The same image in one bit, if it is black and white."""
  black_white = {'L': {0, 255}, 'RGB': {(0,) * 3, (255,) * 3}}
  colours = picture.getcolors(2)
  if colours is None or not (
    {colour for _, colour in colours} <= black_white.get(picture.mode, set())
  ):
    return None
  return picture.convert('1', dither=Image.Dither.NONE)


def _pillow(pixels) -> Image.Image:
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


# --- Reading ----------------------------------------------------------------


def decode(payload: bytes, header: bitstream.Header) -> np.ndarray:
  """The image of a payload; the inverse of `encode`.

  Args:
    payload: of a file with the lossless flag.
    header: of the same file.

  Returns:
    uint8 [height, width, 1 to 4].

  Raises:
    BitstreamError: the payload is damaged.
  """
  height, width, channels = header.height, header.width, header.channels
  parts = list(_split(payload, height, width))
  image = None
  for rows, kind, data in parts:
    strip = _decode(kind, data, (rows.stop - rows.start, width, channels))
    if image is None:  # not before something is known to be there
      image = strip if rows.stop == height else np.empty(
        (height, width, channels), np.uint8
      )
    if image is not strip:
      image[rows] = strip
  return image


def kinds(payload: bytes, header: bitstream.Header) -> list[str]:
  """Names of the formats in a payload, each once."""
  parts = _split(payload, header.height, header.width)
  return list(dict.fromkeys(NAMES[kind] for _, kind, _ in parts))


def _split(payload, height, width):
  """Yields (rows, kind, data) of every strip."""
  position = 0
  for rows, is_last in _strips(height, width):
    if position >= len(payload):
      raise bitstream.BitstreamError(
        f'malformed: its lossless image ends before row {rows.start}'
      )
    kind = payload[position]
    if kind >= len(NAMES):
      raise bitstream.BitstreamError(
        f'unknown kind {kind} of lossless image: a newer program wrote it'
      )
    position += 1
    length = len(payload) - position
    if not is_last:
      length, position = bitstream.read_varint(
        payload, position, 'length of a strip', bitstream.MAX_LENGTH_BYTES
      )
    data, position = bitstream.read_bytes(
      payload, position, length, 'lossless image'
    )
    yield rows, kind, data


def _decode(kind: int, data: bytes, shape) -> np.ndarray:
  """One strip: uint8 of this shape."""
  height, width, channels = shape
  if kind == RAW:
    if len(data) != height * width * channels:
      raise bitstream.BitstreamError(
        f'malformed: its samples are {len(data)} bytes for {width} x {height} '
        f'pixels of {channels} channels'
      )
    return np.frombuffer(data, np.uint8).reshape(shape)
  name = NAMES[kind]
  rebuild, reader = {
    PNG: (wrappers.png_file, PngImagePlugin.PngImageFile),
    WEBP: (wrappers.webp_file, WebPImagePlugin.WebPImageFile),
    GROUP4: (wrappers.group4_file, TiffImagePlugin.TiffImageFile),
  }[kind]
  file = io.BytesIO(rebuild(data, height, width, channels))
  mode = ('L', 'LA', 'RGB', 'RGBA')[channels - 1]
  try:
    with reader(file) as picture:
      if picture.size != (width, height):
        raise ValueError(f'it has {picture.size} pixels')
      if channels < 3 and picture.mode not in ('1', 'L', 'LA'):
        # The red samples, for a conversion may round.
        wide = picture.convert(mode.replace('L', 'RGB'))
        bands = wide.split()
        picture = Image.merge(mode, (bands[0], *bands[3:]))
      pixels = np.asarray(
        picture if picture.mode == mode else picture.convert(mode)
      ).reshape(shape)
  except Image.DecompressionBombError as e:
    raise bitstream.BitstreamError(
      f'Pillow refuses {width} x {height} pixels: Image.MAX_IMAGE_PIXELS is '
      f'{Image.MAX_IMAGE_PIXELS}'
    ) from e
  except _DAMAGES as e:
    raise bitstream.BitstreamError(
      f'damaged lossless image: Pillow cannot read its {name}'
    ) from e
  if kind == GROUP4 and data[0]:
    pixels = 255 - pixels
  return pixels


def _strips(height, width):
  """Yields (rows as a slice, whether it is the last)."""
  step = max(1, STRIP_PIXELS // width)
  for top in itertools.count(0, step):
    bottom = min(top + step, height)
    yield slice(top, bottom), bottom == height
    if bottom == height:
      return
