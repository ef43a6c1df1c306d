import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdc.data import pipeline, sources
from gdc.training import checkpoints, manifest, sharding


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('images')
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
  """A workdir with a checkpoint of step 3, and the batch that follows it."""
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
  step, state = store.restore(_abstract(_state(), mesh), data)
  assert step == 3
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
  step = checkpoints.folder(folder) / '3'
  place = step / 'data'
  (place / 'process_0-of-1.json').rename(place / 'process_3-of-4.json')
  manifest.write(step)
  store = checkpoints.Checkpoints(folder)
  data = _batches(source)
  store.restore(_abstract(_state(), sharding.create_mesh()), data)
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
  _, state = store.restore(_abstract(_state(), sharding.create_mesh()))
  store.close()
  np.testing.assert_array_equal(state['w'], _state()['w'])


def test_the_newest_are_kept(tmp_path, source):
  data = _batches(source)
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for step in (1, 2, 3, 4):
    store.save(step, _state(step), data)
  store.close()
  assert checkpoints.steps(tmp_path) == [3, 4]


def test_saving_a_step_again_keeps_the_first(tmp_path, source):
  data = _batches(source)
  store = checkpoints.Checkpoints(tmp_path)
  store.save(1, _state(1.0), data)
  store.save(1, _state(2.0), data)
  _, state = store.restore(_abstract(_state(), sharding.create_mesh()))
  store.close()
  assert (state['w'] == 1.0).all()


def test_close_waits_for_the_save(tmp_path, source):
  store = checkpoints.Checkpoints(tmp_path)
  big = {'w': jnp.zeros((1024, 4096))}
  store.save(7, big, _batches(source))
  store.close()
  # Complete: under its own name, with its metadata.
  assert checkpoints.steps(tmp_path) == [7]
  path = checkpoints.folder(tmp_path) / '7' / '_CHECKPOINT_METADATA'
  assert json.loads(path.read_text())


def test_an_incomplete_checkpoint_is_not_the_newest(saved):
  folder, _ = saved
  (checkpoints.folder(folder) / '9.orbax-checkpoint-tmp-0').mkdir()
  store = checkpoints.Checkpoints(folder)
  assert store.latest_step() == 3
  store.close()


def test_an_empty_folder_has_no_step(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  store = checkpoints.Checkpoints('runs/a')  # relative, and not there yet
  assert store.latest_step() is None
  store.close()
  assert pathlib.Path(tmp_path, 'runs', 'a', 'checkpoints').is_dir()


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
    store.restore(_abstract(other, sharding.create_mesh()))
  store.close()


# --- Checkpoints that are not whole -----------------------------------------


@pytest.fixture(scope='module')
def two(tmp_path_factory, source):
  """A workdir with checkpoints of steps 1 and 2, of noise."""
  folder = tmp_path_factory.mktemp('two')
  noise = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
  store = checkpoints.Checkpoints(folder)
  for step in (1, 2):
    store.save(step, {'w': jnp.asarray(noise * step)}, _batches(source))
  store.close()
  return folder, noise


def _largest(folder):
  return max(folder.rglob('*'), key=lambda p: p.stat().st_size * p.is_file())


def _emptied(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def _cut(folder):
  path = _largest(folder / 'state')
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _flipped(folder):
  path = _largest(folder / 'state')
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(data)


def _lost(folder):
  _largest(folder / 'state').unlink()


def _without_place(folder):
  next((folder / 'data').iterdir()).unlink()


def _without_manifest(folder):  # copied in part
  (folder / manifest.NAME).unlink()


def _with_another_manifest(folder):
  (folder / manifest.NAME).write_text('[]')


@pytest.mark.parametrize('damage, words', [
  (_emptied, 'files.json is missing'), (_cut, 'bytes, not'),
  (_flipped, 'is damaged'), (_lost, 'is missing'),
  (_without_place, 'is missing'),
  (_without_manifest, 'files.json is missing'),
  (_with_another_manifest, 'files.json is damaged'),
], ids=lambda v: v.__name__ if callable(v) else '')
def test_the_whole_checkpoint_before_is_used(
  two, source, tmp_path, caplog, damage, words
):
  folder, noise = tmp_path / 'run', two[1]
  shutil.copytree(two[0], folder)
  damage(checkpoints.folder(folder) / '2')
  abstract = _abstract({'w': noise}, sharding.create_mesh())
  store = checkpoints.Checkpoints(folder)
  step, state = store.restore(abstract, _batches(source))
  assert step == 1
  np.testing.assert_array_equal(state['w'], noise)
  assert 'checkpoint 2 is not whole (2: ' in caplog.text
  assert words in caplog.text and 'step 1 is used' in caplog.text
  # A run that goes on saves that step again; nothing is thrown away.
  store.set_aside(step)
  store.save(2, {'w': jnp.asarray(noise)}, _batches(source))
  store.close()
  folder = checkpoints.folder(folder)
  assert sorted(p.name for p in folder.iterdir()) == [
    '1', '2', '2.incomplete-0'
  ]
  assert manifest.fault(folder / '2') == ''


def test_without_a_whole_checkpoint_the_advice_helps(two, source, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(two[0], workdir)
  folder = checkpoints.folder(workdir)
  _emptied(folder / '1')
  _cut(folder / '2')
  store = checkpoints.Checkpoints(workdir)
  with pytest.raises(ValueError, match=(
    r'No checkpoint in .* is whole \(1: files.json is missing; 2: state.*bytes,'
    ' not .*copy one there again, or remove them all'
  )):
    store.latest_step()
  store.close()
  shutil.rmtree(folder / '2')
  shutil.copytree(checkpoints.folder(two[0]) / '2', folder / '2')
  store = checkpoints.Checkpoints(workdir)
  assert store.latest_step() == 2
  store.close()
  for step in '12':
    shutil.rmtree(folder / step)
  store = checkpoints.Checkpoints(workdir)
  assert store.latest_step() is None
  store.close()


def test_a_checkpoint_that_a_run_in_progress_removes_is_not_missed(
  two, tmp_path, monkeypatch
):
  workdir = tmp_path / 'run'
  shutil.copytree(two[0], workdir)
  store = checkpoints.Checkpoints(workdir)
  latest = store.latest_step

  def then_removed():
    step = latest()
    if step == 2:
      shutil.rmtree(checkpoints.folder(workdir) / '2')
    return step

  monkeypatch.setattr(store, 'latest_step', then_removed)
  step, _ = store.restore(_abstract({'w': two[1]}, sharding.create_mesh()))
  store.close()
  assert step == 1
