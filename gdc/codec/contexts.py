"""Contexts: what is decoded already decides which table codes a symbol.

One static table per channel ignores a symbol's neighbourhood. Here all channels
and qualities share `CLASSES` tables, and the class of a symbol is its expected
magnitude, on a logarithmic scale, given the magnitudes of symbols decoded
before it. The prior stays factorized: given their contexts, symbols are
independent.

Channels are coded in groups of falling energy (Minnen & Singh 2020, arXiv
2007.08739), and the positions of a group in two or four phases of a
checkerboard (He et al. 2021, arXiv 2103.15306). A group and the phases that are
coded at once are a step; contexts only depend on earlier steps. The log2 of the
expected magnitude is a linear function of these features:

  of each earlier channel, the log magnitude at the position;
  of each earlier group, the log of the sum over its channels at the position,
    and over the 3 x 3 positions around it;
  of earlier phases of the group itself, the log of the sum over neighbours of
    the position, of each channel and of all together;
  a constant.

Invariant: encoder and decoder choose the same tables on every machine (Balle et
al., "Integer networks for data compression with latent-variable models", ICLR
2019, describe the problem). Features and weights are integers, so scores are,
and no float is ever rounded. With |weight| <= 2^15, 0 <= feature < 2^9 and at
most 2^11 features, a score and all its partial sums are below 2^35 in
magnitude: float64 holds them exactly, in whatever order they are added.
Weights whose sums are also below 2^24 are used in float32, as exactly.

Large images are coded in slices (slices.py). Contexts see nothing outside of
theirs.
"""
import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from gdc.codec import bitstream, entropy_model
from gdc.codec import tables as tables_lib

CLASSES = 64
# Features are floor(UNIT log2(1 + n)); weights are multiples of 1 / SCALE.
UNIT = 16
SCALE = 256
# A score has UNIT * SCALE = 2^12 steps per octave. A class is a quarter of an
# octave wide; class 0 begins at 2^LOWEST_OCTAVE.
LOWEST_OCTAVE = -10
_CLASS_SHIFT = 10
# Larger magnitudes count as this one.
CLIP = 255
# The first groups are coded in four phases, the others in two.
FOUR_PHASES = 2
SLICE_SIDE = 128  # positions
# Bits of a position that a payload is padded to: a few bytes cannot claim a
# large image.
LEAST_BITS = 1.0

MAX_GROUP = 2**8  # channels
MAX_FEATURES = 2**11
_LARGEST_SUM = 9 * CLIP * MAX_GROUP
# First row and first column of each phase; both go on in steps of two.
_PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


@functools.cache
def log_table() -> np.ndarray:
  """Returns floor(UNIT log2(1 + n)) for n from 0 to _LARGEST_SUM, float32.

  A value changes at the smallest n with (1 + n)^UNIT >= 2^value. Integers
  decide, so the table is the same everywhere.
  """
  table = np.zeros(_LARGEST_SUM + 1, np.float32)
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
      table.setflags(write=False)
      return table
    table[low:] = value


@dataclasses.dataclass(frozen=True)
class Step:
  """Symbols that are coded at once.

  Attributes:
    channels: of the group, a slice of `Contexts.order`.
    phases: (first, end) of the phases that are coded.
    neighbours: offsets of the neighbours in earlier phases, a set of four for
      each kind of sum.
    earlier: number of features of earlier groups.
    weights: the step's part of `Contexts.weights`, a slice.
    shape: (channels, features) of that part.
  """

  channels: slice
  phases: tuple[int, int]
  neighbours: tuple[tuple[tuple[int, int], ...], ...]
  earlier: int
  weights: slice
  shape: tuple[int, int]

  @property
  def capacity(self) -> int:
    """Number of features that a Slice holds for this step and its group."""
    return max(self.shape[1], self.earlier + self.shape[0] + 2)


def make_steps(ends) -> tuple[Step, ...]:
  """Returns the steps, in coding order, of groups with these ends."""
  steps, start, begin = [], 0, 0
  for group, end in enumerate(int(e) for e in ends):
    size, earlier = end - start, start + 2 * group
    if group < FOUR_PHASES:
      parts = [
        ((0, 1), ()), ((1, 2), (_DIAGONAL,)), ((2, 3), (_BESIDE,)),
        ((3, 4), (_BESIDE, _DIAGONAL)),
      ]
    else:
      parts = [((0, 2), ()), ((2, 4), (_BESIDE,))]
    for phases, neighbours in parts:
      features = earlier + len(neighbours) * (size + 1) + 1
      area = size * features
      steps.append(Step(
        slice(start, end), phases, neighbours, earlier,
        slice(begin, begin + area), (size, features),
      ))
      begin += area
    start = end
  return tuple(steps)


class Slice:
  """What is decoded of one slice, and the features of the rest.

  Positions are held phase by phase, so that those of a step are contiguous.
  For each step in turn, call `features` and then `fill`.
  """

  def __init__(self, rows: int, columns: int, capacity: int = 64):
    """Begins a slice.

    Args:
      rows: number of rows of positions.
      columns: number of columns.
      capacity: number of features to hold; grows where it does not suffice.
    """
    self._grid = rows, columns
    self._shapes = [
      ((rows - top + 1) // 2, (columns - left + 1) // 2)
      for top, left in _PHASES
    ]
    sizes = [height * width for height, width in self._shapes]
    self._bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    # Rows of earlier groups, then of the present one: sums over neighbours of a
    # step, which its own magnitudes overwrite once they are known.
    self._features = np.zeros([capacity, rows * columns], np.float32)
    # Magnitudes of the present group's channels, and their sum; with a border.
    self._magnitudes = np.empty(0)

  def columns(self, step: Step) -> slice:
    """Returns where a step's positions are, phase by phase."""
    first, end = step.phases
    return slice(self._bounds[first], self._bounds[end])

  def sort(self, grid: np.ndarray) -> np.ndarray:
    """[channels, rows, columns] -> [channels, positions], phase by phase."""
    out = np.empty([len(grid), self._bounds[-1]], grid.dtype)
    for phase, (top, left) in enumerate(_PHASES):
      self._part(out, phase)[:] = grid[:, top::2, left::2]
    return out

  def unsort(self, values: np.ndarray) -> np.ndarray:
    """Inverts `sort`."""
    out = np.empty([len(values), *self._grid], values.dtype)
    for phase, (top, left) in enumerate(_PHASES):
      out[:, top::2, left::2] = self._part(values, phase)
    return out

  def features(self, step: Step) -> np.ndarray:
    """Returns the features of a step, float32 [features, positions].

    They are integers. The array is a view, valid until `fill`.
    """
    size, count = step.shape
    missing = step.capacity - len(self._features)
    if missing > 0:
      more = max(missing, len(self._features))
      self._features = np.pad(self._features, [(0, more), (0, 0)])
    row = step.earlier
    for offsets in step.neighbours:
      for phase in range(*step.phases):
        sums = self._sums(self._magnitudes, phase, offsets)
        own = self._features[row:row + size + 1]
        self._part(own, phase)[:] = log_table().take(sums)
      row += size + 1
    out = self._features[:count, self.columns(step)]
    out[row] = UNIT
    return out

  def fill(self, step: Step, symbols: np.ndarray) -> None:
    """Takes the symbols of a step, int32 [channels, positions]."""
    size, row = step.shape[0], step.earlier
    if step.phases[0] == 0:
      rows, columns = self._grid
      self._magnitudes = np.zeros([size + 1, rows + 2, columns + 2], np.int32)
    # Clipped first: the least int32 has no magnitude.
    magnitudes = np.abs(np.clip(symbols, -CLIP, CLIP))
    own = slice(row, row + size)
    self._features[own, self.columns(step)] = log_table().take(magnitudes)
    start = self._bounds[step.phases[0]]
    for phase in range(*step.phases):
      here = slice(self._bounds[phase] - start, self._bounds[phase + 1] - start)
      part = magnitudes[:, here].reshape(size, *self._shapes[phase])
      self._at(self._magnitudes[:size], phase)[:] = part
      self._at(self._magnitudes[size], phase)[:] = part.sum(0)
    if step.phases[1] < len(_PHASES):
      return
    total = self._magnitudes[size]
    for phase in range(len(_PHASES)):
      at = self._at(total, phase)
      around = at + self._sums(total, phase, _BESIDE + _DIAGONAL)
      for k, sums in enumerate((at, around)):
        own = self._features[row + size + k]
        self._part(own, phase)[:] = log_table().take(sums)

  def _part(self, values: np.ndarray, phase: int) -> np.ndarray:
    """[..., positions] -> view [..., rows, columns] of a phase."""
    part = values[..., self._bounds[phase]:self._bounds[phase + 1]]
    # Splitting the last axis of a slice needs no copy.
    return part.reshape(*values.shape[:-1], *self._shapes[phase])

  def _at(self, plane: np.ndarray, phase: int, offset=(0, 0)) -> np.ndarray:
    """The positions of a phase, moved by an offset, in a bordered plane."""
    (top, left), (down, right) = _PHASES[phase], offset
    height, width = self._shapes[phase]
    top, left = top + down + 1, left + right + 1
    return plane[..., top:top + 2 * height:2, left:left + 2 * width:2]

  def _sums(self, plane: np.ndarray, phase: int, offsets) -> np.ndarray:
    """Sums over neighbours of the positions of a phase."""
    first, *others = offsets
    sums = self._at(plane, phase, first).copy()
    for offset in others:
      sums += self._at(plane, phase, offset)
    return sums


@dataclasses.dataclass(frozen=True, eq=False)
class Contexts(entropy_model.EntropyModel):
  """The contexts of one model, and their tables.

  Attributes:
    order: int16 [channels], in which channels are coded.
    ends: int16 [groups], where each group ends in `order`.
    weights: int16 [levels, sum of channels x features over steps], step after
      step, row after row; see make_steps.
    tables: of one quality and CLASSES channels: a row per class.
    bits: float32 [levels], what a position took on average where the contexts
      were fitted; rates are guessed from it.
  """

  order: np.ndarray
  ends: np.ndarray
  weights: np.ndarray
  tables: tables_lib.Tables
  bits: np.ndarray

  def __post_init__(self):
    for name, dtype, ndim in (
      ('order', np.int16, 1), ('ends', np.int16, 1), ('weights', np.int16, 2),
      ('bits', np.float32, 1),
    ):
      array = entropy_model.frozen(name, getattr(self, name), dtype, ndim)
      if not array.size:
        raise ValueError(f'{name} must not be empty')
      object.__setattr__(self, name, array)
    if not np.array_equal(np.sort(self.order), np.arange(self.num_channels)):
      raise ValueError(
        f'order must hold each of 0 to {self.num_channels - 1} once'
      )
    sizes = np.diff(self.ends.astype(np.int64), prepend=0)
    if self.ends[-1] != self.num_channels or sizes.min() < 1 or (
      sizes.max() > MAX_GROUP
    ):
      raise ValueError(
        f'ends must rise to {self.num_channels}, by at most {MAX_GROUP} each, '
        f'not {self.ends.tolist()}'
      )
    if max(step.shape[1] for step in self.steps) > MAX_FEATURES:
      raise ValueError(f'a step must have at most {MAX_FEATURES} features')
    if self.weights.shape[1] != self.steps[-1].weights.stop:
      raise ValueError(
        f'weights must have {self.steps[-1].weights.stop} columns for these '
        f'groups, not {self.weights.shape[1]}'
      )
    if self.tables.first.shape != (1, CLASSES):
      raise ValueError(
        f'tables must have 1 quality and {CLASSES} rows, not '
        f'{self.tables.first.shape}'
      )
    if self.bits.shape != self.weights.shape[:1] or not (
      np.isfinite(self.bits) & (self.bits > 0)
    ).all():
      raise ValueError(
        f'bits must be {len(self.weights)} positive numbers, not '
        f'{self.bits.tolist()}'
      )

  @functools.cached_property
  def steps(self) -> tuple[Step, ...]:
    """The steps of a slice, in coding order."""
    return make_steps(self.ends)

  @property
  def rows(self) -> tables_lib.Tables:
    return self.tables

  @property
  def slice_side(self) -> int:
    return SLICE_SIDE

  @property
  def num_qualities(self) -> int:
    return (len(self.weights) - 1) * bitstream.QUALITY_STEPS + 1

  @property
  def num_channels(self) -> int:
    return len(self.order)

  def at_quality(self, quality_index: int) -> np.ndarray:
    """Returns the weights of a quality, int64.

    Those between two levels are interpolated and rounded.
    """
    self.check_quality_index(quality_index)
    unit = bitstream.QUALITY_STEPS
    level, part = divmod(quality_index, unit)
    weights = self.weights[level:level + 2].astype(np.int64)
    if not part:
      return weights[0]
    return (weights[0] * (unit - part) + weights[1] * part + unit // 2) // unit

  def minimum_bits(self, quality_index: int) -> float:
    """Returns the fewest bits that one position can take, over all channels."""
    self.check_quality_index(quality_index)
    least = self.num_channels * self.tables.least_bits.min()
    return max(LEAST_BITS, float(least))

  def entropy_bits(self, quality_index: int) -> float:
    """Returns the expected bits of one position, over all channels."""
    self.check_quality_index(quality_index)
    level = quality_index / bitstream.QUALITY_STEPS
    levels = np.arange(len(self.bits))
    return float(np.exp(np.interp(level, levels, np.log(self.bits))))

  def visit(self, symbols, height, quality_index, code, fills=False) -> None:
    """Visits step after step, see entropy_model.EntropyModel."""
    weights = self.at_quality(quality_index)
    weights = [_matrix(weights[s.weights].reshape(s.shape)) for s in self.steps]
    capacity = max(step.capacity for step in self.steps)
    grid = symbols.reshape(len(symbols), height, -1)
    known = Slice(*grid.shape[1:], capacity)
    for step, own in zip(self.steps, weights, strict=True):
      if step.phases[0] == 0:
        group = self.order[step.channels]
        values = known.sort(grid[group])
      columns = known.columns(step)
      if columns.start < columns.stop:
        features = known.features(step).astype(own.dtype, copy=False)
        code(values[:, columns], classify(np.matmul(own, features)))
      known.fill(step, values[:, columns])
      if fills and step.phases[1] == len(_PHASES):
        grid[group] = known.unsort(values)

  def to_arrays(self) -> dict:
    """Returns arrays by name; those of `tables` are a dict of their own."""
    arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    arrays['tables'] = self.tables.to_arrays()
    return arrays

  @classmethod
  def from_arrays(cls, arrays: Mapping) -> 'Contexts':
    """Inverts to_arrays; ValueError names what is wrong."""
    names = {field.name for field in dataclasses.fields(cls)}
    if set(arrays) != names:
      raise ValueError(
        f'contexts are made of {sorted(names)}, not {sorted(arrays)}'
      )
    made = tables_lib.Tables.from_arrays(arrays['tables'])
    return cls(**{**arrays, 'tables': made})


def classify(scores: np.ndarray) -> np.ndarray:
  """Returns the classes of scores, uint8; scores are integers, as floats."""
  # They are exact already. Rounding would undo any error below a half.
  scores = np.rint(scores)
  scores -= LOWEST_OCTAVE * UNIT * SCALE
  np.clip(scores, 0, (CLASSES << _CLASS_SHIFT) - 1, out=scores)
  return (scores.astype(np.uint16) >> _CLASS_SHIFT).astype(np.uint8)


def _matrix(weights: np.ndarray) -> np.ndarray:
  """Returns integer weights in the smallest float that keeps scores exact."""
  largest = np.abs(weights).sum(axis=1).max() * int(log_table()[-1])
  # The offset of `classify` is added to scores.
  largest -= LOWEST_OCTAVE * UNIT * SCALE
  return weights.astype(np.float32 if largest < 2**24 else np.float64)
