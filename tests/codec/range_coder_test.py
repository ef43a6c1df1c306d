"""The range coder: exact for any int32, ideal in length, safe on any bytes."""

import contextlib
import pathlib
import runpy

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdc.codec import bitstream, range_coder, tables

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
INT32 = st.integers(-(2**31), 2**31 - 1)


def make_tables(*rows):
  """Makes tables of one quality; a row is (first, counts)."""
  return tables.Tables(
    np.concatenate([counts for _, counts in rows]).astype(np.uint16),
    np.array([[first for first, _ in rows]], np.int32),
    np.array([[len(counts) for _, counts in rows]], np.int32),
  )


def draw(rng, model, quality_index, num_positions):
  """Draws symbols from the tables; an escape lands just outside."""
  symbols = np.empty([model.num_channels, num_positions], np.int32)
  for channel in range(model.num_channels):
    first, counts = model.row(quality_index, channel)
    index = np.repeat(np.arange(len(counts)), counts)[
      rng.integers(0, 2**16, num_positions)
    ]
    symbols[channel] = np.minimum(index + first, 2**31 - 1)
  return symbols


@pytest.fixture(scope='module')
def decode_by_the_document(documented_reader):
  """A function that decodes as docs/bitstream.md says, in plain integers."""
  def decode(payload, model, quality_index, num_positions):
    reader, result = documented_reader(payload), []
    for channel in range(model.num_channels):
      first, counts = model.row(quality_index, channel)
      result.append(reader.get_step([(first, counts.tolist())] * num_positions))
    return np.array(result, np.int64).reshape(model.num_channels, num_positions)
  return decode


def assert_round_trip(symbols, model, quality_index=0):
  payload = range_coder.encode(symbols, model, quality_index)
  decoded = range_coder.decode(payload, model, quality_index, symbols.shape[1])
  assert decoded.dtype == np.int32
  np.testing.assert_array_equal(decoded, symbols)
  return payload


def test_golden_bytes(golden_tables, decode_by_the_document):
  symbols = np.load(GOLDEN / 'symbols.npy', allow_pickle=False)
  payload = (GOLDEN / 'payload.bin').read_bytes()
  assert range_coder.encode(symbols, golden_tables, 1) == payload
  np.testing.assert_array_equal(
    range_coder.decode(payload, golden_tables, 1, symbols.shape[1]), symbols
  )
  np.testing.assert_array_equal(
    decode_by_the_document(payload, golden_tables, 1, symbols.shape[1]), symbols
  )


def test_golden_files_are_what_their_script_makes(golden_tables):
  made = runpy.run_path(str(GOLDEN / 'make.py'))
  model = made['make_tables']()
  for name, array in golden_tables.to_arrays().items():
    np.testing.assert_array_equal(model.to_arrays()[name], array)
  np.testing.assert_array_equal(
    made['make_symbols'](model), np.load(GOLDEN / 'symbols.npy')
  )


def test_file_is_as_long_as_the_tables_promise():
  rng = np.random.default_rng(0)
  scales = np.exp(rng.uniform(-3, 4, 100))
  x = np.arange(-300, 301)[:, None]
  pmf = np.exp(-np.abs(x) / scales)
  model = tables.from_pmfs([pmf / pmf.sum(axis=0)], [-300])
  symbols = np.rint(rng.laplace(0, scales[:, None], [100, 10_000]))
  symbols = symbols.astype(np.int32)
  payload = assert_round_trip(symbols, model)
  ideal = model.ideal_bits(symbols, 0)
  assert ideal <= 8 * len(payload) <= ideal * 1.0001 + 8


def test_intervals_are_exact():
  # The first symbol of a code shows where intervals begin, to the unit: any
  # rounding of the counts would move a boundary.
  rng = np.random.default_rng(1)
  counts = 1 + rng.multinomial(2**16 - 300, rng.dirichlet(np.full(300, 0.3)))
  model = make_tables((0, counts))
  scale = (2**64 - 1) >> 24
  for k, begin in enumerate(np.cumsum(counts)[:-2].tolist()):
    for point, symbol in (
      (256 * begin * scale, k + 1),
      (256 * begin * scale - 1, k),
    ):
      payload = (point >> 32).to_bytes(4, 'little') + (point % 2**32).to_bytes(
        4, 'little'
      )
      assert range_coder.decode(payload, model, 0, 1) == symbol


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_int32_round_trips(golden_tables, decode_by_the_document, data):
  num_positions = data.draw(st.integers(0, 9))
  near = st.integers(-310, 310)
  symbols = np.array(
    data.draw(
      st.lists(
        st.one_of(near, INT32),
        min_size=5 * num_positions,
        max_size=5 * num_positions,
      )
    ),
    np.int32,
  ).reshape(5, num_positions)
  payload = assert_round_trip(symbols, golden_tables, 1)
  np.testing.assert_array_equal(
    decode_by_the_document(payload, golden_tables, 1, num_positions), symbols
  )
  # Each escaped bit is paid for, and the end takes at most a byte.
  assert 8 * len(payload) <= golden_tables.ideal_bits(symbols, 1) * 1.001 + 8


def test_shortest_end_survives_carries():
  # Codes that continue in ones (or zeros) keep a carry pending. All lengths are
  # tried: an end is difficult only where the last interval is narrow.
  model = make_tables((0, [13107, 26214, 20000, 6214, 1]))
  rng = np.random.default_rng(2)
  messages = [
    range_coder.decode(rng.bytes(4) + rest, model, 0, 100)
    for rest in (b'\xff' * 40, bytes(40))
    for _ in range(20)
  ]
  messages += [draw(rng, model, 0, 100) for _ in range(40)]
  for symbols in messages:
    for count in range(100):
      payload = assert_round_trip(symbols[:, :count], model)
      ideal = model.ideal_bits(symbols[:, :count], 0)
      assert 8 * len(payload) <= ideal + 8.1


@pytest.mark.parametrize(
  'counts',
  [
    [65535, 1],
    [1, 65535],
    [1, 65534, 1],
    [32768, 32768],
    [1] * 600 + [64936],
    [64936] + [1] * 600,
  ],
)
def test_extreme_rows(counts):
  model = make_tables((-5, counts), (5, counts))
  rng = np.random.default_rng(3)
  for num_positions in (1, 2, 1000):
    assert_round_trip(draw(rng, model, 0, num_positions), model)
    assert_round_trip(
      rng.integers(-50, 650, [2, num_positions]).astype(np.int32), model
    )


def test_an_empty_channel_costs_nothing():
  model = make_tables((0, [65535, 1]))
  symbols = np.zeros([1, 1000], np.int32)
  assert assert_round_trip(symbols, model) == b''


def test_no_positions_are_no_bytes(golden_tables):
  assert assert_round_trip(np.zeros([5, 0], np.int32), golden_tables) == b''


def test_a_lucky_code_keeps_the_bytes_that_its_size_calls_for():
  # All symbols are at the lower end of their row: the code is zero.
  model = make_tables((0, [32768, 32768]))
  symbols = np.zeros([1, 8000], np.int32)
  payload = assert_round_trip(symbols, model)
  assert payload == bytes(996)
  with pytest.raises(bitstream.BitstreamError, match='too short: 8000'):
    range_coder.decode(payload[:-10], model, 0, 8000)


def test_absurd_sizes_are_refused_before_anything_is_allocated(
  golden_tables, traced_memory
):
  with (
    traced_memory() as peak,
    pytest.raises(bitstream.BitstreamError, match='too short'),
  ):
    range_coder.decode(bytes(1000), golden_tables, 0, 10**12)
  assert peak[0] < 2**20


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(-1, 2))
def test_random_payloads_never_fail_otherwise(
  golden_tables, payload, num_positions, quality_index
):
  try:
    symbols = range_coder.decode(
      payload, golden_tables, quality_index, num_positions
    )
  except bitstream.BitstreamError:
    return
  assert symbols.shape == (5, num_positions) and symbols.dtype == np.int32


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_damaged_payloads_never_fail_otherwise(
  golden_tables, place, change, cut
):
  payload = bytearray((GOLDEN / 'payload.bin').read_bytes())
  place %= len(payload)
  payload[place] ^= change
  if cut:
    del payload[place:]
  try:
    symbols = range_coder.decode(payload, golden_tables, 1, 35)
  except bitstream.BitstreamError:
    return
  assert symbols.shape == (5, 35)
  if place < len(payload) - 12:
    # Another code gives other symbols, but for digits below the last interval.
    assert (symbols != np.load(GOLDEN / 'symbols.npy')).any()


def test_hostile_payloads_are_refused():
  model = make_tables((-(2**31), [1, 65535]))
  with pytest.raises(bitstream.BitstreamError, match='not an int32'):
    range_coder.decode(b'\x40', model, 0, 1)
  model = make_tables((2**31 - 2, [1, 65535]))
  with pytest.raises(bitstream.BitstreamError, match='not an int32'):
    range_coder.decode(b'\xfe', model, 0, 1)
  with pytest.raises(bitstream.BitstreamError, match='no symbols'):
    range_coder.decode(b'\xff' * 16, model, 0, 1)
  with pytest.raises(bitstream.BitstreamError, match='index 1: .* has 0 to 0'):
    range_coder.decode(b'', model, 1, 1)


def test_any_number_of_escapes_takes_few_calls(monkeypatch):
  # A channel's escapes are read in at most 63 bit planes, however damaged.
  model = make_tables((0, [1, 65535]))
  calls = []

  class Decoder:
    def __init__(self, words):
      self.decoder = real(words)

    def decode(self, *arguments):
      calls.append(arguments)
      return self.decoder.decode(*arguments)

  real = constriction.stream.queue.RangeDecoder
  monkeypatch.setattr(constriction.stream.queue, 'RangeDecoder', Decoder)
  payload = np.random.default_rng(4).bytes(2**18)
  with contextlib.suppress(bitstream.BitstreamError):
    range_coder.decode(payload, model, 0, 100_000)
  assert 1 < len(calls) <= 1 + 63


def test_wrong_symbols_are_named(golden_tables):
  with pytest.raises(ValueError, match=r'int32 \[5, positions\], not int64'):
    range_coder.encode(np.zeros([5, 2], np.int64), golden_tables, 0)
  with pytest.raises(ValueError, match=r'not int32 \[4, 2\]'):
    range_coder.encode(np.zeros([4, 2], np.int32), golden_tables, 0)
  with pytest.raises(ValueError, match='quality_index must be 0 to 1, not 2'):
    range_coder.encode(np.zeros([5, 2], np.int32), golden_tables, 2)
