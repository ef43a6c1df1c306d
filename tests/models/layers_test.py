"""Layers: each equals its plain definition, and starts as it should."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from gdc.models import layers


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def grouped_convolution(x, kernel):
  """The reference of `depthwise`, XLA's own."""
  return jax.lax.conv_general_dilated(
    x, kernel[:, :, None], window_strides=(1, 1), padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1], precision='highest',
  )


# --- Space to depth ---------------------------------------------------------


@pytest.mark.parametrize('shape, block', [
  ((2, 6, 4, 3), 2), ((1, 8, 24, 1), 8), ((1, 3, 5, 7), 1),
])
def test_depth_to_space_inverts_space_to_depth(shape, block):
  x = normal(0, *shape)
  folded = layers.space_to_depth(x, block)
  b, h, w, c = shape
  assert folded.shape == (b, h // block, w // block, block**2 * c)
  np.testing.assert_array_equal(layers.depth_to_space(folded, block), x)


def test_space_to_depth_orders_row_column_channel():
  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  folded = layers.space_to_depth(jnp.asarray(x), 2)
  for row in range(2):
    for column in range(2):
      start = (row * 2 + column) * 3
      np.testing.assert_array_equal(
        folded[..., start:start + 3], x[:, row::2, column::2]
      )


@pytest.mark.parametrize('h, w', [(8, 9), (7, 8)])
def test_space_to_depth_names_the_sides_that_do_not_divide(h, w):
  with pytest.raises(ValueError, match=f'{h}x{w} must be multiples of 4'):
    layers.space_to_depth(jnp.zeros((1, h, w, 1)), 4)


# --- Depthwise --------------------------------------------------------------


@pytest.mark.parametrize('size', [1, 3, 5])
@pytest.mark.parametrize('shape', [(2, 6, 5, 4), (1, 1, 2, 3)])
def test_depthwise_is_a_grouped_convolution(size, shape):
  x, kernel = normal(1, *shape), normal(2, size, size, shape[-1])
  np.testing.assert_allclose(
    layers.depthwise(x, kernel), grouped_convolution(x, kernel),
    rtol=1e-5, atol=1e-5,
  )


@pytest.mark.parametrize('size', [3, 5])
def test_gradients_of_depthwise_are_those_of_the_convolution(size):
  x, kernel = normal(3, 2, 6, 5, 4), normal(4, size, size, 4)
  towards = normal(5, 2, 6, 5, 4)  # no symmetry that could hide a flip
  ours, theirs = (
    jax.grad(lambda x, k, f=f: jnp.sum(f(x, k) * towards), (0, 1))(x, kernel)
    for f in (layers.depthwise, grouped_convolution)
  )
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_of_depthwise_are_its_differences():
  with jax.enable_x64(True):
    x = normal(6, 1, 3, 4, 2).astype(jnp.float64)
    kernel = normal(7, 3, 3, 2).astype(jnp.float64)
    test_util.check_grads(
      layers.depthwise, (x, kernel), order=1, modes=['rev'], atol=1e-6,
      rtol=1e-6,
    )


def test_gradient_of_the_kernel_is_summed_in_float32():
  # 4096 ones: a bfloat16 sum that is carried in bfloat16 stops at 256.
  x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
  kernel = jnp.zeros((1, 1, 1), jnp.bfloat16)
  grad = jax.grad(
    lambda k: jnp.sum(layers.depthwise(x, k), dtype=jnp.float32)
  )(kernel)
  assert grad.dtype == jnp.bfloat16
  assert float(grad[0, 0, 0]) == 4096


# --- Norm and modulation ----------------------------------------------------


def test_rms_normalize_gives_unit_mean_square_at_each_position():
  # Positions differ by orders of magnitude: no statistic is shared.
  x = normal(8, 2, 3, 3, 16) * 10.0 ** jnp.arange(-1, 2)[:, None]
  y = layers.rms_normalize(x)
  np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1, rtol=1e-3)
  rms = jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True))
  np.testing.assert_allclose(y * rms, x, rtol=1e-3)
  assert np.all(np.asarray(layers.rms_normalize(0 * x)) == 0)


def test_rms_normalize_has_float32_statistics_of_bfloat16_input():
  # The mean square of these is 1 + 3e-3, which bfloat16 would round to 1.
  x = jnp.ones((1, 1, 1, 256)).at[..., 0].set(1.328125).astype(jnp.bfloat16)
  y = layers.rms_normalize(1e4 * x)
  assert y.dtype == jnp.bfloat16
  exact = layers.rms_normalize((1e4 * x).astype(jnp.float32))
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
  many = normal(9, 64, 1, 1, 512).astype(jnp.bfloat16)
  exact = layers.rms_normalize(many.astype(jnp.float32))
  np.testing.assert_array_equal(
    layers.rms_normalize(many), exact.astype(jnp.bfloat16)
  )


def test_modulation_starts_as_the_identity_and_then_is_film():
  x, condition = normal(10, 2, 3, 3, 4), normal(11, 2, 5)
  module = layers.Modulation()
  variables = module.init(jax.random.key(0), x, condition)
  np.testing.assert_array_equal(module.apply(variables, x, condition), x)
  kernel, bias = normal(12, 5, 8), normal(13, 8)
  y = module.apply(
    {'params': {'Dense_0': {'kernel': kernel, 'bias': bias}}}, x, condition
  )
  scale, shift = np.split(np.asarray(condition @ kernel + bias), 2, axis=-1)
  expected = x * (1 + scale[:, None, None]) + shift[:, None, None]
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('normalize', [False, True])
def test_gated_block_starts_near_the_identity_but_can_learn(normalize):
  x, condition = normal(14, 2, 4, 4, 8), normal(15, 2, 3)
  block = layers.GatedBlock(normalize=normalize)
  params = jax.jit(block.init)(jax.random.key(0), x, condition)['params']
  y = jax.jit(block.apply)({'params': params}, x, condition)
  assert 0 < float(jnp.max(jnp.abs(y - x))) < 1e-2
  towards = normal(16, *x.shape)
  grads = jax.jit(jax.grad(lambda p: jnp.sum(
    block.apply({'params': p}, x, condition) * towards
  )))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.all(np.asarray(grad) != 0), jax.tree_util.keystr(path)


def test_gated_block_reaches_one_position_and_no_further():
  x, condition = normal(17, 1, 7, 7, 4), normal(18, 1, 3)
  block = layers.GatedBlock(normalize=True)
  params = jax.eval_shape(block.init, jax.random.key(0), x, condition)
  params = jax.tree.map(lambda p: normal(19, *p.shape), params)
  grad = jax.jit(jax.grad(lambda x: jnp.sum(
    block.apply(params, x, condition)[0, 3, 3] * normal(20, 4)
  )))(x)
  reached = np.any(np.asarray(grad[0]) != 0, axis=-1)
  expected = np.zeros((7, 7), bool)
  expected[2:5, 2:5] = True
  np.testing.assert_array_equal(reached, expected)


# --- Matmuls with bfloat16 inputs -------------------------------------------


def with_gradients(function, x, kernel):
  """A function's value and its gradients, with no symmetry between outputs."""
  value, pull = jax.vjp(function, x, kernel)
  return value, *pull(normal(11, *value.shape))


@pytest.mark.parametrize('dtype, tolerance', [
  ('float32', 1e-6), ('bfloat16', 2e-2),
])
def test_matmul_and_its_gradients(dtype, tolerance):
  x, kernel = normal(9, 2, 3, 5, 64), normal(10, 64, 32)
  ours = with_gradients(lambda x, k: layers.matmul(x, k, dtype), x, kernel)
  plain = with_gradients(
    lambda x, k: jnp.matmul(x, k, precision='highest'), x, kernel
  )
  for a, b in zip(ours, plain, strict=True):
    assert a.dtype == jnp.float32 and a.shape == b.shape
    assert jnp.linalg.norm(a - b) < tolerance * jnp.linalg.norm(b)


def test_all_matmuls_of_a_gradient_have_bfloat16_inputs():
  x, kernel = normal(9, 2, 3, 8), normal(10, 8, 4)
  traced = jax.make_jaxpr(jax.grad(
    lambda x, k: jnp.sum(layers.matmul(x, k, 'bfloat16') ** 2), (0, 1)
  ))(x, kernel)
  matmuls = [
    e for e in traced.jaxpr.eqns if e.primitive.name == 'dot_general'
  ]
  assert len(matmuls) == 3
  for equation in matmuls:
    assert {v.aval.dtype for v in equation.invars} == {jnp.dtype('bfloat16')}
    assert equation.outvars[0].aval.dtype == jnp.float32


def test_matmuls_accumulate_in_float32_both_ways():
  # 4096 ones: a bfloat16 sum would stop at 256.
  x, kernel = jnp.ones((4096, 1)), jnp.ones((1, 4096))

  def total(x, kernel):
    return jnp.sum(layers.matmul(x, kernel, 'bfloat16'))

  for grad in jax.grad(total, (0, 1))(x, kernel):
    np.testing.assert_array_equal(grad, jnp.full(grad.shape, 4096))
  ones = layers.matmul(kernel, x, 'bfloat16')
  np.testing.assert_array_equal(ones, [[4096]])


def test_only_the_matmuls_of_gated_blocks_become_bfloat16():
  x, condition = normal(12, 1, 4, 4, 8), normal(13, 1, 3)
  variables = layers.GatedBlock().init(jax.random.key(0), x, condition)
  variables = jax.tree.map(
    lambda a: a + 0.3 * normal(14, *a.shape), variables
  )

  def made(dtype):
    """The block's output, its matmuls, and its conversions to bfloat16."""
    block = layers.GatedBlock(matmul_dtype=dtype)
    text = str(jax.make_jaxpr(block.apply)(variables, x, condition))
    y = block.apply(variables, x, condition)
    return y, text.count('dot_general['), text.count('new_dtype=bfloat16')

  wide, narrow = made('float32'), made('bfloat16')
  # Four matmuls and two modulations; two inputs of each of the four.
  assert wide[1:] == (6, 0) and narrow[1:] == (6, 8)
  assert narrow[0].dtype == jnp.float32
  assert 0 < jnp.max(jnp.abs(narrow[0] - wide[0])) < 0.2


# --- Conditions -------------------------------------------------------------


def test_level_weights_are_exact_on_levels_and_linear_between():
  on_levels = layers.level_weights(jnp.arange(1.0, 7.0), 6)
  np.testing.assert_array_equal(on_levels, np.eye(6))
  between = layers.level_weights(jnp.array([2.25, 5.5]), 6)
  np.testing.assert_array_equal(between, [
    [0, 0.75, 0.25, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5],
  ])


def test_level_weights_clip_and_sum_to_one():
  quality = jnp.array([-3.0, 0.0, 1.0, 6.0, 6.01, 100.0])
  np.testing.assert_array_equal(
    layers.level_weights(quality, 6), np.eye(6)[[0, 0, 0, 5, 5, 5]]
  )
  weights = layers.level_weights(jnp.linspace(0.5, 6.5, 601), 6)
  assert weights.dtype == jnp.float32 and np.all(np.asarray(weights) >= 0)
  np.testing.assert_allclose(jnp.sum(weights, axis=-1), 1, rtol=1e-6)
  np.testing.assert_array_equal(
    layers.level_weights(jnp.array([2, 9]), 1), [[1], [1]]
  )


def test_embedding_tells_times_and_log_snrs_apart():
  for values in (jnp.linspace(0, 1, 101), jnp.linspace(-20, 20, 101)):
    e = layers.sinusoidal_embedding(values)
    assert e.shape == (101, 32)
    np.testing.assert_allclose(
      e[:, :16] ** 2 + e[:, 16:] ** 2, 1, rtol=1e-4
    )
    distance = np.linalg.norm(np.asarray(e[:, None] - e[None]), axis=-1)
    assert np.min(distance + 10 * np.eye(101)) > 0.05
