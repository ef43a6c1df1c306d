"""Noise schedules of the variance-preserving diffusion, as log-SNR.

z_t = alpha_t x + sigma_t eps with alpha^2 + sigma^2 = 1 and
log_snr = log(alpha^2 / sigma^2). Two schedules, both from +bound at t = 0 to
-bound at t = 1 and then shifted (Hoogeboom et al., simple diffusion, arXiv
2301.11093, section 3.1):

  cosine: log_snr(t) = -2 log tan(pi u / 2) - 2 log(noise_shift)
  linear: log_snr(t) = bound (1 - 2 t) - 2 log(noise_shift)

u is t, mapped so that the cosine's ends are at the bounds: it is truncated
rather than clipped, so that no stretch of time stands still.

noise_shift < 1 is less noise at every t, 1 the schedule as it is, > 1 the
direction that text-to-image models take at high resolution. A decoder of
compressed images wants less noise: its condition already holds the coarse
structure (Hoogeboom et al., HFD, arXiv 2305.18231).
"""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = ('cosine', 'linear')


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Log-SNR as a function of time in [0, 1], and back.

  Attributes:
    shape: 'cosine' or 'linear'.
    noise_shift: positive; see the module's docstring.
    bound: of the unshifted log-SNR, positive.

  Raises:
    ValueError: a value that is none of these.
  """

  shape: str = 'cosine'
  noise_shift: float = 1.0
  bound: float = 15.0

  def __post_init__(self):
    if self.shape not in SHAPES:
      raise ValueError(f'schedule must be one of {SHAPES}, not {self.shape!r}.')
    if not self.noise_shift > 0:
      raise ValueError(f'noise_shift must be positive, not {self.noise_shift}.')
    if not self.bound > 0:
      raise ValueError(f'log_snr_bound must be positive, not {self.bound}.')

  @property
  def _angles(self):
    """Of the cosine schedule, at t = 0 and t = 1."""
    low = np.arctan(np.exp(-0.5 * self.bound))
    return low, np.pi / 2 - low

  def log_snr(self, t: jax.Array) -> jax.Array:
    """Log-SNR at times t in [0, 1], float32; falls."""
    t = jnp.asarray(t, jnp.float32)
    if self.shape == 'linear':
      return self.bound * (1 - 2 * t) - 2 * np.log(self.noise_shift)
    # The cosine of an angle near a right one is the sine of what it lacks:
    # float32 does not hold the angle itself well enough.
    low, high = self._angles
    sine, cosine = (
      jnp.sin(low + u * (high - low)) for u in (t, 1 - t)
    )
    return 2 * (jnp.log(cosine) - jnp.log(sine) - np.log(self.noise_shift))

  def time(self, log_snr: jax.Array) -> jax.Array:
    """The time at which `log_snr` has this value; its inverse."""
    log_snr = jnp.asarray(log_snr, jnp.float32)
    if self.shape == 'linear':
      shifted = log_snr + 2 * np.log(self.noise_shift)
      return 0.5 * (1 - shifted / self.bound)
    low, high = self._angles
    angle = jnp.arctan(jnp.exp(-0.5 * log_snr) / self.noise_shift)
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
