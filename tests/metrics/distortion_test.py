import math

import numpy as np
import pytest

from gdc.metrics import distortion


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


def test_psnr_of_equal_images_is_infinite():
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


# Of pytorch-msssim 1.0.0 on these images, in float64:
# ms_ssim(a.permute(2, 0, 1)[None].double(), ..., data_range=255).
@pytest.mark.parametrize('size, coarse, moved', [
  ((161, 203), 0.9874752835426591, 0.6002911548831745),
  ((256, 320), 0.9899176833231259, 0.5965574758972624),
  ((333, 250), 0.9901977861385644, 0.5964190400646214),
])
def test_ms_ssim_is_that_of_the_torch_package(
  size, coarse, moved, formula_images
):
  image, *versions = formula_images(*size)
  found = [distortion.ms_ssim(image, version) for version in versions]
  # The package's window is rounded to float32. Negative contrast counts as 0.
  assert found == pytest.approx([coarse, moved, 0.0], abs=1e-7)


def test_ms_ssim_of_flat_images_is_luminance_at_the_coarsest_scale():
  # No contrast to lose: C2 / C2. Sides that halve four times have no edge.
  image, decoded = _image(100, 176, 192), _image(60, 176, 192)
  luminance = (2 * 100 * 60 + 2.55**2) / (100**2 + 60**2 + 2.55**2)
  assert distortion.ms_ssim(image, decoded) == pytest.approx(luminance**0.1333)


def test_ms_ssim_of_equal_images_is_one_and_both_ways_the_same(
  formula_images
):
  image, coarse, *_ = formula_images(170, 200)
  assert distortion.ms_ssim(image, image) == pytest.approx(1, abs=1e-12)
  assert distortion.ms_ssim(image, coarse) == pytest.approx(
    distortion.ms_ssim(coarse, image), abs=1e-12
  )


def test_ms_ssim_names_what_is_wrong():
  small = _image(0, 200, 160)
  with pytest.raises(ValueError, match='200 x 160 .*161 pixels'):
    distortion.ms_ssim(small, small)
  with pytest.raises(ValueError, match=r'\(5, 8, 3\).*\(5, 7, 3\)'):
    distortion.ms_ssim(_image(0), _image(0, 5, 8))
