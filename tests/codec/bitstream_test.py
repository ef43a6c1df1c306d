"""The container: small, exact, and plain about what is wrong."""

import pathlib
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdc.codec import bitstream

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
HEADER = bitstream.Header(
  width=768, height=512, quality_index=32, digest=b'abcd'
)
SIDES = st.integers(1, bitstream.MAX_SIDE)


def seal(body):
  """Adds a valid checksum to anything."""
  return body + struct.pack('<I', zlib.crc32(body))


@settings(max_examples=200, deadline=None)
@given(
  SIDES,
  SIDES,
  st.integers(0, 255),
  st.binary(min_size=4, max_size=4),
  st.binary(max_size=40),
)
def test_round_trip(width, height, quality_index, digest, payload):
  header = bitstream.Header(width, height, quality_index, digest)
  data = bitstream.pack(header, payload)
  assert len(data) - len(payload) <= bitstream.OVERHEAD
  read, read_payload, crc = bitstream.unpack(data, max_pixels=2**60)
  assert (read, read_payload) == (header, payload)
  assert crc == zlib.crc32(data[:-4])


def test_golden_bytes():
  data = (GOLDEN / 'picture.gdc').read_bytes()
  header, payload, crc = bitstream.unpack(data)
  assert header == bitstream.Header(100, 300, 1, b'\x01\x02\xfe\xff', 0)
  assert payload == (GOLDEN / 'payload.bin').read_bytes()
  assert data[:13] == b'GDC\x01\x00\x64\xac\x02\x01\x01\x02\xfe\xff'
  assert data[-4:] == crc.to_bytes(4, 'little')
  assert bitstream.pack(header, payload) == data


def test_overhead_of_common_and_extreme_sizes():
  for side, overhead in (
    (1, 16),
    (127, 16),
    (128, 18),
    (16383, 18),
    (16384, 20),
    (bitstream.MAX_SIDE, 22),
  ):
    header = bitstream.Header(side, side, 0, b'abcd')
    assert len(bitstream.pack(header, b'')) == overhead


GOOD = bitstream.pack(HEADER, b'payload')
BODY = GOOD[:-4]


@pytest.mark.parametrize(
  'data, message',
  [
    (b'', 'empty'),
    (b'\xff\xd8\xff\xe0 a JPEG file', r"not a gdc file: starts with b'\\xff"),
    (b'GIF89a', "not a gdc file: starts with b'GIF'"),
    (b'X', "not a gdc file: starts with b'X'"),
    (b'GD', 'cut off: 2 bytes'),
    (GOOD[:9], 'cut off: 9 bytes'),
    (GOOD[:-1], 'damaged or cut off'),
    (GOOD + b'\0', 'damaged or cut off'),
    (b'GDC\x02' + GOOD[4:], 'version 2 of the format'),
    (GOOD[:5], 'cut off'),
    (seal(BODY[:4] + b'\x81' + BODY[5:]), 'unknown flags 0x81'),
    (seal(b'GDC\1\0' + b'\0\5' + BODY[9:]), 'width is 0'),
    (seal(b'GDC\1\0' + b'\5\0' + BODY[9:]), 'height is 0'),
    (seal(b'GDC\1\0' + b'\x85\0\5' + BODY[9:]), 'width is padded'),
    (
      seal(b'GDC\1\0' + b'\xff\xff\xff\xff\1\5' + BODY[9:]),
      'width does not end within 4',
    ),
    (seal(b'GDC\1\0' + b'\x81\x80\1\x81\x80\1' + b'abcd'), 'too large'),
    (seal(b'GDC\1\0' + b'\x81\1\x81\1' + b'qabc'), 'ends within the header'),
    (
      seal(b'GDC\1\0' + b'\xff\xff\xff\x7f\xff\xff\xff\x7f' + BODY[9:]),
      'too large: 268435455 x 268435455',
    ),
  ],
)
def test_what_is_wrong_is_said(data, message):
  with pytest.raises(bitstream.BitstreamError, match=message):
    bitstream.unpack(data)


def test_the_limit_of_pixels_is_the_callers():
  assert bitstream.unpack(GOOD, max_pixels=768 * 512)[0] == HEADER
  with pytest.raises(bitstream.BitstreamError, match='limit of 393215'):
    bitstream.unpack(GOOD, max_pixels=768 * 512 - 1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(['raw', 'magic', 'sealed']))
def test_random_bytes_raise_one_error(data, how):
  if how != 'raw':
    data = b'GDC\1\0' + data
  if how == 'sealed':
    data = seal(data)
  try:
    header, payload, _ = bitstream.unpack(data)
  except bitstream.BitstreamError:
    return
  assert bitstream.pack(header, payload) == data  # only if it is a real one


def test_every_flipped_bit_and_every_truncation_is_found():
  for k in range(8 * len(GOOD)):
    flipped = bytearray(GOOD)
    flipped[k // 8] ^= 1 << k % 8
    with pytest.raises(bitstream.BitstreamError):
      bitstream.unpack(bytes(flipped))
  for length in range(len(GOOD)):
    with pytest.raises(bitstream.BitstreamError):
      bitstream.unpack(GOOD[:length])


@pytest.mark.parametrize(
  'change, message',
  [
    ({'width': 0}, 'width must be 1 to 268435455, not 0'),
    ({'height': 2**28}, 'height must be 1 to 268435455, not 268435456'),
    ({'quality_index': 256}, 'quality_index must be 0 to 255, not 256'),
    ({'digest': b'abc'}, 'digest must be 4 bytes, not 3'),
    ({'flags': 1}, 'flags 0x01 are not defined'),
  ],
)
def test_pack_refuses_what_cannot_be_read(change, message):
  fields = {'width': 1, 'height': 1, 'quality_index': 0, 'digest': b'abcd'}
  with pytest.raises(ValueError, match=message):
    bitstream.pack(bitstream.Header(**fields | change), b'')


def test_quality_round_trips_and_names_its_range():
  for index in range(81):
    quality = bitstream.index_to_quality(index)
    assert bitstream.quality_to_index(quality, 81) == index
  assert bitstream.index_to_quality(80) == 6.0
  assert bitstream.quality_to_index(3.03, 81) == 32
  for quality in (0.99, 6.01, float('nan'), float('inf')):
    with pytest.raises(ValueError, match=f'from 1 to 6, not {quality}'):
      bitstream.quality_to_index(quality, 81)


def test_the_error_is_public_and_needs_no_jax():
  code = (
    'import sys, gdc.codec, gdc.codec.range_coder; '
    'assert issubclass(gdc.codec.BitstreamError, ValueError); '
    'assert "jax" not in sys.modules, "jax was imported"'
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
