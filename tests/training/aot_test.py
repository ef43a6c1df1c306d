"""Programs compiled for TPUs that are not there."""
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from gdc.training import aot

ROOT = pathlib.Path(__file__).parents[2]
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason='there is no libtpu for this machine',
)

HLO = """
  %all-reduce.1 = (f32[16]{0:T(128)S(1)}, /*index=1*/bf16[8,2]{1,0}) all-reduce(
  ROOT %all-gather.2 = f32[4,64]{1,0:T(8,128)} all-gather(%p), dimensions={0}
  %all-gather-start.3 = (f32[16]{0}, f32[64]{0}) all-gather-start(%p.2)
  %get.4 = f32[16]{0} get-tuple-element(%all-reduce.1), index=0
  %all-gather-done.5 = f32[64]{0} all-gather-done(%all-gather-start.3)
"""


def test_collectives_are_counted_with_what_a_chip_sends():
  assert aot.collectives(HLO) == {
    'all-reduce': (1, 2 * (16 * 4 + 16 * 2)),
    'all-gather': (2, 4 * 64 * 4 + 64 * 4),
  }
  assert aot.collectives('') == {}


@pytest.mark.parametrize('topology', ['v5e', 'v5e:2', 'v9:2x2', '4x4'])
def test_a_topology_names_a_chip_and_a_shape(topology):
  with pytest.raises(ValueError, match='CHIP:SHAPE, such as v5e:16x16'):
    aot.devices(topology)


def test_without_libtpu_the_extra_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r'gdc-codec\[aot\]'):
    aot.devices('v5e:2x2')


def _run(*arguments, **environment):
  """Runs Python in a process of its own: libtpu changes the environment."""
  return subprocess.run(
    [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
    env={**os.environ, **environment},
  )


def _compile(topology, config='autoencoder', **environment):
  return _run(
    '-m', 'gdc.main', '--config', f'configs/{config}.py:tiny',
    '--mode=compile', f'--topology={topology}', **environment,
  )


SCRIPT = """
import json, jax, jax.numpy as jnp
from gdc.training import aot, sharding
mesh = sharding.create_mesh(1, aot.devices('v5e:2x2'))
whole, split = sharding.replicated(mesh), sharding.batch(mesh)
kernel = jax.ShapeDtypeStruct((256, 512), jnp.float32, sharding=whole)
batch = jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=split)
loss = lambda kernel, batch: jnp.mean((batch @ kernel) ** 2)
count = aot._count(jax.grad(loss), (kernel, batch), mesh, out_shardings=whole)
print(json.dumps(vars(count)))
"""


@needs_libtpu
def test_a_chip_does_its_part_and_exchanges_gradients():
  count = aot.Count(**json.loads(_run('-c', SCRIPT).stdout))
  # Forward and the kernel's gradient, on a quarter of the batch.
  assert count.products == 2 * (2 * 16 * 256 * 512)
  assert count.collectives == {'all-reduce': [1, 2 * 4 * 256 * 512]}
  assert count.arguments >= 4 * (2 * 256 * 512 + 16 * 256)
  assert count.moved > count.arguments / 2
  chip = aot.Chip(tflops=1.0, memory=1.0, bandwidth=2.0, interconnect=4.0)
  seconds = count.seconds(chip)
  np.testing.assert_allclose(seconds['products'], count.products / 1e12)
  np.testing.assert_allclose(seconds['memory'], count.moved / 2e9)
  np.testing.assert_allclose(seconds['collectives'], 4 * 256 * 512 * 2 / 4e9)


@needs_libtpu
def test_the_command_compiles_a_step_and_a_sampler():
  # With a flag that only other back ends know.
  done = _compile('v5e:2x2', XLA_FLAGS='--xla_cpu_multi_thread_eigen=true')
  assert done.returncode == 0, done.stderr
  assert 'autoencoder, v5e:2x2: 4 chips, 8 crops of 32 x 32' in done.stdout
  step, sampler = done.stdout.split('training step:')[1].split('sampler:')
  for part in (step, sampler):
    assert re.search(r'memory +0\.0\d GiB: arguments 0\.0\d', part)
    assert 'DOES NOT FIT' not in part
    assert re.search(r'estimate +0\.\d\d ms, bound by memory: [\d,]+ ', part)
  # All gradients, twice the bytes of the parameters, and a few sums.
  assert re.search(r'sent +1 all-reduce 0\.3 MB', step)
  assert 'sent        nothing' in sampler


@needs_libtpu
@pytest.mark.parametrize('config, topology, message', [
  ('autoencoder', 'v5e:4x4', 'multiple of the 16 chips of v5e:4x4'),
  ('autoencoder', 'v5e:3x3', "no topology 'v5e:3x3'"),
  ('contexts', 'v5e:2x2', '--mode=compile is for training'),
])
def test_what_no_pod_can_run_is_refused(config, topology, message):
  done = _compile(topology, config)
  assert done.returncode == 2
  assert message in done.stderr and done.stderr.count('\n') == 1
