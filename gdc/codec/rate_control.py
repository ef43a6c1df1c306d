"""Finds the quality that meets a target, by bisection.

Every probe is a real file or a decoded image, so targets are met exactly.
Bisection assumes that size and PSNR rise with quality, as they do for
photographs; where the probes are out of order, all levels are tried.

The network is not run for each probe: all qualities are quantised from the same
features, with other gains. Features analysed at one quality are slightly
suboptimal at another (docs/log.md, "Trials"), so the quality is guessed
first, and the network runs again where the guess was more than a level off.
"""
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

NEAR = 16  # quality indices, one level: how far features serve
# Tolerated disorder of probes, which steps of 1/16 may show by chance.
SIZE_TOLERANCE = 16
PSNR_TOLERANCE = 0.1
Features = TypeVar('Features')


class RateError(ValueError):
  """No quality of the model meets the target.

  Attributes:
    least: bytes of the smallest file, for a target in bytes.
  """

  def __init__(self, message: str, least: int = 0):
    super().__init__(message)
    self.least = least


def search(
  analyse: Callable[[int], Features], find: Callable[[Features], int],
  guess: int, end: int,
) -> tuple[Features, int]:
  """Returns (features, quality index): the index meets a target.

  Args:
    analyse: quality index -> features made for it.
    find: features -> quality index; raises RateError if none meets the target.
    guess: the index to begin at.
    end: the index that meets the target most easily: its features are tried
      before the target is refused.

  Raises:
    RateError: see find.
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
  except RateError:  # only the features of the guess meet it
    return features, found


def guess_index(model, target_bits: float, num_positions: int) -> int:
  """Returns the quality index at which a typical image takes target_bits.

  Args:
    model: entropy_model.EntropyModel; its entropy is the rate of the images
      that it was made from.
    target_bits: of the payload.
    num_positions: latent positions of the image.
  """
  bits = np.array([
    model.entropy_bits(i) for i in range(model.num_qualities)
  ])
  ratio = bits * num_positions / max(target_bits, 1)
  return int(np.abs(np.log(ratio)).argmin())


def guess_index_of_psnr(rmse: Sequence[float], psnr: float) -> int:
  """Returns the quality index at which a typical image has a PSNR.

  Args:
    rmse: expected error at each index, of images in [-1, 1].
    psnr: in dB.
  """
  typical = 20 * np.log10(2 / np.asarray(rmse))  # a peak of 2
  return int(np.abs(typical - psnr).argmin())


def levels(num_qualities: int) -> list[int]:
  """Returns the indices to try where probes are out of order."""
  return [*range(0, num_qualities - 1, NEAR), num_qualities - 1]


def largest_within(
  size: Callable[[int], int], num_qualities: int, target_bytes: int
) -> int:
  """Returns the highest quality index found with at most target_bytes.

  Args:
    size: quality index -> bytes of the file.
    num_qualities: of the model.
    target_bytes: of the whole file.

  Raises:
    RateError: every file that was made is larger.
  """
  sizes = _Probes(size)
  if sizes[0] <= target_bytes:
    found = _first(lambda i: sizes[i] > target_bytes, 0, num_qualities) - 1
    if sizes.are_ordered(SIZE_TOLERANCE):
      return found
  for i in levels(num_qualities):
    sizes[i]
  within = [i for i, n in sizes.items() if n <= target_bytes]
  if not within:
    least = min(sizes.values())
    raise RateError(
      f'The smallest file that the network made of this image has {least} '
      f'bytes, more than the target of {target_bytes}.', least,
    )
  return max(within)


def smallest_above(
  psnr: Callable[[int], float], size: Callable[[int], int],
  num_qualities: int, min_psnr: float,
) -> int:
  """Returns the quality index of the smallest file found with min_psnr.

  Args:
    psnr: quality index -> dB of the image decoded at it.
    size: quality index -> bytes of the file; only used for probes out of order.
    num_qualities: of the model.
    min_psnr: in dB.

  Raises:
    RateError: every image that was decoded has less.
  """
  psnrs = _Probes(psnr)
  if psnrs[num_qualities - 1] >= min_psnr:
    found = _first(lambda i: psnrs[i] >= min_psnr, -1, num_qualities - 1)
    if psnrs.are_ordered(PSNR_TOLERANCE):
      return found
  for i in levels(num_qualities):
    psnrs[i]
  above = [i for i, n in psnrs.items() if n >= min_psnr]
  if not above:
    raise RateError(
      f'The best of {len(psnrs)} qualities that were tried has '
      f'{max(psnrs.values()):.2f} dB, less than the {min_psnr:g} dB that are '
      'asked for.'
    )
  return min(above, key=size)


class _Probes(dict):
  """Values of a function of quality indices, each computed once."""

  def __init__(self, function):
    super().__init__()
    self._function = function

  def __missing__(self, index):
    self[index] = self._function(index)
    return self[index]

  def are_ordered(self, tolerance) -> bool:
    """Whether values rise with the index, to within a tolerance."""
    values = [self[i] for i in sorted(self)]
    return all(b >= a - tolerance for a, b in itertools.pairwise(values))


def _first(passes: Callable[[int], bool], low: int, high: int) -> int:
  """Bisects for the first index in (low, high] that passes; high if none."""
  while high - low > 1:
    middle = (low + high) // 2
    if passes(middle):
      high = middle
    else:
      low = middle
  return high
