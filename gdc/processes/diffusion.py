"""Forward process, predictions and loss of the diffusion decoder.

The network predicts v = alpha eps - sigma x (Salimans & Ho 2022, arXiv
2202.00512, section 4 and appendix D), from which x and eps follow:

  x = alpha z - sigma v,  eps = sigma z + alpha v.

An error in v is an error of sigma in x and of alpha in eps, so a loss in any
of the three spaces is the v loss times 1, sigma^2 or alpha^2.
x is an image in [-1, 1]. log_snr is [b].
"""
import jax
import jax.numpy as jnp

from gdc.processes import schedules

LOSS_SPACES = ('eps', 'v', 'x')


def _coefficients(log_snr, like):
  alpha, sigma = schedules.alpha_sigma(log_snr)
  return (
    schedules.per_example(alpha, like), schedules.per_example(sigma, like)
  )


def diffuse(x, noise, log_snr):
  """z_t = alpha x + sigma noise."""
  alpha, sigma = _coefficients(log_snr, x)
  return alpha * x + sigma * noise


def velocity(x, noise, log_snr):
  """v = alpha noise - sigma x, the network's target."""
  alpha, sigma = _coefficients(log_snr, x)
  return alpha * noise - sigma * x


def x_from_v(z, v, log_snr):
  """The image that a predicted v implies."""
  alpha, sigma = _coefficients(log_snr, z)
  return alpha * z - sigma * v


def eps_from_v(z, v, log_snr):
  """The noise that a predicted v implies."""
  alpha, sigma = _coefficients(log_snr, z)
  return sigma * z + alpha * v


def loss_weight(log_snr: jax.Array, space: str) -> jax.Array:
  """What turns a squared error in v into one in another space.

  Args:
    log_snr: [b].
    space: 'eps', 'v' or 'x'.

  Returns:
    [b] alpha^2, 1 or sigma^2.
  """
  if space not in LOSS_SPACES:
    raise ValueError(f'loss space must be one of {LOSS_SPACES}, not {space!r}.')
  alpha, sigma = schedules.alpha_sigma(log_snr)
  return {'eps': alpha**2, 'v': jnp.ones_like(alpha), 'x': sigma**2}[space]


def loss(predict_v, x, noise, log_snr, space: str = 'eps') -> jax.Array:
  """Squared error per example of a prediction at one noise level each.

  Args:
    predict_v: (z [b, ...], log_snr [b]) -> v [b, ...].
    x: [b, h, w, 3] in [-1, 1].
    noise: standard normal, x's shape.
    log_snr: [b].
    space: where the error is measured.

  Returns:
    [b] mean over pixels and channels, float32.
  """
  v = predict_v(diffuse(x, noise, log_snr), log_snr)
  error = (v - velocity(x, noise, log_snr)).astype(jnp.float32)
  axes = tuple(range(1, x.ndim))
  return loss_weight(log_snr, space) * jnp.mean(error**2, axis=axes)
