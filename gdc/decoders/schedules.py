"""The variance-preserving diffusion: its forward process and noise schedules.

z_t = alpha_t x + sigma_t eps with alpha^2 + sigma^2 = 1 and
log_snr = log(alpha^2 / sigma^2). Both schedules run from +bound at t = 0 to
-bound at t = 1 and are then shifted (Hoogeboom et al., simple diffusion, arXiv
2301.11093, section 3.1):

  cosine: log_snr(t) = -2 log tan(pi u / 2) - 2 log(noise_shift)
  linear: log_snr(t) = bound (1 - 2 t) - 2 log(noise_shift)

u is t mapped so that the cosine's ends are at the bounds: it is truncated
rather than clipped, so that no stretch of time stands still.

noise_shift < 1 means less noise at every t, > 1 more, as in text-to-image
models at high resolution. A decoder of compressed images wants less: its
condition already holds the coarse structure (Hoogeboom et al., HFD, arXiv
2305.18231).
"""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = ('cosine', 'linear')


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Log-SNR as a function of time in [0, 1].

  Attributes:
    shape: one of SHAPES.
    noise_shift: positive; see the module's docstring.
    bound: largest log-SNR before the shift, positive.
  """

  shape: str = 'cosine'
  noise_shift: float = 1.0
  bound: float = 15.0

  @property
  def _angles(self):
    """Angles of the cosine schedule at t = 0 and t = 1."""
    low = np.arctan(np.exp(-0.5 * self.bound))
    return low, np.pi / 2 - low

  def log_snr(self, t: jax.Array) -> jax.Array:
    """Returns the log-SNR at times t in [0, 1], float32; it falls with t."""
    t = jnp.asarray(t, jnp.float32)
    if self.shape == 'linear':
      return self.bound * (1 - 2 * t) - 2 * np.log(self.noise_shift)
    # Near a right angle, float32 resolves the complement better.
    low, high = self._angles
    sine, cosine = (
      jnp.sin(low + u * (high - low)) for u in (t, 1 - t)
    )
    return 2 * (jnp.log(cosine) - jnp.log(sine) - np.log(self.noise_shift))


def alpha_sigma(log_snr: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (alpha, sigma) of a log-SNR, float32; alpha^2 + sigma^2 = 1."""
  log_snr = jnp.asarray(log_snr, jnp.float32)
  return (
    jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
  )


def coefficients(log_snr: jax.Array, like: jax.Array):
  """Returns (alpha, sigma) of log-SNRs [b], broadcastable to `like`."""
  alpha, sigma = alpha_sigma(log_snr)
  return per_example(alpha, like), per_example(sigma, like)


def per_example(value: jax.Array, like: jax.Array) -> jax.Array:
  """Reshapes [b] so that it broadcasts against `like` [b, ...]."""
  value = jnp.asarray(value)
  return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))


def diffuse(x, noise, log_snr) -> jax.Array:
  """Returns the state z = alpha x + sigma noise at log-SNRs [b]."""
  alpha, sigma = coefficients(log_snr, x)
  return alpha * x + sigma * noise


def noise_of(x, z, log_snr) -> jax.Array:
  """Returns the noise in the state z of an image x at log-SNRs [b]."""
  alpha, sigma = coefficients(log_snr, z)
  return (z - alpha * x) / sigma
