"""Samplers: one step each, from noise toward an image.

A sampler is a function of a prediction, not of a network, and takes one step:
large images are sampled tile by tile, so the loop over steps is the caller's.
Step index and number of steps may be traced: one compiled program serves every
number of steps.

Every sampler is called with

  predict   (z [b, ...], level [b]) -> [b, ...], a network evaluation
  state     (z, memory): z [b, ..., c] and what the sampler keeps from its last
            step, with 0 channels if it keeps nothing
  i, steps  step index and number of steps
  grid      point index 0 .. steps -> position of the state before that step
  noise_fn  step index -> standard normal array like z

and the other settings of its decoder by name. It declares those that it uses,
ignores the others and returns the next state. To add a sampler, write the
function and add it to FLOW or DIFFUSION; a new setting of it is a field of the
decoder's dataclass, of kind 'sampling'.
"""
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdc.decoders import schedules

_TINY = 1e-30


class Sampler(NamedTuple):
  """A sampler and its properties.

  Attributes:
    step: see the module's docstring.
    nfe: number of sequential network evaluations per step.
    memory: whether it keeps its last prediction; the memory is then like z.
  """

  step: Callable
  nfe: int = 1
  memory: bool = False


def time_left(i, steps, warp: float = 1.0):
  """Returns the remaining time at point i of steps + 1, from 1 to 0.

  It is (1 - i / steps)^warp: warp > 1 takes smaller steps toward the end, where
  detail is made. Near the end, float32 resolves it better than the time, which
  is 1 less this.
  """
  return (1 - i / steps) ** warp


# --- Flow: dz/dt = predict(z, t) from t = 0 to 1; grid(i) is the time left ---


def _times(i, grid):
  return 1 - grid(i), 1 - grid(i + 1)


def _velocity(predict, z, t):
  return predict(z, jnp.full(z.shape[:1], t))


def euler(predict, state, i, grid, **_):
  """First order, one evaluation."""
  z, memory = state
  t, t_next = _times(i, grid)
  return z + (t_next - t) * _velocity(predict, z, t), memory


def midpoint(predict, state, i, grid, **_):
  """Second order, two evaluations: the velocity in the middle of the step."""
  z, memory = state
  t, t_next = _times(i, grid)
  h = t_next - t
  half = z + h / 2 * _velocity(predict, z, t)
  return z + h * _velocity(predict, half, t + h / 2), memory


def heun(predict, state, i, grid, **_):
  """Second order, two evaluations: the mean velocity of both ends."""
  z, memory = state
  t, t_next = _times(i, grid)
  h = t_next - t
  first = _velocity(predict, z, t)
  second = _velocity(predict, z + h * first, t_next)
  return z + h / 2 * (first + second), memory


def stochastic(
  predict, state, i, grid, noise_fn, source_noise: float, eta: float, **_
):
  """Euler with injected noise and the same marginals; one evaluation.

  For a source s eps, z_t = (1 - t) s eps + t z_1, the velocity v gives both
  ends, s eps = z - t v and z_1 = z + (1 - t) v, and the score of z_t is
  -(z - t v) / ((1 - t) s^2). By the Fokker-Planck equation (Song et al. 2021,
  arXiv 2011.13456, appendix D.1; Albergo et al. 2023, arXiv 2303.08797,
  section 2.3)

    dz = (v - eta (z - t v)) dt + s sqrt(2 eta (1 - t)) dW

  has the marginals of dz = v dt for every eta. With both ends fixed, a step is
  exact in this form: a share rho of the source noise is redrawn,
  rho^2 = 1 - ((1 - t') / (1 - t))^(2 eta), as in DDIM (arXiv 2010.02502, eq.
  16). First order.

  Args:
    predict, state, i, grid, noise_fn: see the module's docstring.
    source_noise: s.
    eta: 0 (Euler) or more.
  """
  z, memory = state
  t, t_next = _times(i, grid)
  v = _velocity(predict, z, t)
  before, after = grid(i), grid(i + 1)
  kept = (after / jnp.maximum(before, _TINY)) ** eta
  fresh = jnp.sqrt(1 - kept**2) * source_noise * noise_fn(i)
  source = z - t * v
  z = z + (t_next - t) * v + after * ((kept - 1) * source + fresh)
  return z, memory


FLOW = {
  'euler': Sampler(euler),
  'midpoint': Sampler(midpoint, nfe=2),
  'heun': Sampler(heun, nfe=2),
  'stochastic': Sampler(stochastic),
}


# --- Diffusion: predict gives the image; grid(i) is the log-SNR, rising ------
#
# Predicted images are clipped to [-clip, clip], or not at all if clip is None.
# After the last step the state is the image predicted in it.

GRIDS = ('log_snr', 'time')


def noise_levels(
  schedule: schedules.Schedule, steps, start: float = 1.0, warp: float = 1.0,
  grid: str = 'time',
) -> Callable:
  """Returns a diffusion sampler's grid: point index 0 .. steps -> log-SNR.

  Args:
    schedule: noise schedule of the training.
    steps: number of steps; may be traced.
    start: time of the first state, in (0, 1].
    warp: see time_left.
    grid: what is divided into equal parts before warping: the schedule's
      'time', or 'log_snr' as in DPM-Solver (Lu et al. 2022, arXiv 2206.00927,
      section 3.4).
  """
  if grid not in GRIDS:
    raise ValueError(f'grid must be one of {GRIDS}, not {grid!r}.')
  first, last = schedule.log_snr(jnp.array([start, 0.0]))

  def level(i):
    share = time_left(i, steps, warp)
    if grid == 'log_snr':
      return last + share * (first - last)
    return schedule.log_snr(start * share)

  return level


def _image(predict, z, i, grid, clip):
  """Returns the predicted image and the log-SNR [b] before and after step i."""
  before, after = (jnp.full(z.shape[:1], grid(j)) for j in (i, i + 1))
  x = predict(z, before)
  return x if clip is None else jnp.clip(x, -clip, clip), before, after


def ddpm(
  predict, state, i, steps, grid, noise_fn, gamma: float = 0.0,
  clip: float | None = 1.0, **_,
):
  """Ancestral sampling; first order, one evaluation.

  A step goes from t to s < t. With sigma_ts^2 = sigma_t^2 (1 - SNR_t / SNR_s)
  (Kingma et al. 2021, arXiv 2107.00630, appendix A) its variance lies between
  sigma_s^2 sigma_ts^2 / sigma_t^2 (gamma = 0, exact for a fixed image) and
  sigma_ts^2 (gamma = 1, exact for white noise), interpolated in its logarithm
  (Nichol & Dhariwal, arXiv 2102.09672, eq. 15).

  Args:
    predict, state, i, steps, grid, noise_fn: see the module's docstring.
    gamma: amount of injected noise, in [0, 1].
    clip: bound of the predicted image.
  """
  z, memory = state
  x, log_snr_t, log_snr_s = _image(predict, z, i, grid, clip)
  alpha_t, sigma_t = schedules.alpha_sigma(log_snr_t)
  alpha_s, sigma_s = schedules.alpha_sigma(log_snr_s)
  # 1 - SNR_t / SNR_s: the share of sigma_t^2 that the step from s to t adds.
  # Neighbouring levels of a fine grid may be equal in float32.
  added = jnp.maximum(-jnp.expm1(log_snr_t - log_snr_s), _TINY)
  weight_z = alpha_t / alpha_s * sigma_s**2 / sigma_t**2
  # Summed as logarithms: the product may underflow float32.
  log_variance = (
    jnp.log(added) + gamma * jax.nn.log_sigmoid(-log_snr_t)
    + (1 - gamma) * jax.nn.log_sigmoid(-log_snr_s)
  )
  on_z, on_x, on_noise = (
    schedules.per_example(a, z)
    for a in (weight_z, alpha_s * added, jnp.exp(0.5 * log_variance))
  )
  after = on_z * z + on_x * x + on_noise * noise_fn(i)
  return jnp.where(i == steps - 1, x, after), memory


def ddim(predict, state, i, steps, grid, clip: float | None = 1.0, **_):
  """Deterministic; first order, one evaluation.

  Song et al. 2020 (arXiv 2010.02502, eq. 12).
  """
  z, memory = state
  x, log_snr_t, log_snr_s = _image(predict, z, i, grid, clip)
  noise = schedules.noise_of(x, z, log_snr_t)
  after = schedules.diffuse(x, noise, log_snr_s)
  return jnp.where(i == steps - 1, x, after), memory


def dpmpp_2m(predict, state, i, steps, grid, clip: float | None = 1.0, **_):
  """DPM-Solver++(2M): deterministic; second order, one evaluation.

  Lu et al. 2022 (arXiv 2211.01095, algorithm 2). The image as a function of
  half the log-SNR is extrapolated from this prediction and the last one, the
  memory. The first step has none and is ddim's; the last one does without, as
  in the authors' code for few steps. It is of second order on a grid in
  log-SNR; on one in time, only with very many steps.
  """
  z, last = state
  x, log_snr_t, log_snr_s = _image(predict, z, i, grid, clip)
  step = grid(i + 1) - grid(i)
  step_before = grid(i) - grid(jnp.maximum(i - 1, 0))
  inner = (i > 0) & (i < steps - 1) & (step_before > 0)
  slope = jnp.where(inner, step / jnp.where(inner, step_before, 1), 0)
  ahead = x + slope / 2 * (x - last)
  alpha_s, sigma_s = schedules.alpha_sigma(log_snr_s)
  _, sigma_t = schedules.alpha_sigma(log_snr_t)
  on_z, on_x = (
    schedules.per_example(a, z) for a in (
      sigma_s / sigma_t, -alpha_s * jnp.expm1((log_snr_t - log_snr_s) / 2)
    )
  )
  return jnp.where(i == steps - 1, x, on_z * z + on_x * ahead), x


DIFFUSION = {
  'ddpm': Sampler(ddpm),
  'ddim': Sampler(ddim),
  'dpmpp_2m': Sampler(dpmpp_2m, memory=True),
}
