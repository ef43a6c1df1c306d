"""What lossless files of PNG, WebP and TIFF have besides what a header says.

A payload leaves out signatures, sides and wrappers, which is what makes a small
image small; each `X_file` puts them back around what `X` gave. lossless.py
decides what is kept, docs/bitstream.md has the bytes.
"""
import io
import struct
import zlib

from PIL import ImageChops, TiffImagePlugin

from gdc.codec import bitstream

MAX_WEBP_SIDE = 16383
_WEBP_HEAD = 5
_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_CHUNKS = (b'PLTE', b'tRNS', b'IDAT')
# (bits, colour type): samples of up to 8 bits.
_PNG_KINDS = {
  (1, 0), (2, 0), (4, 0), (8, 0), (8, 2), (1, 3), (2, 3), (4, 3), (8, 3),
  (8, 4), (8, 6),
}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MOST_INFLATED = 1032  # bytes that a byte of Deflate can stand for


# --- Writing ----------------------------------------------------------------


def _saved(picture, format, **options) -> bytes:
  out = io.BytesIO()
  # Neither a profile nor anything else that Pillow may know of it.
  picture.info = {}
  picture.save(out, format=format, **options)
  return out.getvalue()


def webp(picture, options) -> bytes:
  """The VP8L bitstream after its header of signature and sides."""
  data = _saved(picture, 'WEBP', lossless=True, exact=True, **options)
  # RIFF, size, WEBP, then chunks; there is no other one than this.
  assert data[12:16] == b'VP8L', data[12:16]
  (length,) = struct.unpack_from('<I', data, 16)
  return data[20 + _WEBP_HEAD:20 + length]


def png(picture, **options) -> bytes:
  """Bits, colour type, and the chunks with pixels of a PNG file."""
  data = _saved(picture, 'PNG', **options)
  bits, colour = data[24:26]
  chunks = {}
  position = len(_SIGNATURE)
  while position < len(data):
    length, name = struct.unpack_from('>I4s', data, position)
    if name in _PNG_CHUNKS:
      body = data[position + 8:position + 8 + length]
      chunks[name] = chunks.get(name, b'') + body
    position += 12 + length
  return bytes([bits, colour]) + b''.join(
    chunk(name, chunks[name]) for name in _PNG_CHUNKS if name in chunks
  )


def chunk(name: bytes, body: bytes) -> bytes:
  checksum = zlib.crc32(name + body)
  return struct.pack('>I', len(body)) + name + body + struct.pack(
    '>I', checksum
  )


def group4(picture, inverted: int) -> bytes:
  """The one strip of a TIFF file."""
  if inverted:
    picture = ImageChops.invert(picture)
  data = _saved(
    picture, 'TIFF', compression='group4', strip_size=picture.width *
    picture.height,
  )
  with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as tiff:
    (start,), (length,) = (
      tiff.tag_v2[tag] for tag in (
        TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS
      )
    )
  return data[start:start + length]


# --- Reading ----------------------------------------------------------------


def png_file(data, height, width, channels):
  del channels
  if len(data) < 2 or tuple(data[:2]) not in _PNG_KINDS:
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
  bits, colour = data[:2]
  row = -(-width * bits * _PNG_CHANNELS[colour] // 8)
  if height * (1 + row) > _MOST_INFLATED * len(data):
    raise bitstream.BitstreamError(
      f'malformed: its PNG image of {len(data)} bytes is too short for '
      f'{width} x {height} pixels'
    )
  head = struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
  return b''.join([
    _SIGNATURE, chunk(b'IHDR', head), data[2:], chunk(b'IEND', b'')
  ])


def webp_file(data, height, width, channels):
  if max(height, width) > MAX_WEBP_SIDE:
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


def group4_file(data, height, width, channels):
  if channels != 1 and channels != 3 or len(data) < 2 or data[0] > 1:
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
