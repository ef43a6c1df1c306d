"""Values of command-line arguments: text -> value, for argparse.

Each raises argparse.ArgumentTypeError, which names the text and what would be
right.
"""
import argparse
import contextlib
import math
import pathlib
import re

from gdc import paths

# Of evaluation.measures, which is imported late, and the set-level one.
MEASURES = ('psnr', 'ms-ssim', 'lpips', 'lpips-vgg', 'dists', 'fd')


def between(low, high, kind, noun):
  """A parser of numbers from low to high; NaN is none of them."""
  def parse(text):
    with contextlib.suppress(ValueError):
      if low <= kind(text) <= high:
        return kind(text)
    raise argparse.ArgumentTypeError(
      f'{noun} from {low} to {high} is expected, not {text!r}'
    )
  return parse


quality = between(1, 6, float, 'a number')
realism = between(0, 1, float, 'a number')
steps = between(1, 10_000, int, 'a whole number')
count = between(1, 10**9, int, 'a whole number')
seed = between(0, 2**32 - 1, int, 'a whole number')


def positive(text: str) -> float:
  """A finite number above 0."""
  with contextlib.suppress(ValueError):
    if 0 < float(text) < math.inf:
      return float(text)
  raise argparse.ArgumentTypeError(
    f'a number above 0 is expected, not {text!r}'
  )


def num_bytes(text: str) -> int:
  """50000, 50k, 1.5M, 64KiB -> bytes."""
  match = re.fullmatch(r'(\d+\.?\d*|\.\d+) ?([kmg]?)(i?)(b?)', text.lower())
  if match:
    number, unit, binary, _ = match.groups()
    power = ' kmg'.index(unit or ' ')
    size = min(float(number) * (1024 if binary else 1000) ** power, 2**62)
    size = int(size)
    if size and (unit or not binary):
      return size
  raise argparse.ArgumentTypeError(
    'a number of bytes above 0 is expected, such as 50000, 50k, 1.5M or '
    f'64KiB, not {text!r}'
  )


def path(text: str) -> str:
  """A path, `~` and `~user` written out; '' is none."""
  try:
    if text:
      return paths.expand(text)
  except ValueError as e:
    raise argparse.ArgumentTypeError(str(e)) from e
  raise argparse.ArgumentTypeError("a path is expected, not ''")


def folder(text: str) -> pathlib.Path:
  """See path."""
  return pathlib.Path(path(text))


def names(text: str) -> list[str]:
  """'a, b' -> a and b; '' -> none."""
  return [name.strip() for name in text.split(',') if name.strip()]


def measures(text: str) -> list[str]:
  """One or more of MEASURES, each once."""
  asked = names(text)
  if asked and set(asked) <= set(MEASURES):
    return list(dict.fromkeys(asked))
  raise argparse.ArgumentTypeError(
    f'one or more of {", ".join(MEASURES)} are expected, not {text!r}'
  )


def qualities(text: str) -> list[float]:
  """'1,2.5' -> 1.0 and 2.5; '' -> none."""
  return [quality(q) for q in names(text)]


def shard(text: str) -> tuple[int, int]:
  """'0/4' -> (0, 4), the first part of four."""
  part, _, parts = text.partition('/')
  with contextlib.suppress(ValueError):
    if 0 <= int(part) < int(parts):
      return int(part), int(parts)
  raise argparse.ArgumentTypeError(
    f'I/N with I from 0 to N - 1 is expected, not {text!r}'
  )


def box(text: str) -> tuple[int, ...]:
  """'8,16,72,80' -> (left, top, right, bottom) in pixels, not empty."""
  parts = text.split(',')
  with contextlib.suppress(ValueError):
    left, top, right, bottom = map(int, parts)
    if 0 <= left < right and 0 <= top < bottom:
      return left, top, right, bottom
  raise argparse.ArgumentTypeError(
    f'LEFT,TOP,RIGHT,BOTTOM in pixels are expected, not {text!r}'
  )
