"""Rectified flow from the autoencoder's output to the original image.

Liu et al. 2022 (arXiv 2209.03003) with the pairs that the autoencoder gives:

  z_0 = x_hat + source_noise * rmse * eps,  z_1 = x,
  z_t = (1 - t) z_0 + t z_1,  target dz/dt = z_1 - z_0.

It is written in residual units, r = (z - x_hat) / rmse, where rmse is the
autoencoder's expected error at that quality. A rectified flow commutes with
this affine map, so it is the same flow; but here both ends have unit scale at
every quality, and source_noise is a multiple of the error to be corrected.
source_noise = 0 is the pure map, whose answer is the conditional mean.
"""
import dataclasses
import functools

import jax
import jax.numpy as jnp

from gdc.decoders import base, samplers, schedules

MIN_TIME_LEFT = 0.05  # bounds the division in `velocity`


def to_residual(image, x_hat, rmse) -> jax.Array:
  """Converts an image [b, h, w, 3] to a residual in units of rmse [b]."""
  return (image - x_hat) / schedules.per_example(rmse, x_hat)


def from_residual(residual, x_hat, rmse) -> jax.Array:
  """Converts a residual to an image, the inverse of to_residual."""
  return x_hat + residual * schedules.per_example(rmse, x_hat)


def interpolate(r_0, r_1, t) -> jax.Array:
  """Returns r_t on the straight path; t [b] in [0, 1]."""
  t = schedules.per_example(t, r_0)
  return (1 - t) * r_0 + t * r_1


def velocity(output, r_t, t) -> jax.Array:
  """Converts a network's output to a velocity.

  v = output / (1 - t) - r_t. With an output of zero, one Euler step from t = 0
  gives exactly x_hat, and more steps leave less than exp(-1) of the source
  noise in it; an output of -t r_t removes all noise where nothing is to be
  corrected. The division makes the remaining correction the unit, as in
  predicting the image (Li & He 2025, arXiv 2511.13720); it is bounded at
  1 - t >= MIN_TIME_LEFT.

  Args:
    output: [b, ...] of the network.
    r_t: [b, ...] the state.
    t: [b] in [0, 1].
  """
  left = jnp.maximum(1 - t, MIN_TIME_LEFT)
  return output / schedules.per_example(left, r_t) - r_t


def end(output, r_t, t) -> jax.Array:
  """Returns r_1, the expected end of the path; arguments as for velocity."""
  left = schedules.per_example(1 - t, r_t)
  return r_t + left * velocity(output, r_t, t)


def loss(predict, r_0, r_1, t) -> jax.Array:
  """Returns the squared error of the predicted velocity of each example.

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


def logit_normal(u: jax.Array, mean: float, std: float) -> jax.Array:
  """Maps u [b], uniform in [0, 1), to times with a normal logit.

  It trains more in the middle, or where its mean moves it (Esser et al. 2024,
  arXiv 2403.03206, section 3.1).
  """
  inside = jnp.clip(u, 1e-6, 1 - 1e-6)
  return jax.nn.sigmoid(mean + std * jax.scipy.special.ndtri(inside))


@dataclasses.dataclass(frozen=True)
class ResidualFlow(base.Decoder):
  """The path and the samplers, shared by Flow and one_step.OneStep."""

  SAMPLERS = samplers.FLOW

  source_noise: float = base.setting(
    0.5, 'Noise at the source, as a multiple of the expected error; 0 is the '
    'pure map.', low=0.0,
  )
  sampler: str = base.setting('euler', 'Name of the sampler.', kind='sampling')
  eta: float = base.setting(
    0.0, 'Noise injected by the sampler stochastic.', kind='sampling', low=0.0,
    high=100.0,
  )

  def finish(self, state, x_hat, rmse):
    return jnp.clip(from_residual(state[0], x_hat, rmse), -1, 1)

  def _start(self, noise, x_hat):
    return self.source_noise * noise

  def _grid(self, steps):
    return functools.partial(
      samplers.time_left, steps=steps, warp=self.warp
    )

  def _prediction(self, network, x_hat, rmse):
    return lambda r, t: velocity(network(r, t), r, t)


@dataclasses.dataclass(frozen=True)
class Flow(ResidualFlow):
  """The flow decoder: several steps along the path."""

  entry = 'flow'
  description = "a rectified flow from the autoencoder's image to the original"

  time_sampling: str = base.setting(
    'uniform', 'Distribution of training times.', kind='training',
    choices=('uniform', 'logit_normal'),
  )
  time_mean: float = base.setting(
    0.0, 'Mean of the logit of training times, for logit_normal.',
    kind='training',
  )
  time_std: float = base.setting(
    1.0, 'Standard deviation of that logit.', kind='training', above=0.0
  )
  reflow_steps: int = base.setting(
    0, 'Experimental: above 0, trains on the pairs of a teacher, the flow in '
    'autoencoder_from, integrated in this many Euler steps (Liu et al. 2022, '
    'arXiv 2209.03003, section 2.2).', kind='training', low=0,
  )

  def loss(self, network, image, x_hat, rmse, u, noise):
    t = u if self.time_sampling == 'uniform' else logit_normal(
      u, self.time_mean, self.time_std
    )
    return loss(
      self._prediction(network, x_hat, rmse), self.source_noise * noise,
      to_residual(image, x_hat, rmse), t,
    )
