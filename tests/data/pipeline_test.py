import collections
import itertools

import numpy as np
import pytest
from PIL import Image

from gdc.data import pipeline, sources


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """Twenty flat images, each of its own grey: 16 in one group, 4 in one."""
  folder = tmp_path_factory.mktemp('images')
  for i in range(20):
    path = folder / ('few' if i >= 16 else 'many') / f'{i:02}.png'
    path.parent.mkdir(exist_ok=True)
    # A lighter left half, so that crops and flips differ.
    image = np.full((40, 40, 3), i, np.uint8)
    image[:, :20] += 100
    Image.fromarray(image).save(path)
  return sources.folder(folder)


def _batches(source, **changes):
  fields = {
    'batch_size': 4, 'rows': range(4), 'crop': 16, 'min_scale': 1.0, 'seed': 0,
    'balance': False,
  }
  return pipeline.batches(source, **{**fields, **changes})


def _take(iterator, count):
  return np.stack([b['image'] for b in itertools.islice(iterator, count)])


def _names(batches):
  """Returns the number of each crop's image, of [..., 16, 16, 3]."""
  return (batches.min(axis=(-1, -2, -3)) % 100).ravel().tolist()


def test_batches_have_shape_and_type(source):
  batch = next(_batches(source, batch_size=6, rows=range(6), crop=24))
  assert set(batch) == {'image'}
  assert batch['image'].shape == (6, 24, 24, 3)
  assert batch['image'].dtype == np.uint8


def test_the_seed_decides_everything(source):
  first, second, other = (
    _take(_batches(source, seed=seed), 6) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, second)
  assert _names(first) != _names(other)


def test_an_epoch_has_every_image_once_and_the_next_another_order(source):
  names = _names(_take(_batches(source), 10))
  assert sorted(names[:20]) == sorted(names[20:]) == list(range(20))
  assert names[:20] != names[20:]
  assert names[:20] != sorted(names[:20])


def test_crops_differ_between_epochs(source):
  crops = _take(_batches(source), 20).reshape(-1, 16, 16, 3)
  of_first = {c.tobytes() for c in crops if c.min() % 100 == 0}
  assert len(of_first) > 1


@pytest.mark.parametrize('balance', [False, True])
def test_state_resumes_at_the_exact_next_batch(source, balance):
  iterator = _batches(source, min_scale=0.5, balance=balance)
  _take(iterator, 7)
  state = iterator.get_state()
  expected = _take(iterator, 5)
  resumed = _batches(source, min_scale=0.5, balance=balance)
  next(resumed)
  resumed.set_state(state)
  np.testing.assert_array_equal(_take(resumed, 5), expected)


def test_processes_read_disjoint_parts(source):
  parts = []
  for rows in (range(2), range(2, 4)):
    batches = _take(_batches(source, rows=rows), 5)  # an epoch, half of it each
    assert batches.shape[:2] == (5, 2)
    parts.append(_names(batches))
  assert len(parts[0]) == len(parts[1]) == 10
  assert sorted(parts[0] + parts[1]) == list(range(20))


@pytest.mark.parametrize('rows', [[0, 1], [2], [0, 3], [3, 1, 2]])
@pytest.mark.parametrize('transpose', [0.0, 0.5])
def test_a_row_of_a_batch_is_the_same_whoever_draws_it(source, transpose, rows):
  fields = {'min_scale': 0.5, 'transpose': transpose}
  whole = _take(_batches(source, **fields), 3)
  part = _take(_batches(source, **fields, rows=rows), 3)
  np.testing.assert_array_equal(part, whole[:, rows])


def test_processes_draw_crops_of_their_own(tmp_path):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (64, 64, 3), np.uint8)
  Image.fromarray(image).save(tmp_path / '0.png')
  source = sources.folder(tmp_path)
  crops = []
  for rows in (range(2), range(2, 4)):
    batches = _take(_batches(source, rows=rows), 4)
    crops += list(batches.reshape(-1, 16, 16, 3))
  assert len({c.tobytes() for c in crops}) == len(crops) == 16


def test_balance_weighs_groups_by_the_root_of_their_size(source):
  names = _names(_take(_batches(source, balance=True), 150))
  share = np.mean([name >= 16 for name in names])
  # sqrt(4) / (sqrt(4) + sqrt(16)), where without balance it is 4 / 20.
  assert share == pytest.approx(1 / 3, abs=0.01)
  counts = collections.Counter(names)
  assert set(counts) == set(range(20))


def test_without_balance_groups_weigh_their_size(source):
  names = _names(_take(_batches(source), 50))
  assert np.mean([name >= 16 for name in names]) == pytest.approx(0.2)


def test_balance_needs_groups(source):
  class Other:
    def __len__(self):
      return 4

    def __getitem__(self, index):
      return {'image': np.zeros((40, 40, 3), np.uint8)}

  assert next(_batches(Other()))['image'].shape == (4, 16, 16, 3)
  with pytest.raises(ValueError, match='balance needs bundled:train or folder'):
    _batches(Other(), balance=True)
