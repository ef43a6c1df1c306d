"""The container of a compressed picture: header, payload, checksum.

The layout, byte by byte, is in docs/bitstream.md. This module knows sizes,
versions and checks; what the payload means is range_coder's business.

Two invariants. Whatever the bytes, `unpack` returns or raises BitstreamError,
in time linear in their number. And the container adds at most OVERHEAD bytes
to the payload, at any size of the picture.

The checksum has a second use: the score decoders draw noise, and the CRC of a
file is their default seed, so that the same file always gives the same picture
without spending a byte on it.
"""

import dataclasses
import math
import struct
import zlib

MAGIC = b'GDC'
VERSION = 1
# Every bit of the flags byte that this version understands: none as yet.
KNOWN_FLAGS = 0
DIGEST_BYTES = 4
# A side is written in one to four groups of seven bits.
MAX_SIDE = 2**28 - 1
MAX_PIXELS = 2**28
OVERHEAD = 24
# Index i stands for quality 1 + i / QUALITY_STEPS.
QUALITY_STEPS = 16

_CRC_BYTES = 4
_MAX_VARINT_BYTES = 4
# Magic, version, flags, two sides of one byte, quality, digest, checksum.
_MIN_BYTES = len(MAGIC) + 1 + 1 + 2 + 1 + DIGEST_BYTES + _CRC_BYTES


class BitstreamError(ValueError):
  """These bytes are not a picture that this program can decode."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says before its payload."""

  width: int  # in pixels, 1 to MAX_SIDE
  height: int  # in pixels, 1 to MAX_SIDE
  quality_index: int  # 0 to 255, see QUALITY_STEPS
  digest: bytes  # the first DIGEST_BYTES bytes of the model's digest
  flags: int = 0  # no flag is defined in version 1


def pack(header: Header, payload: bytes) -> bytes:
  """Returns the bytes of a file; ValueError where a field cannot be written."""
  for name, side in (('width', header.width), ('height', header.height)):
    if not 1 <= side <= MAX_SIDE:
      raise ValueError(f'{name} must be 1 to {MAX_SIDE}, not {side}')
  if not 0 <= header.quality_index <= 255:
    raise ValueError(
      f'quality_index must be 0 to 255, not {header.quality_index}'
    )
  if len(header.digest) != DIGEST_BYTES:
    raise ValueError(
      f'digest must be {DIGEST_BYTES} bytes, not {len(header.digest)}'
    )
  if header.flags & ~KNOWN_FLAGS:
    raise ValueError(
      f'flags {header.flags:#04x} are not defined in version '
      f'{VERSION}, only {KNOWN_FLAGS:#04x}'
    )
  body = b''.join(
    [
      MAGIC,
      bytes([VERSION, header.flags]),
      _varint(header.width),
      _varint(header.height),
      bytes([header.quality_index]),
      bytes(header.digest),
      bytes(payload),
    ]
  )
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
  width, position = _read_varint(body, position + 1, 'width')
  height, position = _read_varint(body, position, 'height')
  if width * height > max_pixels:
    raise BitstreamError(
      f'too large: {width} x {height} pixels are more than the limit of '
      f'{max_pixels}'
    )
  rest = body[position:]
  if len(rest) < 1 + DIGEST_BYTES:
    raise BitstreamError('malformed: it ends within the header')
  header = Header(
    width=width,
    height=height,
    quality_index=rest[0],
    digest=rest[1 : 1 + DIGEST_BYTES],
    flags=flags,
  )
  return header, rest[1 + DIGEST_BYTES :], crc


def quality_to_index(quality: float, num_qualities: int) -> int:
  """The index whose quality is nearest; ValueError outside the range."""
  highest = index_to_quality(num_qualities - 1)
  if not (math.isfinite(quality) and 1 <= quality <= highest):
    raise ValueError(f'quality must be from 1 to {highest:g}, not {quality}')
  return round((quality - 1) * QUALITY_STEPS)


def index_to_quality(index: int) -> float:
  """The quality that an index stands for, exact in binary."""
  return 1 + index / QUALITY_STEPS


def _varint(value: int) -> bytes:
  """Seven bits a byte, the lowest first; the high bit says that more follow."""
  groups = []
  while value >= 128:
    groups.append(value & 127 | 128)
    value >>= 7
  return bytes(groups + [value])


def _read_varint(data: bytes, position: int, name: str) -> tuple[int, int]:
  """Reads a side: (value, position after it)."""
  value = 0
  for k, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
    value |= (byte & 127) << 7 * k
    if byte < 128:
      # One number, one spelling: a last group of zero is only zero itself.
      if byte == 0:
        raise BitstreamError(
          f'malformed: its {name} is ' + ('padded' if k else '0')
        )
      return value, position + k + 1
  raise BitstreamError(
    f'malformed: its {name} does not end within {_MAX_VARINT_BYTES} bytes'
  )
