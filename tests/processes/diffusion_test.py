"""Diffusion: x, eps and v say the same, and so do losses in each space."""
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.processes import diffusion, schedules

LOG_SNR = jnp.array([-8.0, -1.0, 0.5, 9.0])


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


X, NOISE = 0.5 * normal(0, 4, 5, 6, 3), normal(1, 4, 5, 6, 3)


def test_forward_process_has_the_variance_and_mean_of_the_schedule():
  noise = normal(2, 4, 64, 64, 3)
  z = diffusion.diffuse(0.5 * jnp.ones_like(noise), noise, LOG_SNR)
  alpha, sigma = schedules.alpha_sigma(LOG_SNR)
  error = 5 * sigma / np.sqrt(64 * 64 * 3)
  assert np.all(np.abs(jnp.mean(z, (1, 2, 3)) - 0.5 * alpha) < error)
  np.testing.assert_allclose(jnp.std(z, (1, 2, 3)), sigma, rtol=0.05)


def test_x_and_eps_follow_from_v():
  z = diffusion.diffuse(X, NOISE, LOG_SNR)
  v = diffusion.velocity(X, NOISE, LOG_SNR)
  np.testing.assert_allclose(
    diffusion.x_from_v(z, v, LOG_SNR), X, atol=1e-5
  )
  np.testing.assert_allclose(
    diffusion.eps_from_v(z, v, LOG_SNR), NOISE, atol=1e-5
  )


def test_any_predicted_v_means_one_pair_of_x_and_eps():
  # Whether v is right or not, the implied pair gives back z and v.
  z, v = normal(3, *X.shape), normal(4, *X.shape)
  x = diffusion.x_from_v(z, v, LOG_SNR)
  eps = diffusion.eps_from_v(z, v, LOG_SNR)
  np.testing.assert_allclose(
    diffusion.diffuse(x, eps, LOG_SNR), z, atol=1e-5
  )
  np.testing.assert_allclose(
    diffusion.velocity(x, eps, LOG_SNR), v, atol=1e-5
  )


def test_v_is_the_derivative_of_the_path_by_its_angle():
  # With alpha = cos(a), sigma = sin(a): dz/da = -sigma x + alpha eps.
  angle, step = np.array([0.2, 0.7, 1.0, 1.4]), 1e-3

  def z(angle):
    return diffusion.diffuse(X, NOISE, -2 * np.log(np.tan(angle)))

  numeric = (z(angle + step) - z(angle - step)) / (2 * step)
  v = diffusion.velocity(X, NOISE, -2 * np.log(np.tan(angle)))
  np.testing.assert_allclose(numeric, v, atol=2e-3)


@pytest.mark.parametrize('space', diffusion.LOSS_SPACES)
def test_loss_is_the_error_in_its_own_space(space):
  predicted = normal(5, *X.shape)
  z = diffusion.diffuse(X, NOISE, LOG_SNR)

  def predict(state, log_snr):
    np.testing.assert_array_equal(state, z)
    np.testing.assert_array_equal(log_snr, LOG_SNR)
    return predicted

  error = {
    'x': diffusion.x_from_v(z, predicted, LOG_SNR) - X,
    'eps': diffusion.eps_from_v(z, predicted, LOG_SNR) - NOISE,
    'v': predicted - diffusion.velocity(X, NOISE, LOG_SNR),
  }[space]
  loss = diffusion.loss(predict, X, NOISE, LOG_SNR, space)
  assert loss.shape == (4,) and loss.dtype == jnp.float32
  np.testing.assert_allclose(
    loss, jnp.mean(error**2, (1, 2, 3)), rtol=2e-3, atol=1e-9
  )
  weight = diffusion.loss_weight(LOG_SNR, space)
  in_v = diffusion.loss(predict, X, NOISE, LOG_SNR, 'v')
  np.testing.assert_allclose(loss, weight * in_v, rtol=1e-5)


@pytest.mark.parametrize('space', diffusion.LOSS_SPACES)
def test_a_perfect_prediction_costs_nothing(space):
  v = diffusion.velocity(X, NOISE, LOG_SNR)
  loss = diffusion.loss(lambda z, log_snr: v, X, NOISE, LOG_SNR, space)
  np.testing.assert_array_equal(loss, np.zeros(4))


def test_the_default_space_is_eps():
  def zero(z, log_snr):
    return jnp.zeros_like(z)

  np.testing.assert_array_equal(
    diffusion.loss(zero, X, NOISE, LOG_SNR),
    diffusion.loss(zero, X, NOISE, LOG_SNR, 'eps'),
  )


def test_an_unknown_space_is_named():
  with pytest.raises(ValueError, match="'eps', 'v', 'x'.*not 'score'"):
    diffusion.loss_weight(LOG_SNR, 'score')
