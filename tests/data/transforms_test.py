import numpy as np
import pytest

from gdc.data import transforms


def _crops(image, size, min_scale=1.0, count=30, **fields):
  return [
    transforms.random_crop(
      {'image': image}, np.random.default_rng(i), size=size,
      min_scale=min_scale, **fields,
    )['image'] for i in range(count)
  ]


@pytest.mark.parametrize('shape', [
  (40, 60), (60, 40), (32, 32), (20, 50), (50, 20), (1, 1), (31, 200),
])
@pytest.mark.parametrize('min_scale', [1.0, 0.3])
def test_crops_have_the_size_whatever_the_image(shape, min_scale, gradient):
  for crop in _crops(gradient(*shape), 32, min_scale, count=5):
    assert crop.shape == (32, 32, 3)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous


def test_crop_is_a_window_of_the_image_perhaps_flipped(gradient, windows):
  image = gradient(50, 70)
  seen = windows(_crops(image, 16), image)
  assert len(seen) > 20
  assert {flipped for *_, flipped in seen} == {True, False}


@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_share_of_the_crops_is_transposed_and_else_the_same(share, gradient):
  image = gradient(60, 70)
  turned = []
  for crop, plain in zip(
    _crops(image, 16, 0.5, 400, transpose=share), _crops(image, 16, 0.5, 400),
    strict=True,
  ):
    assert crop.flags.c_contiguous
    turned.append(not np.array_equal(crop, plain))
    np.testing.assert_array_equal(
      crop, plain.swapaxes(0, 1) if turned[-1] else plain
    )
  # 400 draws: three standard deviations are 0.065.
  assert np.mean(turned) == pytest.approx(share, abs=0.065 * (0 < share < 1))


def test_every_window_can_be_drawn(gradient):
  tops = {int(c[0, 0, 0]) for c in _crops(gradient(18, 18), 16, count=60)}
  assert tops == {0, 1, 2}


def test_scale_is_between_min_scale_and_one(gradient):
  image = gradient(200, 200)
  # The rows that a crop spans, over its own: 1 / scale.
  spans = np.array([
    (int(c[-1, 0, 0]) - int(c[0, 0, 0])) / 31 for c in _crops(image, 32, 0.25)
  ])
  assert spans.min() > 0.9
  assert 3 < spans.max() < 4.2


def test_scaling_never_leaves_the_image(gradient):
  # No window of 32 / 0.1 pixels fits; the largest that does is taken.
  for crop in _crops(gradient(40, 40), 32, 0.1, count=10):
    assert np.ptp(crop[..., 0]) <= 39


def test_small_image_is_scaled_up_whole():
  image = np.zeros((8, 8, 3), np.uint8)
  image[:, 4:] = 200
  for crop in _crops(image, 32, count=6):
    left, right = crop[:, :8].mean(), crop[:, -8:].mean()
    assert {round(left, -1), round(right, -1)} == {0, 200}


@pytest.mark.parametrize('min_scale', [1.0, 0.3])
def test_colours_are_untouched(min_scale):
  colour = np.array([3, 130, 251], np.uint8)
  image = np.broadcast_to(colour, (90, 80, 3))
  for crop in _crops(image, 32, min_scale, count=10):
    assert (crop == colour).all()


def test_same_generator_same_crop():
  image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
  first, second = (_crops(image, 16, 0.5, count=8) for _ in range(2))
  np.testing.assert_array_equal(first, second)
  assert len({c.tobytes() for c in first}) == 8


def test_to_float_spans_minus_one_to_one():
  x = transforms.to_float(np.array([0, 51, 255], np.uint8))
  assert x.dtype == np.float32
  np.testing.assert_allclose(x, [-1, -0.6, 1], atol=1e-7)
