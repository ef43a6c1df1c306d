import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdc.data import pipeline, sources
from gdc.training import checkpoints, sharding


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pictures')
  rng = np.random.default_rng(0)
  for i in range(4):
    image = rng.integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(image).save(folder / f'{i}.png')
  return sources.folder(folder)


def _batches(source):
  return pipeline.batches(
    source, batch_size=2, rows=range(2), crop=16, min_scale=1.0, seed=0,
    balance=False,
  )


def _state(value=1.0, width=8):
  return {
    'w': jnp.full((4, width), value),
    'step': jnp.asarray(3, jnp.int32),
    'key': jax.random.key(5),
  }


def _abstract(tree, mesh):
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(
      a.shape, a.dtype, sharding=sharding.replicated(mesh)
    ),
    tree,
  )


@pytest.fixture
def saved(tmp_path, source):
  """A folder with a checkpoint of step 3, and the batch that follows it."""
  data = _batches(source)
  next(data)
  store = checkpoints.Checkpoints(tmp_path)
  store.save(3, _state(), data)
  store.close()
  return tmp_path, next(data)['image']


def test_round_trip_of_state_and_data(saved, source):
  folder, expected = saved
  mesh = sharding.create_mesh(2)
  store = checkpoints.Checkpoints(folder)
  assert store.latest_step() == 3
  data = _batches(source)
  state = store.restore(3, _abstract(_state(), mesh), data)
  store.close()
  np.testing.assert_array_equal(state['w'], _state()['w'])
  assert int(state['step']) == 3
  np.testing.assert_array_equal(
    jax.random.bits(state['key']), jax.random.bits(_state()['key'])
  )
  assert state['w'].sharding.mesh == mesh
  np.testing.assert_array_equal(next(data)['image'], expected)


def test_a_run_goes_on_with_another_number_of_processes(saved, source):
  folder, expected = saved
  place = folder / '3' / 'data'
  (place / 'process_0-of-1.json').rename(place / 'process_3-of-4.json')
  store = checkpoints.Checkpoints(folder)
  data = _batches(source)
  store.restore(3, _abstract(_state(), sharding.create_mesh()), data)
  store.close()
  np.testing.assert_array_equal(next(data)['image'], expected)


def test_reading_makes_nothing(tmp_path):
  for folder in (tmp_path / 'none', tmp_path):
    with (
      pytest.raises(ValueError, match='No checkpoint in .*train first'),
      checkpoints.opened(folder),
    ):
      pass
  assert not list(tmp_path.iterdir())


def test_state_alone(saved):
  folder, _ = saved
  store = checkpoints.Checkpoints(folder)
  state = store.restore(3, _abstract(_state(), sharding.create_mesh()))
  store.close()
  np.testing.assert_array_equal(state['w'], _state()['w'])


def test_the_newest_are_kept(tmp_path, source):
  data = _batches(source)
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for step in (1, 2, 3, 4):
    store.save(step, _state(step), data)
  store.close()
  assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ['3', '4']


def test_saving_a_step_again_keeps_the_first(tmp_path, source):
  data = _batches(source)
  store = checkpoints.Checkpoints(tmp_path)
  store.save(1, _state(1.0), data)
  store.save(1, _state(2.0), data)
  state = store.restore(1, _abstract(_state(), sharding.create_mesh()))
  store.close()
  assert (state['w'] == 1.0).all()


def test_close_waits_for_the_save(tmp_path, source):
  store = checkpoints.Checkpoints(tmp_path)
  big = {'w': jnp.zeros((1024, 4096))}
  store.save(7, big, _batches(source))
  store.close()
  # Complete: under its own name, with its metadata.
  assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ['7']
  assert json.loads((tmp_path / '7' / '_CHECKPOINT_METADATA').read_text())


def test_an_incomplete_checkpoint_is_not_the_newest(saved):
  folder, _ = saved
  (folder / '9.orbax-checkpoint-tmp-0').mkdir()
  store = checkpoints.Checkpoints(folder)
  assert store.latest_step() == 3
  store.close()


def test_an_empty_folder_has_no_step(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  store = checkpoints.Checkpoints('runs/a')  # relative, and not there yet
  assert store.latest_step() is None
  store.close()
  assert pathlib.Path(tmp_path, 'runs', 'a').is_dir()


def _renamed():
  state = _state()
  state['v'] = state.pop('w')
  return state


def _with_more():
  return {**_state(), 'more': jnp.zeros(3)}


# Orbax leaves coroutines behind when a restore fails.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
  'other', [_state(width=16), _state(width=4), _renamed(), _with_more()],
  ids=['wider', 'narrower', 'renamed', 'more'],
)
def test_a_state_that_does_not_fit(saved, other):
  folder, _ = saved
  store = checkpoints.Checkpoints(folder)
  with pytest.raises(ValueError, match='step 3 .* does not fit this config'):
    store.restore(3, _abstract(other, sharding.create_mesh()))
  store.close()
