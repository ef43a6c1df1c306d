"""Images kept exactly: the payload of a file with the lossless flag.

The payload is a PNG, WebP or TIFF file as Pillow writes it, without the sides,
signatures and wrappers that follow from the header. They are put back before
Pillow reads it, so header and payload cannot disagree about the size.
docs/bitstream.md has the layout.

A large image is kept in strips of whole rows, which bounds the memory of both
ways. Each strip takes the smallest of its raw samples, PNG, WebP and, for black
and white, TIFF with CCITT Group 4.
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

from gdc.codec import bitstream

STRIP_PIXELS = 2**24  # part of the format
RAW, PNG, WEBP, GROUP4 = range(4)
NAMES = ('raw', 'PNG', 'WebP', 'TIFF G4')
# Bounds of `estimate` over the length of `encode`, fast and fair. They do not
# hold for patterns, which are so small that a fair estimate costs little.
ESTIMATE_FACTORS = (8, 2.5)

_FASTEST, _FAIR = ({'method': m, 'quality': q} for m, q in ((0, 0), (4, 80)))
# (most pixels of a strip, most bytes of the best file so far, options): the
# slow settings take up to 20 seconds per MiB.
_WEBP_SETTINGS = (
  (2**62, 2**62, _FASTEST),
  (2**62, 2**62, _FAIR),
  (2**24, 2**20, {'method': 4, 'quality': 100}),
  (2**22, 2**62, {'method': 1, 'quality': 20}),
  (2**20, 2**62, {'method': 2, 'quality': 30}),
  (2**22, 2**20, {'method': 5, 'quality': 75}),
  (2**22, 2**19, {'method': 6, 'quality': 100}),
)
_MAX_WEBP_SIDE = 16383
_WEBP_HEAD = 5  # bytes of signature and sides
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_CHUNKS = (b'PLTE', b'tRNS', b'IDAT')
# (bits, colour type) -> channels: the kinds with samples of up to 8 bits.
_PNG_KINDS = {
  **dict.fromkeys([(1, 0), (2, 0), (4, 0), (8, 0)], 1), (8, 2): 3,
  **dict.fromkeys([(1, 3), (2, 3), (4, 3), (8, 3)], 1), (8, 4): 2, (8, 6): 4,
}
_MOST_INFLATED = 1032  # bytes that one byte of Deflate can expand to
_DAMAGES = (
  OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError,
  struct.error, zlib.error, OverflowError,
)


# --- Writing ----------------------------------------------------------------


def encode(image: np.ndarray) -> bytes:
  """Returns the payload of an image, uint8 [height, width, 1 to 4]."""
  parts = []
  for rows, is_last in _strips(*image.shape[:2]):
    kind, data = _smallest(np.ascontiguousarray(image[rows]))
    parts.append(bytes([kind]))
    if not is_last:
      parts.append(bitstream.varint(len(data)))
    parts.append(data)
  return b''.join(parts)


def estimate(image: np.ndarray, is_fair: bool = False) -> int:
  """Returns a number of bytes near `encode`'s, see ESTIMATE_FACTORS.

  The fast one takes about a hundredth of the time of `encode`, the fair one a
  twentieth (a photograph of 768 x 512).
  """
  total = 0
  for rows, _ in _strips(*image.shape[:2]):
    strip = _pillow(np.ascontiguousarray(image[rows]))
    sizes = [len(_png(strip, compress_level=6 if is_fair else 1))]
    if max(strip.size) <= _MAX_WEBP_SIDE:
      settings = (_FASTEST, _FAIR) if is_fair else (_FASTEST,)
      sizes += [len(_webp(strip, s)) for s in settings]
    bilevel = _bilevel(strip)
    if bilevel:  # which Group 4 may suit far better
      sizes += [len(_group4(bilevel, inverted)) for inverted in (0, 1)]
    total += min(sizes)
  return min(total, image.size)


def _smallest(strip: np.ndarray) -> tuple[int, bytes]:
  """Returns (kind, data) of the smallest candidate for a strip."""
  found = [*_candidates(_pillow(strip)), (RAW, strip.tobytes())]
  for kind, data in sorted(found, key=lambda f: len(f[1])):
    # Neither the writers nor the rebuilt wrappers are trusted.
    with contextlib.suppress(bitstream.BitstreamError):
      if np.array_equal(_decode(kind, data, strip.shape), strip):
        return kind, data
  raise AssertionError('raw samples always match')


def _candidates(strip):
  """Yields (kind, data) of one strip, from several writers and settings."""
  width, height = strip.size
  sizes = [width * height * len(strip.getbands())]
  if max(width, height) <= _MAX_WEBP_SIDE:
    for pixels, most, options in _WEBP_SETTINGS:
      # Slow settings change nothing for noise.
      noise = width * height > 2**16 and min(sizes) > 0.9 * sizes[0]
      if width * height <= pixels and min(sizes) <= most and not (
        pixels < 2**62 and noise
      ):
        data = _webp(strip, options)
        sizes.append(len(data))
        yield WEBP, data
  for other in _reduced(strip):
    data = _png(other, compress_level=6)
    sizes.append(len(data))
    yield PNG, data
    if len(data) < 1.3 * min(sizes):
      yield PNG, _png(other, optimize=True)
  bilevel = _bilevel(strip)
  if bilevel:
    for inverted in (0, 1):
      yield GROUP4, bytes([inverted]) + _group4(bilevel, inverted)


def _reduced(strip) -> list[Image.Image]:
  """Returns the same image in the modes in which PNG may be small."""
  found = [strip]
  if strip.mode in ('RGB', 'RGBA'):
    red, green, blue, *alpha = strip.split()
    if not any(
      ImageChops.difference(red, band).getbbox() for band in (green, blue)
    ):
      found = [Image.merge('LA', (red, *alpha)) if alpha else red]
  plain = found[0]
  if plain.mode in ('L', 'RGB'):
    colours = plain.getcolors(256)
    if colours is not None:
      found.append(_bilevel(strip) or plain.quantize(len(colours)))
  return found


def _bilevel(strip) -> Image.Image | None:
  """Returns the same image in one bit, if it is black and white."""
  black_white = {'L': {0, 255}, 'RGB': {(0,) * 3, (255,) * 3}}
  colours = strip.getcolors(2)
  if colours is None or not (
    {colour for _, colour in colours} <= black_white.get(strip.mode, set())
  ):
    return None
  return strip.convert('1', dither=Image.Dither.NONE)


def _pillow(pixels) -> Image.Image:
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _saved(image, format, **options) -> bytes:
  out = io.BytesIO()
  image.info = {}  # neither a profile nor anything else
  image.save(out, format=format, **options)
  return out.getvalue()


def _webp(image, options) -> bytes:
  """Writes a VP8L bitstream, without its signature and sides."""
  data = _saved(image, 'WEBP', lossless=True, exact=True, **options)
  # RIFF, size, WEBP, then this chunk alone.
  assert data[12:16] == b'VP8L', data[12:16]
  (length,) = struct.unpack_from('<I', data, 16)
  return data[20 + _WEBP_HEAD:20 + length]


def _png(image, **options) -> bytes:
  """Writes bits, colour type, and the PNG chunks with pixels."""
  data = _saved(image, 'PNG', **options)
  chunks = {}
  position = len(_PNG_SIGNATURE)
  while position < len(data):
    length, name = struct.unpack_from('>I4s', data, position)
    if name in _PNG_CHUNKS:
      body = data[position + 8:position + 8 + length]
      chunks[name] = chunks.get(name, b'') + body
    position += 12 + length
  return data[24:26] + b''.join(
    _chunk(name, chunks[name]) for name in _PNG_CHUNKS if name in chunks
  )


def _chunk(name: bytes, body: bytes) -> bytes:
  """Returns a PNG chunk."""
  return struct.pack('>I4s', len(body), name) + body + struct.pack(
    '>I', zlib.crc32(name + body)
  )


def _group4(image, inverted: int) -> bytes:
  """Writes the one strip of a TIFF with CCITT Group 4."""
  if inverted:
    image = ImageChops.invert(image)
  data = _saved(
    image, 'TIFF', compression='group4', strip_size=image.width * image.height
  )
  with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as tiff:
    (start,), (length,) = (
      tiff.tag_v2[tag] for tag in (
        TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS
      )
    )
  return data[start:start + length]


# --- Reading ----------------------------------------------------------------


def decode(payload: bytes, header: bitstream.Header) -> np.ndarray:
  """Inverts `encode`: returns the image, uint8 [height, width, 1 to 4].

  Args:
    payload: the payload of a lossless file.
    header: its header.

  Raises:
    BitstreamError: the payload is damaged.
  """
  height, width, channels = header.height, header.width, header.channels
  image = None
  for rows, kind, data in list(_split(payload, height, width)):
    strip = _decode(kind, data, (rows.stop - rows.start, width, channels))
    if rows == slice(0, height):
      return strip
    if image is None:  # allocated once the first strip is known to be there
      image = np.empty((height, width, channels), np.uint8)
    image[rows] = strip
  return image


def kinds(payload: bytes, header: bitstream.Header) -> list[str]:
  """Returns the names of the formats in a payload, each once."""
  parts = _split(payload, header.height, header.width)
  return list(dict.fromkeys(NAMES[kind] for _, kind, _ in parts))


def _split(payload, height, width):
  """Yields (rows, kind, data) of every strip."""
  reader = bitstream.Reader(payload)
  for rows, is_last in _strips(height, width):
    kind = reader.take(1, f'lossless image before row {rows.start}')[0]
    if kind >= len(NAMES):
      raise bitstream.BitstreamError(
        f'unknown kind {kind} of lossless image: a newer program wrote it'
      )
    if is_last:
      data = reader.rest()
    else:
      length = reader.varint('length of a strip', bitstream.MAX_LENGTH_BYTES)
      data = reader.take(length, 'lossless image')
    yield rows, kind, data


def _decode(kind: int, data: bytes, shape) -> np.ndarray:
  """Decodes one strip to uint8 of a shape."""
  height, width, channels = shape
  if kind == RAW:
    if len(data) != height * width * channels:
      raise bitstream.BitstreamError(
        f'malformed: its samples are {len(data)} bytes for {width} x {height} '
        f'pixels of {channels} channels'
      )
    return np.frombuffer(data, np.uint8).reshape(shape)
  rebuild, reader = {
    PNG: (_png_file, PngImagePlugin.PngImageFile),
    WEBP: (_webp_file, WebPImagePlugin.WebPImageFile),
    GROUP4: (_group4_file, TiffImagePlugin.TiffImageFile),
  }[kind]
  file = io.BytesIO(rebuild(data, height, width, channels))
  mode = bitstream.MODES[channels - 1]
  try:
    with reader(file) as image:
      if image.size != (width, height):
        raise ValueError(f'it has {image.size} pixels')
      if channels < 3 and image.mode not in ('1', 'L', 'LA'):
        # Take the red samples: a conversion to grey may round.
        red, _, _, *alpha = image.convert(mode.replace('L', 'RGB')).split()
        image = Image.merge(mode, (red, *alpha))
      pixels = np.asarray(
        image if image.mode == mode else image.convert(mode)
      ).reshape(shape)
  except Image.DecompressionBombError as e:
    raise bitstream.BitstreamError(
      f'Pillow refuses {width} x {height} pixels: Image.MAX_IMAGE_PIXELS is '
      f'{Image.MAX_IMAGE_PIXELS}'
    ) from e
  except _DAMAGES as e:
    raise bitstream.BitstreamError(
      f'damaged lossless image: Pillow cannot read its {NAMES[kind]}'
    ) from e
  return 255 - pixels if kind == GROUP4 and data[0] else pixels


def _png_file(data, height, width, channels):
  """Inverts _png: returns a whole file."""
  del channels
  kind = tuple(data[:2])
  if kind not in _PNG_KINDS:
    raise bitstream.BitstreamError(
      f'malformed: its PNG image starts with {data[:2]!r}, no bits and colour '
      'type that are expected'
    )
  position = 2
  while position < len(data):
    name = data[position + 4:position + 8]
    if name not in _PNG_CHUNKS:
      raise bitstream.BitstreamError(
        f'malformed: its PNG image has a chunk {name!r}'
      )
    position += 12 + int.from_bytes(data[position:position + 4], 'big')
  row = -(-width * kind[0] * _PNG_KINDS[kind] // 8)
  if height * (1 + row) > _MOST_INFLATED * len(data):
    raise bitstream.BitstreamError(
      f'malformed: its PNG image of {len(data)} bytes is too short for '
      f'{width} x {height} pixels'
    )
  head = struct.pack('>IIBBBBB', width, height, *kind, 0, 0, 0)
  return b''.join([
    _PNG_SIGNATURE, _chunk(b'IHDR', head), data[2:], _chunk(b'IEND', b'')
  ])


def _webp_file(data, height, width, channels):
  """Inverts _webp: returns a whole file."""
  if max(height, width) > _MAX_WEBP_SIDE:
    raise bitstream.BitstreamError(
      f'malformed: a WebP image of {width} x {height} pixels'
    )
  sides = (width - 1) | (height - 1) << 14 | (channels in (2, 4)) << 28
  stream = b'\x2f' + struct.pack('<I', sides) + data
  stream += bytes(len(stream) % 2)
  return b''.join([
    b'RIFF', struct.pack('<I', 12 + len(stream)), b'WEBPVP8L',
    struct.pack('<I', _WEBP_HEAD + len(data)), stream,
  ])


def _group4_file(data, height, width, channels):
  """Inverts _group4: returns a whole file."""
  if channels not in (1, 3) or len(data) < 2 or data[0] > 1:
    raise bitstream.BitstreamError(
      f'malformed: its Group 4 image starts with {data[:1]!r} and has '
      f'{channels} channels'
    )
  long, short = 4, 3
  start = 8 + 2 + 9 * 12 + 4
  tags = (
    (256, long, width), (257, long, height), (258, short, 1), (259, short, 4),
    (262, short, 1), (273, long, start), (277, short, 1), (278, long, height),
    (279, long, len(data) - 1),
  )
  return b''.join([
    b'II*\0', struct.pack('<IH', 8, len(tags)),
    *(struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in tags),
    bytes(4), data[1:],
  ])


def _strips(height, width):
  """Yields (slice of rows, whether it is the last)."""
  step = max(1, STRIP_PIXELS // width)
  for top in itertools.count(0, step):
    bottom = min(top + step, height)
    yield slice(top, bottom), bottom == height
    if bottom == height:
      return
