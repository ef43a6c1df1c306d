"""Times training steps with products of several types, in one run.

  python benchmarks/training_speed.py [--stage flow] [--batch_size 8]

One step after the other of each kind, in turns: loss, gradients and update, of
the default config on the photographs in the box. Prints the median of the
seconds, images a second, and the rate of floating-point operations: those of
the products alone, counted in the traced program of a step.
"""
import argparse
import functools
import importlib
import time

import jax
import numpy as np
from jax.extend import core

from gdc.training import loop, runs

KINDS = {
  'float32': {'dtype': 'float32', 'products': 'float32'},
  'bfloat16 factors': {'dtype': 'float32', 'products': 'bfloat16'},
  'bfloat16 layers': {'dtype': 'bfloat16', 'products': 'float32'},
}
STAGES = ('autoencoder', 'flow', 'diffusion', 'one_step')


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='training_speed.py', description=__doc__.splitlines()[0]
  )
  made.add_argument('--stage', choices=STAGES, default=STAGES[0])
  made.add_argument('--batch_size', type=int, help="default: the config's")
  made.add_argument('--crop', type=int, help="pixels; default: the config's")
  made.add_argument('--rounds', type=int, default=8)
  return made


def product_operations(jaxpr: core.Jaxpr) -> int:
  """Floating-point operations of a program's products and convolutions.

  A multiplication and an addition are two. What a loop repeats counts once.
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
        product_operations(inner) for inner in core.jaxprs_in_params(
          equation.params
        )
      )
      continue
    total += 2 * equation.outvars[0].aval.size * int(np.prod(terms))
  return total


def build(stage: str, kind: str, batch_size: int | None, crop: int | None):
  """A step of a kind and what it takes: (function, state, (frozen, batch))."""
  config = importlib.import_module(f'configs.{stage}').get_config()
  with config.unlocked():
    config.update(KINDS[kind])
    config.data.batch_size = batch_size or config.data.batch_size
    config.data.crop = crop or config.data.crop
  run = runs.build(config)
  step = functools.partial(loop.train_step, run, config)
  return step, run.init(), (run.frozen, next(run.batches(0)))


def _turn(compiled, given, state):
  """The state after a step, when it is there."""
  return jax.block_until_ready(compiled(state, *given))[0]


def main():
  arguments = parser().parse_args()
  print(
    f'{arguments.stage}, {jax.device_count()} x {jax.devices()[0].device_kind}'
  )
  steps, states, operations = {}, {}, 0
  for kind in KINDS:
    step, state, given = build(
      arguments.stage, kind, arguments.batch_size, arguments.crop
    )
    if not steps:
      images, height, width, _ = given[-1]['image'].shape
      traced = jax.make_jaxpr(step)(state, *given)
      operations = product_operations(traced.jaxpr)
      print(
        f'{images} crops of {height} x {width}, '
        f'{operations / 1e9:.1f} billion operations in products'
      )
    compiled = jax.jit(step, donate_argnums=0)
    steps[kind] = functools.partial(_turn, compiled, given)
    states[kind] = steps[kind](state)
  seconds = {kind: [] for kind in steps}
  for _ in range(arguments.rounds):
    for kind, step in steps.items():
      start = time.perf_counter()
      states[kind] = step(states[kind])
      seconds[kind].append(time.perf_counter() - start)
  median = {kind: np.median(values) for kind, values in seconds.items()}
  for kind, value in median.items():
    print(
      f'{kind:17} {value:8.3f} s {images / value:8.1f} images/s '
      f'{operations / value / 1e9:8.0f} GFLOP/s '
      f'{median["float32"] / value:6.2f} x'
    )


if __name__ == '__main__':
  main()
