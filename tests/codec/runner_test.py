"""Tiles give the same on one device and on several, in order."""
import types

import jax
import numpy as np
import pytest

from gdc.codec import programs, runner

SIDE = 4


def _network(made=None, function=None):
  """A network that loops as often as a tile's extent says."""
  def run(params, own, shared):
    x, extent = own
    return jax.lax.fori_loop(
      0, extent[0], lambda i, y: y * params['a'] + shared[0] + i, x
    )

  def make():
    if made is not None:
      made.append(1)
    return lambda *arguments: (function or run)(*arguments)

  return runner.Network(
    'test', 'part', {'a': np.full((SIDE, SIDE), 1.25, np.float32)}, make,
    (
      jax.ShapeDtypeStruct((SIDE, SIDE), np.float32),
      jax.ShapeDtypeStruct((2,), np.int32),
    ),
    (jax.ShapeDtypeStruct((), np.float32),), function and function.__name__,
  )


def _tiles(count):
  rng = np.random.default_rng(count)
  return [
    (rng.normal(size=(SIDE, SIDE)).astype(np.float32), np.int32([1 + n % 5, 9]))
    for n in range(count)
  ]


def _outputs(run, network, given, shared=0.5):
  """Runs tiles that hold their numbers."""
  done = list(run.run(
    network, range(len(given)), lambda n: given[n], (np.float32(shared),)
  ))
  assert [n for n, _ in done] == list(range(len(given)))
  return np.array([output for _, output in done])


def test_any_number_of_tiles_on_any_number_of_devices():
  runners = [runner.Runner(jax.devices()[:n]) for n in (1, 3, 8)]
  # Not in the order of their ids.
  runners.append(runner.Runner([jax.devices()[n] for n in (5, 2, 7)]))
  made = []
  network = _network(made)
  for count in (1, 2, 3, 8, 9, 17):
    given = _tiles(count)
    expected, *others = (_outputs(r, network, given) for r in runners)
    for n in range(count):
      x, (turns, _) = given[n]
      for i in range(turns):
        x = x * 1.25 + 0.5 + i
      np.testing.assert_allclose(expected[n], x, rtol=1e-6)
    for other in others:
      np.testing.assert_array_equal(other, expected)
  # One program for a single tile, one for several at once.
  assert len(made) == 1 + 1 + 1 + 2
  assert [len(r.programs) for r in runners] == [1, 2, 2, 2]


def _devices_of(tree):
  return set().union(*(a.devices() for a in jax.tree.leaves(tree)))


def _watched(run, key):
  """Records the arguments and the output of a program's calls."""
  calls, program = [], run.programs[key]

  def watch(*arguments):
    result = program(*arguments)
    calls.append((arguments, result))
    return result
  run.programs[key] = watch
  return calls


def test_a_single_tile_stays_on_the_first_device():
  device = jax.devices()[6]
  run = runner.Runner([device, jax.devices()[1]])
  network = _network()
  _outputs(run, network, _tiles(1))
  calls = _watched(run, ('test', 1))
  _outputs(run, network, _tiles(1))
  (params, _, _), result = calls[0]
  assert _devices_of((params, result)) == {device}
  assert list(run.programs) == [('test', 1)]


def test_each_device_holds_the_parameters_and_its_own_tile():
  run = runner.Runner()
  network, given = _network(), _tiles(11)
  _outputs(run, network, given)
  calls = _watched(run, ('test', 8))
  _outputs(run, network, given)
  for first, ((params, (x, extent), _), result) in zip(
    (0, 8), calls, strict=True
  ):
    for shard in params['a'].addressable_shards:
      assert shard.data.shape == (SIDE, SIDE)
    for stack in (x, extent, result):
      assert [s.device for s in stack.addressable_shards] == jax.devices()
      for shard in stack.addressable_shards:
        assert shard.data.shape == (1, *stack.shape[1:])
    for n, tile in enumerate(given[first:first + 8]):
      np.testing.assert_array_equal(x.addressable_data(n)[0], tile[0])
  # The second time five devices were idle: they computed nothing.
  assert extent.tolist()[3:] == [[0, 0]] * 5
  assert not np.asarray(result)[3:].any() and np.asarray(result)[:3].all()


def test_nothing_is_computed_where_there_is_no_tile():
  """A network that counts its runs on the host runs once per tile."""
  ran = []

  def counted(params, own, shared):
    jax.debug.callback(lambda x: ran.append(float(x)), own[0][0, 0])
    return own[0] + shared[0]

  run, given = runner.Runner(), _tiles(3)
  _outputs(run, _network(function=counted), given)
  jax.effects_barrier()
  assert sorted(ran) == sorted(float(x[0, 0]) for x, _ in given)


def test_nothing_goes_from_device_to_device():
  run = runner.Runner()
  _outputs(run, _network(), _tiles(2))
  text = run.programs['test', 8].as_text()
  assert 'num_partitions=8' in text
  for word in (
    'all-reduce', 'all-gather', 'all-to-all', 'collective', 'reduce-scatter',
  ):
    assert word not in text


@pytest.mark.parametrize('devices', [
  [], [types.SimpleNamespace(process_index=1, platform='cpu', device_kind='x')],
  [jax.devices()[0], types.SimpleNamespace(
    process_index=0, platform='gpu', device_kind='x'
  )],
  [jax.devices()[1]] * 2,
], ids=['none', 'of another process', 'of two kinds', 'one twice'])
def test_devices_that_do_not_suit(devices):
  with pytest.raises(ValueError, match='one or more of process 0'):
    runner.Runner(devices)


def test_programs_of_several_devices_are_kept(tmp_path, monkeypatch):
  tmp_path.chmod(0o700)
  monkeypatch.setattr(programs, '_folder', tmp_path)
  made, given = [], _tiles(5)
  network = _network(made)
  results = [
    _outputs(runner.Runner(jax.devices()[first:first + 4]), network, given)
    for first in (0, 0, 4, 4)
  ]
  for result in results[1:]:
    np.testing.assert_array_equal(result, results[0])
  assert len(made) == 2 and len(list(tmp_path.iterdir())) == 2


def test_of_two_kinds_the_first_is_taken(monkeypatch):
  cpus = jax.devices()
  other = types.SimpleNamespace(
    device_kind='another', platform='cpu', process_index=0
  )
  monkeypatch.setattr(jax, 'local_devices', lambda: [*cpus[:2], other])
  assert runner.Runner()._devices == cpus[:2]
  with pytest.raises(ValueError, match='all of one kind'):
    runner.Runner([cpus[0], other])
