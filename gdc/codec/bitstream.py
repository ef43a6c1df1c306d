"""The container of a compressed picture: header, payload, checksum.

The layout, byte by byte, is in docs/bitstream.md. This module knows sizes,
versions and checks; what the payload means is range_coder's business.

Two invariants. Whatever the bytes, `unpack` returns or raises BitstreamError,
in time and memory linear in their number. And the container adds at most
OVERHEAD bytes to the payload at any size of up to MAX_PIXELS, besides what an
ICC profile and an alpha plane take. A file with the lossless flag has
another payload (lossless.py), and names neither quality nor model.

The checksum has a second use: the score decoders draw noise, and the CRC of a
file is their default seed, so that the same file always gives the same picture
without spending a byte on it. A file may name another default seed.
"""

import dataclasses
import math
import struct
import zlib

MAGIC = b'GDC'
VERSION = 1
# The bits of the flags byte; all others are unknown to this version.
SEED_FLAG = 1
ICC_FLAG = 2
GREY_FLAG = 4
ALPHA_FLAG = 8
LOSSLESS_FLAG = 16
KNOWN_FLAGS = SEED_FLAG | ICC_FLAG | GREY_FLAG | ALPHA_FLAG | LOSSLESS_FLAG
DIGEST_BYTES = 4
# Inflated: what a few kilobytes of a file can ask for at most.
MAX_ICC_BYTES = 2**22
# A side is written in one to four groups of seven bits.
MAX_SIDE = 2**28 - 1
MAX_PIXELS = 2**28
OVERHEAD = 24
# Index i stands for quality 1 + i / QUALITY_STEPS.
QUALITY_STEPS = 16

_CRC_BYTES = 4
_SEED_BYTES = 4
_MAX_VARINT_BYTES = 4
# An alpha plane of MAX_PIXELS that does not deflate is longer than MAX_SIDE.
MAX_LENGTH_BYTES = 5
# Magic, version, flags, two sides of one byte, checksum.
_MIN_BYTES = len(MAGIC) + 1 + 1 + 2 + _CRC_BYTES


class BitstreamError(ValueError):
  """These bytes are not a picture that this program can decode."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says before its payload."""

  width: int  # in pixels, 1 to MAX_SIDE
  height: int  # in pixels, 1 to MAX_SIDE
  # 0 to 255, see QUALITY_STEPS; None where the image is kept losslessly.
  quality_index: int | None
  # The first DIGEST_BYTES bytes of the model's digest; b'' where losslessly.
  digest: bytes
  # The default seed of the score decoders, 0 to 2**32 - 1; None: the CRC.
  seed: int | None = None
  # The profile of the picture's colour samples, inflated; b'': sRGB.
  icc: bytes = dataclasses.field(default=b'', repr=False)
  grey: bool = False  # the decoded picture is grey
  # width * height bytes in raster order, 255 opaque; None: no alpha; b'' in a
  # lossless file with alpha, which is in the payload.
  alpha: bytes | None = dataclasses.field(default=None, repr=False)
  lossless: bool = False  # the payload is the image itself

  @property
  def channels(self) -> int:
    """Of the decoded image: 1 to 4."""
    return (1 if self.grey else 3) + (self.alpha is not None)

  @property
  def flags(self) -> int:
    """The flags byte: which of the optional fields there are."""
    return (
      SEED_FLAG * (self.seed is not None)
      | ICC_FLAG * bool(self.icc)
      | GREY_FLAG * bool(self.grey)
      | ALPHA_FLAG * (self.alpha is not None)
      | LOSSLESS_FLAG * bool(self.lossless)
    )


def pack(header: Header, payload: bytes) -> bytes:
  """Returns the bytes of a file; ValueError where a field cannot be written."""
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
  if len(header.icc) > MAX_ICC_BYTES:
    raise ValueError(
      f'icc must be at most {MAX_ICC_BYTES} bytes, not {len(header.icc)}'
    )
  pixels = header.width * header.height
  has_plane = header.alpha is not None and not header.lossless
  if has_plane and len(header.alpha) != pixels:
    raise ValueError(
      f'alpha must be {pixels} bytes for {header.width} x {header.height} '
      f'pixels, not {len(header.alpha)}'
    )
  parts = [
    MAGIC,
    bytes([VERSION, header.flags]),
    varint(header.width),
    varint(header.height),
  ]
  if not header.lossless:
    parts += [bytes([header.quality_index]), bytes(header.digest)]
  if header.seed is not None:
    parts.append(struct.pack('<I', header.seed))
  if header.icc:
    parts += _deflate(header.icc)
  if has_plane:
    import numpy as np  # not at the top: `gdc --help` need not wait for it
    plane = np.frombuffer(header.alpha, np.uint8)
    plane = plane.reshape(header.height, header.width)
    # Modulo 256, as uint8 is.
    difference = np.diff(plane, axis=0, prepend=np.uint8(0))
    parts += _deflate(difference.tobytes())
  body = b''.join([*parts, bytes(payload)])
  return body + struct.pack('<I', zlib.crc32(body))


def unpack(
  data: bytes, max_pixels: int = MAX_PIXELS
) -> tuple[Header, bytes, int]:
  """Reads a file: its header, its payload and its checksum.

  The order of the checks is the order in which their messages help: first
  whether this is our kind of file at all, then whether this program is new
  enough, then whether the bytes arrived whole. Only then are fields believed.

  Args:
    data: the whole file.
    max_pixels: a larger picture is refused before anything is allocated.

  Returns:
    (header, payload, crc); crc is the default seed of the score decoders.
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

  position = len(MAGIC) + 1
  flags = body[position]
  if flags & ~KNOWN_FLAGS:
    raise BitstreamError(
      f'unknown flags {flags & ~KNOWN_FLAGS:#04x}: a newer program wrote it'
    )
  width, position = read_varint(body, position + 1, 'width')
  height, position = read_varint(body, position, 'height')
  if width * height > max_pixels:
    raise BitstreamError(
      f'too large: {width} x {height} pixels are more than the limit of '
      f'{max_pixels}'
    )
  lossless = bool(flags & LOSSLESS_FLAG)
  index, digest = None, b''
  if not lossless:
    fixed, position = read_bytes(body, position, 1 + DIGEST_BYTES, 'header')
    index, digest = fixed[0], fixed[1:]
  seed, icc, alpha = None, b'', None
  if flags & SEED_FLAG:
    field, position = read_bytes(body, position, _SEED_BYTES, 'seed')
    (seed,) = struct.unpack('<I', field)
  if flags & ICC_FLAG:
    icc, position = _read_deflated(body, position, MAX_ICC_BYTES, 'ICC profile')
    if not icc:
      raise BitstreamError('malformed: its ICC profile is empty')
  if flags & ALPHA_FLAG and lossless:
    alpha = b''
  elif flags & ALPHA_FLAG:
    pixels = width * height
    field, position = _read_deflated(body, position, pixels, 'alpha plane')
    if len(field) < pixels:
      raise BitstreamError(
        f'malformed: its alpha plane has {len(field)} bytes for {width} x '
        f'{height} pixels'
      )
    import numpy as np
    plane = np.frombuffer(field, np.uint8).reshape(height, width)
    alpha = np.add.accumulate(plane, axis=0, dtype=np.uint8).tobytes()
  header = Header(
    width=width,
    height=height,
    quality_index=index,
    digest=digest,
    seed=seed,
    icc=icc,
    grey=bool(flags & GREY_FLAG),
    alpha=alpha,
    lossless=lossless,
  )
  return header, body[position:], crc


def quality_to_index(quality: float, num_qualities: int) -> int:
  """The index whose quality is nearest; ValueError outside the range."""
  highest = index_to_quality(num_qualities - 1)
  if not (math.isfinite(quality) and 1 <= quality <= highest):
    raise ValueError(f'quality must be from 1 to {highest:g}, not {quality}')
  return round((quality - 1) * QUALITY_STEPS)


def index_to_quality(index: int) -> float:
  """The quality that an index stands for, exact in binary."""
  return 1 + index / QUALITY_STEPS


def varint(value: int) -> bytes:
  """Seven bits a byte, the lowest first; the high bit says that more follow."""
  groups = []
  while value >= 128:
    groups.append(value & 127 | 128)
    value >>= 7
  return bytes(groups + [value])


def read_varint(
  data: bytes, position: int, name: str, max_bytes: int = _MAX_VARINT_BYTES
) -> tuple[int, int]:
  """Reads a number from 1 up: (value, position after it)."""
  value = 0
  for k, byte in enumerate(data[position : position + max_bytes]):
    value |= (byte & 127) << 7 * k
    if byte < 128:
      # One number, one spelling: a last group of zero is only zero itself.
      if byte == 0:
        raise BitstreamError(
          f'malformed: its {name} is ' + ('padded' if k else '0')
        )
      return value, position + k + 1
  raise BitstreamError(
    f'malformed: its {name} does not end within {max_bytes} bytes'
  )


def read_bytes(
  data: bytes, position: int, length: int, name: str
) -> tuple[bytes, int]:
  """Reads a field of known length: (field, position after it)."""
  end = position + length
  if end > len(data):
    raise BitstreamError(
      f'malformed: it ends within the {name}: {length} bytes are due, '
      f'{len(data) - position} are left'
    )
  return data[position:end], end


def _deflate(field: bytes) -> list[bytes]:
  """A field of any length: the length of its zlib stream, and that."""
  stream = zlib.compress(field, 9)
  return [varint(len(stream)), stream]


def _read_deflated(
  data: bytes, position: int, max_bytes: int, name: str
) -> tuple[bytes, int]:
  """The inverse of _deflate: (field, position after it).

  The memory it takes grows with what was inflated, and stops growing with the
  first byte above max_bytes.
  """
  length, position = read_varint(
    data, position, f'length of the {name}', MAX_LENGTH_BYTES
  )
  stream, position = read_bytes(data, position, length, name)
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
    raise BitstreamError(f'malformed: the zlib stream of its {name} is cut off')
  if inflater.unused_data:
    raise BitstreamError(
      f'malformed: {len(inflater.unused_data)} bytes follow the zlib stream '
      f'of its {name}'
    )
  return field, position
