"""The score network: shape, start, and an exact field of view."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.models import receptive_field, score_net

# Two resolutions, unlike depths: 2-pixel cells and 4-pixel cells.
NET = score_net.ScoreNet(
  widths=(6, 8), depths=(1, 2), patch=2, num_levels=3, condition_features=8
)


def inputs(side, batch=1, seed=0):
  rng = np.random.default_rng(seed)
  z, x_hat = rng.standard_normal((2, batch, side, side, 3), np.float32)
  return z, x_hat, np.full(batch, 0.3, np.float32), np.full(batch, 1.7)


@functools.cache
def initial_params():
  return jax.jit(NET.init)(jax.random.key(0), *inputs(8))


@functools.cache
def random_params():
  """Every parameter is moved, so that every path carries something."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda p: rng.normal(0, 0.4, p.shape).astype(np.float32),
    jax.eval_shape(NET.init, jax.random.key(0), *inputs(8)),
  )


def field_of_view(x, side):
  """First and last pixel that output pixel x depends on, along one axis.

  Walks NET backwards: one cell to each side per block, and from one
  resolution to the other by the cells that cover the same pixels.
  """
  fine, coarse = side // 2, side // 4
  low = high = x // 2
  low, high = max(low - 1, 0), min(high + 1, fine - 1)  # the block going up
  # Down to the coarse cells, which see further than the skip does.
  low, high = low // 2, high // 2
  low, high = max(low - 2, 0), min(high + 2, coarse - 1)  # two blocks
  low, high = 2 * low, 2 * high + 1
  low, high = max(low - 1, 0), min(high + 1, fine - 1)  # the block going down
  return 2 * low, 2 * high + 1


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_output_is_zero_at_initialisation(dtype):
  z, x_hat, level, quality = inputs(8, batch=2)
  net = NET.clone(dtype=dtype)
  out = jax.jit(net.apply)(
    initial_params(), z[:, :4], x_hat[:, :4], level, quality
  )
  assert out.shape == (2, 4, 8, 3) and out.dtype == jnp.float32
  assert np.all(np.asarray(out) == 0)


def test_parameters_are_float32_whatever_the_dtype():
  net = NET.clone(dtype=jnp.bfloat16)
  for leaf in jax.tree.leaves(
    jax.eval_shape(net.init, jax.random.key(0), *inputs(8))
  ):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize('widths, patch, stride', [
  ((4,), 4, 4), ((4, 4), 4, 8), ((4, 4, 4), 4, 16), ((4, 4), 2, 4),
])
def test_stride_is_the_least_side_that_works(widths, patch, stride):
  net = score_net.ScoreNet(
    widths=widths, depths=(1,) * len(widths), patch=patch,
    condition_features=4,
  )
  assert receptive_field.score_stride(vars(net)) == stride

  def shape(side):
    out, _ = jax.eval_shape(
      net.init_with_output, jax.random.key(0), *inputs(side)
    )
    return out.shape

  assert shape(stride) == (1, stride, stride, 3)
  with pytest.raises(ValueError, match='must be multiples'):
    shape(stride + stride // 2)


def test_gradient_reaches_every_parameter():
  args = inputs(16, batch=2)
  args = *args[:3], np.array([1.4, 2.6])  # all three levels
  towards = np.random.default_rng(2).standard_normal((2, 16, 16, 3))
  grad = jax.jit(jax.grad(
    lambda p: jnp.sum(NET.apply(p, *args) * towards)
  ))
  # At initialisation the zero kernel of the output hides all the others.
  first = grad(initial_params())['params']
  last = first.pop('Dense_5')
  assert last['kernel'].shape[-1] == 2 * 2 * 6  # a gain and an offset each
  assert np.all(last['kernel'] != 0) and np.all(last['bias'] != 0)
  assert all(np.all(g == 0) for g in jax.tree.leaves(first))
  for path, g in jax.tree_util.tree_leaves_with_path(grad(random_params())):
    assert np.all(g != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize('argument', range(4))
def test_output_depends_on_every_input(argument):
  args = inputs(8)
  apply = jax.jit(NET.apply)
  moved = [a + 0.5 * (i == argument) for i, a in enumerate(args)]
  change = apply(random_params(), *args) - apply(random_params(), *moved)
  assert np.max(np.abs(change)) > 1e-3


@jax.jit
def input_gradients(z, x_hat, level, quality, row, column):
  """Of one output pixel, by both images."""
  return jax.grad(
    lambda z, x_hat: jnp.sum(
      NET.apply(random_params(), z, x_hat, level, quality)[0, row, column]
    ), (0, 1),
  )(z, x_hat)


@pytest.mark.parametrize('row, column', [(0, 17), (22, 35), (39, 20)])
def test_field_of_view_is_exact(row, column):
  side = 40
  z, x_hat, level, quality = inputs(side)
  grads = input_gradients(z, x_hat, level, quality, row, column)
  top, bottom = field_of_view(row, side)
  left, right = field_of_view(column, side)
  assert (bottom - top, right - left) < (side - 1, side - 1)
  expected = np.zeros((side, side), bool)
  expected[top:bottom + 1, left:right + 1] = True
  for grad in grads:
    np.testing.assert_array_equal(np.any(grad[0] != 0, axis=-1), expected)


def test_a_refinement_sees_one_pixel_beyond_a_patch():
  side, row, column = 40, 22, 35
  net = NET.clone(refine=4)
  rng = np.random.default_rng(3)
  params = jax.tree.map(
    lambda p: rng.normal(0, 0.4, p.shape).astype(np.float32),
    jax.eval_shape(net.init, jax.random.key(0), *inputs(8)),
  )
  z, x_hat, level, quality = inputs(side)
  grads = jax.jit(jax.grad(
    lambda z, x_hat: jnp.sum(
      net.apply(params, z, x_hat, level, quality)[0, row, column]
    ), (0, 1),
  ))(z, x_hat)
  views = [
    [field_of_view(x + by, side) for by in (-1, 1)] for x in (row, column)
  ]
  (top, bottom), (left, right) = (
    (low[0], high[1]) for low, high in views
  )
  expected = np.zeros((side, side), bool)
  expected[top:bottom + 1, left:right + 1] = True
  for grad in grads:
    np.testing.assert_array_equal(np.any(grad[0] != 0, axis=-1), expected)
  radius = receptive_field.score_net(vars(net))
  assert radius >= max(row - top, bottom - row, column - left)


def test_a_far_pixel_changes_nothing_and_a_near_one_does():
  side, x = 40, 20
  z, x_hat, level, quality = inputs(side)
  apply = jax.jit(NET.apply)
  whole = apply(random_params(), z, x_hat, level, quality)[0, :, x]
  first, last = field_of_view(x, side)
  assert first > 0 and last < side - 1
  for column, reaches in (
    (first - 1, False), (first, True), (last, True), (last + 1, False),
  ):
    spot = np.zeros_like(z)
    spot[0, x, column] = 10.0
    for moved in ((z + spot, x_hat), (z, x_hat + spot)):
      out = apply(random_params(), *moved, level, quality)[0, :, x]
      assert np.any(out[x] != whole[x]) == reaches, column


def test_skips_carry_detail_past_the_coarse_cells():
  z, x_hat, level, quality = inputs(8)
  params = random_params()
  up = jax.tree.map(np.zeros_like, params['params']['Dense_4'])
  assert up['kernel'].shape == (8, 4 * 6)
  muted = {'params': {**params['params'], 'Dense_4': up}}
  apply = jax.jit(NET.apply)
  change = apply(muted, z, x_hat, level, quality) - apply(
    muted, z + 0.5, x_hat, level, quality
  )
  assert np.max(np.abs(change)) > 1e-3


def test_examples_do_not_see_each_other():
  z, x_hat, level, quality = inputs(8, batch=2)
  apply = jax.jit(NET.apply)
  before = apply(random_params(), z, x_hat, level, quality)
  z[1], x_hat[1], level[1], quality[1] = 5, -5, 0.9, 3
  after = apply(random_params(), z, x_hat, level, quality)
  np.testing.assert_array_equal(before[0], after[0])
  assert np.all(np.asarray(before[1] != after[1]))
