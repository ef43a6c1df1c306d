import dataclasses
import json
import logging
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import type_handlers
from PIL import Image

from configs import autoencoder, base, one_step
from gdc.codec import bundle
from gdc.data import device_cache
from gdc.metrics import lpips
from gdc.training import (
  checkpoints,
  experiment,
  loop,
  metric_writers,
  resume,
)


def _rows(workdir):
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _assert_same(a, b):
  """Bit for bit; typed keys by their data."""
  def check(path, x, y):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(
      np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
    )
  jax.tree_util.tree_map_with_path(check, a, b)


def _without_images(patch):
  """Images take longer to compile than most steps."""
  build = experiment.build

  def built(config):
    exp = build(config)
    return dataclasses.replace(exp, stage=dataclasses.replace(
      exp.stage, visualise=lambda params, frozen, images: {}
    ))

  patch.setattr(experiment, 'build', built)
  patch.setattr(
    loop, '_examples', lambda *_: jnp.zeros((1, 64, 64, 3))
  )


@dataclasses.dataclass
class Trained:
  """A run that was watched.

  Attributes:
    workdir: its folder.
    state: as `train` returned it.
    next_batch: what a further step would have seen.
    compiled: (step, program) of every compilation, in order.
  """

  workdir: pathlib.Path
  state: object
  next_batch: np.ndarray
  compiled: list


class _Watch(logging.Handler):
  """Notes what jax compiles, and after the metrics of which step."""

  def __init__(self):
    super().__init__()
    self.step = 0
    self.compiled = []

  def emit(self, record):
    message = record.getMessage()
    if message.startswith('Compiling '):
      self.compiled.append((self.step + 1, message.split()[1]))


def _train(config, workdir) -> Trained:
  watch = _Watch()
  logger = logging.getLogger('jax')
  build, scalars = experiment.build, metric_writers.MetricWriter.scalars
  built = []

  def build_and_keep(config):
    built.append(build(config))
    return built[-1]

  def note_step(self, step, values):
    scalars(self, step, values)
    watch.step = step

  with pytest.MonkeyPatch.context() as patch, jax.log_compiles():
    patch.setattr(experiment, 'build', build_and_keep)
    patch.setattr(metric_writers.MetricWriter, 'scalars', note_step)
    logger.addHandler(watch)
    try:
      state = loop.train(config, workdir)
    finally:
      logger.removeHandler(watch)
  return Trained(
    workdir, state, next(built[0].data)['image'], watch.compiled
  )


@pytest.fixture(scope='module', autouse=True)
def whole_arrays():
  """Small arrays are saved whole.

  Otherwise each of the eight devices saves a slice, and every shape of a slice
  is compiled: seconds a test. (checkpoints_test saves slices.)
  """
  handler = type_handlers.get_type_handler(jax.Array)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(handler, '_min_slice_bytes_for_replica_parallel', 1 << 20)
    yield


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """Four steps of the tiny autoencoder, never killed."""
  return _train(
    autoencoder.get_config('tiny'), tmp_path_factory.mktemp('straight')
  )


# --- A whole run ------------------------------------------------------------


def test_a_run_leaves_metrics_checkpoints_and_events(straight):
  rows = _rows(straight.workdir)
  assert [row['step'] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    assert {
      'bpp', 'psnr', 'rd', 'total', 'gradient_norm', 'learning_rate'
    } <= set(row)
    assert np.isfinite(list(row.values())).all(), row
  assert rows[0]['learning_rate'] == pytest.approx(1e-5, rel=1e-4)
  assert rows[1]['learning_rate'] == pytest.approx(1e-3, rel=1e-4)
  assert checkpoints.steps(straight.workdir) == [2, 4]
  assert int(straight.state.step) == 4
  assert list((straight.workdir / 'tensorboard').glob('events.*'))
  written = json.loads((straight.workdir / 'config.json').read_text())
  assert written['optimizer']['learning_rate'] == 1e-3


def test_training_moves_every_parameter(straight):
  exp = experiment.build(autoencoder.get_config('tiny'))
  start = jax.device_get(exp.init())
  end = jax.device_get(straight.state)
  still = [
    jax.tree_util.keystr(path)
    for path, same in jax.tree_util.tree_leaves_with_path(
      jax.tree.map(np.array_equal, start.params, end.params)
    ) if same
  ]
  # What no gradient reaches would be dead weight in every bundle.
  assert not still
  assert not np.array_equal(
    end.params['log_rmse'], end.ema_params['log_rmse']
  )


def test_nothing_is_compiled_twice(straight):
  names = [name for _, name in straight.compiled]
  for ours in ('train_step', 'visualise'):
    assert sum(ours in name for name in names) == 1, names
  # The first save and images were of step 2, after its metrics.
  late = [entry for entry in straight.compiled if entry[0] > 3]
  assert not late


def test_resuming_a_finished_run_changes_nothing(straight):
  before = (straight.workdir / 'metrics.jsonl').read_bytes()
  again = loop.train(autoencoder.get_config('tiny'), straight.workdir)
  _assert_same(again, straight.state)
  assert (straight.workdir / 'metrics.jsonl').read_bytes() == before


class Killed(BaseException):
  """Not an Exception: nothing may catch it."""


def _at(step, action):
  """A MetricWriter.scalars that acts when it has written a step."""
  scalars = metric_writers.MetricWriter.scalars

  def write(self, written, values):
    scalars(self, written, values)
    if written == step:
      action()

  return write


def test_stopped_killed_and_resumed_is_never_stopped(
  straight, tmp_path, monkeypatch
):
  config = autoencoder.get_config('tiny')
  config.checkpoint_every = 4
  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
    _without_images(patch)
    patch.setattr(metric_writers.MetricWriter, 'scalars', _at(
      1, lambda: os.kill(os.getpid(), signal.SIGTERM)
    ))
    loop.train(config, tmp_path)
  assert stopped.value.code == 143
  assert signal.getsignal(signal.SIGTERM) == before
  # The step that the signal came in was finished and saved.
  assert checkpoints.steps(tmp_path) == [2]

  def kill():
    raise Killed

  with monkeypatch.context() as patch, pytest.raises(Killed):
    _without_images(patch)
    patch.setattr(metric_writers.MetricWriter, 'scalars', _at(3, kill))
    loop.train(config, tmp_path)
  assert checkpoints.steps(tmp_path) == [2]
  assert [row['step'] for row in _rows(tmp_path)] == [1, 2, 3]

  resumed = _train(config, tmp_path)
  _assert_same(resumed.state, straight.state)
  np.testing.assert_array_equal(resumed.next_batch, straight.next_batch)
  # The line of step 3 was lost with its step, and written again.
  assert _rows(tmp_path) == _rows(straight.workdir)


# --- What is restored -------------------------------------------------------


def test_restored_are_the_averages(straight, monkeypatch):
  config = autoencoder.get_config('tiny')
  stage, params, step = experiment.restore(config, straight.workdir)
  assert step == 4
  _assert_same(params, jax.device_get(straight.state.ema_params))
  expected = bundle.make(config.name, stage.spec, params)
  # As stage 2 reads it, from the run's own record.
  monkeypatch.setenv('HOME', str(straight.workdir.parent))
  found = experiment.read_autoencoder(f'workdir:~/{straight.workdir.name}')
  assert found.digest == expected.digest


@pytest.mark.parametrize('read', [loop.train, experiment.restore])
def test_another_config_is_refused_before_anything_is_touched(straight, read):
  before = (straight.workdir / resume.NAME).read_bytes()
  config = autoencoder.get_config('tiny')
  config.autoencoder.initial_gain = 3.0  # of the same shapes
  with pytest.raises(ValueError, match='trained with autoencoder.initial_gain'):
    read(config, straight.workdir)
  assert (straight.workdir / resume.NAME).read_bytes() == before
  assert checkpoints.steps(straight.workdir) == [2, 4]


def test_a_workdir_without_a_checkpoint_is_no_run_yet(tmp_path, monkeypatch):
  """Such as of one that ran out of memory at its first step."""
  _replace_step(monkeypatch, lambda step: 1.0)
  (tmp_path / resume.NAME).write_text('{"autoencoder": {"widths": [999]}}')
  (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp-0').mkdir(parents=True)
  config = autoencoder.get_config('tiny')
  config.steps = 1
  loop.train(config, tmp_path)
  assert checkpoints.steps(tmp_path) == [1]


def test_restore_needs_a_checkpoint(tmp_path):
  with pytest.raises(ValueError, match='No checkpoint .* --mode=train'):
    experiment.restore(autoencoder.get_config('tiny'), tmp_path)


# --- Guards -----------------------------------------------------------------


def _replace_step(monkeypatch, total):
  """A step that learns nothing and reports total(step) as its loss."""
  def step_fn(exp, config, state, frozen, batch):
    del exp, config, batch
    step = state.step + 1
    zero = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(frozen))
    return state.replace(step=step), {'total': total(step) + zero}

  monkeypatch.setattr(loop, 'train_step', step_fn)
  _without_images(monkeypatch)


def test_transfers_within_a_step_are_refused(tmp_path, monkeypatch):
  build = experiment.build
  _replace_step(monkeypatch, lambda step: 1.0)
  monkeypatch.setattr(experiment, 'build', lambda config: dataclasses.replace(
    build(config), frozen={'host': np.zeros(3, np.float32)}
  ))
  with pytest.raises(Exception, match='[Dd]isallowed host-to-device'):
    loop.train(autoencoder.get_config('tiny'), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  _replace_step(monkeypatch, lambda step: jnp.where(step < 3, 1.0, jnp.nan))
  with pytest.raises(
    FloatingPointError, match='Step 3: .*nan.* checkpoint is of step 2'
  ):
    loop.train(autoencoder.get_config('tiny'), tmp_path)
  assert checkpoints.steps(tmp_path) == [2]
  assert [row['step'] for row in _rows(tmp_path)] == [1, 2]
  # The advice: at a lower rate it goes on from there.
  _replace_step(monkeypatch, lambda step: 1.0)
  config = autoencoder.get_config('tiny')
  config.optimizer.learning_rate /= 10
  loop.train(config, tmp_path)
  assert [row['step'] for row in _rows(tmp_path)] == [1, 2, 3, 4]


def test_nothing_is_saved_between_a_bad_step_and_its_metrics(
  tmp_path, monkeypatch
):
  _replace_step(monkeypatch, lambda step: jnp.where(step < 2, 1.0, jnp.inf))
  config = autoencoder.get_config('tiny')
  config.log_every = 4
  config.checkpoint_every = 1
  with pytest.raises(FloatingPointError, match='checkpoint is of step 1'):
    loop.train(config, tmp_path)
  assert checkpoints.steps(tmp_path) == [1]


def test_images_to_show_must_be_large_enough(tmp_path):
  Image.new('RGB', (63, 80)).save(tmp_path / 'small.png')
  config = autoencoder.get_config('tiny')
  config.evaluation.source = f'folder:{tmp_path}'
  with pytest.raises(ValueError, match='no image of at least 64 x 64 pixels'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_one_step_trains_as_on_an_accelerator(
  tiny_bundle_path, tmp_path, monkeypatch
):
  """The variant in small, and a square error in place of VGG16."""
  def with_statistics(params, reference, decoded, dtype):
    assert dtype == 'bfloat16'
    squares = jnp.mean(params * (reference - decoded) ** 2, axis=(1, 2, 3))
    return squares, 2 * squares

  _without_images(monkeypatch)
  monkeypatch.setattr(lpips, 'weights', lambda name: np.ones(3, np.float32))
  monkeypatch.setattr(lpips, 'with_statistics', with_statistics)
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(
    tmp_path / 'image.png'
  )
  config = one_step.get_config('accelerator')
  base.tiny(config)
  config.steps, config.data.batch_size = 2, 8
  config.data.source = f'folder:{tmp_path}'
  config.data.cache_on_device = 64
  config.one_step.window = 32
  config.autoencoder_from = config.init_from = str(tiny_bundle_path)
  state = loop.train(config, tmp_path / 'run')
  first, second = _rows(tmp_path / 'run')
  assert first['perceptual'] > 0 and first['periodic'] > 0
  assert first['loss'] == pytest.approx(
    first['distortion'] + 10 * first['perceptual']
    + 40 * first['statistics'] + 10 * first['periodic'], rel=1e-4,
  )
  assert np.isfinite(second['loss']) and second['gradient_norm'] > 0
  start = bundle.load(tiny_bundle_path).decoders['flow'][1]
  moved = state.params['decoder']
  assert all(
    np.any(np.asarray(a) != np.asarray(b))
    for name in start for a, b in zip(
      jax.tree.leaves(start[name]), jax.tree.leaves(moved[name]), strict=True
    )
  )


def test_a_run_whose_data_is_on_the_devices_goes_on(tmp_path, monkeypatch):
  _replace_step(monkeypatch, lambda step: 1.0)
  Image.new('RGB', (64, 64)).save(tmp_path / 'image.png')
  config = autoencoder.get_config('tiny')
  config.data.source = f'folder:{tmp_path}'
  config.data.cache_on_device = 64
  drawn = []
  draw = device_cache.batches

  def spy(*args, **kwargs):
    batches = draw(*args, **kwargs)
    return lambda first: drawn.append(first) or batches(first)

  monkeypatch.setattr(device_cache, 'batches', spy)
  for config.steps in (1, 2):
    state = loop.train(config, tmp_path / 'run')
    assert int(state.step) == config.steps
  # The first batch also scales the network's initial parameters.
  assert drawn == [0, 0, 1]
  assert [row['step'] for row in _rows(tmp_path / 'run')] == [1, 2]
  # Its checkpoints have no position in data that the host reads.
  config.data.cache_on_device = 0
  with pytest.raises(ValueError, match='resume with the data.cache_on_device'):
    loop.train(config, tmp_path / 'run')
