import numpy as np

from gdc.data import transforms


def test_to_float_spans_minus_one_to_one():
  x = transforms.to_float(np.array([0, 51, 255], np.uint8))
  assert x.dtype == np.float32
  np.testing.assert_allclose(x, [-1, -0.6, 1], atol=1e-7)
