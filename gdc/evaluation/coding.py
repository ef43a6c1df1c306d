"""One image through codecs that read the same file, timed."""
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdc.evaluation import codecs


class Version(NamedTuple):
  """An image as one codec gives it back, at one quality."""

  quality: float
  data: bytes  # of the whole file
  decoded: np.ndarray  # uint8 [height, width, 3]
  encode_seconds: float
  decode_seconds: float


def versions(
  coders: Sequence[codecs.Coder], image: np.ndarray, warm_up: bool
) -> Iterator[tuple[codecs.Coder, Version | Exception]]:
  """Yields (coder, version) of an image, quality by quality.

  For a coder that fails the last version is what it raised, which is up to its
  library.

  Args:
    coders: coders of one writer: the image is compressed once per quality, and
      all decode these bytes.
    image: uint8 [height, width, 3].
    warm_up: whether codecs that compile do so before they are timed, for the
      first image of a size.
  """
  encode, qualities = coders[0].encode, coders[0].qualities
  untimed = qualities[:1] if warm_up and coders[0].compiles else ()
  left = list(coders)
  for i, quality in enumerate((*untimed, *qualities)):
    if not left:
      return
    try:
      data, encode_seconds = _timed(encode, image, quality)
    except Exception as error:
      yield from ((coder, error) for coder in left)
      return
    for coder in list(left):
      try:
        decoded, decode_seconds = _timed(coder.decode, data)
      except Exception as error:
        left.remove(coder)
        yield coder, error
        continue
      if i >= len(untimed):
        yield coder, Version(
          quality, data, decoded, encode_seconds, decode_seconds
        )


def _timed(function: Callable, *args) -> tuple[Any, float]:
  """Calls a function whose result is on the host by the time it returns."""
  start = time.perf_counter()
  value = function(*args)
  return value, time.perf_counter() - start
