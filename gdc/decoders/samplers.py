"""Samplers: they integrate what a network predicts from noise to image.

Each is one step; `loop` takes them all. The number of steps is a traced
integer, so one compiled program serves every step count. `predict` is given as
a function of state and time; no sampler knows of networks. The steps stand
alone because a large picture is taken through them tile by tile.
"""
import jax
import jax.numpy as jnp

from gdc.decoders import diffusion, schedules

_TINY = 1e-30

def loop(step, z, steps):
  """All steps, one after the other: z = step(z, i) for i in 0 .. steps - 1."""
  return jax.lax.fori_loop(0, steps, lambda i, z: step(z, i), z)


def left(i, steps, warp: float = 1.0):
  """What is left of the way at point i of `steps` + 1: (1 - i/steps)^warp.

  From 1 to 0. warp > 1 takes smaller steps toward the end, where detail is
  made. Times are 1 less this; near the end only this still tells them apart.
  """
  return (1 - i / steps) ** warp


# --- Flow: dz/dt = predict(z, t), from t = 0 to 1 -----------------------------
#
# Args of every step:
#   predict: (z [b, ...], t [b]) -> dz/dt [b, ...].
#   z: [b, ...] the state before step i.
#   i, steps: step and number of steps; may be traced.
#   warp: see left.
# Returns the state after it.


def _times(i, steps, warp):
  return 1 - left(i, steps, warp), 1 - left(i + 1, steps, warp)


def _at(predict, z, t):
  return predict(z, jnp.full(z.shape[:1], t))


def euler(predict, z, i, steps, warp: float = 1.0):
  """First order, one evaluation."""
  t, t_next = _times(i, steps, warp)
  return z + (t_next - t) * _at(predict, z, t)


def midpoint(predict, z, i, steps, warp: float = 1.0):
  """Second order, two evaluations: the slope in the middle of the step."""
  t, t_next = _times(i, steps, warp)
  h = t_next - t
  half = z + h / 2 * _at(predict, z, t)
  return z + h * _at(predict, half, t + h / 2)


def heun(predict, z, i, steps, warp: float = 1.0):
  """Second order, two evaluations: the mean slope of both ends."""
  t, t_next = _times(i, steps, warp)
  h = t_next - t
  first = _at(predict, z, t)
  second = _at(predict, z + h * first, t_next)
  return z + h / 2 * (first + second)


def stochastic(
  predict, z, i, steps, noise_fn, source_noise: float, eta: float,
  warp: float = 1.0,
):
  """Euler with noise injected, and the marginals of the flow without it.

  For a source s eps, z_t = (1 - t) s eps + t z_1, the velocity v tells both
  ends: s eps = z - t v and z_1 = z + (1 - t) v, and the score of z_t is
  -(z - t v) / ((1 - t) s^2). By the Fokker-Planck equation (Song et al. 2021,
  arXiv 2011.13456, appendix D.1; Albergo et al. 2023, arXiv 2303.08797,
  section 2.3)

    dz = (v - eta (z - t v)) dt + s sqrt(2 eta (1 - t)) dW

  has the marginals of dz = v dt for every eta. Where the ends are held fixed, a
  step of it is exact in this form: a part rho of the source's noise is drawn
  afresh, rho^2 = 1 - ((1 - t') / (1 - t))^(2 eta), as DDIM does for diffusion
  (arXiv 2010.02502, eq. 16). First order, one evaluation.

  Args:
    predict, z, i, steps, warp: as above.
    noise_fn: step index -> standard normal array like z.
    source_noise: s.
    eta: 0 (is euler) or more.
  """
  t, t_next = _times(i, steps, warp)
  v = _at(predict, z, t)
  before, after = left(i, steps, warp), left(i + 1, steps, warp)
  kept = (after / jnp.maximum(before, _TINY)) ** eta
  fresh = jnp.sqrt(1 - kept**2) * source_noise * noise_fn(i)
  source = z - t * v
  return z + (t_next - t) * v + after * ((kept - 1) * source + fresh)


# --- Diffusion: variance preserving, from much noise to none ------------------
#
# Args of every step:
#   predict: (z [b, ...], log_snr [b]) -> x [b, ...], the image.
#   z: [b, ...] the state before step i; see start_state.
#   i, steps: step and number of steps; may be traced.
#   levels: index -> log-SNR of the state before that step; see noise_levels.
#   clip: predicted images are clipped to [-clip, clip]; None: not at all.
# Returns the state after it; after the last step, the image predicted in it.

SPACES = ('time', 'log_snr')


def noise_levels(
  schedule: schedules.Schedule, steps, start: float = 1.0, warp: float = 1.0,
  space: str = 'time',
):
  """The grid of a diffusion's sampler: index in 0 .. steps -> log-SNR.

  Args:
    schedule: of training.
    steps: number of steps; may be traced.
    start: time of the first state, in (0, 1].
    warp: see left.
    space: what the grid divides, warped, into equal parts: the schedule's
      'time', or 'log_snr' as DPM-Solver does (Lu et al. 2022, arXiv
      2206.00927, section 3.4).
  """
  if space not in SPACES:
    raise ValueError(f'grid must be one of {SPACES}, not {space!r}.')
  first, last = schedule.log_snr(jnp.array([start, 0.0]))

  def level(i):
    share = left(i, steps, warp)
    if space == 'log_snr':
      return last + share * (first - last)
    return schedule.log_snr(start * share)

  return level


def start_state(x_hat, noise, log_snr):
  """The state of the first level: the autoencoder's output, diffused.

  A shifted schedule has some signal left even at t = 1, and training saw it:
  starting from noise alone would not match. Training diffuses the original
  image, so the match is up to alpha^2 times the autoencoder's square error:
  nothing at t = 1, and what a start below 1, the late start of DIRAC (Ghouse
  et al., arXiv 2301.05489), trades for fewer steps.

  Args:
    x_hat: [b, ...] in [-1, 1].
    noise: standard normal, of x_hat's shape.
    log_snr: scalar.
  """
  return diffusion.diffuse(x_hat, noise, jnp.full(x_hat.shape[:1], log_snr))


def _ask(predict, z, i, levels, clip):
  """The image predicted at step i, and the log-SNR [b] before and after it."""
  before, after = (jnp.full(z.shape[:1], levels(j)) for j in (i, i + 1))
  x = predict(z, before)
  return x if clip is None else jnp.clip(x, -clip, clip), before, after


def ddpm(
  predict, z, i, steps, levels, noise_fn, gamma: float = 0.0,
  clip: float | None = 1.0,
):
  """Ancestral sampling; first order, one evaluation.

  A step goes from t to s < t. With sigma_ts^2 = sigma_t^2 (1 - SNR_t / SNR_s)
  (Kingma et al. 2021, arXiv 2107.00630, appendix A) its variance lies between
  sigma_s^2 sigma_ts^2 / sigma_t^2 (gamma = 0, exact for a fixed image) and
  sigma_ts^2 (gamma = 1, exact for white noise), interpolated in its logarithm
  (Nichol & Dhariwal, arXiv 2102.09672, eq. 15).

  Args:
    predict, z, i, steps, levels, clip: as above.
    noise_fn: step index -> standard normal array like z.
    gamma: in [0, 1], how much noise is injected.
  """
  x, log_snr_t, log_snr_s = _ask(predict, z, i, levels, clip)
  alpha_t, sigma_t = schedules.alpha_sigma(log_snr_t)
  alpha_s, sigma_s = schedules.alpha_sigma(log_snr_s)
  # 1 - SNR_t / SNR_s: the share of sigma_t^2 that the step from s to t adds.
  # Where a grid's last levels are so near as to be the same, next to nothing.
  added = jnp.maximum(-jnp.expm1(log_snr_t - log_snr_s), _TINY)
  weight_z = alpha_t / alpha_s * sigma_s**2 / sigma_t**2
  # Logarithms are added: their products may be too small for a float32.
  log_variance = (
    jnp.log(added) + gamma * jax.nn.log_sigmoid(-log_snr_t)
    + (1 - gamma) * jax.nn.log_sigmoid(-log_snr_s)
  )
  on_z, on_x, on_noise = (
    schedules.per_example(a, z)
    for a in (weight_z, alpha_s * added, jnp.exp(0.5 * log_variance))
  )
  after = on_z * z + on_x * x + on_noise * noise_fn(i)
  return jnp.where(i == steps - 1, x, after)


def ddim(predict, z, i, steps, levels, clip: float | None = 1.0):
  """Deterministic; first order, one evaluation.

  Song et al. 2020 (arXiv 2010.02502, eq. 12).
  """
  x, log_snr_t, log_snr_s = _ask(predict, z, i, levels, clip)
  noise = diffusion.noise_of(x, z, log_snr_t)
  after = diffusion.diffuse(x, noise, log_snr_s)
  return jnp.where(i == steps - 1, x, after)


def dpmpp_2m(predict, z, i, steps, levels, clip: float | None = 1.0):
  """Deterministic; second order, one evaluation: DPM-Solver++(2M).

  Lu et al. 2022 (arXiv 2211.01095, algorithm 2). The image as a function of
  half the log-SNR is extrapolated from this prediction and the last one. The
  first step has none and is ddim's; the last one does without, as the authors'
  code has it for few steps. The order is that of a grid in log-SNR; in one of
  time it is only reached with very many steps.

  Args:
    predict, i, steps, levels, clip: as above.
    z: [..., 2 c] the state, then the image predicted in the step before.
  """
  z, last = jnp.split(z, 2, axis=-1)
  x, log_snr_t, log_snr_s = _ask(predict, z, i, levels, clip)
  step = levels(i + 1) - levels(i)
  step_before = levels(i) - levels(jnp.maximum(i - 1, 0))
  inner = (i > 0) & (i < steps - 1)
  inner &= step_before > 0
  slope = jnp.where(inner, step / jnp.where(inner, step_before, 1), 0)
  ahead = x + slope / 2 * (x - last)
  alpha_s, sigma_s = schedules.alpha_sigma(log_snr_s)
  _, sigma_t = schedules.alpha_sigma(log_snr_t)
  on_z, on_x = (
    schedules.per_example(a, z) for a in (
      sigma_s / sigma_t, -alpha_s * jnp.expm1((log_snr_t - log_snr_s) / 2)
    )
  )
  after = jnp.where(i == steps - 1, x, on_z * z + on_x * ahead)
  return jnp.concatenate([after, x], axis=-1)
