"""Weights of score decoders in 8 bits: half a file, and pictures hardly differ.

An array of two dimensions or more is kept as integers from -127 to 127, NAME,
and a float32 scale for every output channel (the last axis), NAME:scale; its
value is their product. Others, vectors, are float16. No parameter's name has a
colon in it.

Decoders do not decide what bits mean, and what they draw is random: that is
why they can be rounded so much. The autoencoder is not.
"""
from collections.abc import Mapping

import numpy as np

_SCALE = ':scale'
_MOST = 127


def round_to_stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """What is left of arrays once they are stored and restored.

  Args:
    arrays: name -> array of any float type.

  Returns:
    name -> float32 array; rounding it again changes nothing.
  """
  rounded = {}
  for name, value in arrays.items():
    if value.ndim > 1:
      integers, scale = _to_integers(value)
      rounded[name] = integers * scale
    else:
      rounded[name] = np.asarray(np.asarray(value, np.float16), np.float32)
  return rounded


def store(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays that a file holds, for those that round_to_stored returned.

  An array that it did not return, of a decoder that was exported before there
  were 8 bits, is kept as float16, which it then was.
  """
  stored = {}
  for name, value in arrays.items():
    if value.ndim > 1:
      integers, scale = _to_integers(value)
      if np.array_equal(integers * scale, value):
        stored |= {name: integers, name + _SCALE: scale}
        continue
    stored[name] = np.asarray(value, np.float16)
  return stored


def restore(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of store: name -> float32 array.

  Raises:
    KeyError: integers come without their scales.
  """
  return {
    name: value * stored[name + _SCALE] if value.dtype == np.int8
    else np.asarray(value, np.float32)
    for name, value in stored.items() if not name.endswith(_SCALE)
  }


def _to_integers(value) -> tuple[np.ndarray, np.ndarray]:
  """int8 [..., channels] and float32 [channels], whose product is near value.

  The largest magnitude of a channel becomes 127. To round what was rounded
  changes nothing: 127 times the scale, over 127, is the scale again.
  """
  value = np.asarray(value, np.float32)
  scale = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
  scale /= np.float32(_MOST)
  # Without all its bits a scale would not come back; such a channel is nought.
  scale[scale < np.finfo(np.float32).tiny] = 0
  integers = np.rint(value / np.where(scale > 0, scale, np.inf))
  return integers.astype(np.int8), scale
