"""Decoders: settings, records, and what their parts make together."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc import decoders
from gdc.decoders import base, diffusion, flow, noise, one_step

ALL = list(decoders.DECODERS.values())
RMSE = jnp.array([0.05, 0.1])


def x_hat():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.uniform(-0.5, 0.5, (2, 16, 16, 3)), jnp.float32)


# --- Settings and records ---------------------------------------------------


@pytest.mark.parametrize('decoder', ALL)
def test_every_setting_says_what_it_is(decoder):
  for field in dataclasses.fields(decoder):
    assert len(field.metadata['help']) > 10, field.name
    assert field.metadata['kind'] in ('model', 'sampling', 'training')


@pytest.mark.parametrize('decoder', ALL)
def test_a_record_is_read_as_it_was_written(decoder):
  made = decoder(warp=2.0)
  network = {'widths': [8], 'patch': 4}
  found, fields = decoders.from_record(
    decoder.entry, {**network, **made.record()}
  )
  assert found == made and fields == network
  assert made.record()['sampling']['warp'] == 2.0


def test_a_sampling_setting_that_is_newer_than_a_record_keeps_its_default():
  record = flow.Flow(source_noise=0.7, eta=2.0).record()
  del record['sampling']['eta']
  found, _ = decoders.from_record('flow', record)
  assert found == flow.Flow(source_noise=0.7)


def test_records_are_those_of_the_bundles():
  assert flow.Flow().record() == one_step.OneStep(steps=1).record() | {
    'sampling': {'sampler': 'euler', 'steps': 4, 'warp': 1.0, 'eta': 0.0}
  } == {
    'source_noise': 0.5,
    'sampling': {'sampler': 'euler', 'steps': 4, 'warp': 1.0, 'eta': 0.0},
  }
  assert diffusion.Diffusion().record() == {
    'schedule': 'cosine', 'noise_shift': 0.5, 'log_snr_bound': 15.0,
    'prediction': 'residual', 'source_noise': 0.5,
    'sampling': {
      'sampler': 'ddpm', 'steps': 32, 'warp': 1.0, 'grid': 'log_snr',
      'gamma': 0.0, 'start': 1.0,
    },
  }


@pytest.mark.parametrize('make, message', [
  (lambda: flow.Flow(source_noise=-1.0),
   'flow.source_noise must be 0 or more, not -1'),
  (lambda: flow.Flow(source_noise=np.inf), 'source_noise .* not inf'),
  (lambda: flow.Flow(time_mean=np.nan), 'flow.time_mean must be finite'),
  (lambda: flow.Flow(time_std=0.0), 'flow.time_std must be above 0, not 0'),
  (lambda: flow.Flow(time_sampling='cosine'),
   "flow.time_sampling must be .*'logit_normal'.*not 'cosine'"),
  (lambda: flow.Flow(reflow_steps=-1), 'reflow_steps must be 0 or more'),
  (lambda: flow.Flow(sampler='ddpm'), "sampling.sampler must be.*not 'ddpm'"),
  (lambda: flow.Flow(steps=0), 'sampling.steps must be from 1 to 10000, not 0'),
  (lambda: flow.Flow(eta=-0.5), 'sampling.eta must be from 0 to 100, not -0.5'),
  (lambda: one_step.OneStep(steps=2), 'steps must be from 1 to 1, not 2'),
  (lambda: one_step.OneStep(matching=-1.0), 'one_step.matching .* not -1'),
  (lambda: diffusion.Diffusion(schedule='sigmoid'),
   "'cosine', 'linear'.*not 'sigmoid'"),
  (lambda: diffusion.Diffusion(noise_shift=0.0), 'noise_shift must be above 0'),
  (lambda: diffusion.Diffusion(log_snr_bound=0.0), 'log_snr_bound .* above 0'),
  (lambda: diffusion.Diffusion(loss_weighting='rgb'),
   "diffusion.loss_weighting must be .*not 'rgb'"),
  (lambda: diffusion.Diffusion(prediction='flow', source_noise=0.0),
   'source_noise must be above 0 for prediction flow'),
])
def test_values_out_of_range_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


# --- Sampling ---------------------------------------------------------------


@pytest.mark.parametrize('decoder', [
  *(flow.Flow(sampler=name, eta=1.0) for name in flow.Flow.SAMPLERS),
  *(
    diffusion.Diffusion(sampler=name, prediction=prediction)
    for name in diffusion.Diffusion.SAMPLERS
    for prediction in ('residual', 'flow')
  ),
], ids=lambda d: f'{d.entry}-{d.sampler}-{getattr(d, "prediction", "")}')
def test_steps_of_the_protocol_are_a_sampled_image(decoder):
  """Also counts evaluations, and sees the memory."""
  x, calls = x_hat(), []

  def network(z, level):
    calls.append(level)
    return 0.3 * jnp.sin(z) + 0.1 * level[:, None, None, None]

  noise_fn = noise.of_steps(jax.random.key(3), x.shape)
  state = decoder.begin(noise_fn, x)
  for i in range(3):
    assert state[0].shape == x.shape
    assert state[1].shape == (*x.shape[:3], decoder.memory_channels)
    calls.clear()
    state = decoder.step(network, state, x, RMSE, i, 3, noise_fn)
    assert len(calls) == decoder.nfe
  image = decoder.finish(state, x, RMSE)
  np.testing.assert_allclose(
    image, base.sample(decoder, network, x, RMSE, 3, noise_fn), atol=1e-5
  )
  assert np.abs(image - x).max() > 1e-3 and np.abs(image).max() <= 1


@pytest.mark.parametrize('realism, expected', [(0, 1), (0.25, 1.5), (1, 3)])
def test_mix_is_linear(realism, expected):
  assert base.mix(1.0, 3.0, realism) == expected


# --- Warm starts and defaults -----------------------------------------------


def test_warm_starts_say_what_must_agree():
  assert list(one_step.OneStep().warm_starts()) == ['one_step', 'flow']
  assert flow.Flow().warm_starts() == {'flow': {}}
  assert diffusion.Diffusion().warm_starts() == {
    'diffusion': {'prediction': 'residual'}
  }
  assert diffusion.Diffusion(prediction='flow').warm_starts() == {
    'diffusion': {'prediction': 'flow', 'source_noise': 0.5},
    'flow': {'source_noise': 0.5},
  }


@pytest.mark.parametrize('names,steps,expected', [
  (('mse', 'diffusion', 'flow', 'one_step'), None, 'one_step'),
  (('mse', 'flow', 'one_step'), 1, 'one_step'),
  (('mse', 'flow', 'one_step'), 2, 'flow'),
  (('mse', 'diffusion', 'flow'), None, 'flow'),
  (('mse', 'diffusion'), 4, 'diffusion'),
  (('mse',), None, 'mse'),
])
def test_the_default_decoder(names, steps, expected):
  assert decoders.default(names, steps) == expected
