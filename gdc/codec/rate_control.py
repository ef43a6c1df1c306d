"""From what a user wants to the quality that gives it: bisection.

Every probe is coded in earnest, or decoded, so what is promised is kept. The
encoder's network is not run for each: all qualities are tried on the same
features, with other gains. Features that were made for one
quality serve another a little less well, so the quality is guessed first: on
ten photographs, rate + lambda * distortion was at most 1.0 % worse where the
guess was one level off (docs/training.md, "Trials"). Where it was further off,
the network is run again.
"""
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

NEAR = 16  # indices of quality, one level: features serve so far
Features = TypeVar('Features')


class RateError(ValueError):
  """No quality of the model gives what was asked for."""


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


def largest_within(
  size: Callable[[int], int], num_qualities: int, target_bytes: int
) -> int:
  """The best quality index whose file has at most target_bytes.

  Args:
    size: quality index -> bytes of the file.
    num_qualities: of the model.
    target_bytes: of the whole file.

  Raises:
    RateError: the smallest file is larger.
  """
  smallest = size(0)
  if smallest > target_bytes:
    raise RateError(
      f'The smallest file of this picture has {smallest} bytes; the target of '
      f'{target_bytes} cannot be met.'
    )
  low, high = 0, num_qualities
  while high - low > 1:
    middle = (low + high) // 2
    if size(middle) <= target_bytes:
      low = middle
    else:
      high = middle
  return low


def smallest_above(
  psnr: Callable[[int], float], num_qualities: int, min_psnr: float
) -> int:
  """The least quality index whose picture has at least min_psnr.

  Args:
    psnr: quality index -> dB of the picture decoded at it.
    num_qualities: of the model.
    min_psnr: in dB.

  Raises:
    RateError: the best picture has less.
  """
  best = psnr(num_qualities - 1)
  if best < min_psnr:
    raise RateError(
      f'The best file of this picture has {best:.2f} dB; a PSNR of '
      f'{min_psnr:g} dB cannot be met.'
    )
  low, high = -1, num_qualities - 1
  while high - low > 1:
    middle = (low + high) // 2
    if psnr(middle) >= min_psnr:
      high = middle
    else:
      low = middle
  return high
