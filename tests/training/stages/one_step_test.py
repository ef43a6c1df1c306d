"""The one-step decoder: what its loss pulls at, and where it ends up."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import one_step
from gdc import decoders
from gdc.decoders import noise
from gdc.metrics import lpips
from gdc.models import score_net
from gdc.training import experiment, export, stages
from gdc.training.stages import base, frozen_autoencoder
from gdc.training.stages import one_step as one_step_lib


def build(bundle, **settings):
  config = one_step.get_config('tiny')
  config.one_step.refine, config.one_step.periodic = 0, 0.0
  for name, value in settings.items():
    config.one_step[name] = value
  return stages.build(config, bundle)


def started(stage, weights):
  return stage.start({'decoder': weights}, weights)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  return {'image': rng.integers(0, 256, (2, 32, 32, 3), np.uint8)}


@pytest.fixture(scope='module')
def matched(tiny_bundle):
  """A stage with two networks, and the parameters that it starts from."""
  stage = build(tiny_bundle, perceptual=0.0, matching=0.5)
  params = started(stage, tiny_bundle.decoders['flow'][1])
  # The second network is another one, so that there is something to match.
  params['fake'] = jax.tree.map(lambda a: 0.9 * a, params['fake'])
  return stage, params


def test_each_network_is_moved_by_its_own_parts(matched, batch):
  stage, params = matched

  def parts(params, frozen):
    total, metrics = stage.loss(params, frozen, batch, jax.random.key(0))
    return jnp.stack([total, *(metrics[k] for k in (
      'distortion', 'matching', 'fake'
    ))])

  total, distortion, matching, fake = jax.jit(parts)(params, stage.frozen)
  np.testing.assert_allclose(
    total, distortion + 0.5 * matching + fake, rtol=1e-5
  )
  slopes = jax.jit(jax.jacrev(parts))(params, stage.frozen)

  def moves(network):
    leaves = jax.tree.leaves(slopes[network])
    return [any(np.any(leaf[i]) for leaf in leaves) for i in range(4)]

  # The decoder is not moved by the second network's own loss, nor the second
  # network by anything else.
  assert moves('decoder') == [True, True, True, False]
  assert moves('fake') == [True, False, False, True]


def test_the_second_network_is_a_flows_beside_a_refinement(tiny_bundle, batch):
  stage = build(tiny_bundle, perceptual=0.0, matching=1.0, refine=4)
  params = jax.eval_shape(stage.init, jax.random.key(0), batch)
  flow = jax.tree.map(jnp.shape, tiny_bundle.decoders['flow'][1])
  assert jax.tree.map(lambda a: a.shape, params['fake']) == flow
  _, metrics = jax.eval_shape(
    stage.loss, params, stage.frozen, batch, jax.random.key(0)
  )
  assert {'matching', 'fake'} <= metrics.keys()


def test_parts_of_no_weight_cost_nothing(tiny_bundle, batch):
  stage = build(tiny_bundle, perceptual=0.0, matching=0.0)
  assert stage.frozen.keys() == {'autoencoder'}
  params = started(stage, tiny_bundle.decoders['flow'][1])
  assert params.keys() == {'decoder'}
  total, metrics = jax.jit(stage.loss)(
    params, stage.frozen, batch, jax.random.key(0)
  )
  assert metrics.keys() == {'distortion', 'loss'}
  np.testing.assert_array_equal(total, metrics['distortion'])


def test_the_loss_is_of_the_image_that_one_step_gives(tiny_bundle, batch):
  # What the loss calls the distortion is that of decoding in one step.
  spec, weights = tiny_bundle.decoders['flow']
  quiet = {**spec, 'source_noise': 0.0}  # the two draw their noise apart
  quiet_bundle = dataclasses.replace(
    tiny_bundle, decoders={'flow': (quiet, weights)}
  )
  stage = build(quiet_bundle, perceptual=0.0)
  _, metrics = jax.jit(stage.loss)(
    started(stage, weights), stage.frozen, batch, jax.random.key(0)
  )
  coder = frozen_autoencoder.FrozenAutoencoder(quiet_bundle)
  image = batch['image'] / 127.5 - 1
  key = jax.random.split(jax.random.key(0), 5)[0]
  quality = base.sample_quality(key, 2, coder.num_levels)
  x_hat = coder.output(stage.frozen['autoencoder'], image, quality)
  rmse = coder.rmse(stage.frozen['autoencoder'], quality)
  decoder, fields = decoders.from_record('one_step', stage.spec)
  net = score_net.ScoreNet(**fields)
  noise_fn = noise.of_steps(jax.random.key(1), image.shape)
  z, _ = decoder.step(
    lambda z, level: net.apply({'params': weights}, z, x_hat, level, quality),
    decoder.begin(noise_fn, x_hat), x_hat, rmse, 0, 1, noise_fn,
  )
  target = (image - x_hat) / rmse[:, None, None, None]
  np.testing.assert_allclose(
    metrics['distortion'], np.mean((z - target) ** 2), rtol=1e-4
  )


def test_matching_moves_samples_to_the_data():
  # Samples at -1; the data is at 2. The expectations of both are known.
  r = -1 + 0.1 * jax.random.normal(jax.random.key(0), (64, 4, 4, 3))

  def slope(r):
    fake = jax.lax.stop_gradient(jnp.full_like(r, jnp.mean(r)))
    return jax.grad(
      lambda r: one_step_lib._matching(r, jnp.full_like(r, 2.0), fake)
    )(r)

  for _ in range(200):
    r = r - 0.02 * r.size * slope(r)
  np.testing.assert_allclose(np.mean(r), 2, atol=0.1)


def test_matching_moves_the_decoder_to_the_flow(tiny_bundle, batch):
  """The stage's own call: which of the networks is the data's."""
  spec, weights = tiny_bundle.decoders['flow']

  def constant(value):
    """A network that answers with a value wherever it is asked."""
    params = jax.tree.map(np.zeros_like, weights)
    head = max(
      (k for k in params if k.startswith('Dense')),
      key=lambda k: int(k.rpartition('_')[2]),
    )
    bias = np.zeros_like(params[head]['bias'])
    bias[len(bias) // 2:] = value  # the offsets
    params[head] = {**params[head], 'bias': bias}
    return params

  flow_bundle = dataclasses.replace(
    tiny_bundle, decoders={'flow': (spec, constant(2.0))}
  )
  stage = build(
    flow_bundle, distortion=0.0, perceptual=0.0, matching=1.0
  )
  params = {'decoder': constant(-1.0), 'fake': constant(-1.0)}
  slopes, _ = jax.grad(stage.loss, has_aux=True)(
    params, stage.frozen, batch, jax.random.key(0)
  )
  pulls = [
    leaf for path, leaf in jax.tree_util.tree_leaves_with_path(
      slopes['decoder']
    ) if path[-1].key == 'bias' and np.any(leaf)
  ]
  # All that the decoder says is its offset; downhill is up, to the flow's 2.
  assert np.all(pulls[-1][len(pulls[-1]) // 2:] < 0)


def test_matching_stands_still_where_both_networks_agree():
  r = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  slope = jax.grad(one_step_lib._matching)(r, 0.3 * r, 0.3 * r)
  np.testing.assert_allclose(slope, 0 * r, atol=1e-7)


def test_perceptual_part_is_in_the_loss_and_moves_the_decoder(
  tiny_bundle, batch
):
  stage = build(tiny_bundle, perceptual=2.0)
  batch = {'image': batch['image'][:1]}
  params = started(stage, tiny_bundle.decoders['flow'][1])
  (total, metrics), slopes = jax.jit(
    jax.value_and_grad(stage.loss, has_aux=True)
  )(params, stage.frozen, batch, jax.random.key(0))
  assert metrics['perceptual'] > 0
  np.testing.assert_allclose(
    total, metrics['distortion'] + 2 * metrics['perceptual'], rtol=1e-5
  )
  without = build(tiny_bundle, perceptual=0.0)
  other, _ = jax.jit(jax.grad(without.loss, has_aux=True))(
    params, without.frozen, batch, jax.random.key(0)
  )
  assert any(
    np.any(np.abs(a - b) > 1e-6) for a, b in zip(
      jax.tree.leaves(slopes), jax.tree.leaves(other), strict=True
    )
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_perceptual_part_is_of_the_image_in_units_of_the_error(
  tiny_bundle, batch, monkeypatch, dtype
):
  """By hand, from the parts that the loss is said to be made of."""
  seen = {}

  def distance(params, reference, decoded, network, dtype):
    seen.update(reference=reference, decoded=decoded, network=network)
    seen.update(dtype=dtype)
    return jnp.array([0.2, 0.4])

  monkeypatch.setattr(lpips, 'distance', distance)
  stage = build(tiny_bundle, window=32, perceptual_dtype=dtype)  # all of it
  params = started(stage, tiny_bundle.decoders['flow'][1])
  _, metrics = stage.loss(params, stage.frozen, batch, jax.random.key(0))
  key = jax.random.split(jax.random.key(0), 5)[0]
  coder = frozen_autoencoder.FrozenAutoencoder(tiny_bundle)
  quality = base.sample_quality(key, 2, coder.num_levels)
  rmse = coder.rmse(stage.frozen['autoencoder'], quality)
  found = np.array([0.2, 0.4]) / (one_step_lib.LPIPS_OF_RMSE * rmse)
  np.testing.assert_allclose(
    metrics['perceptual'], np.mean(found), rtol=1e-5
  )
  assert (seen['network'], seen['dtype']) == ('vgg', dtype)
  image = batch['image'] / 127.5 - 1
  np.testing.assert_allclose(seen['reference'], image, atol=1e-6)
  # The image is the one whose error is the distortion.
  error = (seen['decoded'] - image) / rmse[:, None, None, None]
  np.testing.assert_allclose(
    np.mean(error**2), metrics['distortion'], rtol=1e-4
  )


@pytest.mark.parametrize('side, crop, starts', [
  (32, 64, range(8, 24)), (24, 32, range(0, 8)), (32, 32, [0]),
])
def test_windows_are_in_the_middle_on_any_grid(side, crop, starts):
  rows, columns = np.mgrid[:crop, :crop]
  where = np.stack([rows, columns], -1)[None]

  @jax.jit
  def windows(key):
    return one_step_lib._windows(key, (where, where + 1000), side)

  found = []
  for i in range(150):
    once, again = windows(jax.random.key(i))
    np.testing.assert_array_equal(again, once + 1000)
    top, left = once[0, 0, 0]
    np.testing.assert_array_equal(
      once[0], where[0, top:top + side, left:left + side]
    )
    found.append((int(top), int(left)))
  for axis in zip(*found, strict=True):
    assert sorted(set(axis)) == list(starts)
  assert len(set(found)) > len(starts) or len(starts) == 1


def test_it_starts_as_the_flow_and_is_exported_beside_it(
  tiny_bundle, tiny_bundle_path
):
  config = one_step.get_config('tiny')
  config.one_step.perceptual, config.one_step.matching = 0.0, 1.0
  config.autoencoder_from = config.init_from = str(tiny_bundle_path)
  run = experiment.build(config)
  state = run.init()
  weights = tiny_bundle.decoders['flow'][1]

  def assert_flows(network):  # beside a refinement, which the flow has not
    assert network.keys() > weights.keys()
    for name in weights:
      jax.tree.map(
        np.testing.assert_array_equal, network[name], weights[name]
      )

  for tree in (state.params, state.ema_params):
    assert tree.keys() == {'decoder', 'fake'}
    assert_flows(tree['decoder'])
    jax.tree.map(np.testing.assert_array_equal, tree['fake'], weights)
  # Of a run that goes on, only the decoder is its own.
  moved = jax.tree.map(lambda a: a + 1, jax.device_get(state.params['decoder']))
  again = run.stage.start(state.params, moved)
  jax.tree.map(np.testing.assert_array_equal, again['decoder'], moved)
  jax.tree.map(np.testing.assert_array_equal, again['fake'], weights)
  made = export.bundle_of(
    run.stage, jax.device_get(run.stage.exported(state.ema_params)), 'x'
  )
  assert made.decoders.keys() == {'flow', 'diffusion', 'one_step'}
  assert made.digest == tiny_bundle.digest
  spec, exported = made.decoders['one_step']
  assert_flows(exported)
  assert spec['refine'] == config.one_step.refine > 0
  assert spec['sampling']['steps'] == 1
  assert spec['sampling']['sampler'] == 'euler'


def test_a_refinement_starts_fresh_on_the_flows_weights(tiny_bundle, batch):
  stage = build(tiny_bundle, perceptual=0.0, refine=4)
  weights = tiny_bundle.decoders['flow'][1]
  fresh = stage.init(jax.random.key(0), batch)
  params = stage.start(fresh, weights)['decoder']
  added = params.keys() - weights.keys()
  assert {'Depthwise', 'Dense', 'Modulation'} == {
    name.split('_')[0] for name in added
  }
  for name in params:
    jax.tree.map(
      np.testing.assert_array_equal, params[name],
      fresh['decoder'][name] if name in added else weights[name],
    )
  # It goes on from one of its own kind, and does not lose it silently.
  moved = jax.tree.map(lambda a: a + 1, params)
  again = stage.start(fresh, moved)['decoder']
  jax.tree.map(np.testing.assert_array_equal, again, moved)
  with pytest.raises(ValueError, match='such as De.*: set one_step.refine'):
    build(tiny_bundle, perceptual=0.0).start({'decoder': weights}, params)
  bundle = export.bundle_of(stage, jax.device_get(params), 'x')
  assert bundle.decoders['one_step'][0]['refine'] == 4


def test_periodic_part_sees_what_repeats_with_the_patches():
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((4, 128, 128, 3)).astype(np.float32)
  of_noise = one_step_lib.periodic(noise, 4)
  np.testing.assert_allclose(of_noise, 1 - 1 / 16, rtol=0.05)
  pattern = np.tile(rng.standard_normal((4, 4, 3)), (32, 32, 1))[None]
  pattern -= pattern.mean((1, 2), keepdims=True)
  np.testing.assert_allclose(one_step_lib.periodic(pattern, 4), 64, rtol=1e-4)
  slope = np.repeat(np.arange(128.0) // 32, 128).reshape(1, 128, 128, 1)
  assert one_step_lib.periodic(slope, 4) < 1e-9  # what is even in a window


def test_a_faint_pattern_beside_large_errors_counts_as_much():
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((1, 128, 128, 3)).astype(np.float32)
  pattern = np.tile(rng.standard_normal((16, 16, 3)), (8, 8, 1))[None]
  pattern -= pattern.mean((1, 2), keepdims=True)
  strengths = [
    one_step_lib.periodic(np.concatenate([noise, s * pattern], 2), 16)
    for s in (0.2, 5.0)
  ]
  # Half the windows are noise, and half are the pattern alone.
  np.testing.assert_allclose(strengths, (64 + 1 - 1 / 256) / 2, rtol=0.02)
  nothing = one_step_lib.periodic(1e-3 * pattern, 16)
  assert nothing < 0.01  # no pattern where there is hardly any error


def test_the_periodic_part_falls_with_the_pattern_and_not_with_more_noise():
  rng = np.random.default_rng(0)
  pattern = jnp.asarray(np.tile(rng.standard_normal((4, 4, 3)), (8, 8, 1)))
  noise = jnp.asarray(rng.standard_normal((32, 32, 3)))

  def value(weights):
    error = weights[0] * pattern + weights[1] * noise
    return one_step_lib.periodic(error[None], 4)

  slope = jax.grad(value)(jnp.array([1.0, 1.0]))
  assert slope[0] > 10 and 0 <= slope[1] < 0.2 * slope[0]
  assert value([1.0, 2.0]) < value([1.0, 1.0])


def test_statistics_are_in_the_loss_in_units_of_the_error(
  tiny_bundle, batch, monkeypatch
):
  monkeypatch.setattr(
    lpips, 'with_statistics',
    lambda params, reference, decoded, dtype: (
      jnp.mean((reference - decoded) ** 2, (1, 2, 3)), jnp.array([0.2, 0.4])
    ),
  )
  stage = build(tiny_bundle, perceptual=2.0, statistics=3.0, window=32)
  total, metrics = stage.loss(
    started(stage, tiny_bundle.decoders['flow'][1]), stage.frozen, batch,
    jax.random.key(0),
  )
  key = jax.random.split(jax.random.key(0), 5)[0]
  coder = frozen_autoencoder.FrozenAutoencoder(tiny_bundle)
  quality = base.sample_quality(key, 2, coder.num_levels)
  rmse = coder.rmse(stage.frozen['autoencoder'], quality)
  found = np.array([0.2, 0.4]) / (one_step_lib.STATISTICS_OF_RMSE * rmse)
  np.testing.assert_allclose(
    metrics['statistics'], np.mean(found), rtol=1e-5
  )
  np.testing.assert_allclose(
    total, metrics['distortion'] + 2 * metrics['perceptual']
    + 3 * metrics['statistics'], rtol=1e-5,
  )


def test_statistics_alone_move_the_decoder(tiny_bundle, batch):
  stage = build(
    tiny_bundle, distortion=0.0, perceptual=0.0, statistics=1.0, window=32
  )
  slopes, metrics = jax.jit(jax.grad(stage.loss, has_aux=True))(
    started(stage, tiny_bundle.decoders['flow'][1]), stage.frozen, batch,
    jax.random.key(0),
  )
  assert metrics['statistics'] > 0
  leaves = jax.tree.leaves(slopes)
  assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
  assert any(np.any(leaf) for leaf in leaves)


def test_periodic_part_is_of_patches_and_of_coarsest_positions(
  tiny_bundle, batch, monkeypatch
):
  periods = []
  monkeypatch.setattr(
    one_step_lib, 'periodic',
    lambda error, period: periods.append(period) or jnp.float32(period),
  )
  stage = build(tiny_bundle, perceptual=0.0, periodic=1.0)
  _, metrics = stage.loss(
    started(stage, tiny_bundle.decoders['flow'][1]), stage.frozen, batch,
    jax.random.key(0),
  )
  fields = tiny_bundle.decoders['flow'][0]
  coarsest = fields['patch'] * 2 ** (len(fields['widths']) - 1)
  assert periods == [fields['patch'], coarsest]
  np.testing.assert_array_equal(metrics['periodic'], sum(periods))


def test_periodic_part_is_in_the_loss(tiny_bundle, batch):
  stage = build(tiny_bundle, perceptual=0.0, periodic=0.5)
  total, metrics = jax.jit(stage.loss)(
    started(stage, tiny_bundle.decoders['flow'][1]), stage.frozen, batch,
    jax.random.key(0),
  )
  assert metrics['periodic'] > 0
  np.testing.assert_allclose(
    total, metrics['distortion'] + 0.5 * metrics['periodic'], rtol=1e-6
  )


def test_what_does_not_fit_is_refused_before_training(tiny_bundle):
  alone = dataclasses.replace(tiny_bundle, decoders={})
  with pytest.raises(ValueError, match="'tiny' has no score decoder"):
    build(alone)
  with pytest.raises(ValueError, match='one_step.matching.*-1'):
    build(tiny_bundle, matching=-1.0)
  with pytest.raises(ValueError, match='window must be from 16 to.*not 48'):
    build(tiny_bundle, window=48)
  with pytest.raises(ValueError, match='window must be from 32 to.*not 31'):
    build(tiny_bundle, window=31, statistics=1.0)
