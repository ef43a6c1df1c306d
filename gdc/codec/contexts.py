"""Contexts: which table codes a symbol, decided by what is decoded already.

One static table per channel knows nothing of a symbol's neighbourhood. Here a
symbol is coded with one of `CLASSES` tables that all channels and qualities
share, and its class is its expected magnitude, on a logarithmic scale, given
the magnitudes of symbols decoded before it. It stays a factorized prior: given
their contexts, symbols are independent.

Channels are coded in groups of falling energy (Minnen & Singh 2020, arXiv
2007.08739) and the places of a group in two or four phases of a checkerboard
(He et al. 2021, arXiv 2103.15306). All symbols of such a step are coded at
once: their contexts only look at earlier steps. The log2 of the expected
magnitude is a linear function of these features:

  of each earlier channel, the log magnitude at the place;
  of each earlier group, the log of the sum over its channels at the place, and
    over the 3 x 3 places around it;
  of earlier phases of the group itself, the log of the sum over the neighbours
    of the place, of each channel and of all.

Invariant: encoder and decoder choose the same tables on every machine (Balle et
al., "Integer networks for data compression with latent-variable models", ICLR
2019, names the problem). Features and weights are integers. A score is a dot
product of at most 2^11 pairs, |weight| <= 2^15 and 0 <= feature < 2^9, so it
and all its partial sums are integers below 2^35 in magnitude: float64, in which
they are added up, holds them exactly, in whatever order.
"""
import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from gdc.codec import tables as tables_lib

CLASSES = 64
# Features are floor(UNIT log2(1 + n)); weights are multiples of 1 / SCALE.
UNIT = 16
SCALE = 256
# Classes are a quarter of an octave wide; class 0 begins at 2^LOWEST_OCTAVE.
_CLASS_SHIFT = 10
LOWEST_OCTAVE = -10
# Larger magnitudes count as this one.
CLIP = 255
# Groups whose places are coded in four phases instead of two.
FOUR_PHASES = 2
_LARGEST_SUM = 9 * CLIP * 2**8  # a group has at most 2^8 channels


@functools.cache
def _log_table() -> np.ndarray:
  """floor(UNIT log2(1 + n)) for n up to _LARGEST_SUM, uint16.

  A value changes at the smallest n with (1 + n)^UNIT >= 2^value: integers
  decide, so the table is the same everywhere.
  """
  table = np.zeros(_LARGEST_SUM + 1, np.uint16)
  value = 0
  while True:
    value += 1
    low, high = 0, _LARGEST_SUM + 1
    while low < high:
      middle = (low + high) // 2
      if (1 + middle) ** UNIT >> value:
        high = middle
      else:
        low = middle + 1
    if low > _LARGEST_SUM:
      return table
    table[low:] = value


@dataclasses.dataclass(frozen=True)
class Step:
  """Symbols that are coded at once.

  Attributes:
    group: index of the group.
    channels: its channels, as a slice of `Contexts.order`.
    phases: (first, end) of the phases 0 to 3 that the places are in.
    weights: its columns of `Contexts.weights`, a slice.
    shape: (channels, features) of its weights.
  """

  group: int
  channels: slice
  phases: tuple[int, int]
  weights: slice
  shape: tuple[int, int]


def _steps(ends: np.ndarray) -> tuple[Step, ...]:
  """The steps of groups that end at these places of the order."""
  steps, start, begin = [], 0, 0
  for group, end in enumerate(int(e) for e in ends):
    size = end - start
    phases = ((0, 1), (1, 2), (2, 3), (3, 4))
    if group >= FOUR_PHASES:
      phases = ((0, 2), (2, 4))
    for first, last in phases:
      # Earlier channels, two sums per earlier group, a constant; from the
      # second phase on, neighbours of each channel and of their sum.
      features = start + 2 * group + 1
      if first:
        features += size + 1
      if first > 1 and group < FOUR_PHASES:
        features += size + 1
      area = size * features
      steps.append(Step(
        group, slice(start, end), (first, last), slice(begin, begin + area),
        (size, features),
      ))
      begin += area
    start = end
  return tuple(steps)


class Slice:
  """What is decoded of one image or slice of it, and the features of the rest.

  Places are held phase by phase, so that those of a step are contiguous.
  """

  def __init__(self, rows: int, columns: int):
    row, column = np.arange(rows)[:, None] % 2, np.arange(columns) % 2
    phase = np.where((row + column) % 2, 2 + row, row)
    self.order = np.argsort(phase, axis=None, kind='stable')
    self.bounds = np.searchsorted(phase.ravel()[self.order], np.arange(5))
    self._shape = rows, columns
    self._features = np.empty([0, rows * columns], np.uint16)
    self._magnitudes = None  # of the present group: int64 [size, rows, columns]

  def places(self, step: Step) -> np.ndarray:
    """Positions, row by row, of a step's symbols."""
    first, last = step.phases
    return self.order[self.bounds[first]:self.bounds[last]]

  def features(self, step: Step) -> np.ndarray:
    """Features of a step's places: uint16 [features, places]."""
    first, last = (self.bounds[p] for p in step.phases)
    parts = [self._features[:, first:last]]
    if step.phases[0]:
      neighbours = [_beside, _diagonal]
      if step.group >= FOUR_PHASES:
        neighbours = [_beside]
      elif step.phases[0] == 1:
        neighbours = [_diagonal]
      places = self.places(step)
      for near in neighbours:
        sums = near(self._magnitudes)
        sums = np.concatenate([sums, sums.sum(0, keepdims=True)])
        parts.append(_log_table()[sums.reshape(len(sums), -1)[:, places]])
    parts.append(np.full([1, last - first], UNIT, np.uint16))
    return np.concatenate(parts)

  def fill(self, step: Step, symbols: np.ndarray) -> None:
    """Takes a step's symbols, int32 [channels, places]."""
    size = symbols.shape[0]
    if step.phases[0] == 0:
      self._magnitudes = np.zeros([size, *self._shape], np.int64)
    flat = self._magnitudes.reshape(size, -1)
    # Widened first: the magnitude of the least int32 is none.
    flat[:, self.places(step)] = np.minimum(
      np.abs(symbols.astype(np.int64)), CLIP
    )
    if step.phases[1] < 4:
      return
    total = self._magnitudes.sum(0)
    new = np.concatenate([
      flat, total.reshape(1, -1),
      (_around(total)).reshape(1, -1),
    ])
    self._features = np.concatenate([
      self._features, _log_table()[new[:, self.order]]
    ])


def _padded(a):
  return np.pad(a, [(0, 0)] * (a.ndim - 2) + [(1, 1), (1, 1)])


def _beside(a):
  """Sums over the four nearest places: [..., rows, columns], zeros around."""
  p = _padded(a)
  return (
    p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
  )


def _diagonal(a):
  """Sums over the four diagonal places."""
  p = _padded(a)
  return p[..., :-2, :-2] + p[..., :-2, 2:] + p[..., 2:, :-2] + p[..., 2:, 2:]


def _around(a):
  """Sums over the 3 x 3 places."""
  return a + _beside(a) + _diagonal(a)


@dataclasses.dataclass(frozen=True, eq=False)
class Contexts:
  """The contexts and tables of one model.

  Attributes:
    order: int16 [channels], in which channels are coded.
    ends: int16 [groups], where each group ends in `order`.
    weights: int16 [levels, sum over steps of channels x features].
    tables: one row per class, see tables.Tables; quality index 0.
  """

  order: np.ndarray
  ends: np.ndarray
  weights: np.ndarray
  tables: tables_lib.Tables

  @functools.cached_property
  def steps(self) -> tuple[Step, ...]:
    return _steps(self.ends)

  @property
  def num_channels(self) -> int:
    return len(self.order)

  def at_quality(self, index: int, per_level: int = 16) -> np.ndarray:
    """The weights of a quality: float64, integers.

    Between two levels they are interpolated and rounded.

    Args:
      index: of the quality; level i is at per_level * i.
    """
    level, part = divmod(index, per_level)
    weights = self.weights.astype(np.int64)
    if part:
      low, high = weights[level], weights[level + 1]
      return (
        (low * (per_level - part) + high * part + per_level // 2) // per_level
      ).astype(np.float64)
    return weights[level].astype(np.float64)

  def visit(
    self, weights: np.ndarray, rows: int, columns: int, code: Callable
  ) -> None:
    """Goes through all symbols in coding order.

    Args:
      weights: see at_quality.
      rows, columns: of the places.
      code: (channels [n], places [p], classes uint8 [n, p]) -> int32 [n, p],
        which codes the symbols at these places and returns them.
    """
    state = Slice(rows, columns)
    for step in self.steps:
      places = state.places(step)
      if not len(places):
        classes = np.zeros([step.shape[0], 0], np.uint8)
      else:
        own = weights[step.weights].reshape(step.shape)
        classes = classify(own @ state.features(step).astype(np.float64))
      state.fill(step, code(self.order[step.channels], places, classes))


def classify(scores: np.ndarray) -> np.ndarray:
  """Scores, float64 that are integers, to classes, uint8."""
  octave = UNIT * SCALE
  # Exact already; rounding also undoes errors below a half, were there any.
  found = np.rint(scores).astype(np.int64) - LOWEST_OCTAVE * octave
  return np.clip(found >> _CLASS_SHIFT, 0, CLASSES - 1).astype(np.uint8)
