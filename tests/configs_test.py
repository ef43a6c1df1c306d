import dataclasses
import functools
import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from configs import autoencoder, contexts, diffusion, flow, one_step
from gdc.codec import bundle
from gdc.training import options, stages
from gdc.training import state as train_state

ROOT = pathlib.Path(__file__).parents[1]
MODULES = {
  'autoencoder': autoencoder, 'diffusion': diffusion, 'flow': flow,
  'one_step': one_step,
}
VARIANTS = [
  ('autoencoder', 'default'), ('autoencoder', 'accelerator'),
  ('autoencoder', 'paper'), ('autoencoder', 'tiny'),
  ('flow', 'default'), ('flow', 'accelerator'), ('flow', 'scratch'),
  ('flow', 'reflow'), ('flow', 'sweep'), ('flow', 'paper'), ('flow', 'tiny'),
  ('diffusion', 'default'), ('diffusion', 'scratch'), ('diffusion', 'sweep'),
  ('diffusion', 'paper'), ('diffusion', 'tiny'),
  ('one_step', 'default'), ('one_step', 'accelerator'), ('one_step', 'tiny'),
]


def _batch(config):
  c = config.data
  shape = (c.batch_size, c.crop, c.crop, 3)
  return {'image': jax.ShapeDtypeStruct(shape, jnp.uint8)}


def _shapes(stage, config):
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(stage.init, key, _batch(config))


@functools.lru_cache
def _abstract_bundle(variant, with_flow=False):
  """What an autoencoder's bundle would be, without its numbers."""
  config = autoencoder.get_config(variant)
  stage = stages.build(config)
  made = bundle.Bundle(variant, stage.spec, _shapes(stage, config), None)
  if with_flow:
    config = flow.get_config('scratch' if variant == 'default' else variant)
    stage = stages.build(config, made)
    entry = stage.spec, _shapes(stage, config)
    made = dataclasses.replace(made, decoders={'flow': entry})
  return made


@functools.lru_cache
def _build(name, variant):
  """The config, its stage, and the shapes of what is trained."""
  config = MODULES[name].get_config(variant)
  first_stage = variant if variant in ('paper', 'tiny') else 'default'
  with_flow = name == 'one_step' or variant == 'reflow'
  stage = stages.build(
    config, None if name == 'autoencoder'
    else _abstract_bundle(first_stage, with_flow)
  )
  return config, stage, _shapes(stage, config)


@pytest.mark.parametrize('name,variant', VARIANTS)
def test_every_variant_builds(name, variant):
  config, stage, params = _build(name, variant)
  assert config.is_locked
  assert config.data.crop % 16 == 0
  assert config.data.batch_size % 8 == 0
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))
  key = jax.eval_shape(lambda: jax.random.key(0))
  loss, metrics = jax.eval_shape(
    stage.loss, params, stage.frozen, _batch(config), key
  )
  assert loss.shape == () and loss.dtype == jnp.float32
  assert all(m.shape == () for m in metrics.values())
  side = 2 * config.data.crop
  images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  shown = jax.eval_shape(stage.visualise, params, stage.frozen, images)
  assert {a.shape for a in shown.values()} == {images.shape}
  assert name in shown


@pytest.mark.parametrize('name,variant', VARIANTS)
def test_optimiser_builds(name, variant):
  config = MODULES[name].get_config(variant)
  o = config.optimizer
  schedule = train_state.learning_rate(
    o.learning_rate, config.steps, o.warmup_steps, o.decay_fraction
  )
  assert o.warmup_steps + config.steps * o.decay_fraction <= config.steps
  assert float(schedule(config.steps)) < 0.02 * o.learning_rate
  assert 0 < config.log_every <= config.checkpoint_every <= config.steps
  # A checkpoint between two logs would hold half a window of metrics.
  assert config.checkpoint_every % config.log_every == 0


def test_contexts_take_what_training_takes():
  config, training = contexts.get_config(), autoencoder.get_config()
  assert config.is_locked
  assert config.contexts == training.contexts
  assert config.evaluation == training.evaluation
  for name, value in config.data.items():
    assert training.data[name] == value
  with pytest.raises(AttributeError):
    config.contexts.max_crop = 1
  with pytest.raises(ValueError, match="default or tiny, not 'huge'"):
    contexts.get_config('huge')


def test_paper_score_network_is_of_the_stated_size():
  *_, params = _build('flow', 'paper')
  count = sum(a.size for a in jax.tree.leaves(params))
  assert round(count / 1e6) == 161


@pytest.mark.parametrize('name', MODULES)
def test_unknown_variant(name):
  with pytest.raises(ValueError, match="variant must be default.*not 'huge'"):
    MODULES[name].get_config('huge')


@pytest.mark.parametrize('name', MODULES)
def test_variants_are_the_documented_ones(name):
  documented = re.findall(r'^  (\w+) {2,}\S', MODULES[name].__doc__, re.M)
  assert sorted(documented) == sorted(v for n, v in VARIANTS if n == name)


@pytest.mark.parametrize('name,variant', VARIANTS)
def test_fields_can_not_be_invented(name, variant):
  config = MODULES[name].get_config(variant)
  with pytest.raises(AttributeError):
    config.optimizer.learning_rat = 1.0
  with pytest.raises(TypeError):
    config.steps = 'many'


def test_fields_are_set_by_flags():
  config = options.read_config(f'{ROOT}/configs/flow.py:tiny', [
    '--config.optimizer.learning_rate=3e-4',
    '--config.sampling.sampler=heun',
    '--config.evaluation.qualities=(2.0,)',
    '--config.autoencoder_from=runs/a/bundle',
    '--config.fsdp=2',
  ])
  assert config.optimizer.learning_rate == 3e-4
  assert config.sampling.sampler == 'heun'
  assert config.evaluation.qualities == (2.0,)
  assert config.autoencoder_from == 'runs/a/bundle'
  assert config.fsdp == 2
  assert config.data.crop == 32  # of the variant


def test_every_field_says_what_it_is():
  """Once, where it is defined: on its line, or on the one above.

  Settings of score decoders say it in their dataclass.
  """
  named, said = set(), set()
  for stem in ('base', 'contexts', *MODULES):
    lines = (ROOT / 'configs' / f'{stem}.py').read_text().splitlines()
    for above, line in itertools.pairwise(lines):
      field = re.match(r'  +c\.([\w.]+) = (.*)', line)
      if not field or 'ConfigDict(' in line or field[1].startswith(
        ('flow.', 'diffusion.', 'one_step.', 'sampling.')
      ):
        continue
      named.add(field[1])
      if '#' in field[2] or above.lstrip().startswith('#'):
        said.add(field[1])
  assert len(named) > 30
  assert not named - said


def test_stage_2_keeps_the_bundle_it_was_trained_on():
  made = _abstract_bundle('tiny')
  stage = stages.build(flow.get_config('tiny'), made)
  assert stage.autoencoder is made
  assert stage.frozen == {'autoencoder': made.autoencoder_params}
  assert dataclasses.asdict(made)['decoders'] == {}
