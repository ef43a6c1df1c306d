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
    window = tile.cut(array)
    assert window.shape == (12, 16, 2) and window.flags.c_contiguous
    assert tile.extent.dtype == np.int32
    # Within the image, its values are the image's.
    (row, column), (height, width) = tile.origin, tile.extent
    np.testing.assert_array_equal(
      window[:height, :width],
      array[row:row + height, column:column + width],
    )
    tile.paste(window, out)
  np.testing.assert_array_equal(out, array)


def test_cut_and_paste_at_a_stride():
  array = np.arange(5 * 9).reshape(5, 9, 1)
  out = np.full_like(array, -1)
  for tile in tiles.cover((20, 36), (16, 16), 4):
    window = tile.cut(array, 4)
    assert window.shape == (4, 4, 1)
    tile.paste(window, out, 4)
  np.testing.assert_array_equal(out, array)
