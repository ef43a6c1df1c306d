"""The training loop: train(config, workdir) -> TrainState, in written order.

Resuming: the newest checkpoint holds the state and the data iterator. Keys
are fold_in(run key, step). So the weights of a run that was killed and started
again are, bit for bit, those of the run that was never killed. (Where SIGTERM
stopped it between two lines of metrics, the first after it has fewer steps.)
"""
import contextlib
import functools
import itertools
import json
import logging
import math
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath

from gdc import atomic, progress
from gdc.codec import jax_settings
from gdc.data import sources, transforms
from gdc.training import (
  checkpoints,
  metric_writers,
  preemption,
  runs,
  sharding,
)
from gdc.training import state as train_state

_LOG = logging.getLogger(__name__)


def train_step(run: runs.Run, config, state, frozen, batch):
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


@jax_settings.defaults(debugging=True)
def train(
  config: ml_collections.ConfigDict, workdir, seconds: float = math.inf,
  pictures: bool = True,
):
  """Trains, or goes on training, to config.steps.

  Args:
    config: from configs/.
    workdir: folder for checkpoints and metrics; resumed if it has any.
    seconds: from now on; it stops with a checkpoint when metrics are due next
      (log_every). Only for one process: others would not stop with it.
    pictures: whether some of evaluation.source are shown in TensorBoard.

  Returns:
    The final TrainState.

  Raises:
    ValueError: a config field, or a checkpoint that does not fit.
    FloatingPointError: the loss is not finite; nothing is saved after it.
    SystemExit: a signal came; the step it came in is saved. See preemption.py.
  """
  deadline = time.monotonic() + seconds
  run = runs.build(config)
  frozen = runs.frozen_digests(config, run.stage)
  saved = checkpoints.steps(runs.checkpoint_folder(workdir))
  if saved:
    runs.check_trained(config, workdir, frozen)
  shows_images = pictures and metric_writers.shows_images()
  examples = _examples(config, run.mesh) if shows_images else None

  with preemption.watched() as signals:
    # --- Restore ------------------------------------------------------------
    first = max(saved, default=0)
    if signals.stops(first):
      raise SystemExit(signals.status)
    # Before anything is written: it may not fit init_from.
    state = None if saved else run.init()
    store = checkpoints.Checkpoints(
      runs.checkpoint_folder(workdir), config.checkpoints_kept
    )
    if saved:
      first, state = store.restore(run.abstract_state, run.data)
      store.set_aside(first)
      _LOG.info('Resumed at step %d.', first)
    batches = run.batches(first)
    _write_config(config, workdir, frozen)
    writer = metric_writers.MetricWriter(workdir, first)

    # --- Compile ------------------------------------------------------------
    replicated = sharding.replicated(run.mesh)
    state_shardings = jax.tree.map(lambda a: a.sharding, run.abstract_state)
    step_fn = jax.jit(
      functools.partial(train_step, run, config),
      donate_argnums=0,
      out_shardings=(state_shardings, replicated),
    )
    pictures_fn = jax.jit(run.stage.visualise, out_shardings=replicated)

    # --- Loop ---------------------------------------------------------------
    pending = []
    bar = progress.Bar(
      config.steps, f'training {config.stage}', jax.process_index() != 0,
      tiles=False,
    )
    bar.advance(first, skipped=True)
    with (
      # Closed whatever happens: the newest checkpoint may be on its way.
      contextlib.closing(store),
      contextlib.closing(writer),
      bar,
      jax.set_mesh(run.mesh),
    ):
      for step in range(first + 1, config.steps + 1):
        batch = next(batches)
        with (
          jax.transfer_guard('disallow'),
          bar.pause('compiling the training step')
          if step == first + 1 else contextlib.nullcontext(),
        ):
          state, metrics = step_fn(state, run.frozen, batch)
        pending.append(metrics)
        if len(pending) > 1:
          # One step is in flight beside this one: the time left is that of
          # steps that were computed, not of those that were handed out.
          jax.block_until_ready(pending[-2])
        signals.begin()
        last = step == config.steps
        stopped = signals.stops(step)
        if step % config.log_every == 0 or last:
          scalars = _mean(pending)
          pending = []
          _check_finite(step, scalars, store.latest_step())
          scalars['learning_rate'] = float(run.schedule(step - 1))
          writer.scalars(step, scalars)
          bar.note = f'step {step} of {config.steps}, ' + ', '.join(
            f'{k} {scalars[k]:.3f}'
            for k in ('bpp', 'psnr', 'loss') if k in scalars
          )
          # The metrics were waited for: the devices are as far as the clock.
          last |= time.monotonic() > deadline
        if step % config.checkpoint_every == 0 or last or stopped:
          if pending:  # steps whose metrics are not due yet
            _check_finite(step, _mean(pending), store.latest_step())
          store.save(step, state, run.data)
        if stopped:  # there may be seconds left
          _LOG.warning(
            'Stopped by %s at step %d, which is kept.', signals.name, step
          )
          raise SystemExit(signals.status)
        if examples is not None and (step % config.image_every == 0 or last):
          shown = pictures_fn(state.ema_params, run.frozen, examples)
          writer.images(step, {
            k: np.clip(np.asarray(v) / 2 + 0.5, 0, 1) for k, v in shown.items()
          })
        bar.advance()
        if last:
          break
  return state


def _mean(metrics):
  """Fetches steps' metrics from the devices and averages them."""
  fetched = jax.device_get(metrics)
  return {
    k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]
  }


def _check_finite(step: int, scalars: dict[str, float], saved: int | None):
  """Raises FloatingPointError; `saved` is the newest checkpoint's step."""
  if not all(np.isfinite(v) for v in scalars.values()):
    kept = 'nothing is saved yet' if saved is None else (
      f'the newest checkpoint is of step {saved}'
    )
    raise FloatingPointError(
      f'Step {step}: {scalars}. Lower --config.optimizer.learning_rate; {kept}.'
    )


def _examples(config, mesh, count: int = 4):
  """Held-out pictures to watch.

  Returns:
    [n, size, size, 3] in [-1, 1], n up to count, size twice the crop or 256.
  """
  source = sources.files(config.evaluation.source)
  size = min(256, config.data.crop * 2)
  # Read one by one: the source may be large.
  pictures = (source[i]['image'] for i in range(len(source)))
  crops = itertools.islice(
    (p[:size, :size] for p in pictures if min(p.shape[:2]) >= size), count
  )
  crops = list(crops)
  if not crops:
    raise ValueError(
      f'evaluation.source {config.evaluation.source!r} has no picture of '
      f'at least {size} pixels.'
    )
  return jax.device_put(
    transforms.to_float(np.stack(crops)), sharding.replicated(mesh)
  )


def _write_config(config, workdir, frozen):
  """Keeps the config beside the run, and says what changed in it.

  With it, the digests of what the run is trained upon.
  """
  if jax.process_index():
    return
  path = epath.Path(workdir) / runs.CONFIG
  path.parent.mkdir(parents=True, exist_ok=True)
  record = json.loads(config.to_json_best_effort())
  if frozen:
    record[runs.FROZEN] = frozen
  if path.exists():
    before = runs.recorded(workdir)
    for name in sorted({*before, *record}):
      if before.get(name) != record.get(name):
        _LOG.warning(
          'Goes on with %s = %s; it was %s.',
          name, record.get(name), before.get(name),
        )
  with atomic.replaced(path) as temporary:
    temporary.write_text(json.dumps(record, indent=2) + '\n')
