"""From what a user wants to the quality that gives it: bisection.

Every probe is coded in earnest, or decoded, so what is promised is kept.
Bisection is right where size and PSNR rise with quality, as photographs' do;
where the probes say otherwise, all levels are tried. The
encoder's network is not run for each: all qualities are tried on the same
features, with other gains. Features that were made for one
quality serve another a little less well, so the quality is guessed first: on
ten photographs, rate + lambda * distortion was at most 1.0 % worse where the
guess was one level off (docs/training.md, "Trials"). Where it was further off,
the network is run again.
"""
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

NEAR = 16  # indices of quality, one level: features serve so far
# By how much a probe may be out of order: steps of 1/16 may be, by chance.
SIZE_TOLERANCE = 16
PSNR_TOLERANCE = 0.1
Features = TypeVar('Features')


class RateError(ValueError):
  """No quality of the model gives what was asked for.

  Attributes:
    least: bytes of the smallest file that was made, if a target is in bytes.
  """

  def __init__(self, message: str, least: int = 0):
    super().__init__(message)
    self.least = least


def search(
  analyse: Callable[[int], Features], find: Callable[[Features], int],
  guess: int, end: int,
) -> tuple[Features, int]:
  """The quality index that meets a target, and features that were made near it.

  Args:
    analyse: quality index -> features made for it.
    find: features -> quality index; raises RateError where none meets it.
    guess: where to begin.
    end: the index at which the target is easiest to meet: it is not refused
      before features made for that one were tried.

  Raises:
    RateError: as `find` does.
  """
  features = analyse(guess)
  try:
    found = find(features)
  except RateError:
    if guess == end:
      raise
    features = analyse(end)
    return features, find(features)
  if abs(found - guess) <= NEAR:
    return features, found
  again = analyse(found)
  try:
    return again, find(again)
  except RateError:  # met by what was made for the guess alone
    return features, found


def guess_index(tables, target_bits: float, num_positions: int) -> int:
  """The quality index at which a typical picture takes so many bits.

  Args:
    tables: of the model; their entropy is the rate of its training pictures.
    target_bits: of the payload.
    num_positions: latent positions of the picture.
  """
  bits = np.array([
    tables.entropy_bits(i) for i in range(tables.num_qualities)
  ])
  ratio = bits * num_positions / max(target_bits, 1)
  return int(np.abs(np.log(ratio)).argmin())


def guess_index_of_psnr(rmse: Sequence[float], psnr: float) -> int:
  """The quality index at which a typical picture has this PSNR.

  Args:
    rmse: the expected error at each index, pictures in [-1, 1].
    psnr: in dB.
  """
  typical = 20 * np.log10(2 / np.asarray(rmse))  # a peak of 2
  return int(np.abs(typical - psnr).argmin())


def levels(num_qualities: int) -> list[int]:
  """Indices that are tried where sizes or errors are out of order."""
  return [*range(0, num_qualities - 1, NEAR), num_qualities - 1]


def largest_within(
  size: Callable[[int], int], num_qualities: int, target_bytes: int
) -> int:
  """The highest quality index that is found with at most target_bytes.

  By bisection; where sizes turn out not to rise with quality, all levels are
  tried, too.

  Args:
    size: quality index -> bytes of the file.
    num_qualities: of the model.
    target_bytes: of the whole file.

  Raises:
    RateError: every file that was made is larger.
  """
  size = _Known(size)
  if size(0) <= target_bytes:
    low, high = 0, num_qualities
    while high - low > 1:
      middle = (low + high) // 2
      if size(middle) <= target_bytes:
        low = middle
      else:
        high = middle
    if size.are_ordered(SIZE_TOLERANCE):
      return low
  size.measure(levels(num_qualities))
  within = [i for i, n in size.known.items() if n <= target_bytes]
  if not within:
    least = min(size.known.values())
    raise RateError(
      f'The smallest file that the network made of this image has {least} '
      f'bytes, more than the target of {target_bytes}.', least,
    )
  return max(within)


def smallest_above(
  psnr: Callable[[int], float], size: Callable[[int], int],
  num_qualities: int, min_psnr: float,
) -> int:
  """The quality index that is found of the smallest file with min_psnr.

  By bisection for the least index; where errors turn out not to fall with
  quality, all levels are tried, too, and the smallest file is taken.

  Args:
    psnr: quality index -> dB of the picture decoded at it.
    size: quality index -> bytes of the file; asked for where order fails.
    num_qualities: of the model.
    min_psnr: in dB.

  Raises:
    RateError: every picture that was decoded has less.
  """
  psnr = _Known(psnr)
  if psnr(num_qualities - 1) >= min_psnr:
    low, high = -1, num_qualities - 1
    while high - low > 1:
      middle = (low + high) // 2
      if psnr(middle) >= min_psnr:
        high = middle
      else:
        low = middle
    if psnr.are_ordered(PSNR_TOLERANCE):
      return high
  psnr.measure(levels(num_qualities))
  above = [i for i, n in psnr.known.items() if n >= min_psnr]
  if not above:
    best = max(psnr.known.values())
    raise RateError(
      f'The best of {len(psnr.known)} qualities that were tried has '
      f'{best:.2f} dB, less than the {min_psnr:g} dB that are asked for.'
    )
  return min(above, key=size)


class _Known:
  """A function of quality indices, and its values so far."""

  def __init__(self, function):
    self._function = function
    self.known = {}

  def __call__(self, index):
    if index not in self.known:
      self.known[index] = self._function(index)
    return self.known[index]

  def measure(self, indices):
    for index in indices:
      self(index)

  def are_ordered(self, tolerance) -> bool:
    """Whether values rise with the index, but for so much."""
    values = [self.known[i] for i in sorted(self.known)]
    return all(
      b >= a - tolerance for a, b in itertools.pairwise(values)
    )
