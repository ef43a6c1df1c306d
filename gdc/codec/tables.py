"""Integer frequency tables, shared by encoder and decoder.

A learned density differs in its last bits between machines, which is fatal to
an entropy coder. It is therefore evaluated once, when a model is exported, and
quantised in float64 to integer counts that are stored with the model (Balle et
al., "Integer networks for data compression with latent-variable models", ICLR
2019, describe the problem).

A row of counts belongs to one quality and one channel, or to a class of
contexts.Contexts. It covers consecutive symbols and, last, an escape symbol
that stands for every other int32.

Invariant: the counts of a row are integers of at least 1 that sum to exactly
2**PRECISION.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from gdc.codec import entropy_model

PRECISION = 16
TOTAL = 2**PRECISION
# Less likely symbols at the ends of a row go to the escape symbol. A count of 1
# costs the rest of the row 2**-16 log2(e) bits a symbol and saves some two bits
# where it is used: break-even is near 2**-16.5.
TRIM_MASS = 2.0**-17
# Counts of at least 1 would use up longer rows.
MAX_LENGTH = 2**15
MAX_ESCAPE_PREFIX = 31  # of a distance between two int32

_INT32 = np.iinfo(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Tables(entropy_model.EntropyModel):
  """The tables of all qualities and channels of one model.

  Row quality * channels + channel belongs to a quality and a channel.

  Attributes:
    counts: uint16 [sum of length], all rows: quality outer, channel inner.
    first: int32 [qualities, channels], the smallest symbol of each row.
    length: int32 [qualities, channels], the number of counts in each row, the
      escape symbol (last) included.
  """

  counts: np.ndarray
  first: np.ndarray
  length: np.ndarray

  def __post_init__(self):
    for name, dtype, ndim in (
      ('counts', np.uint16, 1), ('first', np.int32, 2), ('length', np.int32, 2),
    ):
      array = entropy_model.frozen(name, getattr(self, name), dtype, ndim)
      object.__setattr__(self, name, array)
    if self.first.shape != self.length.shape or not self.length.size:
      raise ValueError(
        'first and length must both be [qualities, channels] and not empty, '
        f'not {self.first.shape} and {self.length.shape}'
      )
    if self.length.min() < 2 or self.length.max() > MAX_LENGTH + 1:
      raise ValueError(
        f'a row must have 2 to {MAX_LENGTH + 1} counts, escape included, '
        f'not {self.length.min()} or {self.length.max()}'
      )
    if self.length.sum(dtype=np.int64) != self.counts.size:
      raise ValueError(
        f'length promises {self.length.sum(dtype=np.int64)} counts, there '
        f'are {self.counts.size}'
      )
    if self.counts.min() < 1:
      raise ValueError(
        f'every count must be at least 1: count {self.counts.argmin()} is 0'
      )
    sums = np.add.reduceat(self.counts, self._offsets, dtype=np.int64)
    if (sums != TOTAL).any():
      row = int((sums != TOTAL).argmax())
      raise ValueError(
        f'the counts of a row must sum to {TOTAL}: those of quality index '
        f'{row // self.num_channels}, channel {row % self.num_channels} sum '
        f'to {sums[row]}'
      )
    last = self.first.astype(np.int64) + self.length - 2
    if last.max() > _INT32.max:
      raise ValueError(f'the largest symbol, {last.max()}, is not an int32')

  @property
  def num_qualities(self) -> int:
    return self.first.shape[0]

  @property
  def num_channels(self) -> int:
    return self.first.shape[1]

  @functools.cached_property
  def _offsets(self) -> np.ndarray:
    """Start of each row in counts, int64 [qualities * channels]."""
    ends = np.cumsum(self.length, dtype=np.int64)
    return np.concatenate([[0], ends[:-1]])

  @functools.cached_property
  def _entropy_bits(self) -> np.ndarray:
    """float64 [qualities]."""
    share = self.counts / TOTAL
    bits = np.add.reduceat(-share * np.log2(share), self._offsets)
    return bits.reshape(self.first.shape).sum(axis=1)

  @functools.cached_property
  def least_bits(self) -> np.ndarray:
    """Bits of each row's most likely symbol, float64 [qualities, channels]."""
    largest = np.maximum.reduceat(self.counts, self._offsets)
    bits = PRECISION - np.log2(largest.astype(np.float64))
    return bits.reshape(self.first.shape)

  @functools.cached_property
  def _bits(self) -> np.ndarray:
    """Bits of each count."""
    return PRECISION - np.log2(self.counts.astype(np.float64))

  def row(self, quality_index: int, channel: int) -> tuple[int, np.ndarray]:
    """Returns (first symbol, counts as int64 with the escape symbol last)."""
    self.check_quality_index(quality_index)
    row = quality_index * self.num_channels + channel
    return int(self.first[quality_index, channel]), self.row_counts(row)

  def row_counts(self, row: int) -> np.ndarray:
    """Returns the counts of a row, as int64 with the escape symbol last."""
    start = self._offsets[row]
    counts = self.counts[start : start + self.length.flat[row]]
    return counts.astype(np.int64)

  @property
  def rows(self) -> 'Tables':
    return self

  def visit(self, symbols, height, quality_index, code, fills=False) -> None:
    """Visits channel after channel, see entropy_model.EntropyModel."""
    for channel, values in enumerate(symbols):
      code(values, quality_index * self.num_channels + channel)

  def bits(self, values: np.ndarray, rows: int | np.ndarray) -> float:
    """Returns the ideal code length of symbols, escapes included.

    Args:
      values: int32 of any shape.
      rows: of each symbol: an int for all, or an array of that shape.
    """
    index, _, distance = split_escapes(
      values, self.first.ravel()[rows], self.length.ravel()[rows]
    )
    bits = self._bits[self._offsets[rows] + index].sum()
    return float(bits + escape_bits(distance).sum())

  def minimum_bits(self, quality_index: int) -> float:
    """Returns the fewest bits that one position can take, over all channels."""
    self.check_quality_index(quality_index)
    return float(self.least_bits[quality_index].sum())

  def entropy_bits(self, quality_index: int) -> float:
    """Returns the expected bits of one position, over all channels.

    Escape codes are not counted.
    """
    self.check_quality_index(quality_index)
    return float(self._entropy_bits[quality_index])

  def to_arrays(self) -> dict[str, np.ndarray]:
    return {'counts': self.counts, 'first': self.first, 'length': self.length}

  @classmethod
  def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> 'Tables':
    """Inverts to_arrays; ValueError names what is wrong."""
    names = {field.name for field in dataclasses.fields(cls)}
    if set(arrays) != names:
      raise ValueError(
        f'tables are made of {sorted(names)}, not {sorted(arrays)}'
      )
    return cls(**arrays)


def from_pmfs(pmfs: Sequence[np.ndarray], first: Sequence[int]) -> Tables:
  """Quantises probabilities to integer counts.

  Args:
    pmfs: float64 [symbols, channels] for each quality; the number of symbols
      may differ. The rest of a channel's mass to 1 lies outside.
    first: the symbol of row 0, for each quality.

  Returns:
    Tables whose rows have the least expected code length among all counts that
    sum to 2**PRECISION, for the symbols kept (see TRIM_MASS).
  """
  counts, firsts, lengths = [], [], []
  for q, pmf in enumerate(pmfs):
    pmf = np.asarray(pmf, np.float64)
    # NaN fails this too. The slack is for densities in float32.
    if not (pmf.min() >= 0 and pmf.sum(axis=0).max() <= 1 + 1e-3):
      raise ValueError(
        f'pmf {q} must be non-negative and sum to at most 1 in each channel: '
        f'least value {pmf.min()}, largest sum {pmf.sum(axis=0).max()}'
      )
    pmf = pmf.T
    kept = pmf >= TRIM_MASS
    kept[np.arange(len(pmf)), pmf.argmax(axis=1)] = True
    begin = kept.argmax(axis=1)
    end = pmf.shape[1] - kept[:, ::-1].argmax(axis=1)
    k = np.arange(pmf.shape[1])
    inside = (k >= begin[:, None]) & (k < end[:, None])
    mass = np.where(inside, pmf, 0.0)
    # Tails and outside mass, not below zero by rounding.
    escape = np.maximum(1 - mass.sum(axis=1, keepdims=True), 0.0)
    used = np.pad(inside, ((0, 0), (0, 1)), constant_values=True)
    table = _quantize(np.concatenate([mass, escape], axis=1), used)
    counts.append(table[used])
    firsts.append(first[q] + begin)
    lengths.append(end - begin + 1)
  return Tables(
    np.concatenate(counts).astype(np.uint16),
    np.stack(firsts).astype(np.int32),
    np.stack(lengths).astype(np.int32),
  )


def split_escapes(
  values: np.ndarray, first: int | np.ndarray, length: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Splits symbols into indices and escapes.

  Args:
    values: int32 of any shape.
    first: int32, the smallest symbol of the row: of all, or of each.
    length: int32, the number of counts of the row: of all, or of each.

  Returns:
    index: int32 of that shape, into the row's counts; length - 1 is the escape.
    above: bool [escapes], whether the symbol lies beyond the upper end.
    distance: int64 [escapes], to the nearest symbol of the row, at least 1.
  """
  first, length = np.int32(first), np.int32(length)
  last = first + (length - 2)
  escaped = (values < first) | (values > last)
  index = values - first  # may wrap where it is an escape
  if not escaped.any():
    return index, np.zeros(0, bool), np.zeros(0, np.int64)
  values, first, last, length = (
    np.broadcast_to(a, values.shape)[escaped].astype(np.int64)
    for a in (values, first, last, length)
  )
  index[escaped] = length - 1
  above = values > last
  return index, above, np.where(above, values - last, first - values)


def escape_prefix(distance: np.ndarray) -> np.ndarray:
  """Returns floor(log2(distance)) exactly, int64, 0 to MAX_ESCAPE_PREFIX."""
  return np.frexp(distance.astype(np.float64))[1].astype(np.int64) - 1


def escape_bits(distance: np.ndarray) -> np.ndarray:
  """Returns the bits of escapes: side, unary prefix with its end, suffix."""
  prefix = escape_prefix(distance)
  return 1 + np.minimum(prefix + 1, MAX_ESCAPE_PREFIX) + prefix


def _quantize(mass: np.ndarray, used: np.ndarray) -> np.ndarray:
  """Returns the counts of least expected code length, a row for each channel.

  The length, -sum mass log2(count), is separable and convex, so a table is
  optimal exactly when moving one count between two symbols never helps.
  Rounding with a common divisor comes close (Webster's method of
  apportionment); steepest single moves then reach the optimum.

  Args:
    mass: float64 [channels, symbols], each row with a positive sum.
    used: bool [channels, symbols], symbols that get a count.

  Returns:
    int64 [channels, symbols]: at least 1 where used, 0 elsewhere.
  """

  def rounded(scale):
    counts = np.maximum(np.rint(mass * scale[:, None]), 1) * used
    return counts.astype(np.int64)

  low = np.zeros(len(mass))
  high = 2.0 * TOTAL / mass.sum(axis=1)
  for _ in range(24):
    middle = (low + high) / 2
    fits = rounded(middle).sum(axis=1) <= TOTAL
    low, high = np.where(fits, middle, low), np.where(fits, high, middle)
  counts = rounded(low)

  # Saving of count n + 1 over count n. A move and its reverse compare equal to
  # the last bit, so none is undone.
  n = np.arange(1, TOTAL + 1)
  saving = np.concatenate([[0.0], np.log2(1 + 1 / n)])

  def gains(counts, mass, used):
    return np.where(used, mass * saving[counts], -np.inf)

  def losses(counts, mass):
    return np.where(
      counts > 1, mass * saving[np.maximum(counts - 1, 0)], np.inf
    )

  gain, loss = gains(counts, mass, used), losses(counts, mass)
  missing = TOTAL - counts.sum(axis=1)
  rows = np.arange(len(mass))
  while rows.size:
    up, down = gain[rows].argmax(axis=1), loss[rows].argmin(axis=1)
    short = missing[rows] > 0
    moves = short | (gain[rows, up] > loss[rows, down])
    rows, up, down, short = rows[moves], up[moves], down[moves], short[moves]
    counts[rows, up] += 1
    counts[rows[~short], down[~short]] -= 1
    missing[rows[short]] -= 1
    for k in (up, down):
      here = rows, k
      gain[here] = gains(counts[here], mass[here], used[here])
      loss[here] = losses(counts[here], mass[here])
  return counts
