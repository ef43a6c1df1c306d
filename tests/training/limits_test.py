import pytest

from configs import autoencoder, contexts, diffusion, flow, one_step
from gdc.training import experiment, limits


def _with(name, value):
  config = flow.get_config('tiny')
  config.unlock()
  config.update_from_flattened_dict({name: value})
  return config


@pytest.mark.parametrize('module', [autoencoder, diffusion, flow, one_step])
@pytest.mark.parametrize('variant', ['default', 'accelerator', 'tiny', 'paper'])
def test_every_config_is_within(module, variant):
  if (module, variant) not in (  # there is none
    (one_step, 'paper'), (diffusion, 'accelerator')
  ):
    limits.check(module.get_config(variant))


@pytest.mark.parametrize('variant', ['default', 'tiny'])
def test_the_config_of_contexts_is_within(variant):
  limits.check(contexts.get_config(variant))


@pytest.mark.parametrize('name, value, words', [
  ('contexts.max_crops', 0, '1 or more, not 0'),
  ('contexts.crop', 15, '16 or more, not 15'),
  ('evaluation.qualities', (), 'is empty'),
  ('evaluation.source', 'tfds:a', "must be bundled:heldout .* not 'tfds:a'"),
])
@pytest.mark.parametrize('module', [autoencoder, contexts])
def test_fields_of_contexts_out_of_range(module, name, value, words):
  config = module.get_config('tiny')
  config.unlock()
  config.update_from_flattened_dict({name: value})
  with pytest.raises(ValueError, match=f'{name} .*{words}'):
    limits.check(config)


@pytest.mark.parametrize('name, value, words', [
  ('checkpoints_kept', 0, '1 or more, not 0'),
  ('log_every', 0, '1 or more, not 0'),
  ('steps', 0, '1 or more, not 0'),
  ('data.crop', 0, '16 or more, not 0'),
  ('data.crop', 40, '40 must be a multiple of 16'),
  ('data.cache_on_device', 16, '16 must be 0, or data.crop 32 or more'),
  ('data.min_scale', 0.0, 'above 0, at most 1, not 0.0'),
  ('data.min_scale', 1.5, 'above 0, at most 1, not 1.5'),
  ('data.transpose', 1.5, '0 or more, at most 1, not 1.5'),
  ('data.transpose', -0.1, '0 or more, at most 1, not -0.1'),
  ('optimizer.clip', 0.0, 'above 0, not 0.0'),
  ('optimizer.ema_decay', 1.0, '0 or more, below 1, not 1.0'),
  ('optimizer.learning_rate', float('nan'), 'above 0, not nan'),
  ('seed', -1, '0 or more, at most 4294967295, not -1'),
  ('stage', 'gan', "'autoencoder' or .*'flow'.* not 'gan'"),
  ('score_net.widths', (), 'is empty'),
  ('score_net.widths', (8, 0), r'whole numbers of 1 or more, not \(8, 0\)'),
  ('score_net.depths', (1.5, 2), 'whole numbers of 1 or more'),
  ('score_net.depths', (1,), 'must be as many as score_net.widths'),
  ('score_net.patch', 0, '1 or more, not 0'),
  ('score_net.patch', 3, 'must divide data.crop 32'),
  ('dtype', 'float16', "'float32' or 'bfloat16', not 'float16'"),
  ('matmul_dtype', 'float16', "'float32' or 'bfloat16', not 'float16'"),
  ('evaluation.qualities', (), 'is empty'),
  ('evaluation.source', 'tfds:a', "must be bundled:heldout .* not 'tfds:a'"),
  ('evaluation.source', 'held-out', "not 'held-out'"),
])
def test_a_field_out_of_range_is_named(name, value, words):
  config = _with(name, value)
  for check in (limits.check, experiment.build):
    with pytest.raises(ValueError, match=f'{name} .*{words}'):
      check(config)


@pytest.mark.parametrize('name, value', [
  ('data.min_scale', 1.0), ('data.transpose', 1.0),
  ('optimizer.clip', float('inf')),
  ('optimizer.ema_decay', 0.0), ('optimizer.decay_fraction', 1.0),
  ('evaluation.max_images', 0),
])
def test_the_ends_of_ranges_are_within(name, value):
  limits.check(_with(name, value))
