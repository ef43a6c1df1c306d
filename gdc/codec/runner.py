"""Tiles on devices: one after the other on one, or one on each of several.

A network is compiled for a tile on one device, and for several devices once
more: the same computation on a mesh of them, for as many tiles, stacked, the
stack split along its first axis. Nothing goes from device to device, each makes
as many turns of a loop over blocks as its own tile fills, and what comes out is
what one device gives. The picture stays on the host: a device holds a network's
parameters and one tile.

Where there are several hosts, each process computes pictures of its own on its
local devices; no program spans two hosts.
"""
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from gdc import progress
from gdc.codec import forks, jax_settings, programs, tiles

_AXIS = 'tiles'  # of the mesh
_turns = {}  # device, or 'cpu' for all of them -> the lock of whose turn it is


class Network(NamedTuple):
  """What runs on a tile.

  Attributes:
    name: of its programs.
    part: name of its parameters; networks that have the same share them.
    params: its parameters, on the host.
    make: () -> (parameters, own, shared) -> one array, to be traced; a new
      function each time.
    own: ShapeDtypeStructs of what each tile brings; the last is the tile's
      extent.
    shared: ShapeDtypeStructs of what is the same for all tiles.
    record: whatever else decides on the program, for json.
  """

  name: str
  part: str
  params: Any
  make: Callable
  own: tuple
  shared: tuple
  record: Any


class Runner:
  """Runs networks on tiles; compiles each when it is first needed.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    programs: (network's name, number of tiles) -> what is compiled.
  """

  def __init__(self, devices: Iterable[jax.Device] | None = None):
    """Takes devices of one kind; None: those of this process that are of the
    kind of its first.

    Raises:
      ValueError: there are none, one is there twice, or not all are of this
        process and of one kind.
    """
    if devices is None:
      first, *_ = local = jax.local_devices()
      devices = [d for d in local if d.device_kind == first.device_kind]
    devices, here = list(devices), jax.process_index()
    kinds = {(d.process_index, d.platform, d.device_kind) for d in devices}
    if (
      len(kinds) != 1 or devices[0].process_index != here
      or len(set(devices)) < len(devices)
    ):
      raise ValueError(
        f'devices must be one or more of process {here}, all of one kind and '
        f'each once, not {devices}.'
      )
    self.platform = devices[0].platform
    self.programs = {}
    self._devices = devices
    self._mesh = jax.sharding.Mesh(
      np.array(devices), (_AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
    )
    self._params = {}

  @contextlib.contextmanager
  def turn(self):
    """A context for calls of `run`: one thread at a time, default settings.

    Threads that use the same devices take turns, so a program is compiled once
    and memory is that of one call. JAX's settings are those of jax_settings,
    whatever the caller chose.

    Raises:
      RuntimeError: JAX cannot be used here: it was running before this process
        was forked, or is tracing a function.
    """
    forks.check()
    # The CPU's devices share cores and memory.
    on_cpu = self.platform == 'cpu'
    names = ['cpu'] if on_cpu else sorted(d.id for d in self._devices)
    with contextlib.ExitStack() as stack:
      for name in names:
        stack.enter_context(_turns.setdefault(name, threading.RLock()))
      stack.enter_context(jax_settings.defaults())
      yield

  def run(
    self, network: Network, cover: Iterable[tiles.Tile], own: Callable,
    shared: tuple,
  ) -> Iterator[tuple[tiles.Tile, np.ndarray]]:
    """Runs a network on tiles, as many at once as there are devices.

    A single tile is computed on the first device, and costs the others nothing.

    Args:
      network: to run; compiled when it is first needed.
      cover: tiles.
      own: tile -> numpy arrays as network.own.
      shared: numpy arrays as network.shared.

    Yields:
      Each tile, in order, and the network's output for it.
    """
    cover = list(cover)
    count = len(self._devices) if len(cover) > 1 else 1
    program = self._program(network, count)
    params = self._placed(network, count)
    if count == 1:
      for i, tile in enumerate(cover, 1):
        output = np.asarray(program(params, own(tile), shared))
        progress.tile(network.name, i, len(cover))
        yield tile, output
      return
    for first in range(0, len(cover), count):
      group = cover[first:first + count]
      given = [own(tile) for tile in group]
      # What is left of the devices gets a tile without an extent.
      nothing = (*given[0][:-1], np.zeros_like(given[0][-1]))
      given += [nothing] * (count - len(group))
      stacks = tuple(
        self._stack(parts) for parts in zip(*given, strict=True)
      )
      outputs = _shards(program(params, stacks, shared))
      done = min(first + count, len(cover))
      progress.tile(network.name, done, len(cover))
      for tile, output in zip(group, outputs, strict=False):
        yield tile, np.asarray(output)[0]

  def _stack(self, parts) -> jax.Array:
    """Arrays of one shape as one, each on its device."""
    return jax.make_array_from_callback(
      (len(parts), *parts[0].shape), self._sharding(len(parts), _AXIS),
      lambda index: parts[index[0].start][None],
    )

  def _sharding(self, count: int, *axes):
    """Of arrays on the first device, or on all."""
    if count == 1:
      return SingleDeviceSharding(self._devices[0])
    return NamedSharding(self._mesh, PartitionSpec(*axes))

  def _placed(self, network: Network, count: int):
    """A network's parameters, whole on each of the devices."""
    key = network.part, count
    if key not in self._params:
      self._params[key] = jax.device_put(
        network.params, self._sharding(count)
      )
    return self._params[key]

  def _program(self, network: Network, count: int) -> Callable:
    """A network, compiled for one tile or for one on each of the devices."""
    key = network.name, count
    if key in self.programs:
      return self.programs[key]
    one, each = self._sharding(count), self._sharding(count, _AXIS)

    def shapes(tree, sharding, *stacked):
      return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(
          (*stacked, *a.shape), a.dtype, sharding=sharding
        ),
        tree,
      )

    if count == 1:
      name, make, own = network.name, network.make, shapes(network.own, one)
    else:
      name = f'{network.name}-{count}'
      own = shapes(network.own, each, count)

      def make():
        return _on_each(network.make(), self._mesh)

    self.programs[key] = programs.build(
      name, make,
      (self._placed(network, count), own, shapes(network.shared, one)),
      network.record, self._devices[:count],
    )
    return self.programs[key]


def _on_each(function, mesh):
  """Runs what runs on a tile on each device of a mesh, on the device's tile.

  `own` and the output have a leading axis of devices. A tile without an extent
  is not computed; its output is zeros.
  """
  traced_once = jax.jit(function)

  def on_device(params, own, shared):
    arguments = params, jax.tree.map(lambda a: a[0], own), shared
    like = jax.eval_shape(traced_once, *arguments)
    return jax.lax.cond(
      arguments[1][-1].all(), traced_once,
      lambda *_: jnp.zeros(like.shape, like.dtype), *arguments,
    )[None]
  split, whole = PartitionSpec(_AXIS), PartitionSpec()
  # Unchecked, because loops here start from constants, which the check takes
  # for the same on all devices, and go on with what is a device's own.
  return jax.shard_map(
    on_device, mesh=mesh, in_specs=(whole, split, whole), out_specs=split,
    check_vma=False,
  )


def _shards(stack: jax.Array) -> list[jax.Array]:
  """What each device holds of a stack, in the stack's order."""
  shards = sorted(stack.addressable_shards, key=lambda s: s.index[0].start)
  return [shard.data for shard in shards]
