"""Weights in 8 bits: how far they are off, and that it is by once."""
import numpy as np
import pytest

from gdc.codec import decoder_weights


def _rounded(arrays):
  return decoder_weights.restore(decoder_weights.store(arrays))


def _kernels():
  """Arrays of 2 and 3 dimensions, channels of very different magnitudes."""
  rng = np.random.default_rng(1)
  shapes = {'dense': (64, 40), 'depthwise': (3, 3, 40), 'row': (1, 40)}
  kernels = {
    name: rng.normal(size=shape) * np.geomspace(1e-6, 1e3, 40)
    for name, shape in shapes.items()
  }
  kernels['dense'][:, 7] = 0
  return {name: value.astype(np.float32) for name, value in kernels.items()}


@pytest.mark.parametrize('name', ['dense', 'depthwise', 'row'])
def test_8_bits_are_off_by_half_a_step_of_their_channel(name):
  kernel = _kernels()[name]
  rounded = _rounded({name: kernel})[name]
  assert rounded.dtype == np.float32
  step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 127
  error = np.abs(rounded - kernel)
  assert (error <= 0.5001 * step).all()
  if name == 'dense':
    assert not rounded[:, 7].any()
    assert (error.max(axis=0) > 0.4 * step)[step > 0].all()


def test_storing_is_exact_once_rounded():
  rounded = _rounded({
    **_kernels(), 'bias': np.float32([0.1, 1 / 3])
  })
  stored = decoder_weights.store(rounded)
  assert stored['bias'].dtype == np.float16
  for name in _kernels():
    assert stored[name].dtype == np.int8
    assert np.abs(stored[name]).max() == 127
    assert stored[f'{name}:scale'].dtype == np.float32
  restored = decoder_weights.restore(stored)
  assert restored.keys() == rounded.keys()
  for name, value in rounded.items():
    assert restored[name].dtype == np.float32
    np.testing.assert_array_equal(restored[name], value)


def test_rounding_again_changes_nothing():
  """Else every export of a bundle would change its decoders' digests."""
  rng = np.random.default_rng(2)
  # As many scales as there are columns, the last too small for float32.
  kernel = rng.lognormal(0, 4, size=(3, 50_000)).astype(np.float32)
  kernel[:, -1000:] = 2.0**-149 * rng.integers(0, 1000, size=(3, 1000))
  once = _rounded({'kernel': kernel})
  twice = _rounded(once)
  np.testing.assert_array_equal(once['kernel'], twice['kernel'])
  step = kernel.max(axis=0) / 127
  error = np.abs(once['kernel'] - kernel)
  assert (error <= 0.5001 * step + 1e-41).all()


def test_integers_need_their_scales():
  with pytest.raises(KeyError, match='kernel:scale'):
    decoder_weights.restore({'kernel': np.ones((2, 2), np.int8)})
