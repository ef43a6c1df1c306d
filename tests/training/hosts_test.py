"""Training by two processes of jax.distributed, as on two hosts of a pod."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_HOST = """
import sys
import jax
from absl import app
from gdc import main
port, rank = sys.argv[1:3]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
initialize = jax.distributed.initialize
jax.distributed.initialize = lambda: initialize(
  f'localhost:{port}', 2, int(rank)
)
sys.argv = ['gdc.main', *sys.argv[3:]]
app.run(main.main)
"""


_FLAGS = ' '.join(
  flag for flag in os.environ['XLA_FLAGS'].split() if 'device_count' not in flag
)
# Four devices in all, in one process or in two.
_TWO, _FOUR = (
  os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{_FLAGS} --xla_force_host_platform_device_count={count}',
  } for count in (2, 4)
)


def _flags(workdir, steps):
  return [
    '--config', 'configs/autoencoder.py:tiny', '--workdir', str(workdir),
    f'--config.steps={steps}', '--config.checkpoint_every=1000',
    '--config.image_every=1000', '--config.optimizer.decay_fraction=0.0',
  ]


def _start(workdir, steps):
  """Two hosts that train the tiny autoencoder together."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  return [
    subprocess.Popen(
      [sys.executable, '-c', _HOST, port, str(rank), *_flags(workdir, steps)],
      cwd=ROOT, env=_TWO, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
    )
    for rank in range(2)
  ]


def _rows(workdir):
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith('}')]


@pytest.mark.slow
def test_a_pod_stops_together_and_goes_on(tmp_path):
  workdir = tmp_path / 'pod'
  hosts = _start(workdir, 10_000)
  deadline = time.monotonic() + 300
  while len(_rows(workdir)) < 3:
    assert all(host.poll() is None for host in hosts), hosts[0].communicate()
    assert time.monotonic() < deadline
    time.sleep(0.02)
  # To one that writes no metrics: it is not alone in saving.
  hosts[1].send_signal(signal.SIGTERM)
  said = [host.communicate(timeout=120)[0] for host in hosts]
  assert [host.returncode for host in hosts] == [143, 143], said
  saved = [int(path.name) for path in (workdir / 'checkpoints').iterdir()]
  assert len(saved) == 1 and 3 <= saved[0] < 10_000

  steps = saved[0] + 2
  hosts = _start(workdir, steps)
  said = [host.communicate(timeout=300)[0] for host in hosts]
  assert [host.returncode for host in hosts] == [0, 0], said
  assert 'results.json' in said[0] and 'results.json' not in said[1]
  together = _rows(workdir)
  assert [row['step'] for row in together] == list(range(1, steps + 1))

  alone = tmp_path / 'alone'
  command = [sys.executable, '-m', 'gdc.main', *_flags(alone, steps)]
  subprocess.run(
    command, cwd=ROOT, env=_FOUR, check=True, capture_output=True
  )
  for name in ('total', 'bpp', 'gradient_norm'):
    np.testing.assert_allclose(
      [row[name] for row in together], [row[name] for row in _rows(alone)],
      rtol=1e-3, err_msg=name,
    )
