"""Stages of score decoders: draws, frozen networks, every prediction."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import diffusion, flow
from gdc import decoders
from gdc.decoders import diffusion as diffusion_decoder
from gdc.decoders import schedules
from gdc.models import score_net
from gdc.training import stages
from gdc.training.stages import base, frozen_autoencoder, score

PREDICTIONS = (*diffusion_decoder.PREDICTIONS, 'residual', 'flow')


def test_qualities_cover_the_range_evenly():
  drawn = np.concatenate([
    base.sample_quality(jax.random.key(i), 8, 6) for i in range(500)
  ])
  assert drawn.min() == 1 and drawn.max() == 6
  # Half a level's worth is clipped to either end.
  assert abs(np.mean(drawn == 1) - 1 / 12) < 0.02
  assert abs(np.mean(drawn == 6) - 1 / 12) < 0.02
  assert abs(np.mean(drawn < 3.5) - 0.5) < 0.02


@pytest.mark.parametrize('share', [0.0, 0.5, 2 / 3, 1.0])
def test_a_share_of_the_qualities_is_below_the_middle(share):
  drawn = np.concatenate([
    base.sample_quality(jax.random.key(i), 8, 6, share) for i in range(100)
  ])
  assert np.all((drawn >= 1) & (drawn <= 6))
  # Stratified: every batch is off by less than one of its eight.
  assert abs(np.mean(drawn < 3.5) - share) < 0.02
  # Uniform on either side, half a level's worth being clipped to the end.
  for side in (drawn[drawn < 3.5], 7 - drawn[drawn >= 3.5]):
    if len(side):
      assert abs(np.mean(side == 1) - 1 / 6) < 0.03
      assert abs(np.mean(side < 2) - 1 / 2) < 0.03


def test_qualities_are_those_of_a_uniform_draw_by_default():
  for i in range(20):
    np.testing.assert_array_equal(
      base.sample_quality(jax.random.key(i), 8, 6),
      np.clip(0.5 + 6 * base.stratified(jax.random.key(i), 8), 1, 6),
    )


def test_one_batch_is_spread_over_the_range():
  drawn = np.sort(base.sample_quality(jax.random.key(3), 6, 6))
  assert np.all(np.diff(drawn) > 0.4)


def test_stage_2_leaves_the_autoencoder_alone(tiny_bundle):
  stage = stages.build(flow.get_config('tiny'), tiny_bundle)
  rng = np.random.default_rng(0)
  batch = {'image': rng.integers(0, 256, (2, 32, 32, 3), np.uint8)}
  params = jax.jit(stage.init)(jax.random.key(0), batch)
  grads = jax.jit(jax.grad(
    lambda frozen: stage.loss(params, frozen, batch, jax.random.key(1))[0]
  ))(stage.frozen)['autoencoder']
  # Its images carry no gradient; its error estimate is only a unit.
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


@pytest.mark.parametrize('prediction', PREDICTIONS)
@pytest.mark.parametrize('weighting', diffusion_decoder.WEIGHTINGS)
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

  coder = frozen_autoencoder.FrozenAutoencoder(tiny_bundle)

  def coder_rmse(quality):
    return coder.rmse(tiny_bundle.autoencoder_params, quality)

  monkeypatch.setattr(
    score.score_net, 'ScoreNet', lambda *a, **k: Oracle()
  )
  stage = stages.build(config, tiny_bundle)
  loss, _ = jax.jit(stage.loss)(
    None, stage.frozen, {'image': image}, jax.random.key(0)
  )
  assert loss < 1e-3
  shown = stage.visualise(None, stage.frozen, x)
  np.testing.assert_allclose(shown['diffusion'], x, atol=2e-3)
  assert np.mean(np.abs(shown['autoencoder'] - x)) > 0.05


# --- Reflow (experimental) ----------------------------------------------------


@pytest.mark.parametrize('steps', [1, 3])
def test_reflow_trains_on_the_ends_of_its_teachers_paths(tiny_bundle, steps):
  rng = np.random.default_rng(0)
  batch = {'image': rng.integers(0, 256, (2, 32, 32, 3), np.uint8)}
  config = flow.get_config('tiny')
  config.flow.reflow_steps = steps
  config.flow.source_noise = 0.25
  stage = stages.build(config, tiny_bundle)
  spec, weights = tiny_bundle.decoders['flow']
  silent = jax.tree.map(jnp.zeros_like, weights)
  found, _ = jax.jit(stage.loss)(
    silent, stage.frozen, batch, jax.random.key(0)
  )

  # By hand: the same draws, the teacher's path, the loss of a silent student.
  coder = frozen_autoencoder.FrozenAutoencoder(tiny_bundle)
  image = jnp.asarray(batch['image'] / 127.5 - 1, jnp.float32)
  quality_key, time_key, noise_key = jax.random.split(jax.random.key(0), 3)
  quality = base.sample_quality(quality_key, 2, coder.num_levels)
  x_hat = coder.output(stage.frozen['autoencoder'], image, quality)
  noise = jax.random.normal(noise_key, image.shape)
  _, fields = decoders.from_record('flow', spec)
  net = score_net.ScoreNet(**fields)
  r = spec['source_noise'] * noise
  for i in range(steps):
    t = jnp.full(2, i / steps)
    output = net.apply({'params': weights}, r, x_hat, t, quality)
    r = r + (output / (1 - i / steps) - r) / steps
  t = base.stratified(time_key, 2)[:, None, None, None]
  r_0 = 0.25 * noise
  r_t = (1 - t) * r_0 + t * r
  np.testing.assert_allclose(
    found, jnp.mean((-r_t - (r - r_0)) ** 2), rtol=1e-3
  )


def test_reflow_needs_a_flow(tiny_bundle):
  config = flow.get_config('tiny')
  config.flow.reflow_steps = 3
  with pytest.raises(ValueError, match='reflow_steps 3 needs a flow decoder'):
    stages.build(config, dataclasses.replace(tiny_bundle, decoders={}))
