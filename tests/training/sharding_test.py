import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from configs import autoencoder, flow
from gdc.training import experiment, loop, sharding

LARGE = sharding.MIN_SHARDED_SIZE


def _specs(shapes, fsdp):
  tree = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }
  placed = sharding.parameters(tree, sharding.create_mesh(fsdp))
  return {name: s.spec for name, s in placed.items()}


# --- Rules ------------------------------------------------------------------


def test_mesh_has_all_devices():
  assert jax.device_count() == 8
  mesh = sharding.create_mesh(4)
  assert dict(mesh.shape) == {'data': 2, 'fsdp': 4}
  assert mesh.size == 8


@pytest.mark.parametrize('fsdp', [0, -1, 3, 16])
def test_mesh_fsdp_must_divide_the_devices(fsdp):
  with pytest.raises(ValueError, match=f'fsdp {fsdp} must divide .* 8'):
    sharding.create_mesh(fsdp)


def test_large_arrays_are_split_along_the_largest_axis_that_fits():
  specs = _specs({
    'last': (128, 256),
    'first': (256, 128),
    'largest_does_not_fit': (LARGE + 1, 4),
    'middle': (3, 512, 30),
  }, fsdp=4)
  assert specs == {
    'last': PartitionSpec(None, 'fsdp'),
    'first': PartitionSpec('fsdp', None),
    'largest_does_not_fit': PartitionSpec(None, 'fsdp'),
    'middle': PartitionSpec(None, 'fsdp', None),
  }


def test_small_and_odd_arrays_stay_whole():
  specs = _specs({
    'scalar': (),
    'small': (LARGE - 4,),
    'odd': (LARGE + 1, 3),
  }, fsdp=4)
  assert all(set(spec) <= {None} for spec in specs.values()), specs
  assert _specs({'exact': (LARGE,)}, 4)['exact'] == PartitionSpec('fsdp')


def test_without_fsdp_everything_is_whole():
  specs = _specs({'a': (512, 512), 'b': (8, LARGE)}, fsdp=1)
  assert all(set(spec) <= {None} for spec in specs.values())


def test_every_kind_of_state_leaf_has_a_sharding():
  tree = {'key': jax.random.key(0), 'step': jnp.zeros((), jnp.int32)}
  placed = jax.device_put(
    tree, sharding.parameters(tree, sharding.create_mesh(2))
  )
  assert all(len(a.sharding.device_set) == 8 for a in placed.values())


def test_global_batch_is_split_over_all_devices():
  mesh = sharding.create_mesh(2)
  assert sharding.local_rows(mesh, 16) == list(range(16))
  local = {'image': np.arange(16 * 3, dtype=np.uint8).reshape(16, 3)}
  image = sharding.global_batch(local, mesh)['image']
  np.testing.assert_array_equal(image, local['image'])
  shards = image.addressable_shards
  assert {s.data.shape for s in shards} == {(2, 3)}
  assert len({s.index[0].start for s in shards}) == 8


def test_rows_are_those_of_the_hosts_devices(monkeypatch):
  mesh = sharding.create_mesh()
  split = sharding.batch(mesh)
  everywhere = split.devices_indices_map((16,))
  # As on a TPU whose ring has a host's devices apart from one another.
  mine = {d: everywhere[d] for d in (mesh.devices.flat[i] for i in (6, 0, 1))}
  monkeypatch.setattr(
    type(split), 'addressable_devices_indices_map', lambda *_: mine
  )
  assert sharding.local_rows(mesh, 16) == [0, 1, 2, 3, 12, 13]


# --- The same on any mesh ---------------------------------------------------


def _one_device_mesh(fsdp):
  del fsdp
  return jax.make_mesh(
    (1, 1), sharding.AXES, devices=jax.devices()[:1],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )


def _three_steps(config, start=None):
  """Trains; from its own initial state, or from one given as numpy.

  Returns:
    The initial state, metrics of each step, final parameters, all numpy; and
    the number of the state's arrays that are split over devices.
  """
  exp = experiment.build(config)
  shardings = jax.tree.map(lambda a: a.sharding, exp.abstract_state)
  if start is None:
    state = exp.init()
  else:
    state = start.replace(key=jax.random.wrap_key_data(start.key))
    state = jax.device_put(state, shardings)
  start = _to_numpy(state)
  step_fn = jax.jit(
    functools.partial(loop.train_step, exp, config),
    donate_argnums=0,
    out_shardings=(shardings, sharding.replicated(exp.mesh)),
  )
  batches = exp.batches(0)
  metrics = []
  with jax.set_mesh(exp.mesh):
    for _ in range(3):
      batch = next(batches)
      state, step_metrics = step_fn(state, exp.frozen, batch)
      metrics.append(jax.device_get(step_metrics))
  split = sum(
    not a.sharding.is_fully_replicated for a in jax.tree.leaves(state)
  )
  return start, metrics, jax.device_get(state.params), split


def _to_numpy(state):
  """Copied, as the step takes the state's buffers; the key as its data."""
  state = state.replace(key=jax.random.key_data(state.key))
  return jax.tree.map(np.array, jax.device_get(state))


@pytest.mark.parametrize('name', ['autoencoder', 'flow'])
def test_one_device_is_eight_is_fsdp(name, tiny_bundle_path, monkeypatch):
  # The tiny networks have no array that would be split otherwise.
  monkeypatch.setattr(sharding, 'MIN_SHARDED_SIZE', 256)
  config = {'autoencoder': autoencoder, 'flow': flow}[name].get_config('tiny')
  if name == 'flow':
    config.autoencoder_from = str(tiny_bundle_path)
    config.score_net.widths = (16,)  # compiles in half the time
    config.score_net.depths = (1,)
  start, expected, params, split = _three_steps(config)
  assert split == 0
  assert len({m['total'].item() for m in expected}) == 3

  def check(same_split, config):
    _, metrics, got, split = _three_steps(config, start)
    assert same_split(split)
    for a, b in zip(metrics, expected, strict=True):
      for k in b:
        np.testing.assert_allclose(a[k], b[k], rtol=2e-4, err_msg=k)
    # A step is up to the learning rate, 10 times that for the prior.
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5),
      got, params,
    )

  config.fsdp = 4
  check(lambda split: split > 4, config)
  config.fsdp = 1
  monkeypatch.setattr(sharding, 'create_mesh', _one_device_mesh)
  check(lambda split: split == 0, config)
