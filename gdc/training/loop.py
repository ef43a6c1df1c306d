"""The training loop: train(config, workdir) -> TrainState, read top to bottom.

A run that is killed and started again ends with the weights, bit for bit, of a
run that was never killed: checkpoints hold the state and the position in the
data, and the key of a step is fold_in(run key, step). (After a signal between
two lines of metrics, the first line averages fewer steps.)
"""
import contextlib
import functools
import itertools
import logging

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from gdc import progress
from gdc.codec import jax_settings
from gdc.data import sources, transforms
from gdc.training import (
  checkpoints,
  experiment,
  metric_writers,
  preemption,
  resume,
  sharding,
)
from gdc.training import state as train_state

_LOG = logging.getLogger(__name__)


def train_step(exp: experiment.Experiment, config, state, frozen, batch):
  """One step: loss, gradients, update; pure, and jitted by `train`.

  Args:
    exp: the experiment.
    config: the experiment's config.
    state: TrainState before the step.
    frozen: the stage's frozen parameters.
    batch: {'image': uint8 [b, h, w, 3]}.

  Returns:
    state: TrainState after the step.
    metrics: name -> float32 scalar.
  """
  key = jax.random.fold_in(state.key, state.step)
  (loss, metrics), grads = jax.value_and_grad(exp.stage.loss, has_aux=True)(
    state.params, frozen, batch, key
  )
  new = train_state.apply_gradients(
    state, grads, exp.tx, config.optimizer.ema_decay
  )
  norm = jnp.sqrt(sum(
    jnp.sum(g.astype(jnp.float32) ** 2) for g in jax.tree.leaves(grads)
  ))
  metrics = {**metrics, 'total': loss, 'gradient_norm': norm}
  return new, {k: v.astype(jnp.float32) for k, v in metrics.items()}


@jax_settings.defaults(debugging=True)
def train(config: ml_collections.ConfigDict, workdir):
  """Trains, or resumes training, up to config.steps.

  Args:
    config: from configs/.
    workdir: folder for checkpoints and metrics; resumed if it has checkpoints.

  Returns:
    The final TrainState.

  Raises:
    ValueError: a config field is wrong, or a checkpoint does not fit.
    FloatingPointError: the loss is not finite; nothing is saved after it.
    SystemExit: a signal came, and the current step is saved; see preemption.
  """
  # --- Build ----------------------------------------------------------------
  exp = experiment.build(config)
  saved = checkpoints.steps(workdir)
  if saved:
    resume.check(config, workdir, exp.digests)
  examples = _examples(config, exp.mesh)

  with preemption.watched() as signals:
    # --- Restore ------------------------------------------------------------
    first = max(saved, default=0)
    if signals.stops(first):
      raise SystemExit(signals.status)
    # Initialised before anything is written: init_from may not fit.
    state = None if saved else exp.init()
    store = checkpoints.Checkpoints(workdir, config.checkpoints_kept)
    if saved:
      first, state = store.restore(exp.abstract_state, exp.data)
      store.set_aside(first)
      _LOG.info('Resumed at step %d.', first)
    batches = exp.batches(first)
    if jax.process_index() == 0:
      resume.write(config, workdir, exp.digests)
    writer = metric_writers.MetricWriter(workdir, first)

    # --- Compile ------------------------------------------------------------
    replicated = sharding.replicated(exp.mesh)
    state_shardings = jax.tree.map(lambda a: a.sharding, exp.abstract_state)
    step_fn = jax.jit(
      functools.partial(train_step, exp, config),
      donate_argnums=0,
      out_shardings=(state_shardings, replicated),
    )
    images_fn = jax.jit(exp.stage.visualise, out_shardings=replicated)

    # --- Loop ---------------------------------------------------------------
    pending = []  # metrics of steps that are not written yet
    bar = progress.Bar(
      config.steps, f'training {config.stage}', jax.process_index() != 0,
      tiles=False,
    )
    bar.advance(first, skipped=True)
    with (
      # Closed whatever happens: a checkpoint may still be being written.
      contextlib.closing(store),
      contextlib.closing(writer),
      bar,
      jax.set_mesh(exp.mesh),
    ):
      for step in range(first + 1, config.steps + 1):
        batch = next(batches)
        with (
          jax.transfer_guard('disallow'),
          bar.pause('compiling the training step')
          if step == first + 1 else contextlib.nullcontext(),
        ):
          state, metrics = step_fn(state, exp.frozen, batch)
        pending.append(metrics)
        if len(pending) > 1:
          # At most two steps in flight, so that progress is of finished steps.
          jax.block_until_ready(pending[-2])

        signals.begin()
        last = step == config.steps
        stopped = signals.stops(step)
        if step % config.log_every == 0 or last:
          scalars = _mean(pending)
          pending = []
          _check_finite(step, scalars, store.latest_step())
          scalars['learning_rate'] = float(exp.schedule(step - 1))
          writer.scalars(step, scalars)
          bar.note = f'step {step} of {config.steps}, ' + ', '.join(
            f'{k} {scalars[k]:.3f}'
            for k in ('bpp', 'psnr', 'loss') if k in scalars
          )
        if step % config.checkpoint_every == 0 or last or stopped:
          if pending:
            _check_finite(step, _mean(pending), store.latest_step())
          store.save(step, state, exp.data)
        if stopped:
          _LOG.warning(
            'Stopped by %s; step %d is saved.', signals.name, step
          )
          raise SystemExit(signals.status)
        if step % config.image_every == 0 or last:
          shown = images_fn(state.ema_params, exp.frozen, examples)
          writer.images(step, {
            k: np.clip(np.asarray(v) / 2 + 0.5, 0, 1) for k, v in shown.items()
          })
        bar.advance()
  return state


def _mean(metrics: list[dict[str, jax.Array]]) -> dict[str, float]:
  """Fetches the metrics of steps and averages them."""
  fetched = jax.device_get(metrics)
  return {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}


def _check_finite(step: int, scalars: dict[str, float], saved: int | None):
  """Raises FloatingPointError; `saved` is the newest checkpoint's step."""
  if not all(np.isfinite(v) for v in scalars.values()):
    kept = 'nothing is saved yet' if saved is None else (
      f'the newest checkpoint is of step {saved}'
    )
    raise FloatingPointError(
      f'Step {step}: {scalars}. Lower --config.optimizer.learning_rate; {kept}.'
    )


def _examples(config, mesh, count: int = 4) -> jax.Array:
  """Evaluation images to show in TensorBoard.

  Returns:
    [n, size, size, 3] in [-1, 1]; n is at most count, and size twice the crop,
    at most 256.
  """
  source = sources.files(config.evaluation.source)
  size = min(256, config.data.crop * 2)
  # Read one by one: the source may be large.
  images = (source[i]['image'] for i in range(len(source)))
  crops = list(itertools.islice(
    (image[:size, :size] for image in images if min(image.shape[:2]) >= size),
    count,
  ))
  if not crops:
    raise ValueError(
      f'evaluation.source {config.evaluation.source!r} has no image of at '
      f'least {size} x {size} pixels.'
    )
  return jax.device_put(
    transforms.to_float(np.stack(crops)), sharding.replicated(mesh)
  )
