"""Weights of score decoders in 8 bits: half the size, nearly the same images.

An array of two dimensions or more is stored as int8, NAME, and a float32 scale
for every output channel (the last axis), NAME:scale; its value is their
product. Vectors are float16. No parameter's name has a colon.

Decoders do not decide what bits mean and sample at random, so they tolerate
such rounding. The autoencoder does not.
"""
from collections.abc import Mapping

import numpy as np

_SCALE = ':scale'
_LARGEST = 127


def store(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Rounds arrays to what a file holds.

  Args:
    arrays: name -> array of any float type.

  Returns:
    name -> array. Restored and stored again, they do not change.
  """
  stored = {}
  for name, value in arrays.items():
    if value.ndim > 1:
      stored[name], stored[name + _SCALE] = _to_integers(value)
    else:
      stored[name] = np.asarray(value, np.float16)
  return stored


def restore(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Inverts store: name -> float32 array.

  Raises:
    KeyError: integers without their scales.
  """
  return {
    name: value * stored[name + _SCALE] if value.dtype == np.int8
    else np.asarray(value, np.float32)
    for name, value in stored.items() if not name.endswith(_SCALE)
  }


def _to_integers(value) -> tuple[np.ndarray, np.ndarray]:
  """Returns int8 [..., channels] and float32 [channels], value over scale.

  The largest magnitude of a channel becomes 127, so rounding again changes
  nothing: 127 times the scale, over 127, is the scale again.
  """
  value = np.asarray(value, np.float32)
  scale = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
  scale /= np.float32(_LARGEST)
  # A denormal scale would not survive rounding again: such channels are zero.
  scale[scale < np.finfo(np.float32).tiny] = 0
  integers = np.rint(value / np.where(scale > 0, scale, np.inf))
  return integers.astype(np.int8), scale
