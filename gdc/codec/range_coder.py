"""Range coder: the symbols of a slice <-> its stream of bytes.

Range coding (Martin, "Range encoding", 1979) with constriction's queue coder
(Bamler, "Understanding entropy coding with asymmetric numeral systems",
arXiv:2201.01741, describes the library). docs/bitstream.md specifies every bit
and is enough to write another decoder.

An entropy model (entropy_model.py) says which symbols are coded at once, and
which row of counts codes each of them. They are sorted by row, so that the
coder takes a run of symbols at a time; escape codes follow.

Invariant: the same model and symbols give the same bytes on every machine, and
decode(encode(symbols)) is symbols for every int32. The floats that the coder
sees are therefore never rounded, see _model.
"""

import weakref
from collections.abc import Iterator

import constriction
import numpy as np

from gdc.codec import bitstream, entropy_model
from gdc.codec import tables as tables_lib

# Escapes are rare: one bit at a time needs no further tables.
_BIT = constriction.stream.model.Uniform(2)
# constriction's own fixed-point precision.
_CODER_PRECISION = 24
_WORD_BYTES = 4
# A stream may be this much shorter than its positions require. The encoder
# stays within half of it, so rounding never rejects a valid file.
_SLACK_BITS = 64
# Tables -> their rows as constriction's models, made when first used.
_models = weakref.WeakKeyDictionary()


def encode(
  symbols: np.ndarray, model: entropy_model.EntropyModel, quality_index: int,
  height: int = 1,
) -> bytes:
  """Returns the stream of symbols.

  Args:
    symbols: int32 [channels, positions], row by row.
    model: tables.Tables or contexts.Contexts.
    quality_index: of the image.
    height: number of rows of positions of the slice.
  """
  model.check_symbols(symbols)
  model.check_quality_index(quality_index)
  encoder = constriction.stream.queue.RangeEncoder()

  def code(values, rows):
    runs = _Runs(model.rows, rows, values.size)
    index, above, distance = tables_lib.split_escapes(
      values.ravel()[runs.order], runs.first, runs.length
    )
    for row, here in runs:
      encoder.encode(index[here], _model(model.rows, row))
    if distance.size:
      _encode_escapes(encoder, above, distance)

  model.visit(symbols, height, quality_index, code)
  digits = _shortest_digits(encoder)
  # A code value that ends in zeros could be stored in fewer bytes. Enough are
  # kept to account for the positions, so that `decode` can refuse absurd sizes.
  bits = symbols.shape[1] * model.minimum_bits(quality_index)
  least = max(0, int((bits - _SLACK_BITS / 2) // 8))
  return _to_little_endian(digits.ljust(least, b'\0'))


def decode(
  stream: bytes,
  model: entropy_model.EntropyModel,
  quality_index: int,
  num_positions: int,
  height: int = 1,
) -> np.ndarray:
  """Returns the symbols of a stream, int32 [channels, positions].

  Bytes that no encoder wrote give some symbols or a BitstreamError. Work is
  bounded by num_positions, and by what the stream could hold.

  Args:
    stream: see encode.
    model: tables.Tables or contexts.Contexts.
    quality_index: of the image.
    num_positions: of the slice.
    height: number of rows of positions of the slice.
  """
  stream = bytes(stream)
  if num_positions < 0:
    raise ValueError(f'num_positions must be 0 or more, not {num_positions}')
  check_claims(len(stream), model, quality_index, num_positions)
  decoder = constriction.stream.queue.RangeDecoder(_to_words(stream))

  def code(values, rows):
    runs = _Runs(model.rows, rows, values.size)
    found = np.empty(values.size, np.int32)
    for row, here in runs:
      found[here] = decoder.decode(
        _model(model.rows, row), here.stop - here.start
      )
    escaped = found == runs.length - 1
    found += runs.first
    if escaped.any():
      first, length = (
        np.broadcast_to(a, found.shape)[escaped].astype(np.int64)
        for a in (runs.first, runs.length)
      )
      found[escaped] = _decode_escapes(decoder, first, first + length - 2)
    unsorted = np.empty(values.size, np.int32)
    unsorted[runs.order] = found
    values[...] = unsorted.reshape(values.shape)

  symbols = np.empty([model.num_channels, num_positions], np.int32)
  try:
    model.visit(symbols, height, quality_index, code, fills=True)
  except AssertionError as error:
    # constriction raises this for a code value in no interval.
    raise bitstream.BitstreamError(
      'damaged payload: no symbols of this model have its code'
    ) from error
  return symbols


def check_claims(
  num_bytes: int, model: entropy_model.EntropyModel, quality_index: int,
  num_positions: int, num_streams: int = 1,
) -> None:
  """Checks what a file claims before anything is allocated.

  Args:
    num_bytes: of all streams together.
    model: see encode.
    quality_index: of the image.
    num_positions: of all streams together.
    num_streams: number of streams.

  Raises:
    BitstreamError: the model has no such quality index, or the streams are too
      short for the positions.
  """
  if not 0 <= quality_index < model.num_qualities:
    raise bitstream.BitstreamError(
      f'unknown quality index {quality_index}: this model has 0 to '
      f'{model.num_qualities - 1}'
    )
  least_bits = num_positions * model.minimum_bits(quality_index)
  if least_bits > 8 * num_bytes + _SLACK_BITS * num_streams:
    raise bitstream.BitstreamError(
      f'payload too short: {num_positions} positions take at least '
      f'{least_bits / 8:.0f} bytes, not {num_bytes}'
    )


class _Runs:
  """The order of symbols that are coded at once: all of a row, then the next.

  Iterating gives (row, slice of the sorted symbols) of each run.

  Attributes:
    order: indices that sort the symbols by row, stably.
    first: int32, the smallest symbol of the row: of all, or of each in order.
    length: int32, the number of counts of the row, likewise.
  """

  def __init__(self, tables: tables_lib.Tables, rows, size: int):
    """Sorts symbols by their rows: one for all, or uint8 [any]."""
    first, length = tables.first.ravel(), tables.length.ravel()
    if np.ndim(rows) == 0:
      self.order = slice(None)
      self.first, self.length = first[rows], length[rows]
      self._runs = [(int(rows), size)]
    else:
      rows = rows.ravel()
      self.order = np.argsort(rows, kind='stable')
      counts = np.bincount(rows, minlength=len(first))
      self.first, self.length = (np.repeat(a, counts) for a in (first, length))
      self._runs = [(row, n) for row, n in enumerate(counts.tolist()) if n]

  def __iter__(self) -> Iterator[tuple[int, slice]]:
    start = 0
    for row, n in self._runs:
      yield row, slice(start, start + n)
      start += n


def _model(
  tables: tables_lib.Tables, row: int
) -> constriction.stream.model.Categorical:
  """Returns the model whose probabilities are exactly a row's counts / 2**16.

  constriction gives each of n symbols one of its 2**24 units and distributes
  the other 2**24 - n in proportion to the weights. Weights of 256 * count - 1
  sum to exactly 2**24 - n: their scale is 1, nothing is rounded, and every
  interval is exactly 256 * count units, in float32 and in float64.
  """
  made = _models.setdefault(tables, {})
  if row not in made:
    share = 2 ** (_CODER_PRECISION - tables_lib.PRECISION)
    weights = share * tables.row_counts(row) - 1
    made[row] = constriction.stream.model.Categorical(
      weights.astype(np.float64), perfect=False
    )
  return made[row]


def _encode_escapes(encoder, above: np.ndarray, distance: np.ndarray) -> None:
  """Writes sides, unary prefixes and suffixes, plane by plane.

  This is the Exp-Golomb code of order 0 of the distance. In bit planes, any
  number of escapes takes at most 63 calls.
  """

  def put(bits):
    encoder.encode(np.ascontiguousarray(bits, np.int32), _BIT)

  put(above)
  prefix = tables_lib.escape_prefix(distance)
  for k in range(tables_lib.MAX_ESCAPE_PREFIX):
    reached = prefix >= k
    if reached.any():
      put(prefix[reached] > k)
  for k in reversed(range(tables_lib.MAX_ESCAPE_PREFIX)):
    has = prefix > k
    if has.any():
      put(distance[has] >> k & 1)


def _decode_escapes(
  decoder, smallest: np.ndarray, largest: np.ndarray
) -> np.ndarray:
  """Inverts _encode_escapes.

  Args:
    decoder: constriction's.
    smallest: int64 [escapes], the smallest symbol of each escape's row.
    largest: int64 [escapes], the largest symbol.

  Returns:
    The symbols, int64 [escapes].
  """
  num_escapes = len(smallest)

  def get(num_bits):
    return decoder.decode(_BIT, int(num_bits))

  above = get(num_escapes) == 1
  prefix = np.zeros(num_escapes, np.int64)
  for k in range(tables_lib.MAX_ESCAPE_PREFIX):
    reached = prefix == k
    if reached.any():
      prefix[reached] += get(reached.sum())
  distance = np.ones(num_escapes, np.int64)
  for k in reversed(range(tables_lib.MAX_ESCAPE_PREFIX)):
    has = prefix > k
    if has.any():
      distance[has] = distance[has] << 1 | get(has.sum())
  values = np.where(above, largest + distance, smallest - distance)
  limits = np.iinfo(np.int32)
  if values.min() < limits.min or values.max() > limits.max:
    raise bitstream.BitstreamError(
      'damaged payload: it holds a symbol that is not an int32'
    )
  return values


def _shortest_digits(encoder) -> bytes:
  """Returns the shortest code value of the encoded symbols, in base 256.

  Any number in the encoder's last interval [low, low + size) decodes to the
  same symbols, and constriction ends on whole words, at times one too many. The
  multiple of the largest power of 256 in the interval has the most zeros to
  omit.
  """
  words = encoder.get_compressed()
  num_shifted, (lower, size) = encoder.pos()
  digits = words.astype('>u4').tobytes()
  num_bytes = _WORD_BYTES * (num_shifted + 2)
  digits = digits.ljust(num_bytes, b'\0')
  # constriction's code value lies in the interval; `lower` is the lower end up
  # to carries into the words already shifted out.
  value = int.from_bytes(digits, 'big')
  low = value - (value - lower) % 2**64
  for zeros in range(8, -1, -1):
    candidate = -(-low >> 8 * zeros) << 8 * zeros
    if candidate < low + size:
      break
  return candidate.to_bytes(num_bytes, 'big').rstrip(b'\0')


def _to_little_endian(digits: bytes) -> bytes:
  """Turns digits, most significant first, into little-endian words.

  A last word of fewer than four digits omits its low-order zero bytes.
  """
  lacking = -len(digits) % _WORD_BYTES
  whole = len(digits) - len(digits) % _WORD_BYTES
  words = np.frombuffer(digits + bytes(lacking), '>u4')
  data = words.astype('<u4').tobytes()
  return data[:whole] + data[whole + lacking :]


def _to_words(stream: bytes) -> np.ndarray:
  """Inverts _to_little_endian: returns uint32 in native order."""
  lacking = -len(stream) % _WORD_BYTES
  whole = len(stream) - len(stream) % _WORD_BYTES
  data = stream[:whole] + bytes(lacking) + stream[whole:]
  return np.frombuffer(data, '<u4').astype(np.uint32)
