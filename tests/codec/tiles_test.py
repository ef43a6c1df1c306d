"""Tiles: each output is taken once, with its receptive field."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdc.codec import tiles


@given(st.integers(1, 500), st.integers(0, 6), st.integers(1, 20))
def test_every_output_is_taken_once_and_has_its_halo(length, halo, more):
  tile = 2 * halo + more
  taken = []
  for span in tiles.spans(length, tile, halo):
    taken += range(span.first, span.last)
    assert 0 <= span.origin <= span.first < span.last
    assert span.last <= span.origin + tile
    # An edge is the image's, or beyond the halo.
    assert span.origin == 0 or span.first - span.origin >= halo
    end = span.origin + tile
    assert end >= length or end - span.last >= halo
  assert taken == list(range(length))


def test_a_tile_of_halo_only_is_refused():
  with pytest.raises(ValueError, match='longer than 8'):
    tiles.spans(100, 8, 4)


@pytest.mark.parametrize('size', [(1, 1), (7, 40), (23, 23), (64, 9)])
def test_cut_and_paste(size):
  array = np.arange(size[0] * size[1] * 2).reshape(*size, 2)
  out = np.full_like(array, -1)
  for tile in tiles.cover(size, (12, 16), 3):
    window = tile.cut(tiles.Plane.of(array))
    assert window.shape == (12, 16, 2) and window.flags.c_contiguous
    assert tile.extent.dtype == np.int32
    # Within the image, its values are the image's.
    (row, column), (height, width) = tile.origin, tile.extent
    np.testing.assert_array_equal(
      window[:height, :width],
      array[row:row + height, column:column + width],
    )
    tile.paste(window, tiles.Plane.of(out))
  np.testing.assert_array_equal(out, array)


def test_cut_and_paste_at_a_stride():
  array = np.arange(5 * 9).reshape(5, 9, 1)
  out = np.full_like(array, -1)
  for tile in tiles.cover((20, 36), (16, 16), 4):
    window = tile.cut(tiles.Plane.of(array, 4))
    assert window.shape == (4, 4, 1)
    tile.paste(window, tiles.Plane.of(out, 4))
  np.testing.assert_array_equal(out, array)


@given(st.data())
def test_a_window_is_the_crop_of_the_whole(data):
  """A moving sum of 2 * halo + 1, as a network that sees that far."""
  halo, stride, size = 4, 4, (44, 60)
  rng = np.random.default_rng(0)
  image = rng.integers(0, 100, (size[0] // stride, size[1] // stride, 1))
  shape = 16, 24
  top, left = (data.draw(st.integers(0, n - 1)) for n in size)
  bottom = data.draw(st.integers(top + 1, size[0]))
  right = data.draw(st.integers(left + 1, size[1]))
  window = tiles.Window(top, left, bottom, right)
  seen = window.grown(halo, size, stride)
  assert all(n % stride == 0 for n in seen)
  part = image[seen.top // stride:seen.bottom // stride,
               seen.left // stride:seen.right // stride]

  def run(plane, window):
    out = tiles.Plane.empty(window, 1, int)
    for tile in tiles.cover(size, shape, halo, window):
      cut = np.kron(tile.cut(plane)[:, :, 0], np.ones((stride, stride), int))
      height, width = tile.extent
      padded = np.pad(cut[:height, :width], halo)
      y = sum(
        padded[i:i + height, j:j + width]
        for i in range(2 * halo + 1) for j in range(2 * halo + 1)
      )
      whole = np.zeros((*shape, 1), int)
      whole[:height, :width, 0] = y
      tile.paste(whole, out)
    return out.array

  whole = run(tiles.Plane.of(image, stride), tiles.Window(0, 0, *size))
  np.testing.assert_array_equal(
    run(tiles.Plane(part, seen, stride), window), whole[window.slices]
  )
