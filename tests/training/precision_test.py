"""Float32 matmuls and convolutions ask for full precision.

Accelerators multiply float32 in bfloat16 or TF32 unless a program asks for
more. With layers in bfloat16, what is left in float32 decides rates, gains,
latents and statistics, or is next to pixels.
"""
import importlib
import re

import jax
import jax.numpy as jnp
import pytest

from gdc.training import stages

_PRODUCT = re.compile(
  r'stablehlo\.(?:dot_general|convolution).*: \(tensor<[^>]*xf32>, '
)


@pytest.mark.parametrize('name, fields', [
  ('autoencoder', {}),
  ('autoencoder', {
    'autoencoder.transforms': 'elic', 'autoencoder.widths': (8, 8, 8),
    'autoencoder.initial_gain': 1.0,
  }),
  ('flow', {}),
  ('diffusion', {}),
  ('one_step', {
    'one_step.perceptual_dtype': 'bfloat16', 'one_step.statistics': 1.0,
    'one_step.window': 32, 'one_step.matching': 1.0,
  }),
])
def test_products_of_float32_ask_for_all_digits(tiny_bundle, name, fields):
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  config.unlock()
  config.update_from_flattened_dict({**fields, 'dtype': 'bfloat16'})
  stage = stages.build(config, None if name == 'autoencoder' else tiny_bundle)
  batch = {'image': jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)}
  key = jax.random.key(0)
  params = jax.eval_shape(stage.init, key, batch)
  program = jax.jit(jax.grad(stage.loss, has_aux=True)).lower(
    params, stage.frozen, batch, key
  ).as_text()
  products = [line for line in program.splitlines() if _PRODUCT.search(line)]
  assert products
  assert [line for line in products if 'HIGHEST' not in line] == []
