"""Rectified flow from the autoencoder's output to the original image.

Liu et al. 2022 (arXiv 2209.03003) with the pairs that the autoencoder gives:

  z_0 = x_hat + source_noise * rmse * eps,  z_1 = x,
  z_t = (1 - t) z_0 + t z_1,  target dz/dt = z_1 - z_0.

It is written in residual units, r = (z - x_hat) / rmse, where rmse is the
autoencoder's expected error at that quality. A rectified flow commutes with
this affine map, so it is the same flow; but here both ends have unit scale at
every quality, and source_noise is a plain multiple of the error to be mended.
source_noise = 0 is the pure map, whose answer is the conditional mean.
"""
import jax
import jax.numpy as jnp

from gdc.decoders import schedules

MIN_TIME_LEFT = 0.05  # bounds the division in `velocity`
TIME_SAMPLINGS = ('uniform', 'logit_normal')


def to_residual(image, x_hat, rmse):
  """Image [b, h, w, 3] -> residual, in units of rmse [b]."""
  return (image - x_hat) / schedules.per_example(rmse, x_hat)


def from_residual(residual, x_hat, rmse):
  """The inverse of to_residual."""
  return x_hat + residual * schedules.per_example(rmse, x_hat)


def source(noise, source_noise: float):
  """r_0, the residual of the starting point: the injected noise alone."""
  return source_noise * noise


def interpolate(r_0, r_1, t):
  """r_t on the straight path; t [b] in [0, 1]."""
  t = schedules.per_example(t, r_0)
  return (1 - t) * r_0 + t * r_1


def sample_time(
  u: jax.Array, sampling: str = 'uniform', mean: float = 0.0, std: float = 1.0
) -> jax.Array:
  """Times to train at.

  'logit_normal' trains more in the middle, or to where its mean moves it
  (Esser et al. 2024, arXiv 2403.03206, section 3.1).

  Args:
    u: [b] uniform in [0, 1).
    sampling: 'uniform' or 'logit_normal'.
    mean: of the logit of t, for 'logit_normal'.
    std: of the same, positive.

  Returns:
    [b] times in [0, 1].

  Raises:
    ValueError: unknown sampling, or std not positive.
  """
  if sampling not in TIME_SAMPLINGS:
    raise ValueError(
      f'time_sampling must be one of {TIME_SAMPLINGS}, not {sampling!r}.'
    )
  if sampling == 'uniform':
    return u
  if not std > 0:
    raise ValueError(f'time_std must be positive, not {std}.')
  inside = jnp.clip(u, 1e-6, 1 - 1e-6)
  return jax.nn.sigmoid(mean + std * jax.scipy.special.ndtri(inside))


def velocity(output, r_t, t):
  """The velocity that a network's output stands for.

  v = output / (1 - t) - r_t. With an output of zero, one Euler step from t = 0
  gives exactly the autoencoder's own picture, and more steps leave less than
  exp(-1) of the source noise in it; an output of -t r_t takes all noise out of
  a place that has nothing to mend. The division makes what is left to do the
  unit, as in predicting the image (Li & He 2025, arXiv 2511.13720); it is
  bounded at 1 - t >= 0.05.

  Args:
    output: [b, ...] of the network.
    r_t: [b, ...] the state.
    t: [b] in [0, 1].
  """
  left = jnp.maximum(1 - t, MIN_TIME_LEFT)
  return output / schedules.per_example(left, r_t) - r_t


def end(output, r_t, t):
  """r_1, where the path through r_t is expected to end; as for velocity."""
  left = schedules.per_example(1 - t, r_t)
  return r_t + left * velocity(output, r_t, t)


def loss(predict, r_0, r_1, t) -> jax.Array:
  """Squared error per example of the predicted velocity.

  Args:
    predict: (r_t [b, ...], t [b]) -> velocity [b, ...].
    r_0: source residuals.
    r_1: residuals of the original images.
    t: [b] in [0, 1].

  Returns:
    [b] mean over pixels and channels, float32.
  """
  error = predict(interpolate(r_0, r_1, t), t) - (r_1 - r_0)
  axes = tuple(range(1, r_0.ndim))
  return jnp.mean(error.astype(jnp.float32) ** 2, axis=axes)
