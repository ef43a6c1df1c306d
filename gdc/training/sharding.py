"""Mesh and shardings: data parallel, with large parameters split (FSDP).

The mesh has two axes. Both split the batch; `fsdp` also splits parameters,
averages and optimizer moments. Results are the same on any mesh, to float
tolerance.
"""
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

AXES = ('data', 'fsdp')
# Smaller arrays are cheaper to replicate than to gather.
MIN_SHARDED_SIZE = 2**14


def create_mesh(fsdp: int = 1, devices=None) -> jax.sharding.Mesh:
  """Returns a mesh of all devices, `fsdp` of them along the axis `fsdp`.

  Args:
    fsdp: devices along that axis.
    devices: all of them; None for jax.devices().

  Raises:
    ValueError: fsdp does not divide their number.
  """
  count = jax.device_count() if devices is None else len(devices)
  if fsdp < 1 or count % fsdp:
    raise ValueError(
      f'fsdp {fsdp} must divide the number of devices, {count}.'
    )
  # Explicit axes, the default, break gradients of sharded convolutions.
  return jax.make_mesh(
    (count // fsdp, fsdp), AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * 2, devices=devices,
  )


def replicated(mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch(mesh) -> NamedSharding:
  """Returns the sharding that splits the first axis over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def parameters(tree, mesh):
  """Returns the shardings of a state: large arrays are split along `fsdp`.

  Args:
    tree: arrays or ShapeDtypeStructs.
    mesh: from create_mesh.

  Returns:
    A tree of NamedSharding. An array is split along the largest of its axes
    that the axis `fsdp` divides.
  """
  count = mesh.shape['fsdp']

  def rule(leaf):
    spec = [None] * leaf.ndim
    if count > 1 and leaf.size >= MIN_SHARDED_SIZE:
      fits = [i for i, n in enumerate(leaf.shape) if n % count == 0]
      if fits:
        spec[max(fits, key=lambda i: leaf.shape[i])] = 'fsdp'
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(rule, tree)


def local_rows(mesh, batch_size: int) -> list[int]:
  """Returns the rows of a batch that this process's devices hold, ascending.

  They are not consecutive on every TPU topology.
  """
  parts = batch(mesh).addressable_devices_indices_map((batch_size,)).values()
  return sorted(
    row for (part,) in parts for row in range(*part.indices(batch_size))
  )


def global_batch(local: dict[str, np.ndarray], mesh) -> dict[str, jax.Array]:
  """Joins the local_rows of all processes to arrays split over all devices."""
  return {
    name: jax.make_array_from_process_local_data(batch(mesh), value)
    for name, value in local.items()
  }
