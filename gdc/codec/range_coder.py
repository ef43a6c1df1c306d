"""Symbols and tables <-> the payload of a file.

Range coding (Martin, "Range encoding", 1979) with constriction's queue coder
(Bamler, "Understanding entropy coding with asymmetric numeral systems",
arXiv:2201.01741, describes the library). The order and every bit are specified
in docs/bitstream.md, which is enough to write another decoder.

Invariant: the same tables and symbols give the same bytes on every machine,
and decode(encode(symbols)) is symbols for every int32. For that, no float that
the coder sees is ever rounded: see _model.
"""

import constriction
import numpy as np

from gdc.codec import bitstream
from gdc.codec import tables as tables_lib

# Escapes are written one bit at a time: rare, and free of further tables.
_BIT = constriction.stream.model.Uniform(2)
# constriction's own fixed-point precision.
_CODER_PRECISION = 24
_WORD_BYTES = 4
# By how much a payload may be shorter than its positions call for. The encoder
# stays within half of it, so that rounding never refuses an honest file.
_SLACK_BITS = 64


def encode(
  symbols: np.ndarray, tables: tables_lib.Tables, quality_index: int
) -> bytes:
  """Returns the payload of symbols, int32 [channels, positions]."""
  tables.check_symbols(symbols)
  tables.check_quality_index(quality_index)
  encoder = constriction.stream.queue.RangeEncoder()
  for channel, values in enumerate(symbols):
    first, counts = tables.row(quality_index, channel)
    index, above, distance = tables_lib.split_escapes(
      values, first, len(counts)
    )
    encoder.encode(index.astype(np.int32), _model(counts))
    if distance.size:
      _encode_escapes(encoder, above, distance)
  digits = _shortest_digits(encoder)
  # A lucky code value ends early, in zeros that need not be stored. A payload
  # keeps enough of them to account for its positions: that is how `decode` can
  # tell an absurd size from luck.
  bits = symbols.shape[1] * tables.minimum_bits(quality_index)
  least = max(0, int((bits - _SLACK_BITS / 2) // 8))
  return _to_little_endian(digits.ljust(least, b'\0'))


def decode(
  payload: bytes,
  tables: tables_lib.Tables,
  quality_index: int,
  num_positions: int,
) -> np.ndarray:
  """Returns the symbols of a payload, int32 [channels, positions].

  Of bytes that no encoder wrote it makes some symbols, or BitstreamError; never
  more work than num_positions calls for, nor more than the payload could hold.
  """
  payload = bytes(payload)
  if num_positions < 0:
    raise ValueError(f'num_positions must be 0 or more, not {num_positions}')
  if not 0 <= quality_index < tables.num_qualities:
    raise bitstream.BitstreamError(
      f'unknown quality index {quality_index}: this model has 0 to '
      f'{tables.num_qualities - 1}'
    )
  least_bits = num_positions * tables.minimum_bits(quality_index)
  if least_bits > 8 * len(payload) + _SLACK_BITS:
    raise bitstream.BitstreamError(
      f'payload too short: {num_positions} positions take at least '
      f'{least_bits / 8:.0f} bytes, not {len(payload)}'
    )
  decoder = constriction.stream.queue.RangeDecoder(_to_words(payload))
  symbols = np.empty([tables.num_channels, num_positions], np.int32)
  try:
    for channel in range(tables.num_channels):
      first, counts = tables.row(quality_index, channel)
      index = decoder.decode(_model(counts), num_positions)
      escaped = index == len(counts) - 1
      values = index.astype(np.int64) + first
      if escaped.any():
        values[escaped] = _decode_escapes(
          decoder, int(escaped.sum()), first, first + len(counts) - 2
        )
      symbols[channel] = values
  except AssertionError as error:
    # What constriction raises where the code value lies in no interval.
    raise bitstream.BitstreamError(
      'damaged payload: no symbols of this model have its code'
    ) from error
  return symbols


def _model(counts: np.ndarray) -> constriction.stream.model.Categorical:
  """The model whose probabilities are exactly counts / 2**16.

  constriction gives each of n symbols one of its 2**24 units and deals the
  other 2**24 - n out in proportion. Handed counts / 2**16, it therefore bends
  every interval by up to n units, through rounded products. Handed what each
  symbol lacks to its exact share beside that one unit, it has nothing to
  round: the weights are integers with sum 2**24 - n, their scale is exactly 1,
  and every interval is exactly 256 * count units, in float32 and in float64.
  """
  share = 2 ** (_CODER_PRECISION - tables_lib.PRECISION)
  return constriction.stream.model.Categorical(
    (share * counts - 1).astype(np.float64), perfect=False
  )


def _encode_escapes(encoder, above: np.ndarray, distance: np.ndarray) -> None:
  """Writes sides, unary prefixes, suffixes of one channel, plane by plane.

  Exp-Golomb of order 0 of the distance; planes instead of one symbol after the
  other, so that any number of escapes takes at most 63 calls.
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
  decoder, num_escapes: int, smallest: int, largest: int
) -> np.ndarray:
  """The inverse of _encode_escapes: symbols, int64 [num_escapes]."""

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
  """The shortest code value of what was encoded, in base 256.

  Any number in the encoder's last interval decodes to the same symbols;
  constriction ends on whole words, at times one too many. Seen as one big
  integer, the interval is [low, low + size), and the multiple of the largest
  power of 256 within it has the most zeros to leave out.
  """
  words = encoder.get_compressed()
  num_shifted, (lower, size) = encoder.pos()
  digits = words.astype('>u4').tobytes()
  num_bytes = _WORD_BYTES * (num_shifted + 2)
  digits = digits.ljust(num_bytes, b'\0')
  # The code value that constriction chose lies in the interval, and `lower` is
  # the interval's lower end up to carries into the words already shifted out.
  value = int.from_bytes(digits, 'big')
  low = value - (value - lower) % 2**64
  for zeros in range(8, -1, -1):
    candidate = -(-low >> 8 * zeros) << 8 * zeros
    if candidate < low + size:
      break
  return candidate.to_bytes(num_bytes, 'big').rstrip(b'\0')


def _to_little_endian(digits: bytes) -> bytes:
  """Digits, most significant first, as little-endian words.

  A last word of fewer than four digits lacks its low-order, zero bytes.
  """
  lacking = -len(digits) % _WORD_BYTES
  whole = len(digits) - len(digits) % _WORD_BYTES
  words = np.frombuffer(digits + bytes(lacking), '>u4')
  data = words.astype('<u4').tobytes()
  return data[:whole] + data[whole + lacking :]


def _to_words(payload: bytes) -> np.ndarray:
  """The inverse of _to_little_endian: uint32 in the machine's own order."""
  lacking = -len(payload) % _WORD_BYTES
  whole = len(payload) - len(payload) % _WORD_BYTES
  data = payload[:whole] + bytes(lacking) + payload[whole:]
  return np.frombuffer(data, '<u4').astype(np.uint32)
