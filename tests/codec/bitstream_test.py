"""The container: small, exact, and clear about damage."""

import dataclasses
import pathlib
import runpy
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
SEEDS = st.none() | st.integers(0, 2**32 - 1)


def seal(body):
  """Adds a valid checksum to anything."""
  return body + struct.pack('<I', zlib.crc32(body))


def varint(value):
  """Encodes a length independently of gdc."""
  groups = [value >> shift & 127 for shift in range(0, 35, 7)]
  while len(groups) > 1 and not groups[-1]:
    groups.pop()
  return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def deflated(field):
  """Encodes a deflated field independently of gdc."""
  stream = zlib.compress(field)
  return varint(len(stream)) + stream


def read_by_the_document(data):
  """Reads good files as docs/bitstream.md says, in plain integers.

  Returns:
    A dict with the fields of a Header, and the payload.
  """
  position = 5

  def get(count):
    nonlocal position
    position += count
    return data[position - count : position]

  def get_varint():
    value, shift = 0, 0
    while True:
      (byte,) = get(1)
      value += (byte & 127) << shift
      shift += 7
      if byte < 128:
        return value

  assert data[:4] == b'GDC\1' and data[4] < 128
  fields = {'width': get_varint(), 'height': get_varint()}
  fields |= {'lossless': bool(data[4] & 16), 'quality_index': None}
  fields |= {'digest': b''}
  if not fields['lossless']:
    fields |= {'quality_index': get(1)[0], 'digest': get(4)}
  fields |= {'seed': None, 'icc': b'', 'grey': bool(data[4] & 4), 'alpha': None}
  if data[4] & 1:
    fields['seed'] = sum(byte << 8 * k for k, byte in enumerate(get(4)))
  if data[4] & 2:
    fields['icc'] = zlib.decompress(get(get_varint()))
  if data[4] & 8 and fields['lossless']:
    fields['alpha'] = b''
  elif data[4] & 8:
    plane = list(zlib.decompress(get(get_varint())))
    assert len(plane) == fields['width'] * fields['height']
    for k in range(fields['width'], len(plane)):
      plane[k] = (plane[k] + plane[k - fields['width']]) % 256
    fields['alpha'] = bytes(plane)
  for name, flag in (('exif', 32), ('xmp', 64)):
    fields[name] = zlib.decompress(get(get_varint())) if data[4] & flag else b''
  return fields, data[position:-4]


@settings(max_examples=200, deadline=None)
@given(
  SIDES,
  SIDES,
  st.integers(0, 255),
  st.binary(min_size=4, max_size=4),
  SEEDS,
  st.booleans(),
  st.binary(max_size=40),
)
def test_round_trip(width, height, quality_index, digest, seed, grey, payload):
  header = bitstream.Header(
    width, height, quality_index, digest, seed=seed, grey=grey
  )
  data = bitstream.pack(header, payload)
  read, read_payload, crc = bitstream.unpack(data, max_pixels=2**60)
  assert (read, read_payload) == (header, payload)
  assert crc == zlib.crc32(data[:-4])


@settings(max_examples=200, deadline=None)
@given(
  st.data(),
  st.integers(1, 20),
  st.integers(1, 20),
  SEEDS,
  st.binary(max_size=300),
  st.booleans(),
  st.booleans(),
  st.binary(max_size=99),
  st.binary(max_size=99),
)
def test_optional_fields_round_trip(
  data, width, height, seed, icc, grey, alpha, exif, xmp
):
  size = width * height
  header = bitstream.Header(
    width,
    height,
    8,
    b'abcd',
    seed=seed,
    icc=icc,
    grey=grey,
    alpha=data.draw(st.binary(min_size=size, max_size=size)) if alpha else None,
    exif=exif,
    xmp=xmp,
  )
  packed = bitstream.pack(header, b'payload')
  assert packed[4] == header.flags
  assert bitstream.unpack(packed)[:2] == (header, b'payload')
  fields, payload = read_by_the_document(packed)
  assert (fields, payload) == (dataclasses.asdict(header), b'payload')


def test_every_flag_is_its_field():
  for flags in range(128):
    exact = bool(flags & 16)
    header = bitstream.Header(
      2,
      1,
      None if exact else 0,
      b'' if exact else b'abcd',
      lossless=exact,
      seed=0 if flags & 1 else None,
      icc=b'icc' if flags & 2 else b'',
      grey=bool(flags & 4),
      alpha=(b'' if exact else b'ab') if flags & 8 else None,
      exif=b'exif' if flags & 32 else b'',
      xmp=b'xmp' if flags & 64 else b'',
    )
    packed = bitstream.pack(header, b'payload')
    assert header.flags == flags == packed[4]
    assert bitstream.unpack(packed)[:2] == (header, b'payload')
    assert header.channels == 3 - 2 * header.grey + bool(flags & 8)
    fields = dataclasses.asdict(header), b'payload'
    assert read_by_the_document(packed) == fields


def test_golden_bytes():
  data = (GOLDEN / 'picture.gdc').read_bytes()
  header, payload, crc = bitstream.unpack(data)
  assert header == bitstream.Header(100, 300, 1, b'\x01\x02\xfe\xff')
  assert payload == (GOLDEN / 'payload.bin').read_bytes()
  assert data[:13] == b'GDC\x01\x00\x64\xac\x02\x01\x01\x02\xfe\xff'
  assert data[-4:] == crc.to_bytes(4, 'little')
  assert bitstream.pack(header, payload) == data


def test_golden_bytes_of_optional_fields():
  data = (GOLDEN / 'optional.gdc').read_bytes()
  header, payload, crc = bitstream.unpack(data)
  made = runpy.run_path(str(GOLDEN / 'make.py'))['make_optional_header']()
  assert header == made and header.flags == 15
  assert read_by_the_document(data) == (dataclasses.asdict(made), payload)
  assert payload == (GOLDEN / 'payload.bin').read_bytes()
  assert data[-4:] == crc.to_bytes(4, 'little')

  # The bytes must match except for zlib streams: builds of zlib deflate
  # differently.
  start = b'GDC\x01\x0f\x64\xac\x02\x01\x01\x02\xfe\xff\x98\xba\xdc\xfe'
  packed = bitstream.pack(header, payload)
  for one in (data, packed):
    assert one[: len(start)] == start
    assert one[-4 - len(payload) : -4] == payload
  assert bitstream.unpack(packed)[:2] == (header, payload)
  plain = dataclasses.replace(header, icc=b'', alpha=None)
  assert bitstream.pack(plain, payload) == seal(
    start.replace(b'\x0f', b'\x05') + payload
  )


def test_golden_bytes_of_metadata():
  data = (GOLDEN / 'metadata.gdc').read_bytes()
  header, payload, crc = bitstream.unpack(data)
  made = runpy.run_path(str(GOLDEN / 'make.py'))['make_metadata_header']()
  assert header == made and header.flags == 96
  assert read_by_the_document(data) == (dataclasses.asdict(made), payload)
  assert payload == (GOLDEN / 'payload.bin').read_bytes()
  assert data[:13] == b'GDC\x01\x60\x64\xac\x02\x01\x01\x02\xfe\xff'
  assert data[-4:] == crc.to_bytes(4, 'little')
  assert bitstream.unpack(bitstream.pack(made, payload))[:2] == (made, payload)


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


def test_overhead_of_every_legal_size():
  # Lengths change at powers of 128 only, and the product of the sides is
  # limited.
  edges = {128**k - 1 for k in range(1, 5)} | {128**k for k in range(4)}
  edges |= {bitstream.MAX_PIXELS // side for side in edges}
  overheads = set()
  for width in edges:
    for height in edges:
      if not 0 < width * height <= bitstream.MAX_PIXELS:
        continue
      if max(width, height) > bitstream.MAX_SIDE:
        continue
      for seed in (None, 2**32 - 1):
        header = bitstream.Header(width, height, 255, b'abcd', seed, grey=True)
        data = bitstream.pack(header, b'')
        assert bitstream.unpack(data)[0] == header
        overheads.add(len(data))
  assert min(overheads) == 16
  assert max(overheads) == bitstream.OVERHEAD == 24


GOOD = bitstream.pack(HEADER, b'payload')
BODY = GOOD[:-4]
# Everything before the optional fields of a 3 x 2 file; flags are filled in.
START = b'GDC\1%c\3\2\0abcd'
PLANE = deflated(bytes(6))


def with_fields(flags, fields):
  """Returns a file with these optional fields and no payload."""
  return seal(START % flags + fields)


def with_stream(stream, flags=8):
  return with_fields(flags, varint(len(stream)) + stream)


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
    (seal(b'GDC\x00' + BODY[4:]), 'version 0 of the format'),
    (GOOD[:5], 'cut off'),
    (seal(BODY[:4] + b'\x8f' + BODY[5:]), 'unknown flags 0x80'),
    (seal(BODY[:4] + b'\xa0' + BODY[5:]), 'unknown flags 0x80'),
    (seal(b'GDC\1\0' + b'\0\5' + BODY[9:]), 'width is 0'),
    (seal(b'GDC\1\0' + b'\5\0' + BODY[9:]), 'height is 0'),
    (seal(b'GDC\1\0' + b'\x85\0\5' + BODY[9:]), 'width is padded'),
    (
      seal(b'GDC\1\0' + b'\xff\xff\xff\xff\1\5' + BODY[9:]),
      'width does not end within 4',
    ),
    (seal(b'GDC\1\0' + b'\x81\x80\1\x81\x80\1' + b'abcd'), 'too large'),
    (
      seal(b'GDC\1\0' + b'\x81\1\x81\1' + b'qabc'),
      'ends within the header: 5 bytes are due, 4 are left',
    ),
    (
      seal(b'GDC\1\0' + b'\xff\xff\xff\x7f\xff\xff\xff\x7f' + BODY[9:]),
      'too large: 268435455 x 268435455',
    ),
  ],
)
def test_damage_is_named(data, message):
  with pytest.raises(bitstream.BitstreamError, match=message):
    bitstream.unpack(data)


@pytest.mark.parametrize(
  'data, message',
  [
    (with_fields(1, b'abc'), 'within the seed: 4 bytes are due, 3 are left'),
    (with_fields(2, b''), 'length of the ICC profile does not end within 5'),
    (with_fields(2, b'\0'), 'length of the ICC profile is 0'),
    (with_fields(2, b'\x80\0'), 'length of the ICC profile is padded'),
    (with_fields(8, b'\x80' * 6), 'alpha plane does not end within 5'),
    (
      with_fields(8, b'\xff\xff\xff\xff\x7f' + bytes(9)),
      'within the alpha plane: 34359738367 bytes are due, 9 are left',
    ),
    (
      with_fields(2, b'\x05abcd'),
      'within the ICC profile: 5 bytes are due, 4 are left',
    ),
    (with_stream(b'abcd', 2), 'ICC profile is not a zlib stream .Error -3'),
    (with_stream(zlib.compress(b''), 2), 'ICC profile is empty'),
    (
      with_stream(zlib.compress(bytes(2**22 + 1)), 2),
      'ICC profile inflates to more than 4194304 bytes',
    ),
    (with_stream(zlib.compress(bytes(9))[:-1], 2), 'ICC profile is cut off'),
    (
      with_stream(zlib.compress(bytes(9)) + b'ab', 2),
      '2 bytes follow the zlib stream of its ICC profile',
    ),
    (with_fields(32, b''), 'length of the EXIF does not end within 5'),
    (with_fields(64, b'\0'), 'length of the XMP is 0'),
    (with_fields(96, deflated(b'II') + b'\4abc'), 'within the XMP: 4 bytes'),
    (with_stream(zlib.compress(b''), 32), 'EXIF is empty'),
    (with_stream(zlib.compress(b''), 64), 'XMP is empty'),
    (
      with_stream(zlib.compress(bytes(2**20 + 1)), 32),
      'EXIF inflates to more than 1048576 bytes',
    ),
    (
      with_stream(zlib.compress(bytes(2**20 + 1)), 64),
      'XMP inflates to more than 1048576 bytes',
    ),
    (with_stream(zlib.compress(bytes(9))[:-1], 32), 'EXIF is cut off'),
    (
      with_stream(zlib.compress(bytes(9)) + b'ab', 64),
      '2 bytes follow the zlib stream of its XMP',
    ),
    (with_stream(zlib.compress(bytes(5))), 'has 5 bytes for 3 x 2 pixels'),
    (with_stream(zlib.compress(b'')), 'has 0 bytes for 3 x 2 pixels'),
    (
      with_stream(zlib.compress(bytes(7))),
      'alpha plane inflates to more than 6 bytes',
    ),
    (with_stream(zlib.compress(bytes(6))[:-4]), 'alpha plane is cut off'),
    (with_stream(zlib.compress(bytes(6))[:-5]), 'alpha plane is cut off'),
    (
      with_stream(zlib.compress(bytes(6))[:-4] + b'abcd'),
      'alpha plane is not a zlib stream .Error -3.* incorrect data check',
    ),
    (
      with_stream(zlib.compress(bytes(6)) + PLANE),
      'bytes follow the zlib stream of its alpha plane',
    ),
    # A preset dictionary, which RFC 1950 allows.
    (with_stream(b'\x78\xbb\0\0\0\1abcd'), 'not a zlib stream .Error 2'),
    # The first fault in the order of the fields is reported.
    (with_fields(15, b'seed\0\0'), 'length of the ICC profile is 0'),
  ],
)
def test_damage_of_optional_fields_is_named(data, message):
  with pytest.raises(bitstream.BitstreamError, match=message):
    bitstream.unpack(data)


def test_any_zlib_stream_will_do():
  for level in range(10):
    for window in (9, 15):
      writer = zlib.compressobj(level, wbits=window)
      stream = writer.compress(b'abc') + writer.flush(zlib.Z_FULL_FLUSH)
      stream += writer.compress(b'\0\1\xff') + writer.flush()
      header, payload, _ = bitstream.unpack(with_stream(stream))
      assert (header.alpha, payload) == (b'abcacb', b'')
      header, payload, _ = bitstream.unpack(with_stream(stream, 2))
      assert (header.icc, payload) == (b'abc\0\1\xff', b'')


def test_the_largest_metadata_are_read():
  header = dataclasses.replace(
    HEADER, icc=bytes(bitstream.MAX_ICC_BYTES),
    exif=bytes(bitstream.MAX_EXIF_BYTES), xmp=bytes(bitstream.MAX_XMP_BYTES),
  )
  assert bitstream.unpack(bitstream.pack(header, b''))[0] == header


@pytest.mark.parametrize(
  'start, field, limit',
  [
    # Much data where little is allowed.
    (START % 8, deflated(bytes(2**26)), 2**18),
    (START % 2, deflated(bytes(2**26)), 2**22 * 2.2),
    (START % 32, deflated(bytes(2**26)), 2**20 * 2.6),
    # Little data where much is allowed.
    (b'GDC\1\x08\x80\x80\1\x80\x80\1\0abcd', deflated(bytes(999)), 2**18),
    (b'GDC\1\x08\x80\x80\1\x80\x80\1\0abcd', b'\xff' * 4 + b'\x7f', 2**16),
    # A length of 2^28 - 1, and 2^19 bytes that do not inflate.
    (START % 2, b'\xff' * 3 + b'\x7f' + bytes(2**19), 2**20 * 3),
  ],
  ids=[
    'alpha bomb', 'icc bomb', 'exif bomb', 'short alpha', 'length',
    'length of much',
  ],
)
def test_memory_is_bounded_by_what_is_there(traced_memory, start, field, limit):
  data = seal(start + field)
  with traced_memory() as peak, pytest.raises(bitstream.BitstreamError):
    bitstream.unpack(data)
  assert peak[0] < limit


def test_memory_of_an_alpha_plane_is_that_of_an_image(traced_memory):
  header = bitstream.Header(2048, 1024, 0, b'abcd', alpha=bytes(2**21))
  data = bitstream.pack(header, b'')
  with traced_memory() as peak:
    bitstream.unpack(data)
  assert peak[0] < 3.1 * 2**21


def test_the_caller_may_limit_the_pixels():
  assert bitstream.unpack(GOOD, max_pixels=768 * 512)[0] == HEADER
  with pytest.raises(bitstream.BitstreamError, match='limit of 393215'):
    bitstream.unpack(GOOD, max_pixels=768 * 512 - 1)


@settings(max_examples=400, deadline=None)
@given(
  st.binary(max_size=60),
  st.sampled_from(['raw', 'magic', 'start', 'sealed', 'sealed start']),
  st.integers(0, 127),
)
def test_random_bytes_raise_one_error(data, how, flags):
  if how != 'raw':
    start = START if 'start' in how else b'GDC\1%c'
    data = start % flags + data
  if 'sealed' in how:
    data = seal(data)
  try:
    header, payload, _ = bitstream.unpack(data)
  except bitstream.BitstreamError:
    return
  again = bitstream.pack(header, payload)
  if header.flags & (2 | 8 | 32 | 64):
    assert bitstream.unpack(again)[:2] == (header, payload)
  else:
    assert again == data


@pytest.mark.parametrize('good', [GOOD, with_fields(111, b'seed' + PLANE * 4)])
def test_every_flipped_bit_and_every_truncation_is_found(good):
  bitstream.unpack(good)
  for k in range(8 * len(good)):
    flipped = bytearray(good)
    flipped[k // 8] ^= 1 << k % 8
    with pytest.raises(bitstream.BitstreamError):
      bitstream.unpack(bytes(flipped))
  for length in range(len(good)):
    with pytest.raises(bitstream.BitstreamError):
      bitstream.unpack(good[:length])


def test_every_truncation_of_an_optional_field_is_found():
  fields = b'seed' + PLANE * 4
  for length in range(len(fields)):
    with pytest.raises(bitstream.BitstreamError, match='^malformed: '):
      bitstream.unpack(with_fields(111, fields[:length]))


@pytest.mark.parametrize(
  'change, message',
  [
    ({'width': 0}, 'width must be 1 to 268435455, not 0'),
    ({'height': 2**28}, 'height must be 1 to 268435455, not 268435456'),
    ({'quality_index': 256}, 'quality_index must be 0 to 255, not 256'),
    ({'digest': b'abc'}, 'digest must be 4 bytes, not 3'),
    ({'seed': -1}, r'seed must be 0 to 2\^32 - 1, not -1'),
    ({'seed': 2**32}, 'seed must be 0 to .*, not 4294967296'),
    ({'icc': bytes(2**22 + 1)}, 'icc must be at most 4194304 bytes, not 41943'),
    ({'exif': bytes(2**20 + 1)}, 'exif must be at most 1048576 bytes, not 104'),
    ({'xmp': bytes(2**20 + 1)}, 'xmp must be at most 1048576 bytes, not 1048'),
    ({'alpha': b''}, 'alpha must be 1 bytes for 1 x 1 pixels, not 0'),
    ({'alpha': b'ab'}, 'alpha must be 1 bytes for 1 x 1 pixels, not 2'),
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
