"""Runs networks on tiles: one after another, or one on each of several devices.

A network is compiled for a tile on one device and, if there are several, for a
stack of tiles split over a mesh of them. Devices exchange nothing, and the
result is that of one device. The image stays on the host: a device holds a
network's parameters and one tile.

With several hosts, each process computes its own images on its local devices.
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
_turns = {}  # device id, or 'cpu' for all of them -> lock


class Network(NamedTuple):
  """A network to run on tiles.

  Attributes:
    name: name of its programs.
    part: name of its parameters, which networks of the same part share.
    params: its parameters, on the host.
    make: () -> (parameters, own, shared) -> one array, to be traced; a new
      function each time.
    own: ShapeDtypeStructs of each tile's inputs; the last is the tile's extent.
    shared: ShapeDtypeStructs of the inputs that all tiles share.
    record: whatever else identifies the program, for json.
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
    programs: (network name, number of tiles) -> compiled program.
  """

  def __init__(self, devices: Iterable[jax.Device] | None = None):
    """Takes devices of one kind.

    Args:
      devices: None takes those of this process that are of its first's kind.

    Raises:
      ValueError: there are none, one occurs twice, or not all are of this
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
    and memory is that of one call.

    Raises:
      RuntimeError: JAX was running before this process was forked, or is
        tracing a function.
    """
    forks.check()
    # All CPU devices share cores and memory.
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

    A single tile is computed on the first device alone.

    Args:
      network: the network; compiled when it is first needed.
      cover: the tiles.
      own: tile -> numpy arrays like network.own.
      shared: numpy arrays like network.shared.

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
      # Idle devices get a tile without an extent.
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
    """Stacks arrays of one shape, each on its device."""
    return jax.make_array_from_callback(
      (len(parts), *parts[0].shape), self._sharding(len(parts), _AXIS),
      lambda index: parts[index[0].start][None],
    )

  def _sharding(self, count: int, *axes):
    """Returns the sharding of arrays on the first device, or on all."""
    if count == 1:
      return SingleDeviceSharding(self._devices[0])
    return NamedSharding(self._mesh, PartitionSpec(*axes))

  def _placed(self, network: Network, count: int):
    """Returns a network's parameters, replicated on the devices."""
    key = network.part, count
    if key not in self._params:
      self._params[key] = jax.device_put(
        network.params, self._sharding(count)
      )
    return self._params[key]

  def _program(self, network: Network, count: int) -> Callable:
    """Returns the program for one tile, or for one on each device."""
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
  """Maps a function of one tile over the devices of a mesh.

  `own` and the output get a leading axis of devices. A tile without an extent
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
  # Unchecked: loops start from constants, which the check considers replicated,
  # and continue with values that differ between devices.
  return jax.shard_map(
    on_device, mesh=mesh, in_specs=(whole, split, whole), out_specs=split,
    check_vma=False,
  )


def _shards(stack: jax.Array) -> list[jax.Array]:
  """Returns each device's part of a stack, in the stack's order."""
  shards = sorted(stack.addressable_shards, key=lambda s: s.index[0].start)
  return [shard.data for shard in shards]
