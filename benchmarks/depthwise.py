"""Times the depthwise layer against XLA's grouped convolution, in one run.

  python benchmarks/depthwise.py

Prints milliseconds (the least of ten) and ratios, for the forward pass and for
gradients. Run it on the accelerator in question.
"""
import functools
import time

import jax
import jax.numpy as jnp

from gdc.models import layers


def grouped(x, kernel):
  """Computes the same correlation as XLA's grouped convolution."""
  return jax.lax.conv_general_dilated(
    x, kernel[:, :, None], (1, 1), 'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def shifted(x, kernel):
  """Computes the same sum with automatic gradients."""
  return layers.depthwise.fun(x, kernel)


def milliseconds(function, *arguments) -> float:
  """Returns the least time of ten calls, after one that compiles."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(10):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - start)
  return 1e3 * min(times)


def main():
  x = jax.random.normal(jax.random.key(0), (1, 64, 96, 256))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 256))
  print(jax.devices()[0].device_kind, x.shape)
  for what in ('forward', 'gradients'):
    rows = {}
    for name, layer in (
      ('gdc', layers.depthwise), ('shifted, automatic gradient', shifted),
      ('grouped convolution', grouped),
    ):
      def loss(layer, x, kernel):
        return jnp.sum(layer(x, kernel) ** 2)
      function = layer if what == 'forward' else jax.grad(
        functools.partial(loss, layer), argnums=(0, 1)
      )
      rows[name] = milliseconds(jax.jit(function), x, kernel)
    for name, value in rows.items():
      print(
        f'{what:10} {name:28} {value:8.2f} ms  {value / rows["gdc"]:6.1f} x'
      )


if __name__ == '__main__':
  main()
