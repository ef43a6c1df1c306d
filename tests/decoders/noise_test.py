"""Noise that belongs to places."""
import jax
import numpy as np
import pytest

from gdc.decoders import noise

KEY = jax.random.key(7)


@pytest.fixture(scope='module')
def whole():
  return np.asarray(noise.normal(KEY, (2, 100, 130, 3)))


@pytest.mark.parametrize('origin,size', [
  ((0, 0), (1, 1)), ((16, 32), (40, 50)), ((96, 112), (4, 18)),
])
def test_a_part_has_the_values_of_the_whole(whole, origin, size):
  (row, column), (height, width) = origin, size
  part = jax.jit(noise.normal, static_argnums=1)(
    KEY, (2, *size, 3), np.int32(origin)
  )
  np.testing.assert_array_equal(
    part, whole[:, row:row + height, column:column + width]
  )


def test_what_is_needed_is_drawn(whole):
  part = noise.normal(KEY, (2, 100, 130, 3), extent=(33, 16))
  np.testing.assert_array_equal(part[:, :33, :16], whole[:, :33, :16])


def test_it_is_standard_normal(whole):
  n = whole.size
  assert abs(whole.mean()) < 4 / np.sqrt(n)
  assert abs(whole.std() - 1) < 4 / np.sqrt(2 * n)
  assert abs((whole**4).mean() - 3) < 4 * np.sqrt(96 / n)


def test_no_two_places_share_their_noise(whole):
  cells = np.concatenate([
    whole[e, r:r + 16, c:c + 16].reshape(1, -1)
    for e in range(2) for r in range(0, 96, 16) for c in range(0, 128, 16)
  ])
  assert len(np.unique(cells)) == cells.size or (
    # float32 normals of 23 bits may meet; whole cells may not.
    len(np.unique(cells, axis=0)) == len(cells)
  )
  correlation = np.corrcoef(cells) - np.eye(len(cells))
  assert np.abs(correlation).max() < 6 / np.sqrt(cells.shape[1])


def test_other_keys_are_other_noise(whole):
  other = noise.normal(jax.random.key(8), whole.shape)
  assert abs(np.corrcoef(whole.ravel(), np.ravel(other))[0, 1]) < 0.02
