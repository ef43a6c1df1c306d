"""The container of a compressed image: header, payload, checksum.

docs/bitstream.md has the layout, byte by byte. This module knows fields, limits
and checks; range_coder and lossless know the two kinds of payload.

Two invariants. Whatever the bytes, `unpack` returns or raises BitstreamError,
in time and memory linear in their number. And the container adds at most
OVERHEAD bytes to the payload at any size up to MAX_PIXELS, besides ICC
profile, alpha plane, EXIF and XMP.

The score decoders draw noise, and the CRC of a file is their default seed: the
same file always gives the same image, at no cost in bytes. A file may store
another default seed.
"""

import dataclasses
import math
import struct
import zlib

from gdc.models import receptive_field

MAGIC = b'GDC'
VERSION = 1
# Bits of the flags byte; version 1 leaves all others at zero.
SEED_FLAG = 1
ICC_FLAG = 2
GREY_FLAG = 4
ALPHA_FLAG = 8
LOSSLESS_FLAG = 16
EXIF_FLAG = 32
XMP_FLAG = 64
KNOWN_FLAGS = (
  SEED_FLAG | ICC_FLAG | GREY_FLAG | ALPHA_FLAG | LOSSLESS_FLAG | EXIF_FLAG
  | XMP_FLAG
)
DIGEST_BYTES = 4
MAX_ICC_BYTES = 2**22  # inflated
MAX_EXIF_BYTES = 2**20  # inflated
MAX_XMP_BYTES = 2**20  # inflated
MAX_SIDE = 2**28 - 1  # one to four groups of seven bits
MAX_PIXELS = 2**28
OVERHEAD = 24
# Index i stands for quality 1 + i / QUALITY_STEPS.
QUALITY_STEPS = 16
# Pillow's modes of images of 1 to 4 channels.
MODES = ('L', 'LA', 'RGB', 'RGBA')
# Limit of latent positions. Sides count as multiples of the stride: a very thin
# image takes far more than its pixels.
MAX_POSITIONS = 2 * MAX_PIXELS // receptive_field.STRIDE**2

_CRC_BYTES = 4
_MAX_VARINT_BYTES = 4
# An alpha plane of MAX_PIXELS may deflate to more than MAX_SIDE bytes.
MAX_LENGTH_BYTES = 5
# Magic, version, flags, two sides of one byte, checksum.
_MIN_BYTES = len(MAGIC) + 1 + 1 + 2 + _CRC_BYTES


class BitstreamError(ValueError):
  """The bytes are not a file that this program can decode."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says before its payload.

  Attributes:
    width: in pixels, 1 to MAX_SIDE.
    height: in pixels, 1 to MAX_SIDE.
    quality_index: 0 to 255, see QUALITY_STEPS; None in a lossless file.
    digest: first DIGEST_BYTES bytes of the model's digest; b'' in a lossless
      file.
    seed: default seed of the score decoders, 0 to 2**32 - 1; None: the CRC.
    icc: profile of the colours, inflated; b'': sRGB.
    grey: whether the decoded image is grey.
    alpha: width * height bytes in raster order, 255 opaque; None without alpha;
      b'' in a lossless file, whose payload holds it.
    lossless: whether the payload is the image itself.
    exif: EXIF from its TIFF header on, inflated; b'': none.
    xmp: an XMP packet, inflated; b'': none.
  """

  width: int
  height: int
  quality_index: int | None
  digest: bytes
  seed: int | None = None
  icc: bytes = dataclasses.field(default=b'', repr=False)
  grey: bool = False
  alpha: bytes | None = dataclasses.field(default=None, repr=False)
  lossless: bool = False
  exif: bytes = dataclasses.field(default=b'', repr=False)
  xmp: bytes = dataclasses.field(default=b'', repr=False)

  @property
  def channels(self) -> int:
    """Number of channels of the decoded image, 1 to 4."""
    return (1 if self.grey else 3) + (self.alpha is not None)

  @property
  def mode(self) -> str:
    """Pillow's mode of the decoded image."""
    return MODES[self.channels - 1]

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of the latents."""
    return grid(self.height, self.width)

  @property
  def flags(self) -> int:
    """The flags byte: which optional fields are present."""
    return (
      SEED_FLAG * (self.seed is not None)
      | ICC_FLAG * bool(self.icc)
      | GREY_FLAG * bool(self.grey)
      | ALPHA_FLAG * (self.alpha is not None)
      | LOSSLESS_FLAG * bool(self.lossless)
      | EXIF_FLAG * bool(self.exif)
      | XMP_FLAG * bool(self.xmp)
    )


def pack(header: Header, payload: bytes) -> bytes:
  """Returns the bytes of a file; ValueError if a field is out of range."""
  for name, side in (('width', header.width), ('height', header.height)):
    if not 1 <= side <= MAX_SIDE:
      raise ValueError(f'{name} must be 1 to {MAX_SIDE}, not {side}')
  if header.lossless:
    if header.quality_index is not None or header.digest or header.alpha:
      raise ValueError(
        'a lossless file has neither quality index nor digest nor alpha plane'
      )
  elif not 0 <= header.quality_index <= 255:
    raise ValueError(
      f'quality_index must be 0 to 255, not {header.quality_index}'
    )
  elif len(header.digest) != DIGEST_BYTES:
    raise ValueError(
      f'digest must be {DIGEST_BYTES} bytes, not {len(header.digest)}'
    )
  if header.seed is not None and not 0 <= header.seed < 2**32:
    raise ValueError(f'seed must be 0 to 2^32 - 1, not {header.seed}')
  for name, field, most in (
    ('icc', header.icc, MAX_ICC_BYTES), ('exif', header.exif, MAX_EXIF_BYTES),
    ('xmp', header.xmp, MAX_XMP_BYTES),
  ):
    if len(field) > most:
      raise ValueError(
        f'{name} must be at most {most} bytes, not {len(field)}'
      )
  pixels = header.width * header.height
  has_plane = header.alpha is not None and not header.lossless
  if has_plane and len(header.alpha) != pixels:
    raise ValueError(
      f'alpha must be {pixels} bytes for {header.width} x {header.height} '
      f'pixels, not {len(header.alpha)}'
    )
  parts = [
    MAGIC, bytes([VERSION, header.flags]), varint(header.width),
    varint(header.height),
  ]
  if not header.lossless:
    parts += [bytes([header.quality_index]), bytes(header.digest)]
  if header.seed is not None:
    parts.append(struct.pack('<I', header.seed))
  if header.icc:
    parts += _deflate(header.icc)
  if has_plane:
    import numpy as np  # late: `import gdc` and `gdc --help` need none
    plane = np.frombuffer(header.alpha, np.uint8).reshape(-1, header.width)
    difference = np.diff(plane, axis=0, prepend=np.uint8(0))
    parts += _deflate(difference.tobytes())
  for field in filter(None, (header.exif, header.xmp)):
    parts += _deflate(field)
  body = b''.join([*parts, bytes(payload)])
  return body + struct.pack('<I', zlib.crc32(body))


def unpack(
  data: bytes, max_pixels: int = MAX_PIXELS
) -> tuple[Header, bytes, int]:
  """Reads a file: its header, its payload and its checksum.

  Checks run in the order in which their messages help: whether this is a gdc
  file, then its version, then its checksum. Only then are fields trusted.

  Args:
    data: the whole file.
    max_pixels: a larger image is refused before anything is allocated.

  Returns:
    (header, payload, crc); crc is the default seed of the score decoders.

  Raises:
    BitstreamError: the file is damaged or too large.
  """
  data = bytes(data)
  if not data:
    raise BitstreamError(f'empty: a gdc file has at least {_MIN_BYTES} bytes')
  start = data[: len(MAGIC)]
  if start != MAGIC[: len(start)]:
    raise BitstreamError(
      f'not a gdc file: starts with {start!r}, not {MAGIC!r}'
    )
  if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
    raise BitstreamError(
      f'written in version {data[len(MAGIC)]} of the format: this program '
      f'reads version {VERSION}'
    )
  if len(data) < _MIN_BYTES:
    raise BitstreamError(
      f'cut off: {len(data)} bytes, where a gdc file has at least {_MIN_BYTES}'
    )
  body = data[:-_CRC_BYTES]
  (crc,) = struct.unpack('<I', data[-_CRC_BYTES:])
  actual = zlib.crc32(body)
  if actual != crc:
    raise BitstreamError(
      f'damaged or cut off: the checksum of the {len(data)} bytes is '
      f'{actual:08x}, the file says {crc:08x}'
    )
  reader = Reader(body, len(MAGIC) + 1)
  (flags,) = reader.take(1, 'flags')
  if flags & ~KNOWN_FLAGS:
    raise BitstreamError(
      f'unknown flags {flags & ~KNOWN_FLAGS:#04x}: a newer program wrote it'
    )
  width, height = reader.varint('width'), reader.varint('height')
  pixels = width * height
  if pixels > max_pixels:
    raise BitstreamError(
      f'too large: {width} x {height} pixels are more than the limit of '
      f'{max_pixels}'
    )
  lossless = bool(flags & LOSSLESS_FLAG)
  index, digest, seed, alpha = None, b'', None, None
  if not lossless:
    index, *digest = reader.take(1 + DIGEST_BYTES, 'header')
  if flags & SEED_FLAG:
    (seed,) = struct.unpack('<I', reader.take(4, 'seed'))
  icc = _metadata(reader, flags & ICC_FLAG, 'ICC profile', MAX_ICC_BYTES)
  if flags & ALPHA_FLAG and lossless:
    alpha = b''
  elif flags & ALPHA_FLAG:
    alpha = reader.deflated('alpha plane', pixels)
    if len(alpha) < pixels:
      raise BitstreamError(
        f'malformed: its alpha plane has {len(alpha)} bytes for {width} x '
        f'{height} pixels'
      )
    import numpy as np
    plane = np.frombuffer(alpha, np.uint8).reshape(height, width)
    alpha = np.add.accumulate(plane, axis=0, dtype=np.uint8).tobytes()
  exif = _metadata(reader, flags & EXIF_FLAG, 'EXIF', MAX_EXIF_BYTES)
  xmp = _metadata(reader, flags & XMP_FLAG, 'XMP', MAX_XMP_BYTES)
  header = Header(
    width, height, index, bytes(digest), seed, icc, bool(flags & GREY_FLAG),
    alpha, lossless, exif, xmp,
  )
  return header, reader.rest(), crc


def grid(height: int, width: int) -> tuple[int, int]:
  """Returns the rows and columns of an image's latents."""
  stride = receptive_field.STRIDE
  return -(-height // stride), -(-width // stride)


def quality_to_index(quality: float, num_qualities: int) -> int:
  """Returns the nearest quality index; ValueError outside the range."""
  highest = index_to_quality(num_qualities - 1)
  if not (math.isfinite(quality) and 1 <= quality <= highest):
    raise ValueError(f'quality must be from 1 to {highest:g}, not {quality}')
  return round((quality - 1) * QUALITY_STEPS)


def index_to_quality(index: int) -> float:
  """Returns the quality that an index stands for, exact in binary."""
  return 1 + index / QUALITY_STEPS


def varint(value: int) -> bytes:
  """Encodes a number in groups of seven bits, lowest first, as LEB128."""
  groups = []
  while value >= 128:
    groups.append(value & 127 | 128)
    value >>= 7
  return bytes(groups + [value])


class Reader:
  """Reads the fields of a file one after another; BitstreamError if damaged."""

  def __init__(self, data: bytes, position: int = 0):
    self._data = data
    self._position = position

  def take(self, length: int, name: str) -> bytes:
    """Reads a field of known length."""
    left = len(self._data) - self._position
    if length > left:
      raise BitstreamError(
        f'malformed: it ends within the {name}: {length} bytes are due, '
        f'{left} are left'
      )
    self._position += length
    return self._data[self._position - length : self._position]

  def rest(self) -> bytes:
    """Reads all that is left."""
    return self.take(len(self._data) - self._position, 'rest')

  def varint(self, name: str, max_bytes: int = _MAX_VARINT_BYTES) -> int:
    """Reads a number of at least 1."""
    value = 0
    end = self._position + max_bytes
    for k, byte in enumerate(self._data[self._position : end]):
      value |= (byte & 127) << 7 * k
      if byte < 128:
        # One encoding per number: a last group of zero would be padding.
        if byte == 0:
          raise BitstreamError(
            f'malformed: its {name} is ' + ('padded' if k else '0')
          )
        self._position += k + 1
        return value
    raise BitstreamError(
      f'malformed: its {name} does not end within {max_bytes} bytes'
    )

  def deflated(self, name: str, max_bytes: int) -> bytes:
    """Reads what _deflate wrote, inflating at most max_bytes + 1 bytes."""
    length = self.varint(f'length of the {name}', MAX_LENGTH_BYTES)
    stream = self.take(length, name)
    inflater = zlib.decompressobj()
    try:
      field = inflater.decompress(stream, max_bytes + 1)
    except zlib.error as error:
      raise BitstreamError(
        f'malformed: its {name} is not a zlib stream ({error})'
      ) from error
    if len(field) > max_bytes:
      raise BitstreamError(
        f'malformed: its {name} inflates to more than {max_bytes} bytes'
      )
    if not inflater.eof:
      raise BitstreamError(
        f'malformed: the zlib stream of its {name} is cut off'
      )
    if inflater.unused_data:
      raise BitstreamError(
        f'malformed: {len(inflater.unused_data)} bytes follow the zlib stream '
        f'of its {name}'
      )
    return field


def _metadata(reader: Reader, flag: int, name: str, max_bytes: int) -> bytes:
  """Reads a deflated field that is not empty; b'' if its flag is not set."""
  if not flag:
    return b''
  field = reader.deflated(name, max_bytes)
  if not field:
    raise BitstreamError(f'malformed: its {name} is empty')
  return field


def _deflate(field: bytes) -> list[bytes]:
  """Returns the length of a field's zlib stream, and the stream."""
  stream = zlib.compress(field, 9)
  return [varint(len(stream)), stream]
