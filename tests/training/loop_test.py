import dataclasses
import functools
import json
import logging
import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import type_handlers
from PIL import Image

from configs import autoencoder, diffusion, flow, one_step
from gdc.codec import bundle
from gdc.data import device_cache
from gdc.training import export, loop, metric_writers, runs, stages


def _rows(workdir):
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _steps_saved(workdir):
  folder = pathlib.Path(workdir) / 'checkpoints'
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def _assert_same(a, b):
  """Bit for bit; typed keys by their data."""
  def check(path, x, y):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(
      np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
    )
  jax.tree_util.tree_map_with_path(check, a, b)


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
  build, scalars = runs.build, metric_writers.MetricWriter.scalars
  built = []

  def build_and_keep(config):
    built.append(build(config))
    return built[-1]

  def note_step(self, step, values):
    scalars(self, step, values)
    watch.step = step

  with pytest.MonkeyPatch.context() as patch, jax.log_compiles():
    patch.setattr(runs, 'build', build_and_keep)
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
  assert _steps_saved(straight.workdir) == [2, 4]
  assert int(straight.state.step) == 4
  assert list((straight.workdir / 'tensorboard').glob('events.*'))
  written = json.loads((straight.workdir / 'config.json').read_text())
  assert written['optimizer']['learning_rate'] == 1e-3


def test_training_moves_every_parameter(straight):
  start = jax.device_get(runs.build(autoencoder.get_config('tiny')).init())
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
  for ours in ('train_step', 'pictures'):
    assert sum(ours in name for name in names) == 1, names
  # The first save and pictures were of step 2, after its metrics.
  late = [entry for entry in straight.compiled if entry[0] > 3]
  assert not late


def test_resuming_a_finished_run_changes_nothing(straight):
  before = (straight.workdir / 'metrics.jsonl').read_bytes()
  again = loop.train(autoencoder.get_config('tiny'), straight.workdir)
  _assert_same(again, straight.state)
  assert (straight.workdir / 'metrics.jsonl').read_bytes() == before


class Killed(BaseException):
  """Not an Exception: nothing may catch it."""


def test_killed_and_resumed_is_never_killed(straight, tmp_path, monkeypatch):
  scalars = metric_writers.MetricWriter.scalars

  def kill(self, step, values):
    scalars(self, step, values)
    if step == 3:
      raise Killed

  config = autoencoder.get_config('tiny')
  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(metric_writers.MetricWriter, 'scalars', kill)
    loop.train(config, tmp_path)
  assert _steps_saved(tmp_path) == [2]
  assert [row['step'] for row in _rows(tmp_path)] == [1, 2, 3]

  resumed = _train(config, tmp_path)
  _assert_same(resumed.state, straight.state)
  np.testing.assert_array_equal(resumed.next_batch, straight.next_batch)
  # The row of step 3 was lost with its step, and made again.
  assert _rows(tmp_path) == _rows(straight.workdir)


def test_sigterm_saves_the_step_it_comes_in(straight, tmp_path, monkeypatch):
  scalars = metric_writers.MetricWriter.scalars

  def terminate(self, step, values):
    scalars(self, step, values)
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  config = autoencoder.get_config('tiny')
  config.checkpoint_every = 4
  monkeypatch.setattr(metric_writers, 'shows_images', lambda: False)
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
    patch.setattr(metric_writers.MetricWriter, 'scalars', terminate)
    loop.train(config, tmp_path)
  assert stopped.value.code == 143
  assert signal.getsignal(signal.SIGTERM) == before
  assert _steps_saved(tmp_path) == [3]
  _assert_same(loop.train(config, tmp_path), straight.state)
  assert _rows(tmp_path) == _rows(straight.workdir)


# --- What is restored -------------------------------------------------------


def test_export_is_of_the_averages(straight, tmp_path):
  config = autoencoder.get_config('tiny')
  stage, params, step = runs.restore(config, straight.workdir)
  assert step == 4
  _assert_same(params, jax.device_get(straight.state.ema_params))
  path, step = runs.export_bundle(
    config, straight.workdir, tmp_path / 'bundle'
  )
  assert step == 4 and path == tmp_path / 'bundle'
  expected = bundle.make(config.name, stage.spec, params)
  assert bundle.load(path).digest == expected.digest


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_another_config_does_not_fit(straight, tiny_bundle_path):
  before = (straight.workdir / 'config.json').read_bytes()
  wider = autoencoder.get_config('tiny')
  wider.autoencoder.latent_channels = 32
  other_stage = flow.get_config('tiny')
  other_stage.autoencoder_from = str(tiny_bundle_path)
  same_shapes = autoencoder.get_config('tiny')
  same_shapes.autoencoder.initial_gain = 3.0
  for config in (wider, other_stage, same_shapes):
    for read in (loop.train, runs.restore):
      with pytest.raises(
        ValueError,
        match='was trained with (auto|stage).*: name another --workdir',
      ):
        read(config, straight.workdir)
  # Nothing of the run is touched: its config describes its checkpoints.
  assert (straight.workdir / 'config.json').read_bytes() == before
  assert _steps_saved(straight.workdir) == [2, 4]


def test_a_damaged_config_is_named_and_the_advice_works(straight, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(straight.workdir, workdir)
  config = autoencoder.get_config('tiny')
  for text in ('{"stage": ', '[1]', '7'):
    (workdir / 'config.json').write_text(text)
    for read in (loop.train, runs.restore):
      with pytest.raises(ValueError, match='config.json is damaged .*remove'):
        read(config, workdir)
  (workdir / 'config.json').unlink()
  assert runs.restore(config, workdir)[2] == 4


def test_the_same_name_is_not_enough_to_go_on(
  tiny_bundle, tmp_path, monkeypatch
):
  """The frozen networks are known by their digests, wherever they lie."""
  _replace_step(monkeypatch, lambda step: 1.0)
  config = flow.get_config('tiny')
  config.autoencoder_from = str(bundle.save(tiny_bundle, tmp_path / 'first'))
  config.steps = 1
  loop.train(config, tmp_path / 'run')
  record = json.loads((tmp_path / 'run' / runs.CONFIG).read_text())
  assert record['frozen'] == {'autoencoder': tiny_bundle.digest}
  # Elsewhere, and with another decoder: the same autoencoder.
  (tmp_path / 'first').rename(tmp_path / 'second')
  config.autoencoder_from = str(tmp_path / 'second')
  runs.restore(config, tmp_path / 'run')

  params = jax.tree.map(
    lambda a: 1.5 * a, tiny_bundle.autoencoder_params
  )
  other = bundle.make('tiny', tiny_bundle.autoencoder_spec, params)
  bundle.save(other, tmp_path / 'second')
  before = (tmp_path / 'run' / runs.CONFIG).read_bytes()
  for read in (loop.train, runs.restore, runs.check):
    with pytest.raises(ValueError, match=(
      f'with frozen.autoencoder = {tiny_bundle.digest[:8]}, '
        f'not {other.digest[:8]}: name another --workdir'
    )):
      read(config, tmp_path / 'run')
  assert (tmp_path / 'run' / runs.CONFIG).read_bytes() == before


def test_a_workdir_without_a_checkpoint_is_no_run_yet(tmp_path, monkeypatch):
  """Such as of one that ran out of memory at its first step."""
  _replace_step(monkeypatch, lambda step: 1.0)
  (tmp_path / runs.CONFIG).write_text('{"autoencoder": {"widths": [999]}}')
  (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp-0').mkdir(parents=True)
  config = autoencoder.get_config('tiny')
  config.steps = 1
  loop.train(config, tmp_path)
  assert _steps_saved(tmp_path) == [1]


def test_what_only_training_looks_at_may_change(tmp_path):
  config = flow.get_config('tiny')
  record = json.loads(config.to_json())
  (tmp_path / runs.CONFIG).write_text(json.dumps(record))
  config.flow.time_sampling = 'logit_normal'
  runs.check_trained(config, tmp_path, None)
  config.flow.source_noise = 2.0
  with pytest.raises(ValueError, match='flow.source_noise = 0.5, not 2.0'):
    runs.check_trained(config, tmp_path, None)
  # A diffusion from before it had a field for noise at the source.
  config = diffusion.get_config('tiny')
  record = json.loads(config.to_json())
  del record['diffusion']['source_noise']
  (tmp_path / runs.CONFIG).write_text(json.dumps(record))
  runs.check_trained(config, tmp_path, None)


def test_digests_are_of_all_that_a_stage_is_trained_upon(tiny_bundle):
  def names(module, **fields):
    config = module.get_config('tiny')
    config.update_from_flattened_dict(fields)
    return set(runs.frozen_digests(config, stages.build(config, tiny_bundle)))

  assert names(flow) == names(diffusion) == {'autoencoder'}
  reflow = {'flow.reflow_steps': 2}
  assert names(flow, **reflow) == {'autoencoder', 'flow'}
  plain = {'one_step.perceptual': 0.0}  # VGG16 takes a while to load
  assert names(one_step, **plain) == {'autoencoder', 'flow'}
  assert names(autoencoder) == set()


def test_a_run_from_before_a_field_goes_on(straight, tmp_path):
  """With what was taken for granted then: no predicted channels."""
  record = json.loads((straight.workdir / runs.CONFIG).read_text())
  assert record['autoencoder'].pop('predicted_channels')
  del record['matmul_dtype']
  (tmp_path / runs.CONFIG).write_text(json.dumps(record))
  config = autoencoder.get_config('tiny')
  with pytest.raises(ValueError, match=r'predicted_channels = \[\], not \[0,'):
    runs.check_trained(config, tmp_path, {})
  config.autoencoder.predicted_channels = ()
  runs.check_trained(config, tmp_path, {})
  # Its own record, as stage 2 reads it, is enough to build the network.
  with pytest.raises(ValueError, match='No checkpoint'):
    runs.read_autoencoder(f'workdir:{tmp_path}')


def test_restore_needs_a_checkpoint(tmp_path):
  with pytest.raises(ValueError, match='No checkpoint .* --mode=train'):
    runs.restore(autoencoder.get_config('tiny'), tmp_path)


def test_init_from_a_bundle(tiny_bundle, tiny_bundle_path):
  config = autoencoder.get_config('tiny')
  config.init_from = str(tiny_bundle_path)
  state = runs.build(config).init()
  for tree in (state.params, state.ema_params):
    _assert_same(jax.device_get(tree), tiny_bundle.autoencoder_params)
  params, averages = (
    {
      shard.data.unsafe_buffer_pointer()
      for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards
    }
    for tree in (state.params, state.ema_params)
  )
  assert not params & averages


def test_init_from_another_network(tiny_bundle, tmp_path):
  params = {**tiny_bundle.autoencoder_params, 'log_rmse': np.zeros(7)}
  other = dataclasses.replace(tiny_bundle, autoencoder_params=params)
  config = autoencoder.get_config('tiny')
  config.init_from = str(bundle.save(other, tmp_path / 'other'))
  with pytest.raises(ValueError, match='init_from .* holds another network'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_init_from_a_bundle_without_the_decoder(tiny_bundle, tmp_path):
  alone = dataclasses.replace(tiny_bundle, decoders={})
  path = str(bundle.save(alone, tmp_path / 'alone'))
  export.read_parameters(path, {'autoencoder': {}})
  with pytest.raises(ValueError, match='has no flow decoder, only the auto'):
    export.read_parameters(path, {'flow': {}})
  with pytest.raises(ValueError, match='has no diffusion or flow decoder'):
    export.read_parameters(path, {'diffusion': {}, 'flow': {}})


@pytest.mark.parametrize('entry, record, prediction, message', [
  ('flow', {}, 'flow', None),
  ('flow', {'source_noise': 0.25}, 'flow',
   'its flow decoder has source_noise 0.25, this config 0.5'),
  ('flow', {}, 'residual', 'has no diffusion decoder, only flow'),
  ('diffusion', {'source_noise': 0.25}, 'residual', None),
  ('diffusion', {}, 'v', "decoder has prediction 'residual', this .* 'v'"),
  ('diffusion', {'prediction': 'flow', 'source_noise': 0.25}, 'flow',
   'its diffusion decoder has source_noise 0.25, this config 0.5'),
])
def test_a_diffusion_starts_from_what_means_the_same(
  tiny_bundle, tmp_path, entry, record, prediction, message
):
  spec, params = tiny_bundle.decoders[entry]
  spec = {**spec, **record}
  alone = dataclasses.replace(tiny_bundle, decoders={entry: (spec, params)})
  config = diffusion.get_config('tiny')
  config.diffusion.prediction = prediction
  config.autoencoder_from = config.init_from = str(
    bundle.save(alone, tmp_path / 'alone')
  )
  if message:
    with pytest.raises(ValueError, match=message):
      runs.build(config).init()
  else:
    _assert_same(jax.device_get(runs.build(config).init().params), params)


# --- Guards -----------------------------------------------------------------


def _replace_step(monkeypatch, total):
  """A step that learns nothing and reports total(step) as its loss."""
  def step_fn(run, config, state, frozen, batch):
    del run, config, batch
    step = state.step + 1
    zero = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(frozen))
    return state.replace(step=step), {'total': total(step) + zero}

  monkeypatch.setattr(loop, 'train_step', step_fn)
  # Nor are pictures made of it, which takes longer than the step.
  monkeypatch.setattr(metric_writers, 'shows_images', lambda: False)


def test_transfers_within_a_step_are_refused(tmp_path, monkeypatch):
  build = runs.build
  _replace_step(monkeypatch, lambda step: 1.0)
  monkeypatch.setattr(runs, 'build', lambda config: dataclasses.replace(
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
  assert _steps_saved(tmp_path) == [2]
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
  assert _steps_saved(tmp_path) == [1]


# --- Config errors ----------------------------------------------------------


def test_batch_size_must_divide_over_devices():
  config = autoencoder.get_config('tiny')
  config.data.batch_size = 12
  with pytest.raises(ValueError, match='batch_size 12 .* the 8 devices'):
    runs.build(config)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_matmul_dtype_is_what_the_config_says(dtype):
  config = autoencoder.get_config('tiny')
  config.matmul_dtype = dtype
  run = runs.build(config)
  image = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.uint8)
  step = jax.make_jaxpr(functools.partial(loop.train_step, run, config))(
    run.abstract_state, run.frozen, {'image': image}
  )
  assert ('bf16[' in str(step)) == (dtype == 'bfloat16')


def test_stage_2_needs_an_autoencoder():
  config = flow.get_config('tiny')
  config.autoencoder_from = ''
  with pytest.raises(ValueError, match="'flow' needs a trained autoencoder"):
    runs.build(config)


def test_unknown_stage():
  config = autoencoder.get_config('tiny')
  config.stage = 'gan'
  with pytest.raises(ValueError, match="stage must be .* not 'gan'"):
    runs.build(config)


def test_pictures_to_watch_must_be_large_enough(tmp_path):
  Image.new('RGB', (63, 80)).save(tmp_path / 'small.png')
  config = autoencoder.get_config('tiny')
  config.evaluation.source = f'folder:{tmp_path}'
  with pytest.raises(ValueError, match='no picture of at least 64 pixels'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_whose_data_is_on_the_devices_stops_in_time_and_goes_on(
  tmp_path, monkeypatch
):
  _replace_step(monkeypatch, lambda step: 1.0)
  config = autoencoder.get_config('tiny')
  with config.unlocked():
    config.data.cache_on_device = 512
    config.steps = 9
  drawn = []
  draw = device_cache.batches

  def spy(*args, **kwargs):
    batches = draw(*args, **kwargs)
    return lambda first: drawn.append(first) or batches(first)

  monkeypatch.setattr(device_cache, 'batches', spy)
  for step in (1, 2):
    state = loop.train(config, tmp_path, seconds=0)
    assert int(state.step) == step
    assert _steps_saved(tmp_path)[-1] == step
  # The first batch also scales the network's start.
  assert drawn == [0, 0, 1]
  assert [row['step'] for row in _rows(tmp_path)] == [1, 2]
  # It has no place in the data of the host.
  config.data.cache_on_device = 0
  with pytest.raises(ValueError, match='go on with the data.cache_on_device'):
    loop.train(config, tmp_path)
  record = json.loads((tmp_path / runs.CONFIG).read_text())
  config.data.cache_on_device = record['data']['cache_on_device']
  assert int(loop.train(config, tmp_path, seconds=0).step) == 3
