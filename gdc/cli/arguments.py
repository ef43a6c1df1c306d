"""Types of command-line arguments: functions from text to value, for argparse.

Each raises argparse.ArgumentTypeError, which names the text and what is
expected.
"""
import argparse
import contextlib
import math
import pathlib
import re

from gdc import paths


def between(low, high, kind=int):
  """Returns a type of numbers from low to high."""
  noun = 'a whole number' if kind is int else 'a number'

  def parse(text):
    with contextlib.suppress(ValueError):
      if low <= kind(text) <= high:
        return kind(text)
    raise _wrong(f'{noun} from {low} to {high}', text)
  return parse


realism = between(0, 1, float)
count = between(1, 10**9)
seed = between(0, 2**32 - 1)


def positive(text: str) -> float:
  """A finite number above 0."""
  with contextlib.suppress(ValueError):
    if 0 < float(text) < math.inf:
      return float(text)
  raise _wrong('a number above 0', text)


def num_bytes(text: str) -> int:
  """A size in bytes: 50000, 50k, 1.5M or 64KiB."""
  match = re.fullmatch(r'(\d+\.?\d*|\.\d+) ?([kmg]?)(i?)b?', text.lower())
  if match and (match[2] or not match[3]):
    power = ' kmg'.index(match[2] or ' ')
    size = float(match[1]) * (1024 if match[3] else 1000) ** power
    if 1 <= size < 2**62:
      return int(size)
  raise _wrong('a size above 0, as in 50000, 50k, 1.5M or 64KiB', text)


def path(text: str) -> str:
  """A path, with `~` and `~user` expanded."""
  if not text:
    raise _wrong('a path', text)
  try:
    return paths.expand(text)
  except ValueError as e:
    raise argparse.ArgumentTypeError(str(e)) from e


def folder(text: str) -> pathlib.Path:
  """The path of a folder."""
  return pathlib.Path(path(text))


def names(text: str) -> list[str]:
  """A comma-separated list, which may be empty; each name once."""
  found = [name.strip() for name in text.split(',')]
  return list(dict.fromkeys(name for name in found if name))


def numbers(text: str) -> list[float]:
  """A comma-separated list of numbers, which may be empty."""
  with contextlib.suppress(ValueError):
    return [float(name) for name in names(text)]
  raise _wrong('a comma-separated list of numbers', text)


def shard(text: str) -> tuple[int, int]:
  """One part of several: '0/4' is the first of four."""
  part, _, parts = text.partition('/')
  with contextlib.suppress(ValueError):
    if 0 <= int(part) < int(parts):
      return int(part), int(parts)
  raise _wrong('I/N with I from 0 to N - 1', text)


def box(text: str) -> tuple[int, ...]:
  """A non-empty rectangle in pixels: left, top, right, bottom."""
  with contextlib.suppress(ValueError):
    left, top, right, bottom = map(int, text.split(','))
    if 0 <= left < right and 0 <= top < bottom:
      return left, top, right, bottom
  raise _wrong('LEFT,TOP,RIGHT,BOTTOM in pixels', text)


def region(text: str) -> tuple[int, ...]:
  """A non-empty rectangle in pixels: x, y, width, height."""
  with contextlib.suppress(ValueError):
    x, y, width, height = map(int, text.split(','))
    if x >= 0 and y >= 0 and width > 0 and height > 0:
      return x, y, width, height
  raise _wrong('X,Y,WIDTH,HEIGHT in pixels', text)


def _wrong(expected: str, text: str) -> argparse.ArgumentTypeError:
  return argparse.ArgumentTypeError(f'expected {expected}, not {text!r}')
