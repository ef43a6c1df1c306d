"""Mesh and shardings: data parallel, with parameters split where it pays.

The mesh has two axes. `data` splits the batch; `fsdp` splits the batch too,
and the parameters, averages and optimiser moments with it. The result is the
same on any mesh, to float tolerance.
"""
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

AXES = ('data', 'fsdp')
# Smaller arrays are cheaper to keep whole than to gather.
MIN_SHARDED_SIZE = 2**14


def create_mesh(fsdp: int = 1) -> jax.sharding.Mesh:
  """A mesh of all devices, `fsdp` of them along the parameter axis."""
  count = jax.device_count()
  if fsdp < 1 or count % fsdp:
    raise ValueError(
      f'fsdp {fsdp} must divide the number of devices, {count}.'
    )
  # Explicit axes, the default, break gradients of sharded convolutions.
  return jax.make_mesh(
    (count // fsdp, fsdp), AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )


def replicated(mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def batch(mesh) -> NamedSharding:
  """The first axis is split over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def parameters(tree, mesh):
  """Shardings of a state: each large array split once along `fsdp`.

  Args:
    tree: arrays or ShapeDtypeStructs.
    mesh: from create_mesh.

  Returns:
    A tree of NamedSharding: along the largest axis that fsdp divides.
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
  """The positions in a batch that are on this process' devices, ascending.

  A range where a host's devices follow one another in the mesh, which some TPU
  topologies do not have.
  """
  parts = batch(mesh).addressable_devices_indices_map((batch_size,)).values()
  return sorted(
    row for (part,) in parts for row in range(*part.indices(batch_size))
  )


def global_batch(local: dict[str, np.ndarray], mesh) -> dict[str, jax.Array]:
  """Each process' local_rows of a batch -> arrays split over all devices."""
  return {
    name: jax.make_array_from_process_local_data(batch(mesh), value)
    for name, value in local.items()
  }
