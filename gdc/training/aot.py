"""Compiles a config's programs for TPUs that this machine does not have.

PyPI's libtpu compiles for a named topology on any x86 machine. What is compiled
is what a pod would run: the training step and the sampler, with their shardings
and the config's batch. Memory, traffic and collectives are those of the
executable of one chip, FLOPs those of the traced program. Times are lower
bounds, from published peak figures.
"""
import dataclasses
import functools
import importlib.util
import os
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from gdc.codec import bundle
from gdc.training import experiment, loop, sharding

TILE = 256  # pixels, of the sampler's images; one per chip
# Keeps libtpu from looking for TPUs, and from logging that there are none.
_LIBTPU = {
  'TPU_SKIP_MDS_QUERY': '1', 'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4', 'TPU_STDERR_LOG_LEVEL': '4',
  'TPU_MIN_LOG_LEVEL': '4', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """Published figures of a TPU chip (docs.cloud.google.com/tpu/docs).

  Attributes:
    tflops: peak bfloat16 TFLOP/s.
    memory: HBM, GB (1e9 bytes).
    bandwidth: of HBM, GB/s.
    interconnect: GB/s that a chip sends over all its links, one way.
  """

  tflops: float
  memory: float
  bandwidth: float
  interconnect: float


CHIPS = {
  'v5e': Chip(197, 16, 819, 200),
  'v5p': Chip(459, 95, 2765, 600),
  'v6e': Chip(918, 32, 1638, 400),
}


@dataclasses.dataclass(frozen=True)
class Count:
  """What one chip holds and does in one call of a program.

  Attributes:
    arguments: bytes of arguments and results in HBM.
    temporaries: bytes.
    code: bytes.
    products: FLOPs of matmuls and convolutions, a multiply-add is two.
    moved: bytes of HBM read and written, as XLA counts.
    collectives: kind -> (number, bytes that a chip sends).
  """

  arguments: int
  temporaries: int
  code: int
  products: float
  moved: float
  collectives: dict[str, tuple[int, float]]

  def seconds(self, chip: Chip) -> dict[str, float]:
    """Returns the least time of each resource, at its published peak."""
    sent = sum(size for _, size in self.collectives.values())
    return {
      'products': self.products / (1e12 * chip.tflops),
      'memory': self.moved / (1e9 * chip.bandwidth),
      'collectives': sent / (1e9 * chip.interconnect),
    }


def devices(topology: str) -> Sequence:
  """Returns the abstract devices of a topology, such as 'v5e:16x16'.

  Removes XLA_FLAGS from the environment: flags for libtpu belong in
  LIBTPU_INIT_ARGS.

  Raises:
    ValueError: libtpu is missing, or does not know the topology.
  """
  chip, _, shape = topology.partition(':')
  if chip not in CHIPS or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    raise ValueError(
      f'--topology must be CHIP:SHAPE, such as v5e:16x16, with a chip of '
      f'{", ".join(CHIPS)}, not {topology!r}.'
    )
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError(
      "--mode=compile needs libtpu: pip install 'gdc-codec[aot]' brings it."
    )
  from jax.experimental import topologies
  for name, value in _LIBTPU.items():
    os.environ.setdefault(name, value)
  # libtpu ends the process at a flag of another back end.
  os.environ.pop('XLA_FLAGS', None)
  try:
    return topologies.get_topology_desc(
      platform='tpu', topology_name=topology
    ).devices
  except Exception as e:
    reason = ' '.join(f'{e}'.split())[:200]
    raise ValueError(
      f'libtpu has no topology {topology!r} ({reason}).'
    ) from e


def compile_all(config, topology: str, stage_1=None) -> str:
  """Compiles the training step and the sampler of a config for a topology.

  Args:
    config: from configs/.
    topology: see `devices`.
    stage_1: config of an autoencoder whose shapes are taken for stage 2; None
      for the one that `config` names.

  Returns:
    A description with a line for each program.

  Raises:
    ValueError: a topology that cannot be had, or a config that does not fit it.
  """
  if config.stage == 'contexts':
    raise ValueError('--mode=compile is for training; contexts are fitted.')
  jax.config.update('jax_platforms', 'cpu')  # of arrays in this process
  abstract = devices(topology)
  chip = CHIPS[topology.partition(':')[0]]
  mesh = sharding.create_mesh(config.fsdp, abstract)
  batch_size = config.data.batch_size
  if batch_size % mesh.size:
    raise ValueError(
      f'data.batch_size {batch_size} must be a multiple of the {mesh.size} '
      f'chips of {topology}.'
    )
  networks = experiment.build_networks(
    config, _stand_in(stage_1) if stage_1 else None
  )
  step, sampler = _programs(networks, config, mesh)
  crop = config.data.crop
  steps = config.sampling.steps if 'sampling' in config else 1
  lines = [
    f'{config.stage}, {topology}: {mesh.size} chips, {batch_size} crops of '
    f'{crop} x {crop}, fsdp {config.fsdp}, layers in {config.dtype}',
    f'of a chip: {chip.memory} GB of memory, {chip.tflops} TFLOP/s, '
    f'{chip.bandwidth} GB/s, {chip.interconnect} GB/s sent; times are least '
    'times by these figures',
    *_described('training step', step, chip, batch_size),
    *_described(
      'sampler' if config.stage == 'autoencoder' else
      f'sampler, the autoencoder and one of its steps ({steps})',
      sampler, chip, mesh.size,
    ),
  ]
  return '\n'.join(lines)


def _stand_in(config) -> bundle.Bundle:
  """An autoencoder of the shapes that a config of stage 1 has; all zeros."""
  networks = experiment.build_networks(config)
  params = jax.tree.map(
    lambda a: np.zeros(a.shape, a.dtype), networks.shapes.params
  )
  return bundle.Bundle('stand-in', networks.stage.spec, params, None)


def _programs(networks, config, mesh) -> tuple[Count, Count]:
  """Compiles the training step and the sampler, and counts."""
  def images(size, side, dtype):
    return jax.ShapeDtypeStruct(
      (size, side, side, 3), dtype, sharding=sharding.batch(mesh)
    )

  whole = sharding.replicated(mesh)
  shardings = sharding.parameters(networks.shapes, mesh)
  state = experiment.abstract(networks.shapes, shardings)
  frozen = networks.stage.frozen
  frozen = experiment.abstract(frozen, jax.tree.map(lambda _: whole, frozen))
  batch = {
    'image': images(config.data.batch_size, config.data.crop, jnp.uint8)
  }
  step = functools.partial(loop.train_step, networks, config)
  sampled = images(mesh.size, TILE, jnp.float32)
  return (
    _count(step, (state, frozen, batch), mesh, donate_argnums=0,
           out_shardings=(shardings, whole)),
    _count(networks.stage.visualise, (state.ema_params, frozen, sampled), mesh,
           out_shardings=sharding.batch(mesh)),
  )


def _count(function, arguments, mesh, **more) -> Count:
  """Compiles a program, and counts what one chip does in it."""
  with jax.set_mesh(mesh):
    traced = jax.jit(function, **more).trace(*arguments)
    compiled = traced.lower().compile()
  memory = compiled.memory_analysis()
  cost = compiled.cost_analysis()
  return Count(
    arguments=memory.argument_size_in_bytes + memory.output_size_in_bytes
    - memory.alias_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    code=memory.generated_code_size_in_bytes,
    products=matmul_flops(traced.jaxpr.jaxpr) / mesh.size,
    moved=cost['bytes accessed'],
    collectives=collectives(compiled.as_text()),
  )


def _described(name: str, count: Count, chip: Chip, images: int) -> list[str]:
  """Lines about a program."""
  used = count.arguments + count.temporaries + count.code
  seconds = count.seconds(chip)
  bound = max(seconds, key=seconds.get)
  collectives_said = ', '.join(
    f'{number} {kind} {size / 1e6:.1f} MB'
    for kind, (number, size) in sorted(count.collectives.items())
  )
  times = ', '.join(f'{k} {1e3 * v:.2f} ms' for k, v in seconds.items())
  least = seconds[bound]
  return [
    f'{name}:',
    f'  memory      {used / 2**30:.2f} GiB: arguments '
    f'{count.arguments / 2**30:.2f}, temporaries '
    f'{count.temporaries / 2**30:.2f}, code {count.code / 2**30:.2f}'
    + ('' if used <= 1e9 * chip.memory else '  DOES NOT FIT'),
    f'  products    {count.products / 1e12:.3f} TFLOP',
    f'  moved       {count.moved / 1e9:.2f} GB',
    f'  sent        {collectives_said or "nothing"}',
    f'  times       {times}',
    f'  estimate    {1e3 * least:.2f} ms, bound by {bound}: '
    f'{images / least:,.0f} images/s, {seconds["products"] / least:.0%} of '
    'the peak',
  ]


_BYTES = {
  'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'bf16': 2, 'f16': 2,
  's32': 4, 'u32': 4, 'f32': 4, 's64': 8, 'u64': 8, 'f64': 8,
}
_COLLECTIVE = re.compile(
  r'^\s*(?:ROOT )?%\S+ = (?P<type>.*?) (?P<kind>all-reduce|all-gather|'
  r'reduce-scatter|all-to-all|collective-permute)(?P<start>-start)?\(',
  re.MULTILINE,
)
_ARRAY = re.compile(r'\b([a-z]+\d+|pred)\[([\d,]*)\]')


def collectives(program: str) -> dict[str, tuple[int, float]]:
  """Counts the collectives of a compiled program.

  Args:
    program: HLO text of one chip.

  Returns:
    Kind -> (number, bytes that a chip sends): twice the array for an
    all-reduce, which is a reduction and a gathering; else the largest array of
    each, near enough for many chips.
  """
  found = {}
  for match in _COLLECTIVE.finditer(program):
    sizes = [
      _BYTES[kind] * int(np.prod([int(n) for n in shape.split(',') if n]))
      for kind, shape in _ARRAY.findall(match['type']) if kind in _BYTES
    ]
    if match['start'] and match['kind'] != 'all-reduce':
      size = max(sizes, default=0)  # operand and result side by side
    else:
      size = sum(sizes)
    size *= 2 if match['kind'] == 'all-reduce' else 1
    number, total = found.get(match['kind'], (0, 0.0))
    found[match['kind']] = number + 1, total + size
  return found


def matmul_flops(jaxpr: core.Jaxpr) -> int:
  """Counts the FLOPs of a program's matmuls and convolutions.

  A multiply-add is two. The body of a loop counts once, as in XLA's counts.
  """
  total = 0
  for equation in jaxpr.eqns:
    shapes = [v.aval.shape for v in equation.invars]
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      terms = [shapes[0][i] for i in contracted]
    elif equation.primitive.name == 'conv_general_dilated':
      _, *others = equation.params['dimension_numbers'].rhs_spec
      terms = [shapes[1][i] for i in others]
    else:
      total += sum(
        matmul_flops(inner)
        for inner in core.jaxprs_in_params(equation.params)
      )
      continue
    total += 2 * equation.outvars[0].aval.size * int(np.prod(terms))
  return total
