"""Training state, optimizer, and moving average of the parameters."""
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

# Parameters with `fast_factor` times the learning rate: densities and scales,
# a few numbers each. The prior is otherwise the last part to converge.
FAST = ('prior', 'log_rmse')


class TrainState(flax.struct.PyTreeNode):
  """Everything that training carries from step to step.

  Attributes:
    step: int32 scalar, number of steps done.
    key: the run's typed key; the key of a step is fold_in(key, step).
    params: float32 parameters.
    ema_params: their exponential moving average, which is evaluated.
    opt_state: the optimizer's state.
  """

  step: jax.Array
  key: jax.Array
  params: Any
  ema_params: Any
  opt_state: Any


def learning_rate(
  peak: float, steps: int, warmup_steps: int, decay_fraction: float
) -> optax.Schedule:
  """Linear warm-up from 1 % of the peak, constant, then a cosine to 1 %."""
  decay_steps = max(1, round(steps * decay_fraction))
  return optax.join_schedules(
    [
      optax.linear_schedule(peak / 100, peak, max(1, warmup_steps)),
      optax.constant_schedule(peak),
      optax.cosine_decay_schedule(peak, decay_steps, alpha=0.01),
    ],
    [warmup_steps, max(warmup_steps, steps - decay_steps)],
  )


def _is_fast(params):
  def fast(path, _):
    return any(getattr(p, 'key', None) in FAST for p in path)
  return jax.tree_util.tree_map_with_path(fast, params)


def optimizer(
  schedule: optax.Schedule, *, clip: float, b2: float, fast_factor: float
) -> optax.GradientTransformation:
  """Adam after gradient clipping, with a higher rate for FAST parameters."""
  return optax.chain(
    optax.clip_by_global_norm(clip),
    optax.scale_by_adam(b1=0.9, b2=b2),
    optax.masked(optax.scale(fast_factor), _is_fast),
    optax.scale_by_learning_rate(schedule),
  )


def create(params, tx: optax.GradientTransformation, key) -> TrainState:
  """Returns the state before the first step."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    key=key,
    params=params,
    ema_params=jax.tree.map(lambda p: p + 0, params),  # buffers of its own
    opt_state=tx.init(params),
  )


def apply_gradients(
  state: TrainState, grads, tx: optax.GradientTransformation, ema_decay: float
) -> TrainState:
  """One optimizer step; the average warms up, to forget its start."""
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  step = state.step + 1
  decay = jnp.minimum(ema_decay, (1 + step) / (10 + step))
  ema_params = jax.tree.map(
    lambda e, p: e + (1 - decay) * (p - e), state.ema_params, params
  )
  return state.replace(
    step=step, params=params, ema_params=ema_params, opt_state=opt_state
  )
