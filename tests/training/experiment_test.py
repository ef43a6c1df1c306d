"""What a config describes: networks, starting weights, errors."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import autoencoder, diffusion, flow, one_step
from gdc.codec import bundle
from gdc.training import experiment, export, loop, stages


def _assert_same(a, b):
  """Bit for bit."""
  def check(path, x, y):
    np.testing.assert_array_equal(
      np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
    )
  jax.tree_util.tree_map_with_path(check, a, b)


# --- Starting weights -------------------------------------------------------


def test_init_from_a_bundle(tiny_bundle, tiny_bundle_path):
  config = autoencoder.get_config('tiny')
  config.init_from = str(tiny_bundle_path)
  state = experiment.build(config).init()
  for tree in (state.params, state.ema_params):
    _assert_same(jax.device_get(tree), tiny_bundle.autoencoder_params)
  params, averages = (
    {
      shard.data.unsafe_buffer_pointer()
      for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards
    }
    for tree in (state.params, state.ema_params)
  )
  assert not params & averages


def test_init_from_another_network(tiny_bundle, tmp_path):
  params = {**tiny_bundle.autoencoder_params, 'log_rmse': np.zeros(7)}
  other = dataclasses.replace(tiny_bundle, autoencoder_params=params)
  config = autoencoder.get_config('tiny')
  config.init_from = str(bundle.save(other, tmp_path / 'other'))
  with pytest.raises(ValueError, match='init_from .* holds another network'):
    experiment.build(config).init()


def test_init_from_a_bundle_without_the_decoder(tiny_bundle, tmp_path):
  alone = dataclasses.replace(tiny_bundle, decoders={})
  path = str(bundle.save(alone, tmp_path / 'alone'))
  export.read_parameters(path, {'autoencoder': {}})
  with pytest.raises(ValueError, match='has no flow decoder, only the auto'):
    export.read_parameters(path, {'flow': {}})
  with pytest.raises(ValueError, match='has no diffusion or flow decoder'):
    export.read_parameters(path, {'diffusion': {}, 'flow': {}})


@pytest.mark.parametrize('entry, record, prediction, message', [
  ('flow', {}, 'flow', None),
  ('flow', {'source_noise': 0.25}, 'flow',
   'its flow decoder has source_noise 0.25, this config 0.5'),
  ('flow', {}, 'residual', 'has no diffusion decoder, only flow'),
  ('diffusion', {'source_noise': 0.25}, 'residual', None),
  ('diffusion', {}, 'v', "decoder has prediction 'residual', this .* 'v'"),
  ('diffusion', {'prediction': 'flow', 'source_noise': 0.25}, 'flow',
   'its diffusion decoder has source_noise 0.25, this config 0.5'),
])
def test_a_diffusion_starts_from_what_means_the_same(
  tiny_bundle, tmp_path, entry, record, prediction, message
):
  spec, params = tiny_bundle.decoders[entry]
  spec = {**spec, **record}
  alone = dataclasses.replace(tiny_bundle, decoders={entry: (spec, params)})
  config = diffusion.get_config('tiny')
  config.diffusion.prediction = prediction
  config.autoencoder_from = config.init_from = str(
    bundle.save(alone, tmp_path / 'alone')
  )
  if message:
    with pytest.raises(ValueError, match=message):
      experiment.build(config).init()
  else:
    _assert_same(jax.device_get(experiment.build(config).init().params), params)


# --- Networks and devices ----------------------------------------------------


def test_batch_size_must_divide_over_devices():
  config = autoencoder.get_config('tiny')
  config.data.batch_size = 12
  with pytest.raises(ValueError, match='batch_size 12 .* the 8 devices'):
    experiment.build(config)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_matmul_dtype_is_what_the_config_says(dtype):
  config = autoencoder.get_config('tiny')
  config.matmul_dtype = dtype
  exp = experiment.build(config)
  image = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.uint8)
  step = jax.make_jaxpr(functools.partial(loop.train_step, exp, config))(
    exp.abstract_state, exp.frozen, {'image': image}
  )
  assert ('bf16[' in str(step)) == (dtype == 'bfloat16')


@pytest.mark.parametrize('side', [0, 64])
def test_crops_are_transposed_wherever_they_are_drawn(side, tmp_path):
  rng = np.random.default_rng(0)
  for i in range(3):
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / f'{i}.png')
  config = autoencoder.get_config('tiny')
  config.data.source = f'folder:{tmp_path}'
  config.data.cache_on_device = side
  plain, turned = (
    np.asarray(next(experiment.build(config).batches(0))['image'])
    for config.data.transpose in (0.0, 1.0)
  )
  np.testing.assert_array_equal(turned, plain.swapaxes(1, 2))


def test_stage_2_needs_an_autoencoder():
  config = flow.get_config('tiny')
  config.autoencoder_from = ''
  with pytest.raises(ValueError, match="'flow' needs a trained autoencoder"):
    experiment.build(config)


def test_unknown_stage():
  config = autoencoder.get_config('tiny')
  config.stage = 'gan'
  with pytest.raises(ValueError, match="stage must be .* not 'gan'"):
    experiment.build(config)


def test_digests_are_of_all_that_a_stage_is_trained_upon(tiny_bundle):
  def names(module, **fields):
    config = module.get_config('tiny')
    config.update_from_flattened_dict(fields)
    stage = stages.build(config, tiny_bundle)
    return set(experiment.frozen_digests(stage))

  assert names(flow) == names(diffusion) == {'autoencoder'}
  reflow = {'flow.reflow_steps': 2}
  assert names(flow, **reflow) == {'autoencoder', 'flow'}
  plain = {'one_step.perceptual': 0.0}  # VGG16 takes a while to load
  assert names(one_step, **plain) == {'autoencoder', 'flow'}
  assert names(autoencoder) == set()
