"""Images that tests of metrics share."""
import numpy as np
import pytest


@pytest.fixture(scope='session')
def formula_images():
  """A function: size -> an image and worse versions of it.

  By formulas of whole numbers, so that figures of other packages can be redone
  from the formulas alone. Versions are coarse, moved and faint, in order of
  similarity.
  """
  def make(height, width):
    y, x = np.mgrid[:height, :width]
    image = np.stack([
      (x * x + 2 * y * y) // 97 % 256,
      128 + 90 * ((x // 9 + y // 7) % 2) + (x * y) % 23,
      (5 * x + 3 * y) % 256,
    ], -1).astype(np.uint8)
    sums = sum(np.roll(image.astype(int), shift, 1) for shift in (-1, 0, 1))
    coarse = (sums // 3 // 16 * 16 + 8).astype(np.uint8)
    moved = image.copy()
    moved[..., 0] //= 2
    moved[..., 1] = np.roll(image[..., 1], 4, 0)
    return image, coarse, moved, 255 - image // 2

  return make
