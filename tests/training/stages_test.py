"""What the stages optimise: qualities drawn, rates counted, errors known."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder, diffusion, flow
from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import base, schedules
from gdc.decoders import diffusion as processes_diffusion
from gdc.models import prediction
from gdc.training import stages
from gdc.training.stages import base as stage_lib
from gdc.training.stages import frozen_autoencoder


def test_qualities_cover_the_range_evenly():
  drawn = np.concatenate([
    stage_lib.sample_quality(jax.random.key(i), 8, 6) for i in range(500)
  ])
  assert drawn.min() == 1 and drawn.max() == 6
  # Half a level's worth is clipped to either end.
  assert abs(np.mean(drawn == 1) - 1 / 12) < 0.02
  assert abs(np.mean(drawn == 6) - 1 / 12) < 0.02
  assert abs(np.mean(drawn < 3.5) - 0.5) < 0.02


def test_one_batch_is_spread_over_the_range():
  drawn = np.sort(stage_lib.sample_quality(jax.random.key(3), 6, 6))
  assert np.all(np.diff(drawn) > 0.4)


@pytest.fixture(scope='module')
def first():
  stage = stages.build(autoencoder.get_config('tiny'))
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
  model = bundle.build_autoencoder(stage.spec)
  y = model.apply(
    {'params': params}, transforms.to_float(batch['image']), 6 * np.ones(4),
    method='encode',
  )
  coded = prediction.differences(y, predicted)[..., predicted]
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


def test_stage_2_leaves_the_autoencoder_alone(tiny_bundle):
  stage = stages.build(flow.get_config('tiny'), tiny_bundle)
  rng = np.random.default_rng(0)
  batch = {'image': rng.integers(0, 256, (2, 32, 32, 3), np.uint8)}
  params = jax.jit(stage.init)(jax.random.key(0), batch)
  grads = jax.jit(jax.grad(
    lambda frozen: stage.loss(params, frozen, batch, jax.random.key(1))[0]
  ))(stage.frozen)['autoencoder']
  # Its pictures carry no gradient; its error estimate is only a unit.
  for name in ('analysis', 'synthesis', 'prior', 'log_gain'):
    assert all(
      not np.any(leaf) for leaf in jax.tree.leaves(grads[name])
    ), name


def test_sampling_that_does_not_exist_is_refused_before_training(tiny_bundle):
  config = flow.get_config('tiny')
  config.sampling.sampler = 'dpm'
  with pytest.raises(ValueError, match="not 'dpm'"):
    stages.build(config, tiny_bundle)
  config.sampling.sampler = 'euler'
  config.sampling.steps = 0
  with pytest.raises(ValueError, match='sampling.steps.*not 0'):
    stages.build(config, tiny_bundle)


def test_stage_2_asks_for_stage_1():
  with pytest.raises(ValueError, match='autoencoder_from'):
    stages.build(flow.get_config('tiny'))


@pytest.mark.parametrize('prediction', base.PREDICTIONS)
@pytest.mark.parametrize('weighting', processes_diffusion.WEIGHTINGS)
def test_a_network_that_knows_the_image_has_no_loss_and_decodes_it(
  tiny_bundle, monkeypatch, prediction, weighting
):
  """Whatever it is asked to answer: stage, record and sampler agree."""
  config = diffusion.get_config('tiny')
  config.diffusion.prediction = prediction
  config.diffusion.loss_weighting = weighting
  config.sampling.sampler = 'ddim'
  image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  x = jnp.asarray(image / 127.5 - 1, jnp.float32)

  class Oracle:
    def apply(self, variables, z, x_hat, log_snr, quality):
      alpha, sigma = (
        schedules.per_example(a, z) for a in schedules.alpha_sigma(log_snr)
      )
      if prediction == 'residual':
        rho = schedules.per_example(coder_rmse(quality), z)
        scale = jnp.sqrt((alpha * rho) ** 2 + sigma**2)
        linear = x_hat + alpha * rho**2 / scale * z
        return (x - linear) * scale / (rho * sigma)
      if prediction == 'flow':  # z is r_t, and log_snr is t
        rho = schedules.per_example(coder_rmse(quality), z)
        t = schedules.per_example(log_snr, z)
        velocity = ((x - x_hat) / rho - z) / (1 - t)
        return jnp.maximum(1 - t, 0.05) * (z + velocity)
      eps = (z - alpha * x) / sigma
      return {'x': x, 'eps': eps, 'v': alpha * eps - sigma * x}[prediction]

  coder = frozen_autoencoder.FirstStage(tiny_bundle)

  def coder_rmse(quality):
    return coder.rmse(tiny_bundle.autoencoder_params, quality)

  monkeypatch.setattr(
    stages.bundle, 'build_score_net', lambda *a, **k: Oracle()
  )
  stage = stages.build(config, tiny_bundle)
  loss, _ = jax.jit(stage.loss)(
    None, stage.frozen, {'image': image}, jax.random.key(0)
  )
  assert loss < 1e-3
  shown = stage.pictures(None, stage.frozen, x)
  np.testing.assert_allclose(shown['diffusion'], x, atol=2e-3)
  assert np.mean(np.abs(shown['autoencoder'] - x)) > 0.05
