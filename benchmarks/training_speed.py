"""Times training steps with several matmul dtypes.

  python benchmarks/training_speed.py [--stage flow] [--batch_size 8]

A step is loss, gradients and update, of the default config on the bundled
photographs. Every kind of step runs in a process of its own; the processes take
turns, step by step. --preload FILE adds one with another memory allocator, such
as libtcmalloc_minimal.so.4. Prints the median seconds per step, images per
second, and GFLOP/s, which count the matmuls and convolutions in the traced
program of a step.
"""
import argparse
import contextlib
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from gdc.training import experiment, loop
from gdc.training.aot import matmul_flops

KINDS = {
  'float32': {'dtype': 'float32', 'matmul_dtype': 'float32'},
  'bfloat16 matmuls': {'dtype': 'float32', 'matmul_dtype': 'bfloat16'},
  'bfloat16 layers': {'dtype': 'bfloat16', 'matmul_dtype': 'float32'},
}
PRELOADED = 'bfloat16 matmuls'  # the kind to run with another allocator
STAGES = ('autoencoder', 'flow', 'diffusion', 'one_step')


def _file(text: str) -> pathlib.Path:
  path = pathlib.Path(text).resolve()
  if not path.is_file():
    raise argparse.ArgumentTypeError(f'{text}: there is no such file')
  return path


def parser() -> argparse.ArgumentParser:
  """Returns the command line's parser."""
  made = argparse.ArgumentParser(
    prog='training_speed.py', description=__doc__.splitlines()[0]
  )
  made.add_argument('--stage', choices=STAGES, default=STAGES[0])
  made.add_argument('--batch_size', type=int, help="default: the config's")
  made.add_argument('--crop', type=int, help="pixels; default: the config's")
  made.add_argument('--rounds', type=int, default=8)
  made.add_argument(
    '--preload', metavar='FILE', type=_file,
    help='a shared library with an allocator, for LD_PRELOAD',
  )
  made.add_argument('--kind', choices=KINDS, help=argparse.SUPPRESS)
  return made


def build(stage: str, kind: str, batch_size: int | None, crop: int | None):
  """Returns a step and its arguments: (function, state, (frozen, batch))."""
  config = importlib.import_module(f'configs.{stage}').get_config()
  with config.unlocked():
    config.update(KINDS[kind])
    config.data.batch_size = batch_size or config.data.batch_size
    config.data.crop = crop or config.data.crop
  exp = experiment.build(config)
  step = functools.partial(loop.train_step, exp, config)
  return step, exp.init(), (exp.frozen, next(exp.batches(0)))


def serve(stage: str, kind: str, batch_size: int | None, crop: int | None):
  """Makes a step for every line of input, and prints its seconds.

  First prints a line of JSON: the batch's shape, the step's FLOPs, the devices.
  """
  step, state, given = build(stage, kind, batch_size, crop)
  compiled = jax.jit(step, donate_argnums=0)
  flops = matmul_flops(jax.make_jaxpr(step)(state, *given).jaxpr)
  state, _ = jax.block_until_ready(compiled(state, *given))
  device = f'{jax.device_count()} x {jax.devices()[0].device_kind}'
  print(json.dumps({
    'shape': given[-1]['image'].shape, 'flops': flops, 'device': device,
  }), flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    state, _ = jax.block_until_ready(compiled(state, *given))
    print(time.perf_counter() - start, flush=True)


def _answer(process) -> Any:
  line = process.stdout.readline()
  if not line:
    raise RuntimeError(f'It ended with status {process.wait()}: {process.args}')
  return json.loads(line)


def main():
  arguments = parser().parse_args()
  if arguments.kind:
    return serve(
      arguments.stage, arguments.kind, arguments.batch_size, arguments.crop
    )
  kinds = [(name, name, {}) for name in KINDS]
  if preload := arguments.preload:
    kinds.append((
      f'{PRELOADED}, preloaded', PRELOADED, {'LD_PRELOAD': str(preload)},
    ))
  seconds = {label: [] for label, _, _ in kinds}
  with contextlib.ExitStack() as stack:
    processes = {}
    for label, name, environment in kinds:
      # Started one by one, as compiling would slow the others down.
      processes[label] = stack.enter_context(subprocess.Popen(
        [sys.executable, *sys.argv, '--kind', name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | environment,
      ))
      said = _answer(processes[label])
    images, height, width, _ = said['shape']
    print(
      f'{arguments.stage}, {said["device"]}, {images} crops of {height} x '
      f'{width}, {said["flops"] / 1e9:.1f} GFLOP in matmuls'
    )
    for _ in range(arguments.rounds):
      for label, process in processes.items():
        process.stdin.write('\n')
        process.stdin.flush()
        seconds[label].append(_answer(process))
  median = {kind: np.median(values) for kind, values in seconds.items()}
  for kind, value in median.items():
    print(
      f'{kind:27} {value:8.3f} s {images / value:8.1f} images/s '
      f'{said["flops"] / value / 1e9:8.0f} GFLOP/s '
      f'{median["float32"] / value:6.2f} x'
    )


if __name__ == '__main__':
  main()
