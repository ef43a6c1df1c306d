"""Damaged files: one error in one sentence, bounded memory, nothing else.

  pytest -m slow -n 0 -s tests/codec/fuzz_test.py

reads 100,000 of them and prints the counts.
"""

import collections
import contextlib
import dataclasses
import pathlib
import random
import re
import struct
import subprocess
import sys
import time
import traceback
import zlib

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import gdc
from gdc.codec import bitstream, contexts, lossless, range_coder
from gdc.codec import codec as codec_lib

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
# Height and width of images: one, two and four positions of latents.
SHAPES = ((1, 1), (16, 20), (20, 20))
# Up to so many positions a damaged file is decoded to an image, above only to
# its latents, to save time.
MAX_GRID = (4, 4)
MAX_SIDE = 400  # the same for lossless files
# The smallest tiles, to save time.
TINY_TILE = (80, 80)
LEAN_TILE = (176, 176)
EXIF = b'II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0abc\0\0\0\0\0'
# Peak memory allowed for a file of a kilobyte or two, whatever it claims.
MAX_READ_BYTES = 2**22


class Subject:
  """A codec and good files of its own.

  Not a dataclass: a failed test would print every file.
  """

  def __init__(self, codec):
    self.codec = codec
    self.files = make_files(codec)


@pytest.fixture(scope='module', autouse=True)
def small_slices():
  """A slice for each position: the largest images of contexts have four."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(contexts, 'SLICE_SIDE', 1)
    yield


@pytest.fixture(scope='module')
def subject(tiny_bundle):
  return Subject(
    codec_lib.Codec(tiny_bundle, autoencoder_tile=TINY_TILE, score_block=None)
  )


@pytest.fixture(scope='module')
def in_contexts(bundle_with_contexts):
  """The subject with contexts."""
  return Subject(codec_lib.Codec(
    bundle_with_contexts, autoencoder_tile=TINY_TILE, score_block=None
  ))


# --- Good files and what damages them -----------------------------------------


def seal(body):
  """Adds a valid checksum to anything."""
  return body + struct.pack('<I', zlib.crc32(body))


def make_files(codec):
  """Good files of small images, with and without optional fields."""
  made = []
  for height, width in SHAPES:
    y, x = np.mgrid[:height, :width]
    image = np.stack([9 * x, 5 * y + 3 * x, 255 - 7 * y], -1) % 256
    for quality in (1, 3, 6):
      data = codec.compress(
        image.astype(np.uint8), quality, lossless='never'
      )
      header, payload, _ = bitstream.unpack(data)
      alpha = ((x * y) % 256).astype(np.uint8).tobytes()
      icc = bytes(k * k % 251 for k in range(200))
      made.append(data)
      for fields in (
        {'alpha': alpha, 'grey': True},
        {'seed': 123456789, 'icc': icc, 'exif': EXIF},
        {
          'seed': 0, 'icc': icc, 'grey': True, 'alpha': alpha, 'exif': EXIF,
          'xmp': b'<x:xmpmeta/>',
        },
      ):
        made.append(
          bitstream.pack(dataclasses.replace(header, **fields), payload)
        )
  return made + make_lossless()


def make_lossless():
  """Good lossless files of every kind."""
  made = []
  y, x = np.mgrid[:20, :20]
  for image in (
    np.stack([9 * x, 5 * y, 255 - 7 * y, 12 * x], -1),
    255 * ((x * y // 9) % 2)[..., None],
  ):
    image = image.astype(np.uint8)
    header = bitstream.Header(
      20, 20, None, b'', lossless=True, grey=image.shape[2] == 1,
      alpha=b'' if image.shape[2] == 4 else None, exif=EXIF,
    )
    payloads = {lossless.RAW: image.tobytes()}
    payloads |= dict(lossless._candidates(lossless._pillow(image)))
    made += [
      bitstream.pack(header, bytes([kind]) + data)
      for kind, data in payloads.items()
    ]
  return made


def varint(value):
  """Encodes a number, zero and numbers beyond the limit included."""
  groups = []
  while value >= 128:
    groups.append(value & 127 | 128)
    value >>= 7
  return bytes([*groups, value])


def some_bytes(rng, count):
  fill = rng.choice([None, 0, 255])
  if fill is None:
    return bytes(rng.randrange(256) for _ in range(count))
  return bytes([fill]) * count


def cut(rng, data, _):
  return data[: rng.randrange(len(data))]


def flip(rng, data, _):
  data = bytearray(data)
  for _ in range(rng.choice([1, 1, 2, 8])):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  return bytes(data)


def insert(rng, data, _):
  place = rng.randrange(len(data) + 1)
  return data[:place] + some_bytes(rng, rng.randint(1, 9)) + data[place:]


def delete(rng, data, _):
  place = rng.randrange(len(data))
  return data[:place] + data[place + rng.randint(1, 9) :]


def overwrite(rng, data, _):
  place = rng.randrange(len(data))
  new = some_bytes(rng, rng.randint(1, 40))[: len(data) - place]
  return data[:place] + new + data[place + len(new) :]


def splice(rng, data, other):
  """Joins the beginning of one file and the end of another."""
  return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def scramble(rng, data, _):
  """Random bytes, with or without a plausible beginning."""
  start = rng.choice([b'', b'GDC\1', data[:8], data[:16]])
  return start + some_bytes(rng, rng.randrange(100))


def take_apart(data):
  """Returns sides, quality index and digest, optional fields, payload."""
  header, payload, _ = bitstream.unpack(seal(data))
  start = 5 + len(varint(header.width)) + len(varint(header.height))
  end = len(data) - len(payload)
  size = 0 if header.lossless else 5
  middle, fields = data[start : start + size], data[start + size : end]
  return [header.width, header.height], middle, fields, payload


def claim(rng, data, _):
  """Changes what the header says."""
  sides, middle, fields, payload = take_apart(data)
  start, middle = bytearray(data[:5]), bytearray(middle)
  what = rng.choice(
    ['version', 'flags', 'sides'] + bool(middle) * ['quality', 'digest']
  )
  if what == 'version':
    start[3] = rng.choice([0, 2, 3, 255])
  elif what == 'flags':
    start[4] = rng.randrange(256)
  elif what == 'sides':
    edges = [0, 1, 15, 17, 127, 128, 2**14, 2**14 - 1, 2**28 - 1, 2**28, 2**34]
    for k in range(2):
      if rng.randrange(3):
        sides[k] = rng.choice([*edges, sides[k] + 1, sides[k] + 16])
  elif what == 'quality':
    middle[0] = rng.choice([80, 81, 255, rng.randrange(256)])
  else:
    middle[1 + rng.randrange(4)] ^= 1 << rng.randrange(8)
  start += varint(sides[0]) + varint(sides[1]) + middle
  return bytes(start) + fields + payload


def deflate(rng, data, _):
  """Writes other optional fields, some of them damaged."""
  sides, middle, _, payload = take_apart(data)
  flags = rng.choice([2, 8, 10, 15, 32, 64, 96, 104, 111])
  flags |= 16 * (not middle)
  fields = b'seed' if flags & 1 else b''
  for flag in (2, 8, 32, 64) if middle else (2, 32, 64):
    if flags & flag:
      size = sides[0] * sides[1]
      size = rng.choice([size, size - 1, size + 1, 1, 300, 2**19])
      # Large fields are zeros, a thousand per byte of the stream.
      field = some_bytes(rng, size) if size < 999 else bytes(size)
      stream = zlib.compress(field, rng.choice([0, 1, 9]) if size < 999 else 9)
      if not rng.randrange(3):
        stream = rng.choice([cut, flip, insert])(rng, stream, None)
      length = len(stream) + rng.choice([0, 0, 0, 1, -1])
      fields += varint(max(0, length)) + stream
  sides = varint(sides[0]) + varint(sides[1])
  return b'GDC\1' + bytes([flags]) + sides + middle + fields + payload


def recode(rng, data, _):
  """Puts another payload into a good file."""
  *_, payload = take_apart(data)
  head = data[: len(data) - len(payload)]
  if not payload or not rng.randrange(4):
    return head + some_bytes(rng, rng.randrange(200))
  return head + rng.choice([flip, insert, delete, overwrite])(
    rng, payload, None
  )


DAMAGES = (
  cut, flip, insert, delete, overwrite, splice, scramble, claim, deflate,
  recode,
)


def damage(rng, files, sealed):
  """Damages one of some good files.

  Args:
    rng: random.Random, or hypothesis' own.
    files: good files.
    sealed: whether the checksum is recomputed, so that the damage passes it.

  Returns:
    (name of the damage, the file, which is not one of the good ones)
  """
  how = rng.choice(DAMAGES)
  data, other = rng.choice(files), rng.choice(files)
  if sealed:
    bad = seal(how(rng, data[:-4], other[:-4]))
  elif how in (claim, deflate, recode):
    bad = how(rng, data[:-4], other[:-4]) + data[-4:]
  else:
    bad = how(rng, data, other)
  # Some damage happens to change nothing.
  return damage(rng, files, sealed) if bad in files else (how.__name__, bad)


# --- What may happen ----------------------------------------------------------


def assert_one_sentence(error):
  message = str(error)
  assert message and message == message.strip() and message.isprintable()
  # Quoted bytes of the file may look like anything.
  message = re.sub(r'b\'.*?\'|b".*?"', '', message)
  assert not re.search(r'[.!?] ', message), message
  assert len(message) < 200, message


def check(codec, data):
  """Reads a file; the result must match its header.

  Returns:
    'refused', 'read' (down to its latents) or 'decoded' (to an image).
  """
  try:
    header, _, _ = bitstream.unpack(data)
    if header.lossless:
      with pytest.raises(gdc.codec.BitstreamError, match='no latents'):
        codec.read(data)
      if max(header.height, header.width) > MAX_SIDE:
        return 'read'
      image = codec.decompress(data)
      assert image.shape == (header.height, header.width, header.channels)
      assert image.dtype == np.uint8
      return 'decoded'
    latents, header, seed = codec.read(data)
  except gdc.codec.BitstreamError as error:
    assert_one_sentence(error)
    return 'refused'
  assert seed == (
    zlib.crc32(data[:-4]) if header.seed is None else header.seed
  )
  rows, columns = -(-header.height // 16), -(-header.width // 16)
  assert latents.shape[:2] == (rows, columns) and latents.dtype == np.int32
  if rows > MAX_GRID[0] or columns > MAX_GRID[1]:
    return 'read'
  image = codec.decompress(data, 'mse')
  assert image.shape == (header.height, header.width, header.channels)
  assert image.dtype == np.uint8
  if header.alpha is not None:
    assert image[..., -1].tobytes() == header.alpha
  return 'decoded'


def test_good_files_are_decoded(subject):
  assert {check(subject.codec, data) for data in subject.files} == {'decoded'}
  assert all(seal(data[:-4]) == data for data in subject.files)


def test_optional_fields_do_to_the_image_what_the_document_says(subject):
  for k in range(0, 4 * 3 * len(SHAPES), 4):
    plain, grey, coloured, all_fields = (
      subject.codec.decompress(data, 'mse') for data in subject.files[k : k + 4]
    )
    np.testing.assert_array_equal(coloured, plain)
    np.testing.assert_array_equal(grey, all_fields)
    mean = (plain.astype(int).sum(axis=2) + 1) // 3
    np.testing.assert_array_equal(grey[:, :, 0], mean)


@settings(max_examples=1000, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_a_damaged_file_is_refused_or_decoded(subject, rng, sealed):
  _, data = damage(rng, subject.files, sealed)
  note(data.hex())
  what = check(subject.codec, data)
  if what == 'refused':
    for call in (subject.codec.ideal_bits, subject.codec.decompress):
      with pytest.raises(gdc.codec.BitstreamError):
        call(data)
  else:
    assert sealed


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_damaged_file_with_contexts_is_refused_or_decoded(in_contexts, rng):
  _, data = damage(rng, in_contexts.files, True)
  note(data.hex())
  check(in_contexts.codec, data)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_damaged_file_with_contexts_takes_little_memory(
  traced_memory, in_contexts, rng
):
  _, data = damage(rng, in_contexts.files, True)
  note(data.hex())
  in_contexts.codec.read(in_contexts.files[0])  # fills caches
  with traced_memory() as peak, contextlib.suppress(gdc.codec.BitstreamError):
    in_contexts.codec.read(data)
  assert peak[0] < MAX_READ_BYTES


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_a_damaged_file_takes_little_memory(
  traced_memory, subject, rng, sealed
):
  _, data = damage(rng, subject.files, sealed)
  note(data.hex())
  subject.codec.read(subject.files[0])  # fills caches
  with traced_memory() as peak, contextlib.suppress(gdc.codec.BitstreamError):
    subject.codec.read(data)
  assert peak[0] < MAX_READ_BYTES


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_damaged_golden_files(golden_tables, rng, sealed):
  # Awkward tables with escapes, and no network.
  good = [
    (GOLDEN / name).read_bytes()
    for name in ('picture.gdc', 'optional.gdc', 'metadata.gdc')
  ]
  _, data = damage(rng, good, sealed)
  note(data.hex())
  try:
    header, payload, _ = bitstream.unpack(data)
    if header.lossless:  # the damage set the flag
      lossless.decode(payload, header)
      return
    # The golden files belong to no stride; this gives their 35 positions.
    num_positions = -(-header.width // 20) * -(-header.height // 45)
    symbols = range_coder.decode(
      payload, golden_tables, header.quality_index, num_positions
    )
  except bitstream.BitstreamError as error:
    assert_one_sentence(error)
    return
  assert symbols.shape == (5, num_positions) and symbols.dtype == np.int32
  assert sealed


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda body: b'', 'empty'),
    (lambda body: body[:2], 'cut off: 2 bytes'),
    (lambda body: bytes(100), 'not a gdc file'),
    (lambda body: seal(b'GDC\2' + body[4:]), 'version 2 of the format'),
    (lambda body: seal(b'GDC\1\x80' + body[5:]), 'a newer program wrote it'),
    (lambda body: seal(body[:8] + b'abcd' + body[12:]), 'model 61626364'),
    (lambda body: seal(body[:7] + b'\x51' + body[8:]), 'index 81'),
    (lambda body: seal(body[:13]), 'too short: 4 positions'),
    (
      lambda body: seal(b'GDC\1\0' + varint(2**14) * 2 + body[7:]),
      'too short: 1048576 positions',
    ),
    (
      lambda body: seal(b'GDC\1\0' + varint(2**28 - 1) * 2 + body[7:]),
      'too large: 268435455 x 268435455',
    ),
    (lambda body: body, 'damaged or cut off: the checksum'),
    (lambda body: seal(body)[:-1], 'damaged or cut off: the checksum'),
  ],
)
def test_refusals_of_a_codec(subject, change, message):
  body = subject.codec.compress(
    np.zeros((20, 20, 3), np.uint8), lossless='never'
  )[:-4]
  with pytest.raises(gdc.codec.BitstreamError, match=message) as caught:
    subject.codec.decompress(change(body), 'mse')
  assert_one_sentence(caught.value)


# --- Memory -------------------------------------------------------------------


def claims_of_the_largest_image(header, payload):
  """Files of 2^28 pixels with the payload of a few."""
  side = 2**14
  large = dataclasses.replace(header, width=side, height=side)
  start = bitstream.pack(large, b'')[5:-4]
  stream = zlib.compress(bytes(2**20), 9)
  for flags, fields in (
    (0, b''),
    (5, b'seed'),
    (2, varint(len(stream)) + stream),
    (8, varint(len(stream)) + stream),
    (32, varint(len(stream)) + stream),
    (96, 2 * (varint(len(stream)) + stream)),
    (8, varint(2**28)),
    (8, varint(2**28) + stream),
  ):
    yield seal(b'GDC\1' + bytes([flags]) + start + fields + payload)


def test_the_largest_image_in_a_short_file_takes_no_memory(
  traced_memory, subject
):
  header, payload, _ = bitstream.unpack(subject.files[8 * len(SHAPES)])
  assert header.flags == 0
  for data in claims_of_the_largest_image(header, payload):
    with traced_memory() as peak, pytest.raises(gdc.codec.BitstreamError):
      subject.codec.decompress(data, 'mse')
    assert peak[0] < MAX_READ_BYTES


@pytest.mark.skipif(
  not sys.platform.startswith('linux'), reason='reads /proc/self/status'
)
def test_nor_does_it_of_the_process(tmp_path):
  # What tracemalloc does not see, in C and Rust, is part of the process. (Its
  # ru_maxrss would begin with that of this one, which started it.)
  header, payload, _ = bitstream.unpack((GOLDEN / 'picture.gdc').read_bytes())
  paths = []
  for data in claims_of_the_largest_image(header, payload):
    paths.append(tmp_path / f'{len(paths)}.gdc')
    paths[-1].write_bytes(data)
  script = '\n'.join([
    'import re, sys',
    'import numpy as np',
    'from gdc.codec import bitstream, range_coder, tables',
    'model = tables.Tables.from_arrays(dict(np.load(sys.argv[1])))',
    'def size():',
    '  status = open("/proc/self/status").read()',
    '  return int(re.search(r"VmPeak:\\s+(\\d+) kB", status)[1])',
    'before = size()',
    'for path in sys.argv[2:]:',
    '  try:',
    '    header, payload, _ = bitstream.unpack(open(path, "rb").read())',
    '    range_coder.decode(payload, model, header.quality_index, 2**20)',
    '  except bitstream.BitstreamError:',
    '    continue',
    '  raise AssertionError(path)',
    'print(size() - before)',
  ])
  done = subprocess.run(
    [sys.executable, '-c', script, GOLDEN / 'tables.npz', *paths],
    capture_output=True, text=True, check=False, timeout=60,
    cwd=GOLDEN.parents[1],
  )
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) < 2**14  # in KiB


def test_latents_take_little_more_than_themselves(golden_tables, traced_memory):
  rng = np.random.default_rng(0)
  symbols = rng.integers(-400, 400, [5, 50_000]).astype(np.int32)
  payload = range_coder.encode(symbols, golden_tables, 0)
  with traced_memory() as peak:
    decoded = range_coder.decode(payload, golden_tables, 0, 50_000)
  np.testing.assert_array_equal(decoded, symbols)
  # Besides the result: one channel in int64, all of its symbols escaped.
  assert peak[0] < symbols.nbytes + 64 * 50_000 + 2**20


# --- Many ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files(subject, in_contexts):
  rng = random.Random(0)
  counts = collections.defaultdict(collections.Counter)
  failures, slowest = [], 0.0
  lean = codec_lib.Codec(
    gdc.load('lean').bundle, autoencoder_tile=LEAN_TILE, score_block=None
  )
  for name, model, number in (
    ('tiny', subject.codec, 80_000),
    ('contexts', in_contexts.codec, 10_000),
    ('lean', lean, 10_000),
  ):
    files = make_files(model)
    for data in files:
      assert check(model, data) == 'decoded'  # and programs are compiled
    for _ in range(number):
      sealed = rng.random() < 0.8
      how, data = damage(rng, files, sealed)
      start = time.process_time()
      try:
        what = check(model, data)
        assert sealed or what == 'refused'
      except Exception:  # noqa: BLE001 - the very thing that is counted
        what = 'failed'
        failures.append((data.hex(), traceback.format_exc()))
      slowest = max(slowest, time.process_time() - start)
      for row in ('all', name, how):
        counts[row, sealed][what] += 1
  columns = ('refused', 'read', 'decoded', 'failed')
  print('\n' + ' ' * 25 + ''.join(f'{column:>10}' for column in columns))
  for (row, sealed), count in sorted(counts.items()):
    checksum = 'recomputed' if sealed else 'left wrong'
    numbers = ''.join(f'{count[column]:10}' for column in columns)
    print(f'{row:10} CRC {checksum} {numbers}')
  print(f'the slowest file took {1000 * slowest:.0f} ms of processor time')
  assert not failures, f'{len(failures)}, the first: {failures[0]}'
