"""Stage 1: rates counted, the prior's start, the error known."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder as config
from gdc.data import transforms
from gdc.models import autoencoder, quantization
from gdc.training import stages


@pytest.fixture(scope='module')
def first():
  stage = stages.build(config.get_config('tiny'))
  rng = np.random.default_rng(0)
  batch = {'image': rng.integers(0, 256, (4, 32, 32, 3), np.uint8)}
  return stage, jax.jit(stage.init)(jax.random.key(0), batch), batch


def test_rate_is_bits_over_pixels_of_the_image(first):
  # One prior for all, so wide that each of 2 x 2 x 24 latents costs the same.
  stage, params, batch = first
  prior = dict(params['prior'])
  prior['log_scale'] = jnp.full_like(prior['log_scale'], np.log(2.0**12))
  _, metrics = jax.jit(stage.loss)(
    {**params, 'prior': prior}, {}, batch, jax.random.key(1)
  )
  # The logistic density of scale s is 1 / 4s in its middle.
  bits = 24 * 2 * 2 * np.log2(4 * 2.0**12)
  np.testing.assert_allclose(metrics['bpp'], bits / 32**2, rtol=1e-3)


def test_prior_starts_at_the_scale_of_what_is_coded(first):
  stage, params, batch = first
  scale = np.exp(params['prior']['log_scale'])
  free = scale > 0.0501
  predicted = list(stage.spec['predicted_channels'])
  # Level by level the gain grows by the root of two, and the scale with it,
  # except where it is at its least and where rounded neighbours predict.
  followed = free[:-1].copy()
  followed[:, predicted] = False
  assert followed.any() and free[5, predicted].all()
  ratio = scale[1:] / scale[:-1]
  np.testing.assert_allclose(ratio[followed], np.sqrt(2), rtol=1e-3)
  # The mean magnitude of a logistic density; of differences, not of latents.
  model = autoencoder.Autoencoder(**stage.spec)
  y = model.apply(
    {'params': params}, transforms.to_float(batch['image']), 6 * np.ones(4),
    method='encode',
  )
  coded = quantization.differences(y, predicted)[..., predicted]
  expected = np.mean(np.abs(coded), axis=(0, 1, 2)) / (2 * np.log(2))
  np.testing.assert_allclose(scale[5, predicted], expected, rtol=1e-4)
  plain = np.mean(np.abs(y[..., predicted]), axis=(0, 1, 2)) / (2 * np.log(2))
  assert np.all(np.abs(plain / expected - 1) > 0.01)


def test_rmse_loss_is_least_at_the_true_error(first):
  stage, params, batch = first

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def slope(log_rmse):
    moved = {**params, 'log_rmse': log_rmse}
    return stage.loss(moved, {}, batch, jax.random.key(2))

  def ratio(log_rmse):
    return slope(log_rmse)[1]['rmse_ratio']

  at = params['log_rmse']
  for _ in range(60):
    at = at - 40 * slope(at)[0]
  np.testing.assert_allclose(ratio(at), 1, atol=0.35)
  assert abs(ratio(at) - 1) < abs(ratio(at + 1) - 1)
