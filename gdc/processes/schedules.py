"""Noise schedules of the variance-preserving diffusion, as log-SNR.

z_t = alpha_t x + sigma_t eps with alpha^2 + sigma^2 = 1 and
log_snr = log(alpha^2 / sigma^2). The cosine schedule, truncated, and shifted
(Hoogeboom et al., simple diffusion, arXiv 2301.11093, section 3.1):

  log_snr(t) = -2 log tan(pi t / 2) - 2 log(noise_shift)

noise_shift < 1 is less noise at every t, 1 the cosine schedule, > 1 the
direction that text-to-image models take at high resolution. A decoder of
compressed images wants less noise: its condition already holds the coarse
structure (Hoogeboom et al., HFD, arXiv 2305.18231).
"""
import jax
import jax.numpy as jnp
import numpy as np

LOG_SNR_BOUND = 15.0  # the unshifted schedule runs between +- this


def _angle_range():
  low = np.arctan(np.exp(-0.5 * LOG_SNR_BOUND))
  return low, np.pi / 2 - low


def cosine_log_snr(t: jax.Array, noise_shift: float = 1.0) -> jax.Array:
  """Log-SNR at time t in [0, 1]; falls from +15 to -15, then shifted."""
  if noise_shift <= 0:
    raise ValueError(f'noise_shift must be positive, not {noise_shift}.')
  low, high = _angle_range()
  t = jnp.asarray(t, jnp.float32)
  return -2 * jnp.log(jnp.tan(low + t * (high - low)) * noise_shift)


def cosine_time(log_snr: jax.Array, noise_shift: float = 1.0) -> jax.Array:
  """The time at which cosine_log_snr has this value; its inverse."""
  low, high = _angle_range()
  angle = jnp.arctan(jnp.exp(-0.5 * jnp.asarray(log_snr)) / noise_shift)
  return (angle - low) / (high - low)


def alpha_sigma(log_snr: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(alpha, sigma) of a log-SNR, float32; alpha^2 + sigma^2 = 1."""
  log_snr = jnp.asarray(log_snr, jnp.float32)
  return (
    jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
  )


def per_example(value: jax.Array, like: jax.Array) -> jax.Array:
  """Reshapes [b] so that it broadcasts against `like` [b, ...]."""
  value = jnp.asarray(value)
  return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))
