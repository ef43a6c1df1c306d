"""The store of finished pieces."""
import json
import os

import numpy as np
import pytest

from gdc.evaluation import units

KEY = {'image': 'abc', 'codec': {'digest': 'd'}, 'qualities': [1]}
UNIT = units.Unit(
  [{'name': 'a', 'bytes': 9, 'psnr': 30.123456789012345, 'lpips': None}],
  ['digest'], {'date': 'today'}, 'network',
  np.arange(12, dtype=np.float32).reshape(1, 3, 4),
)


def test_a_unit_comes_back_as_it_was(tmp_path):
  store = units.Store(tmp_path)
  assert store.load('gdc:mse', KEY) is None
  store.save('gdc:mse', KEY, UNIT)
  found = units.Store(tmp_path).load('gdc:mse', dict(reversed(KEY.items())))
  assert found[:4] == UNIT[:4]
  np.testing.assert_array_equal(found.features, UNIT.features)
  assert found.features.dtype == np.float32


@pytest.mark.parametrize('change', [
  {'image': 'abd'}, {'codec': {'digest': 'e'}}, {'qualities': []}, {'new': 1},
])
def test_anything_else_in_the_key_is_another_unit(tmp_path, change):
  store = units.Store(tmp_path)
  store.save('jpeg', KEY, UNIT)
  assert store.load('jpeg', KEY | change) is None
  assert store.load('webp', KEY) is None


def test_what_a_unit_lacks():
  assert UNIT.lacks(['psnr', 'lpips'], 'network') == ()
  assert UNIT.lacks(['psnr'], '') == ()
  assert UNIT.lacks(['dists', 'psnr'], 'other') == ('dists', units.FEATURES)


def test_measures_are_added_and_times_kept():
  old = units.Unit(
    [{'bytes': 9, 'psnr': 30.0, 'decode_seconds': 1.0}], ['digest'],
    {'date': 'yesterday'},
  )
  new = units.Unit(
    [{'bytes': 9, 'dists': 0.1, 'decode_seconds': 2.0}], ['digest'],
    {'date': 'today'},
  )
  found = old.merged(new)
  assert found.rows == [
    {'bytes': 9, 'psnr': 30.0, 'dists': 0.1, 'decode_seconds': 1.0}
  ]
  assert found.network == '' and found.made == {'date': 'yesterday'}
  for pair in ((old, UNIT), (UNIT, old)):
    found = pair[0].merged(pair[1])
    assert found.network == 'network'
    np.testing.assert_array_equal(found.features, UNIT.features)


def test_figures_of_two_images_do_not_meet_in_one_row():
  other = UNIT._replace(digests=['as large, and decoded otherwise'])
  assert UNIT.merged(other) is None


def test_a_row_is_told_by_its_file_and_by_its_image():
  image = np.zeros((2, 3, 3), np.uint8)
  found = {
    units.row_digest(b'a', image), units.row_digest(b'b', image),
    units.row_digest(b'a', image + 1),
  }
  assert len(found) == 3
  assert units.row_digest(b'a', image.copy()) in found


@pytest.mark.parametrize('kept', [0, 1, 100, -1])
def test_half_a_file_is_no_unit(tmp_path, kept):
  store = units.Store(tmp_path)
  store.save('jpeg', KEY, UNIT)
  (path,) = tmp_path.rglob('*.npz')
  path.write_bytes(path.read_bytes()[:kept])
  assert store.load('jpeg', KEY) is None


def test_a_file_that_could_run_code_is_no_unit(tmp_path):
  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / 'made'),)
  store = units.Store(tmp_path)
  store.save('jpeg', KEY, UNIT)
  (path,) = tmp_path.rglob('*.npz')
  np.savez(
    path, record=json.dumps({'rows': [], 'digests': [], 'made': {}}),
    features=np.array([Evil()], object),
  )
  assert store.load('jpeg', KEY) is None
  assert not (tmp_path / 'made').exists()


def test_the_digest_is_of_size_and_samples():
  image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
  found = units.image_digest(image)
  assert found == units.image_digest(image[:, ::-1][:, ::-1])
  assert found != units.image_digest(image.reshape(4, 2, 3))
  assert found != units.image_digest(image + 1)
