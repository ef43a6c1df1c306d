import math

import numpy as np
import pytest

from gdc.evaluation import distortion


def _image(value, height=5, width=7):
  return np.full((height, width, 3), value, np.uint8)


def test_psnr_closed_forms():
  # Off by 1 everywhere: 20 log10(255). Off by 255 everywhere: 0 dB.
  assert distortion.psnr(_image(9), _image(10)) == pytest.approx(48.1308036087)
  assert distortion.psnr(_image(0), _image(255)) == 0.0


def test_psnr_does_not_wrap_around_in_uint8():
  assert distortion.psnr(_image(250), _image(3)) == distortion.psnr(
    _image(3), _image(250)
  )
  assert distortion.psnr(_image(250), _image(3)) < 1.0


def test_psnr_is_one_mean_over_channels():
  decoded = _image(100)
  decoded[..., 0] += 3  # MSE 9 on one channel of three: 3 in all
  expected = 10 * math.log10(255**2 / 3)
  assert distortion.psnr(_image(100), decoded) == pytest.approx(expected)


def test_psnr_of_equal_pictures_is_infinite():
  assert distortion.psnr(_image(7), _image(7)) == math.inf


@pytest.mark.parametrize(
  'decoded, words',
  [
    (_image(0, 5, 8), r'\(5, 8, 3\).*\(5, 7, 3\)'),
    (_image(0).astype(np.float32), 'float32.*uint8'),
    (_image(0)[..., 0], r'\(5, 7\).*\[height, width, 3\]'),
    (_image(0)[..., :1], r'\(5, 7, 1\)'),
    (_image(0)[:0], r'\(0, 7, 3\)'),
    ([[[1, 2, 3]]], 'list.*uint8'),
  ],
)
def test_psnr_names_what_is_wrong(decoded, words):
  with pytest.raises(ValueError, match=words):
    distortion.psnr(_image(0), decoded)
