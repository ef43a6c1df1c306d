"""Samplers: they integrate what a network predicts from noise to image.

Each is one step, and a loop over it with lax.fori_loop. The number of steps
is a traced integer, so one compiled program serves every step count. `predict`
is given as a function of state and time; no sampler knows of networks. The
steps stand alone because a large picture is taken through them tile by tile.
"""
import functools

import jax
import jax.numpy as jnp

from gdc.processes import diffusion, schedules


def grid(i, steps, warp: float = 1.0):
  """Time i of `steps` + 1 in [0, 1]: 1 - (1 - i/steps)^warp.

  warp > 1 takes smaller steps toward the end, where detail is made.
  """
  return 1 - (1 - i / steps) ** warp


def euler(predict, z, steps, warp: float = 1.0):
  """Integrates dz/dt = predict(z, t) from t = 0 to 1; first order.

  Args:
    predict: (z [b, ...], t [b]) -> dz/dt [b, ...].
    z: [b, ...] the state at t = 0.
    steps: number of steps, one evaluation each; may be traced.
    warp: see grid.

  Returns:
    [b, ...] the state at t = 1.
  """
  step = functools.partial(euler_step, predict, steps=steps, warp=warp)
  return jax.lax.fori_loop(0, steps, lambda i, z: step(z, i), z)


def euler_step(predict, z, i, steps, warp: float = 1.0):
  """Step i of euler."""
  t, t_next = grid(i, steps, warp), grid(i + 1, steps, warp)
  return z + (t_next - t) * predict(z, jnp.full(z.shape[:1], t))


def heun(predict, z, steps, warp: float = 1.0):
  """As euler, by the explicit trapezoid: second order, two evaluations."""
  step = functools.partial(heun_step, predict, steps=steps, warp=warp)
  return jax.lax.fori_loop(0, steps, lambda i, z: step(z, i), z)


def heun_step(predict, z, i, steps, warp: float = 1.0):
  """Step i of heun."""
  t, t_next = grid(i, steps, warp), grid(i + 1, steps, warp)
  h = t_next - t
  first = predict(z, jnp.full(z.shape[:1], t))
  second = predict(z + h * first, jnp.full(z.shape[:1], t_next))
  return z + h / 2 * (first + second)


def _pair(i, steps, start, log_snr_fn, batch):
  """Log-SNR [b] at times i and i + 1 of a grid from `start` down to 0."""
  times = start * (1 - jnp.stack([i, i + 1]) / steps)
  return [jnp.full((batch,), v) for v in log_snr_fn(times)]


def ddpm(
  predict_v, z, steps, log_snr_fn, noise_fn, gamma: float = 0.0,
  start: float = 1.0, clip: float | None = 1.0,
):
  """Ancestral sampling of a variance-preserving diffusion, t from start to 0.

  A step goes from t to s < t. With sigma_ts^2 = sigma_t^2 (1 - SNR_t / SNR_s)
  (Kingma et al. 2021, arXiv 2107.00630, appendix A) its variance lies between
  sigma_s^2 sigma_ts^2 / sigma_t^2 (gamma = 0, exact for a fixed image) and
  sigma_ts^2 (gamma = 1, exact for white noise), interpolated in its logarithm
  (Nichol & Dhariwal, arXiv 2102.09672, eq. 15).

  Args:
    predict_v: (z [b, ...], log_snr [b]) -> v [b, ...].
    z: [b, ...] state at time `start`; see start_state.
    steps: number of steps; may be traced.
    log_snr_fn: time in [0, 1] -> log-SNR.
    noise_fn: step index -> standard normal array like z.
    gamma: in [0, 1], how much noise is injected.
    start: time of z, in (0, 1].
    clip: predicted images are clipped to [-clip, clip]; None: not at all.

  Returns:
    [b, ...] the predicted image of the last step.
  """
  def step(i, carry):
    return ddpm_step(
      predict_v, carry[0], i, steps, log_snr_fn, noise_fn, gamma, start, clip
    )

  return jax.lax.fori_loop(0, steps, step, (z, jnp.zeros_like(z)))[1]


def ddpm_step(
  predict_v, z, i, steps, log_snr_fn, noise_fn, gamma: float = 0.0,
  start: float = 1.0, clip: float | None = 1.0,
):
  """Step i of ddpm: the next state, and the predicted image."""
  log_snr_t, log_snr_s = _pair(i, steps, start, log_snr_fn, z.shape[0])
  x = diffusion.x_from_v(z, predict_v(z, log_snr_t), log_snr_t)
  x = x if clip is None else jnp.clip(x, -clip, clip)
  alpha_t, sigma_t = schedules.alpha_sigma(log_snr_t)
  alpha_s, sigma_s = schedules.alpha_sigma(log_snr_s)
  # 1 - SNR_t / SNR_s: the share of sigma_t^2 that the step from s to t adds.
  added = -jnp.expm1(log_snr_t - log_snr_s)
  weight_z = alpha_t / alpha_s * sigma_s**2 / sigma_t**2
  log_variance = (
    gamma * jnp.log(added * sigma_t**2)
    + (1 - gamma) * jnp.log(added * sigma_s**2)
  )
  on_z, on_x, on_noise = (
    schedules.per_example(a, z)
    for a in (weight_z, alpha_s * added, jnp.exp(0.5 * log_variance))
  )
  return on_z * z + on_x * x + on_noise * noise_fn(i), x


def ddim(
  predict_v, z, steps, log_snr_fn, start: float = 1.0,
  clip: float | None = 1.0,
):
  """Deterministic sampling, Song et al. 2020 (arXiv 2010.02502, eq. 12).

  Arguments and result as for ddpm.
  """
  def step(i, carry):
    return ddim_step(predict_v, carry[0], i, steps, log_snr_fn, start, clip)

  return jax.lax.fori_loop(0, steps, step, (z, jnp.zeros_like(z)))[1]


def ddim_step(
  predict_v, z, i, steps, log_snr_fn, start: float = 1.0,
  clip: float | None = 1.0,
):
  """Step i of ddim: the next state, and the predicted image."""
  log_snr_t, log_snr_s = _pair(i, steps, start, log_snr_fn, z.shape[0])
  x = diffusion.x_from_v(z, predict_v(z, log_snr_t), log_snr_t)
  x = x if clip is None else jnp.clip(x, -clip, clip)
  alpha_t, sigma_t = schedules.alpha_sigma(log_snr_t)
  eps = (z - schedules.per_example(alpha_t, z) * x) / (
    schedules.per_example(sigma_t, z)
  )
  return diffusion.diffuse(x, eps, log_snr_s), x


def start_state(x_hat, noise, log_snr_fn, start: float = 1.0):
  """The state at time `start`: the autoencoder's output, diffused.

  A shifted schedule has some signal left even at t = 1, and training saw it:
  starting from noise alone would not match. Training diffuses the original
  image, so the match is up to alpha^2 times the autoencoder's square error:
  nothing at t = 1, and what start < 1, the late start of DIRAC (Ghouse et
  al., arXiv 2301.05489), trades for fewer steps.
  """
  log_snr = jnp.full(x_hat.shape[:1], log_snr_fn(jnp.asarray(start)))
  return diffusion.diffuse(x_hat, noise, log_snr)
