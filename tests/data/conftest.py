"""Fixtures for tests of crops."""
import numpy as np
import pytest


@pytest.fixture(scope='session')
def gradient():
  """A function: height, width, blue -> an image whose colours are positions.

  Red is a pixel's row, green its column.
  """
  def make(height, width, blue=9):
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.full_like(rows, blue)], axis=-1)
    return image.astype(np.uint8)

  return make


@pytest.fixture(scope='session')
def windows():
  """A function: unscaled crops of a gradient -> {(top, left, flipped)}.

  It fails where a crop is no window of the image.
  """
  def find(crops, image):
    seen = set()
    for crop in crops:
      flipped = crop[0, 0, 1] > crop[0, -1, 1]
      upright = crop[:, ::-1] if flipped else crop
      top, left = upright[0, 0, :2].tolist()
      height, width, _ = crop.shape
      np.testing.assert_array_equal(
        upright, image[top:top + height, left:left + width]
      )
      seen.add((top, left, bool(flipped)))
    return seen

  return find
