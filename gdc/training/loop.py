"""The training loop: train(config, workdir) -> TrainState, in written order.

Resuming: the newest checkpoint holds the state and the data iterator. Keys
are fold_in(run key, step). So a run that was killed and started again is, bit
for bit, the run that was never killed.
"""
import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from gdc.codec import bundle
from gdc.data import pipeline, sources, transforms
from gdc.training import (
  checkpoints,
  export,
  metric_writers,
  sharding,
  stages,
)
from gdc.training import state as train_state

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
  """All that a config stands for, built but not started.

  Attributes:
    stage: what is optimised.
    tx: the optimiser.
    schedule: step -> learning rate.
    mesh: of all devices.
    frozen: the stage's frozen parameters, on every device.
    data: the training batches' iterator.
    init: () -> TrainState, sharded.
    abstract_state: its shapes, with shardings.
  """

  stage: stages.Stage
  tx: Any
  schedule: Any
  mesh: jax.sharding.Mesh
  frozen: Any
  data: Any
  init: Any
  abstract_state: Any


def build(config: ml_collections.ConfigDict) -> Run:
  """Builds data, network, optimiser and shardings; trains nothing."""
  # --- Mesh -----------------------------------------------------------------
  mesh = sharding.create_mesh(config.fsdp)
  if config.data.batch_size % mesh.size:
    raise ValueError(
      f'data.batch_size {config.data.batch_size} must be a multiple of the '
      f'{mesh.size} devices.'
    )
  if config.data.crop % 16:
    raise ValueError(
      f'data.crop {config.data.crop} must be a multiple of 16.'
    )

  # --- Data -----------------------------------------------------------------
  source = sources.build(config.data.source, config.data.data_dir or None)
  batches = functools.partial(
    pipeline.batches,
    source,
    batch_size=config.data.batch_size,
    crop=config.data.crop,
    min_scale=config.data.min_scale,
    seed=config.seed,
    balance=config.data.balance,
  )

  # --- Stage ----------------------------------------------------------------
  autoencoder = None
  if config.stage != 'autoencoder' and config.get('autoencoder_from'):
    autoencoder = read_autoencoder(config.autoencoder_from)
  stage = stages.build(config, autoencoder)
  frozen = jax.device_put(stage.frozen, sharding.replicated(mesh))

  # --- Optimiser and state --------------------------------------------------
  o = config.optimizer
  schedule = train_state.learning_rate(
    o.learning_rate, config.steps, o.warmup_steps, o.decay_fraction
  )
  tx = train_state.optimizer(
    schedule, clip=o.clip, b2=o.b2, fast_factor=o.fast_factor
  )

  def init_state(key, batch):
    init_key, run_key = jax.random.split(key)
    return train_state.create(stage.init(init_key, batch), tx, run_key)

  key = jax.random.key(config.seed)
  c = config.data
  example = {'image': jax.ShapeDtypeStruct(
    (c.batch_size, c.crop, c.crop, 3), jnp.uint8, sharding=sharding.batch(mesh)
  )}
  shapes = jax.eval_shape(init_state, key, example)
  shardings = sharding.parameters(shapes, mesh)

  def init():
    # An iterator of its own: the training data starts at its first batch.
    batch = sharding.global_batch(next(batches()), mesh)
    new = jax.jit(init_state, out_shardings=shardings)(key, batch)
    if config.init_from:
      start = export.read_parameters(config.init_from, config.stage)
      start = _checked(start, new.params, config.init_from)
      start = jax.device_put(start, shardings.params)
      copy = jax.device_put(start, shardings.params, may_alias=False)
      new = new.replace(params=start, ema_params=copy)
    return new

  return Run(
    stage=stage,
    tx=tx,
    schedule=schedule,
    mesh=mesh,
    frozen=frozen,
    data=batches(),
    init=init,
    abstract_state=jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
      shapes, shardings,
    ),
  )


def _checked(params, like, name):
  """The parameters, if they are of the network that the config describes."""
  def shapes(tree):
    return jax.tree.map(lambda a: tuple(a.shape), tree)
  if jax.tree.structure(params) != jax.tree.structure(like) or (
    shapes(params) != shapes(like)
  ):
    raise ValueError(
      f'init_from {name!r} holds another network than this config describes.'
    )
  return params


def train_step(run: Run, config, state, frozen, batch):
  """One step: loss, gradients, update. Pure; jitted by `train`."""
  key = jax.random.fold_in(state.key, state.step)
  (loss, metrics), grads = jax.value_and_grad(run.stage.loss, has_aux=True)(
    state.params, frozen, batch, key
  )
  new = train_state.apply_gradients(
    state, grads, run.tx, config.optimizer.ema_decay
  )
  norm = jnp.sqrt(sum(
    jnp.sum(g.astype(jnp.float32) ** 2) for g in jax.tree.leaves(grads)
  ))
  metrics = {**metrics, 'total': loss, 'gradient_norm': norm}
  return new, {k: v.astype(jnp.float32) for k, v in metrics.items()}


def train(config: ml_collections.ConfigDict, workdir):
  """Trains, or goes on training, to config.steps.

  Args:
    config: from configs/.
    workdir: folder for checkpoints and metrics; resumed if it has any.

  Returns:
    The final TrainState.

  Raises:
    ValueError: a config field, or a checkpoint that does not fit.
    FloatingPointError: the loss is not finite; nothing is saved after it.
  """
  run = build(config)

  # --- Restore --------------------------------------------------------------
  store = checkpoints.Checkpoints(
    checkpoint_folder(workdir), config.checkpoints_kept
  )
  first = store.latest_step()
  if first is None:
    first, state = 0, run.init()
  else:
    state = store.restore(first, run.abstract_state, run.data)
    _LOG.info('Resumed at step %d.', first)
  _write_config(config, workdir)
  writer = metric_writers.MetricWriter(workdir, first)

  # --- Compile --------------------------------------------------------------
  replicated = sharding.replicated(run.mesh)
  state_shardings = jax.tree.map(lambda a: a.sharding, run.abstract_state)
  step_fn = jax.jit(
    functools.partial(train_step, run, config),
    donate_argnums=0,
    out_shardings=(state_shardings, replicated),
  )
  pictures_fn = jax.jit(run.stage.pictures, out_shardings=replicated)
  examples = _examples(config, run.mesh)

  # --- Loop -----------------------------------------------------------------
  pending = []
  progress = tqdm.tqdm(
    total=config.steps, initial=first, unit='step', desc=config.stage,
    disable=jax.process_index() != 0, dynamic_ncols=True,
  )
  with (
    # Closed whatever happens: the newest checkpoint may be on its way.
    contextlib.closing(store),
    contextlib.closing(writer),
    contextlib.closing(progress),
    jax.set_mesh(run.mesh),
  ):
    for step in range(first + 1, config.steps + 1):
      batch = sharding.global_batch(next(run.data), run.mesh)
      with jax.transfer_guard('disallow'):
        state, metrics = step_fn(state, run.frozen, batch)
      pending.append(metrics)
      if step % config.log_every == 0 or step == config.steps:
        scalars = _mean(pending)
        pending = []
        _check_finite(step, scalars, store.latest_step())
        scalars['learning_rate'] = float(run.schedule(step - 1))
        writer.scalars(step, scalars)
        progress.set_postfix({
          k: f'{scalars[k]:.3f}'
          for k in ('bpp', 'psnr', 'loss') if k in scalars
        })
      if step % config.checkpoint_every == 0 or step == config.steps:
        if pending:  # steps whose metrics are not due yet
          _check_finite(step, _mean(pending), store.latest_step())
        store.save(step, state, run.data)
      if step % config.image_every == 0 or step == config.steps:
        shown = pictures_fn(state.ema_params, run.frozen, examples)
        writer.images(step, {
          k: np.clip(np.asarray(v) / 2 + 0.5, 0, 1) for k, v in shown.items()
        })
      progress.update()
  return state


def restore(config: ml_collections.ConfigDict, workdir):
  """The stage and the newest checkpoint's averaged parameters, as numpy.

  Raises:
    ValueError: workdir has no checkpoint, or one of another config.
  """
  run = build(config)
  store = checkpoints.Checkpoints(checkpoint_folder(workdir))
  step = store.latest_step()
  if step is None:
    raise ValueError(
      f'No checkpoint in {workdir}; train first, with --mode=train.'
    )
  state = store.restore(step, run.abstract_state)
  store.close()
  whole = jax.jit(lambda p: p, out_shardings=sharding.replicated(run.mesh))
  return run.stage, jax.device_get(whole(state.ema_params))


def read_autoencoder(name: str) -> bundle.Bundle:
  """The frozen autoencoder of stage 2.

  Args:
    name: pretrained:NAME, a bundle folder, or workdir:PATH, the newest
      checkpoint of a stage-1 run, whose own config.json describes it.
  """
  kind, _, path = name.partition(':')
  if kind != 'workdir':
    return bundle.load(name.removeprefix('pretrained:'))
  record = pathlib.Path(path) / 'config.json'
  if not record.is_file():
    raise ValueError(f'{path} is not the workdir of a run: no config.json.')
  config = ml_collections.ConfigDict(json.loads(record.read_text()))
  stage, params = restore(config, path)
  return export.bundle_of(stage, params, config.name)


def checkpoint_folder(workdir) -> str:
  """Where a run's checkpoints are."""
  return f'{str(workdir).rstrip("/")}/checkpoints'


def _mean(metrics):
  """Fetches steps' metrics from the devices and averages them."""
  fetched = jax.device_get(metrics)
  return {
    k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]
  }


def _check_finite(step: int, scalars: dict[str, float], saved: int | None):
  """Raises FloatingPointError; `saved` is the newest checkpoint's step."""
  if not all(np.isfinite(v) for v in scalars.values()):
    raise FloatingPointError(
      f'Step {step}: {scalars}. Lower optimizer.learning_rate; the newest '
      f'checkpoint is of step {saved}.'
    )


def _examples(config, mesh, count: int = 4):
  """Held-out pictures to watch, [count, crop, crop, 3] in [-1, 1]."""
  source = sources.build(
    config.evaluation.source, config.data.data_dir or None
  )
  size = min(256, config.data.crop * 2)
  crops = [
    source[i]['image'][:size, :size] for i in range(len(source))
    if min(source[i]['image'].shape[:2]) >= size
  ][:count]
  if not crops:
    raise ValueError(
      f'evaluation.source {config.evaluation.source!r} has no picture of '
      f'at least {size} pixels.'
    )
  return jax.device_put(
    transforms.to_float(np.stack(crops)), sharding.replicated(mesh)
  )


def _write_config(config, workdir):
  """Keeps the config beside the run; process 0 writes."""
  if jax.process_index() or '://' in str(workdir):
    return
  path = pathlib.Path(workdir) / 'config.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  record = json.loads(config.to_json_best_effort())
  if path.exists():
    before = json.loads(path.read_text())
    for name in sorted({*before, *record}):
      if before.get(name) != record.get(name):
        _LOG.warning(
          'Goes on with %s = %s; it was %s.',
          name, record.get(name), before.get(name),
        )
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(record, indent=2) + '\n')
  temporary.replace(path)


def export_bundle(config, workdir, folder) -> pathlib.Path:
  """Exports the newest checkpoint of a run as a bundle folder.

  All processes of a run call this together; process 0 writes.
  """
  stage, params = restore(config, workdir)
  if jax.process_index() == 0:
    bundle.save(export.bundle_of(stage, params, config.name), folder)
  return pathlib.Path(folder)
