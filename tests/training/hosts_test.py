"""Training by two processes of jax.distributed, as on two hosts of a pod."""
import contextlib
import json
import os
import pathlib
import shutil
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
from gdc import main
port, rank = sys.argv[1:3]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
initialize = jax.distributed.initialize
jax.distributed.initialize = lambda: initialize(
  f'localhost:{port}', 2, int(rank)
)
sys.exit(main.run(sys.argv[3:]))
"""


def _environment(home, devices):
  flags = [f for f in os.environ['XLA_FLAGS'].split() if 'count' not in f]
  flags.append(f'--xla_force_host_platform_device_count={devices}')
  return os.environ | {'HOME': str(home), 'XLA_FLAGS': ' '.join(flags)}


def _flags(workdir, steps):
  return [
    '--config', 'configs/autoencoder.py:tiny', '--workdir', str(workdir),
    f'--config.steps={steps}', '--config.checkpoint_every=1000',
    '--config.image_every=1000', '--config.optimizer.decay_fraction=0.0',
  ]


@contextlib.contextmanager
def _pod(workdir, steps, home):
  """Two hosts of two devices each, that train together; and their logs."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  home.mkdir(exist_ok=True)
  logs = [home / f'{steps}_{rank}.log' for rank in range(2)]
  hosts = []
  try:
    for rank, path in enumerate(logs):
      with open(path, 'w') as log:
        hosts.append(subprocess.Popen(
          [
            sys.executable, '-c', _HOST, port, str(rank),
            *_flags(workdir, steps),
          ],
          cwd=ROOT, env=_environment(home, 2), stdout=log, stderr=log,
        ))
    yield hosts, logs
  finally:
    for host in hosts:
      host.kill()
      host.wait()


def _alone(workdir, steps, home):
  """One process of four devices."""
  subprocess.run(
    [sys.executable, '-m', 'gdc.main', *_flags(workdir, steps)], cwd=ROOT,
    env=_environment(home, 4), check=True, capture_output=True,
  )


def _rows(workdir):
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith('}')]


@pytest.mark.slow
def test_a_pod_stops_together_and_any_hosts_go_on(tmp_path):
  pod, one, straight, home = (
    tmp_path / name for name in ('pod', 'one', 'straight', 'home')
  )
  with _pod(pod, 10_000, home) as (hosts, logs):
    deadline = time.monotonic() + 300
    while len(_rows(pod)) < 3:
      assert [host.poll() for host in hosts] == [None] * 2, logs[0].read_text()
      assert time.monotonic() < deadline
      time.sleep(0.02)
    # To one that writes no metrics: it is not alone in saving.
    hosts[1].send_signal(signal.SIGTERM)
    ended = [host.wait(timeout=120) for host in hosts]
  assert ended == [143, 143], [log.read_text() for log in logs]
  saved = [int(path.name) for path in (pod / 'checkpoints').iterdir()]
  assert len(saved) == 1 and 3 <= saved[0] < 10_000
  shutil.copytree(pod, one)

  steps = saved[0] + 2
  with _pod(pod, steps, home) as (hosts, logs):
    ended = [host.wait(timeout=300) for host in hosts]
  said = [log.read_text() for log in logs]
  assert ended == [0, 0], said
  assert 'results.json' in said[0] and 'results.json' not in said[1]

  _alone(one, steps, home)
  _alone(straight, steps, home)
  expected = _rows(straight)
  assert [row['step'] for row in expected] == list(range(1, steps + 1))
  for rows in (_rows(pod), _rows(one)):
    for name in ('step', 'total', 'bpp', 'gradient_norm'):
      np.testing.assert_allclose(
        [row[name] for row in rows], [row[name] for row in expected],
        rtol=1e-3, err_msg=name,
      )
