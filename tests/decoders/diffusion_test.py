"""Diffusion: x, eps and v say the same, and so do their losses."""
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from gdc.decoders import diffusion, flow, schedules

LOG_SNR = jnp.array([-8.0, -1.0, 0.5, 9.0])
PREDICTIONS = diffusion.PREDICTIONS


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


X, NOISE = 0.5 * normal(0, 4, 5, 6, 3), normal(1, 4, 5, 6, 3)
Z = schedules.diffuse(X, NOISE, LOG_SNR)


def test_forward_process_has_the_variance_and_mean_of_the_schedule():
  noise = normal(2, 4, 64, 64, 3)
  z = schedules.diffuse(0.5 * jnp.ones_like(noise), noise, LOG_SNR)
  alpha, sigma = schedules.alpha_sigma(LOG_SNR)
  error = 5 * sigma / np.sqrt(64 * 64 * 3)
  assert np.all(np.abs(jnp.mean(z, (1, 2, 3)) - 0.5 * alpha) < error)
  np.testing.assert_allclose(jnp.std(z, (1, 2, 3)), sigma, rtol=0.05)


@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_every_target_gives_the_image_and_the_noise(prediction):
  target = diffusion.target(X, NOISE, LOG_SNR, prediction)
  x = diffusion.image(target, Z, LOG_SNR, prediction)
  # eps says little of x where there is almost only noise: alpha is 0.018.
  np.testing.assert_allclose(x, X, atol=2e-5)
  np.testing.assert_allclose(
    schedules.noise_of(X, Z, LOG_SNR), NOISE, atol=2e-5
  )


def converted(output, before, after):
  """What a network of another prediction would answer for the same image."""
  x = diffusion.image(output, Z, LOG_SNR, before)
  return diffusion.target(
    x, schedules.noise_of(x, Z, LOG_SNR), LOG_SNR, after
  )


@pytest.mark.parametrize(
  'before, after', list(itertools.permutations(PREDICTIONS, 2))
)
def test_a_wrong_prediction_is_converted_and_back(before, after):
  output = diffusion.target(X, NOISE, LOG_SNR, before) + 0.1 * normal(
    3, *X.shape
  )
  there = converted(output, before, after)
  np.testing.assert_allclose(
    converted(there, after, before), output, atol=2e-3
  )


def test_v_is_the_derivative_of_the_path_by_its_angle():
  # With alpha = cos(a), sigma = sin(a): dz/da = -sigma x + alpha eps.
  angle, step = np.array([0.2, 0.7, 1.0, 1.4]), 1e-3

  def z(angle):
    return schedules.diffuse(X, NOISE, -2 * np.log(np.tan(angle)))

  numeric = (z(angle + step) - z(angle - step)) / (2 * step)
  v = diffusion.target(X, NOISE, -2 * np.log(np.tan(angle)), 'v')
  np.testing.assert_allclose(numeric, v, atol=2e-3)


@pytest.mark.parametrize('prediction', PREDICTIONS)
@pytest.mark.parametrize('weighting', ['x', 'eps', 'v'])
def test_loss_is_the_error_in_the_space_of_its_weighting(
  prediction, weighting
):
  output = diffusion.target(X, NOISE, LOG_SNR, prediction) + 0.1 * normal(
    5, *X.shape
  )

  def predict(state, log_snr):
    np.testing.assert_array_equal(state, Z)
    np.testing.assert_array_equal(log_snr, LOG_SNR)
    return output

  loss = diffusion.loss(predict, X, NOISE, LOG_SNR, prediction, weighting)
  assert loss.shape == (4,) and loss.dtype == jnp.float32
  error = converted(output, prediction, weighting) - diffusion.target(
    X, NOISE, LOG_SNR, weighting
  )
  np.testing.assert_allclose(
    loss, jnp.mean(error**2, (1, 2, 3)), rtol=5e-3, atol=1e-9
  )


@pytest.mark.parametrize('weighting', diffusion.WEIGHTINGS)
def test_a_weighting_is_the_same_loss_whatever_is_predicted(weighting):
  v = diffusion.target(X, NOISE, LOG_SNR, 'v') + 0.1 * normal(6, *X.shape)
  outputs = {'v': v} | {p: converted(v, 'v', p) for p in ('eps', 'x')}
  losses = [
    diffusion.loss(
      lambda z, log_snr, p=p: outputs[p], X, NOISE, LOG_SNR, p, weighting
    )
    for p in PREDICTIONS
  ]
  np.testing.assert_allclose(losses[1], losses[0], rtol=5e-3)
  np.testing.assert_allclose(losses[2], losses[0], rtol=5e-3)


def test_weights_are_the_ratios_of_alpha_and_sigma():
  log_snr = np.linspace(-16, 16, 33)
  alpha, sigma = (
    np.sqrt(1 / (1 + np.exp(s * log_snr))) for s in (-1.0, 1.0)
  )
  weight = diffusion.loss_weight
  np.testing.assert_allclose(weight(log_snr, 'x', 'eps'), (sigma / alpha) ** 2,
                             rtol=1e-5)
  np.testing.assert_allclose(weight(log_snr, 'eps', 'v'), alpha**2, rtol=1e-5)
  np.testing.assert_allclose(
    weight(log_snr, 'sigmoid', 'eps'),
    1 / (1 + np.exp(log_snr - diffusion.SIGMOID_BIAS)), rtol=1e-5,
  )
  for prediction in PREDICTIONS:
    np.testing.assert_array_equal(
      weight(log_snr, prediction, prediction), np.ones(33)
    )
  # Even where one of alpha and sigma is nothing in float32.
  assert np.all(np.isfinite(weight(np.array([-80.0, 80.0]), 'eps', 'v')))


@pytest.mark.parametrize('prediction', PREDICTIONS)
@pytest.mark.parametrize('weighting', diffusion.WEIGHTINGS)
def test_a_perfect_prediction_costs_nothing(prediction, weighting):
  target = diffusion.target(X, NOISE, LOG_SNR, prediction)
  loss = diffusion.loss(
    lambda z, log_snr: target, X, NOISE, LOG_SNR, prediction, weighting
  )
  np.testing.assert_array_equal(loss, np.zeros(4))


# --- Around the autoencoder's output ----------------------------------------

RMSE = jnp.array([0.02, 0.06, 0.1, 0.3])


def test_saying_nothing_is_the_best_estimate_of_gaussian_images():
  x_hat, z = X, normal(7, *X.shape)
  predict = diffusion.residual_denoiser(
    lambda state, log_snr: jnp.zeros_like(state), x_hat, RMSE
  )
  alpha, sigma = (
    np.asarray(a)[:, None, None, None]
    for a in schedules.alpha_sigma(LOG_SNR)
  )
  rho = np.asarray(RMSE)[:, None, None, None]
  # The mean of a product of two Gaussian densities, in precisions.
  precision = 1 / rho**2 + (alpha / sigma) ** 2
  exact = (x_hat / rho**2 + alpha * z / sigma**2) / precision
  np.testing.assert_allclose(predict(z, LOG_SNR), exact, atol=1e-4)


def test_the_network_sees_and_answers_at_unit_scale():
  n, seen = 64, []
  x_hat = jnp.zeros((4, n, n, 3))
  x = RMSE[:, None, None, None] * normal(8, 4, n, n, 3)
  z = schedules.diffuse(x, normal(9, 4, n, n, 3), LOG_SNR)

  def predict(state, log_snr):
    seen.append(state)
    return jnp.zeros_like(state)

  linear = diffusion.residual_denoiser(predict, x_hat, RMSE)(z, LOG_SNR)
  np.testing.assert_allclose(jnp.std(seen[0], (1, 2, 3)), 1, rtol=0.05)
  one = diffusion.residual_denoiser(
    lambda state, log_snr: jnp.ones_like(state), x_hat, RMSE
  )(z, LOG_SNR)
  unit = jnp.mean(one - linear, (1, 2, 3))
  np.testing.assert_allclose(
    jnp.std(x - linear, (1, 2, 3)), unit, rtol=0.05
  )


def test_the_right_answer_is_the_image():
  x_hat = X + 0.1 * normal(10, *X.shape)

  def found(answer):
    predict = diffusion.residual_denoiser(
      lambda state, log_snr: answer + 0 * state, x_hat, RMSE
    )
    return predict(Z, LOG_SNR)

  linear = found(0.0)
  answer = (X - linear) / (found(1.0) - linear)
  np.testing.assert_allclose(found(answer), X, atol=1e-5)


# --- On a flow's network ----------------------------------------------------


@pytest.mark.parametrize('source_noise', [0.25, 1.0])
def test_the_flow_denoiser_evaluates_the_flow_on_its_path(source_noise):
  """The same image and noise, from the path's side."""
  x_hat, t = X + 0.1 * normal(11, *X.shape), jnp.array([0.01, 0.4, 0.9, 0.99])
  r = flow.to_residual(X, x_hat, RMSE)
  r_t = flow.interpolate(source_noise * NOISE, r, t)

  def network(state, time):
    return jnp.tanh(state) + time[:, None, None, None] * x_hat

  # The diffusion's noise level where noise and image are mixed as at t.
  log_snr = 2 * jnp.log(t / ((1 - t) * source_noise * RMSE))
  found = diffusion.flow_denoiser(network, x_hat, RMSE, source_noise)(
    schedules.diffuse(X, NOISE, log_snr), log_snr
  )
  np.testing.assert_allclose(
    found, flow.from_residual(
      flow.end(network(r_t, t), r_t, t), x_hat, RMSE
    ), atol=1e-5,
  )


def test_a_flow_is_asked_on_its_path_at_every_noise_level():
  seen = []

  def network(state, time):
    seen.append((state, time))
    return jnp.zeros_like(state)

  for log_snr in (-20.0, 0.0, 30.0):
    level = jnp.full(4, log_snr)
    x = diffusion.flow_denoiser(network, X, RMSE, 0.5)(
      schedules.diffuse(X, NOISE, level), level
    )
    assert np.all(np.isfinite(x))
  (start, first), _, (end, last) = seen
  np.testing.assert_allclose(start, 0.5 * NOISE, atol=1e-3)
  assert np.all(first < 1e-4) and np.all(last > 0.99)
  assert np.max(np.abs(end)) < 1e-3  # X is the image itself: no residual
