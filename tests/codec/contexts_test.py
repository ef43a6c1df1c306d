"""Contexts: equal classes everywhere, exact for any int32, safe on any bytes.
"""
import dataclasses
import os
import pathlib
import runpy
import subprocess
import sys

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdc.codec import bitstream, contexts, range_coder, slices, tables

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
SHAPES = [(1, 1), (1, 2), (1, 7), (6, 1), (2, 2), (2, 3), (9, 8)]
INT32 = np.iinfo(np.int32)


@pytest.fixture(scope='module')
def golden():
  """(symbols, quality index, rows, payload) of the golden contexts."""
  made = runpy.run_path(str(GOLDEN / 'make.py'))
  return (
    np.load(GOLDEN / 'contexts_symbols.npy', allow_pickle=False),
    made['CONTEXTS_INDEX'], made['GRID'][0],
    (GOLDEN / 'contexts_payload.bin').read_bytes(),
  )


@pytest.fixture(scope='module')
def larger(golden_contexts):
  """Contexts of 96 channels in 5 groups."""
  return make_contexts(golden_contexts.tables)


def make_contexts(made: tables.Tables, bound: int = 20) -> contexts.Contexts:
  rng = np.random.default_rng(0)
  ends = np.array([4, 9, 20, 45, 96], np.int16)
  columns = contexts.make_steps(ends)[-1].weights.stop
  return contexts.Contexts(
    rng.permutation(96).astype(np.int16), ends,
    rng.integers(-bound, bound, (3, columns)).astype(np.int16), made,
    np.ones(3, np.float32),
  )


def draw(rng, channels: int, rows: int, columns: int) -> np.ndarray:
  """Draws symbols of every magnitude."""
  scale = np.geomspace(0.05, 20, channels)[:, None]
  symbols = rng.laplace(0, scale, [channels, rows * columns])
  return np.rint(symbols).astype(np.int32)


def assert_round_trip(symbols, model, quality_index, rows) -> bytes:
  payload = range_coder.encode(symbols, model, quality_index, rows)
  decoded = range_coder.decode(
    payload, model, quality_index, symbols.shape[1], rows
  )
  assert decoded.dtype == np.int32
  np.testing.assert_array_equal(decoded, symbols)
  return payload


# --- By the document --------------------------------------------------------


def log_by_the_document(n: int) -> int:
  v = 0
  while 2 ** (v + 1) <= (1 + n) ** 16:
    v += 1
  return v


def decode_by_the_document(
  payload, make_reader, arrays, quality_index, rows, columns, side
):
  """Decodes as docs/bitstream.md says, in plain integers.

  Args:
    payload: bytes.
    make_reader: conftest.DocumentedReader.
    arrays: Contexts.to_arrays().
    quality_index: of the image.
    rows: of its positions.
    columns: of its positions.
    side: of a slice.

  Returns:
    The symbols, [channel][row * columns + column].
  """
  arrays = {
    k: {n: a.tolist() for n, a in v.items()} if k == 'tables' else v.tolist()
    for k, v in arrays.items()
  }
  level, part = divmod(quality_index, 16)
  weights = arrays['weights'][level]
  if part:
    weights = [
      (low * (16 - part) + high * part + 8) // 16
      for low, high in zip(weights, arrays['weights'][level + 1], strict=True)
    ]
  table_rows, begin = [], 0
  made = arrays['tables']
  for first, length in zip(made['first'][0], made['length'][0], strict=True):
    table_rows.append((first, made['counts'][begin:begin + length]))
    begin += length
  groups, start = [], 0
  for end in arrays['ends']:
    groups.append(arrays['order'][start:end])
    start = end

  image, at = {}, 0
  corners = [
    (i, j) for i in range(0, rows, side) for j in range(0, columns, side)
  ]
  for top, left in corners:
    stream = payload[at:]
    if (top, left) != corners[-1]:
      number, shift = 0, 0
      while payload[at] >= 128:
        number += (payload[at] - 128) << shift
        at, shift = at + 1, shift + 7
      number += payload[at] << shift
      stream = payload[at + 1:at + number]
      at += number
    found = decode_slice(
      make_reader(stream), groups, weights, table_rows,
      min(side, rows - top), min(side, columns - left),
    )
    for (channel, i, j), k in found.items():
      image[channel, top + i, left + j] = k
  return [
    [image[c, i, j] for i in range(rows) for j in range(columns)]
    for c in range(len(arrays['order']))
  ]


def decode_slice(reader, groups, weights, table_rows, rows, columns):
  beside = [(-1, 0), (1, 0), (0, -1), (0, 1)]
  diagonal = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
  four = [
    ([0], []), ([1], [diagonal]), ([2], [beside]), ([3], [beside, diagonal])
  ]
  two = [([0, 1], []), ([2, 3], [beside])]
  phase = {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}
  found, begin = {}, 0

  def total(channels, i, j, offsets):
    """The sum of magnitudes; what is outside or not decoded counts as zero."""
    return sum(
      min(abs(found.get((c, i + di, j + dj), 0)), 255)
      for c in channels for di, dj in offsets
    )

  for g, channels in enumerate(groups):
    for phases, neighbours in four if g < 2 else two:
      positions = [
        (i, j) for p in phases for i in range(rows) for j in range(columns)
        if phase[i % 2, j % 2] == p
      ]
      features = {}
      for i, j in positions:
        sums = []
        for earlier in groups[:g]:
          here = [(0, 0)]
          sums += [total([c], i, j, here) for c in earlier]
          sums.append(total(earlier, i, j, here))
          sums.append(total(earlier, i, j, here + beside + diagonal))
        for offsets in neighbours:
          sums += [total([c], i, j, offsets) for c in channels]
          sums.append(total(channels, i, j, offsets))
        features[i, j] = [log_by_the_document(n) for n in sums] + [16]
      count = 1 + sum(len(earlier) + 2 for earlier in groups[:g]) + len(
        neighbours
      ) * (len(channels) + 1)
      listed = []
      for channel in channels:
        own = weights[begin:begin + count]
        begin += count
        for i, j in positions:
          score = sum(
            w * f for w, f in zip(own, features[i, j], strict=True)
          )
          listed.append((
            min(max((score + 40960) // 1024, 0), 63), (channel, i, j)
          ))
      listed.sort(key=lambda entry: entry[0])  # stable
      values = reader.get_step([table_rows[c] for c, _ in listed])
      found.update(
        (place, k) for (_, place), k in zip(listed, values, strict=True)
      )
  return found


def test_golden_bytes(golden_contexts, golden, documented_reader):
  symbols, index, rows, payload = golden
  assert assert_round_trip(symbols, golden_contexts, index, rows) == payload
  documented = decode_by_the_document(
    payload, documented_reader, golden_contexts.to_arrays(), index, rows,
    symbols.shape[1] // rows, 128,
  )
  np.testing.assert_array_equal(documented, symbols)


@pytest.mark.parametrize('transposed', [False, True])
def test_golden_slices(golden_contexts, documented_reader, transposed):
  made = runpy.run_path(str(GOLDEN / 'make.py'))
  symbols = made['make_slices_symbols']()
  if transposed:
    symbols = np.ascontiguousarray(symbols.swapaxes(1, 2))
  payload = slices.encode(symbols, golden_contexts, made['CONTEXTS_INDEX'])
  if not transposed:
    assert payload == (GOLDEN / 'slices_payload.bin').read_bytes()
  documented = decode_by_the_document(
    payload, documented_reader, golden_contexts.to_arrays(),
    made['CONTEXTS_INDEX'], *symbols.shape[1:], 128,
  )
  np.testing.assert_array_equal(documented, symbols.reshape(7, -1))


@pytest.mark.parametrize('shape', [(1, 1), (1, 5), (4, 1), (3, 5)])
@pytest.mark.parametrize('index', [0, 5, 16])
def test_the_document_is_right(
  golden_contexts, documented_reader, shape, index
):
  symbols = draw(np.random.default_rng(shape), 7, *shape)
  payload = assert_round_trip(symbols, golden_contexts, index, shape[0])
  documented = decode_by_the_document(
    payload, documented_reader, golden_contexts.to_arrays(), index, *shape, 128
  )
  np.testing.assert_array_equal(documented, symbols)


def test_golden_files_are_what_their_script_makes(golden_contexts, golden):
  made = runpy.run_path(str(GOLDEN / 'make.py'))
  model = made['make_contexts']()
  for name, array in golden_contexts.to_arrays().items():
    if name == 'tables':
      for part, counts in array.items():
        np.testing.assert_array_equal(
          model.to_arrays()['tables'][part], counts
        )
    else:
      np.testing.assert_array_equal(model.to_arrays()[name], array)
  np.testing.assert_array_equal(made['make_contexts_symbols'](), golden[0])


# --- Round trips and lengths ------------------------------------------------


@pytest.mark.parametrize('shape', SHAPES)
def test_any_int32_round_trips(golden_contexts, shape):
  rng = np.random.default_rng(shape)
  size = 7, shape[0] * shape[1]
  for symbols in (
    draw(rng, 7, *shape),
    rng.integers(INT32.min, INT32.max, size, np.int32, endpoint=True),
    np.full(size, INT32.min, np.int32),
    np.full(size, INT32.max, np.int32),
    np.zeros(size, np.int32),
  ):
    for index in (0, 7, 16):
      payload = assert_round_trip(symbols, golden_contexts, index, shape[0])
      ideal = golden_contexts.ideal_bits(symbols, index, shape[0])
      assert 8 * len(payload) <= 1.001 * ideal + 8


def test_symbols_are_left_as_they_are(golden_contexts, golden):
  symbols, index, rows, payload = golden
  symbols = symbols.copy()
  symbols.setflags(write=False)
  assert range_coder.encode(symbols, golden_contexts, index, rows) == payload


def test_no_positions_are_no_bytes(golden_contexts):
  symbols = np.zeros([7, 0], np.int32)
  assert assert_round_trip(symbols, golden_contexts, 3, 1) == b''


def test_file_is_as_long_as_the_tables_promise(larger):
  symbols = draw(np.random.default_rng(1), 96, 100, 105)
  assert symbols.size > 10**6
  payload = assert_round_trip(symbols, larger, 20, 100)
  ideal = larger.ideal_bits(symbols, 20, 100)
  assert ideal <= 8 * len(payload) <= 1.001 * ideal + 8


def test_contexts_save_bits(golden_contexts):
  # Zeros beside large symbols. With one class for all, each costs as much as
  # among the large ones; neighbours that are large raise the class from 0.
  one, near = (np.zeros_like(golden_contexts.weights) for _ in range(2))
  for step in golden_contexts.steps:
    own = np.zeros(step.shape, np.int16)
    own[:, -1] = -256  # class 36
    one[:, step.weights] = own.ravel()
    if step.shape[1] > 1:
      own[:, :-1] = 36 * 1024 // (40 * (step.shape[1] - 1))
      own[:, -1] = -2560  # class 0
    near[:, step.weights] = own.ravel()
  rng = np.random.default_rng(2)
  symbols = np.zeros([7, 32, 32], np.int32)
  symbols[:, :, 16:] = np.rint(rng.laplace(0, 4, [7, 32, 16]))
  bits_near, bits_one = (
    dataclasses.replace(golden_contexts, weights=weights).ideal_bits(
      symbols.reshape(7, -1), 0, 32
    )
    for weights in (near, one)
  )
  assert bits_near < 0.8 * bits_one


# --- Exactness --------------------------------------------------------------


def test_logs_are_exact():
  table = contexts.log_table()
  for n in [*range(300), 1023, 1024, 65535, len(table) - 1]:
    assert table[n] == log_by_the_document(n)
  assert (np.diff(table) >= 0).all() and table[-1] < 2**9


def test_classes_begin_at_their_thresholds():
  edges = np.arange(64) * 1024 - 40960
  np.testing.assert_array_equal(
    contexts.classify(edges.astype(np.float64)), np.arange(64)
  )
  np.testing.assert_array_equal(
    contexts.classify(edges - 1.0), [0, *range(63)]
  )
  extremes = np.array([-2.0**35, 2.0**35])
  for kind in (np.float32, np.float64):
    np.testing.assert_array_equal(
      contexts.classify(extremes.astype(kind)), [0, 63]
    )


def test_weights_between_levels(golden_contexts):
  low, high = golden_contexts.weights.astype(int)
  for part in range(17):
    np.testing.assert_array_equal(
      golden_contexts.at_quality(part), np.floor(
        (low * (16 - part) + high * part) / 16 + 0.5
      )
    )
  with pytest.raises(ValueError, match='0 to 16, not 17'):
    golden_contexts.at_quality(17)


@pytest.mark.parametrize('bound', [20, 2**15])
def test_scores_are_integers_in_either_precision(golden_contexts, bound):
  model = make_contexts(golden_contexts.tables, bound)
  weights, kinds = model.at_quality(20), set()
  symbols = draw(np.random.default_rng(3), 96, 12, 12) * 20
  known = contexts.Slice(12, 12)
  values = known.sort(symbols.reshape(96, 12, 12)[model.order])
  for step in model.steps:
    own = contexts._matrix(weights[step.weights].reshape(step.shape))
    kinds.add(own.dtype)
    features = known.features(step)
    np.testing.assert_array_equal(
      np.matmul(own, features.astype(own.dtype)),
      np.matmul(own.astype(np.int64), features.astype(np.int64)),
    )
    known.fill(step, values[step.channels, known.columns(step)])
  assert np.dtype(np.float32 if bound == 20 else np.float64) in kinds


@pytest.mark.parametrize('bound', [20, 2**15])
def test_perturbed_products_change_nothing(
  golden_contexts, monkeypatch, bound
):
  model = make_contexts(golden_contexts.tables, bound)
  symbols = draw(np.random.default_rng(4), 96, 20, 18)
  payload = range_coder.encode(symbols, model, 20, 20)
  rng, exact, calls = np.random.default_rng(5), np.matmul, []

  def perturbed(a, b):
    calls.append(a.dtype)
    out = exact(a, b)
    noise = rng.uniform(-1, 1, out.shape)
    # An error relative to the score, and one below a half.
    return (out * (1 + 1e-10 * noise) + 0.4 * noise).astype(a.dtype)

  monkeypatch.setattr(np, 'matmul', perturbed)
  assert range_coder.encode(symbols, model, 20, 20) == payload
  np.testing.assert_array_equal(
    range_coder.decode(payload, model, 20, 360, 20), symbols
  )
  assert len(calls) == 2 * len(model.steps)


def test_bytes_do_not_depend_on_the_matrix_library():
  """Another number of threads and other kernels sum in another order."""
  program = '\n'.join([
    'import hashlib, sys',
    f'sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})',
    'import numpy as np, contexts_test',
    'from gdc.codec import contexts, range_coder',
    'with np.load(contexts_test.GOLDEN / "contexts.npz") as arrays:',
    '  made = contexts.tables_lib.Tables(',
    '    *(arrays["tables/" + k] for k in ("counts", "first", "length")))',
    'model = contexts_test.make_contexts(made)',
    'symbols = contexts_test.draw(np.random.default_rng(6), 96, 40, 64)',
    'payload = range_coder.encode(symbols, model, 20, 40)',
    'print(hashlib.sha256(payload).hexdigest())',
  ])
  found = {
    subprocess.run(
      [sys.executable, '-c', program], env={**os.environ, **environment},
      check=True, capture_output=True, text=True,
    ).stdout
    for environment in (
      {'OPENBLAS_NUM_THREADS': '1', 'OPENBLAS_CORETYPE': 'Prescott'},
      {'OPENBLAS_NUM_THREADS': '3'},
    )
  }
  assert len(found) == 1


# --- Damage -----------------------------------------------------------------


def test_absurd_sizes_are_refused_before_anything_is_allocated(
  golden_contexts, traced_memory
):
  with (
    traced_memory() as peak,
    pytest.raises(bitstream.BitstreamError, match='too short'),
  ):
    range_coder.decode(bytes(1000), golden_contexts, 0, 10**12, 10**6)
  assert peak[0] < 2**20
  with pytest.raises(bitstream.BitstreamError, match='17: .* has 0 to 16'):
    range_coder.decode(b'', golden_contexts, 17, 1)


def test_a_position_takes_at_least_a_bit(golden_contexts):
  # Class 0 nearly always has a zero, and all symbols are in class 0.
  cheap = dataclasses.replace(
    golden_contexts,
    weights=np.full_like(golden_contexts.weights, -2000),
    tables=tables.Tables(
      np.tile(np.uint16([65535, 1]), 64), np.zeros([1, 64], np.int32),
      np.full([1, 64], 2, np.int32),
    ),
  )
  symbols = np.zeros([7, 8000], np.int32)
  assert cheap.minimum_bits(0) == 1
  assert cheap.ideal_bits(symbols, 0, 80) < 2
  payload = assert_round_trip(symbols, cheap, 0, 80)
  assert payload == bytes(996)
  with pytest.raises(bitstream.BitstreamError, match='too short: 8000'):
    range_coder.decode(payload[:-10], cheap, 0, 8000, 80)


def test_dearer_tables_say_so(golden_contexts):
  made = golden_contexts.tables
  dear = tables.Tables(
    np.tile(np.uint16([32768, 32768]), 64), np.zeros([1, 64], np.int32),
    np.full([1, 64], 2, np.int32),
  )
  assert dataclasses.replace(golden_contexts, tables=dear).minimum_bits(3) == 7
  assert made.least_bits.min() == 16 - np.log2(made.row(0, 0)[1].max())


def test_a_slice_bounds_memory(larger, traced_memory):
  symbols = draw(np.random.default_rng(8), 96, 64, 96)
  payload = range_coder.encode(symbols, larger, 20, 64)
  with traced_memory() as peak:
    range_coder.decode(payload, larger, 20, symbols.shape[1], 64)
  # Besides the result: its features in float32, and one group.
  assert peak[0] < symbols.nbytes + 64 * 96 * (4 * 120 + 28 * 51) + 2**17


@settings(max_examples=150, deadline=None)
@given(
  st.binary(max_size=300), st.integers(0, 9), st.integers(1, 9),
  st.integers(0, 16),
)
def test_random_payloads_never_fail_otherwise(
  golden_contexts, payload, columns, rows, quality_index
):
  try:
    symbols = range_coder.decode(
      payload, golden_contexts, quality_index, rows * columns, rows
    )
  except bitstream.BitstreamError:
    return
  assert symbols.shape == (7, rows * columns) and symbols.dtype == np.int32


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_damaged_payloads_never_fail_otherwise(
  golden_contexts, golden, place, change, cut
):
  symbols, index, rows, payload = golden
  payload = bytearray(payload)
  place %= len(payload)
  payload[place] ^= change
  if cut:
    del payload[place:]
  try:
    decoded = range_coder.decode(
      payload, golden_contexts, index, symbols.shape[1], rows
    )
  except bitstream.BitstreamError:
    return
  if place < len(payload) - 12:
    assert (decoded != symbols).any()


def test_any_number_of_escapes_takes_few_calls(golden_contexts, monkeypatch):
  calls, real = [], constriction.stream.queue.RangeDecoder

  class Decoder:
    def __init__(self, words):
      self.decoder = real(words)

    def decode(self, *arguments):
      calls.append(arguments)
      return self.decoder.decode(*arguments)

  monkeypatch.setattr(constriction.stream.queue, 'RangeDecoder', Decoder)
  rng = np.random.default_rng(7)
  symbols = rng.integers(INT32.min, INT32.max, [7, 5000], np.int32)
  assert_round_trip(symbols, golden_contexts, 9, 50)
  assert len(calls) <= len(golden_contexts.steps) * (64 + 63)


# --- Arrays -----------------------------------------------------------------


def test_arrays_are_inverse(golden_contexts):
  again = contexts.Contexts.from_arrays(golden_contexts.to_arrays())
  np.testing.assert_array_equal(again.weights, golden_contexts.weights)
  assert again.steps == golden_contexts.steps
  arrays = golden_contexts.to_arrays()
  del arrays['ends']
  with pytest.raises(ValueError, match="made of .*'ends'"):
    contexts.Contexts.from_arrays(arrays)


@pytest.mark.parametrize('name, change, message', [
  ('order', lambda a: a.astype(np.int32), 'order must be int16 with 1 axes'),
  ('order', lambda a: a[:0], 'order must not be empty'),
  ('order', lambda a: np.zeros_like(a), 'each of 0 to 6 once'),
  ('ends', lambda a: a[:-1], 'ends must rise to 7'),
  ('ends', lambda a: a[[0, 0, 1, 2]], 'ends must rise to 7'),
  ('weights', lambda a: a[:, 1:], 'columns for these groups, not'),
  ('weights', lambda a: a[0], 'weights must be int16 with 2 axes'),
  ('tables', lambda a: tables.Tables(
    np.array([65535, 1], np.uint16), np.zeros([1, 1], np.int32),
    np.full([1, 1], 2, np.int32),
  ), r'1 quality and 64 rows, not \(1, 1\)'),
  ('bits', lambda a: a[:1], 'bits must be 2 positive numbers'),
  ('bits', lambda a: 0 * a, 'bits must be 2 positive numbers'),
])
def test_wrong_arrays_are_named(golden_contexts, name, change, message):
  wrong = change(getattr(golden_contexts, name))
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(golden_contexts, **{name: wrong})


def test_too_large_groups_are_refused(golden_contexts):
  order = np.arange(300, dtype=np.int16)
  for ends, message in (([300], 'by at most 256'), ([200, 300], 'columns')):
    with pytest.raises(ValueError, match=message):
      dataclasses.replace(
        golden_contexts, order=order, ends=np.array(ends, np.int16)
      )
  order = np.arange(2100, dtype=np.int16)
  ends = np.arange(100, 2200, 100, dtype=np.int16)
  with pytest.raises(ValueError, match='at most 2048 features'):
    dataclasses.replace(golden_contexts, order=order, ends=ends)


def test_expected_rates_lie_between_those_of_levels(golden_contexts):
  bits = [golden_contexts.entropy_bits(i) for i in range(17)]
  np.testing.assert_allclose([bits[0], bits[8], bits[16]], [10, 200**0.5, 20])
