import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdc.training import state as train_state


def _optimizer(schedule=1.0, **changes):
  fields = {'clip': 1e9, 'b2': 0.99, 'fast_factor': 10.0}
  return train_state.optimizer(
    optax.constant_schedule(schedule), **{**fields, **changes}
  )


def _params():
  return {
    'conv': {'kernel': jnp.full((3, 2), 0.5), 'bias': jnp.zeros(2)},
    'prior': {'log_scale': jnp.ones((2, 4))},
    'log_rmse': jnp.zeros(3),
  }


# --- Learning rate ----------------------------------------------------------


def test_learning_rate_warms_up_stays_and_decays():
  rate = train_state.learning_rate(1e-3, 1000, 100, 0.4)
  np.testing.assert_allclose(rate(0), 1e-5, rtol=1e-5)
  np.testing.assert_allclose(rate(50), (1e-3 + 1e-5) / 2, rtol=1e-5)
  for step in (100, 300, 600):
    np.testing.assert_allclose(rate(step), 1e-3, rtol=1e-6)
  # A cosine from 1 to 0.01, halfway through.
  np.testing.assert_allclose(rate(800), 1e-3 * 1.01 / 2, rtol=1e-5)
  np.testing.assert_allclose(rate(1000), 1e-5, rtol=1e-4)
  falling = [float(rate(step)) for step in range(600, 1001, 20)]
  assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize('steps,warmup,decay', [
  (4, 1, 0.4), (10, 0, 0.0), (10, 10, 1.0), (5, 100, 0.4), (1, 1, 1.0),
])
def test_learning_rate_of_short_runs_is_positive_and_bounded(
  steps, warmup, decay
):
  rate = train_state.learning_rate(2.0, steps, warmup, decay)
  values = [float(rate(step)) for step in range(steps)]
  assert all(0 < v <= 2.0 + 1e-6 for v in values), values


# --- Optimiser --------------------------------------------------------------


def test_fast_parameters_move_fast_factor_times_as_far():
  params = _params()
  tx = _optimizer(1e-3, fast_factor=7.0)
  grads = jax.tree.map(jnp.ones_like, params)
  # Adam's first update is of unit size, whatever the gradient.
  updates, _ = tx.update(grads, tx.init(params), params)
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    fast = path[0].key in ('prior', 'log_rmse')
    np.testing.assert_allclose(
      update, -1e-3 * (7 if fast else 1), rtol=1e-4, err_msg=str(path)
    )


def test_fast_names_are_parameters_of_the_autoencoder(tiny_bundle):
  found = set()
  for path, _ in jax.tree_util.tree_leaves_with_path(
    tiny_bundle.autoencoder_params
  ):
    found |= {p.key for p in path}
  assert set(train_state.FAST) <= found


def test_clipping_is_by_the_norm_of_the_whole_gradient():
  params = {'a': jnp.zeros(()), 'b': jnp.zeros(())}
  grads = {'a': jnp.array(30.0), 'b': jnp.array(40.0)}
  moments = {}
  for clip in (1.0, 1e3):
    tx = _optimizer(clip=clip)
    _, opt_state = tx.update(grads, tx.init(params), params)
    mu = optax.tree_utils.tree_get(opt_state, 'mu')
    moments[clip] = np.array([mu['a'], mu['b']])
  # Adam keeps a tenth of what it is given.
  np.testing.assert_allclose(moments[1.0], [0.06, 0.08], rtol=1e-5)
  np.testing.assert_allclose(moments[1e3], [3.0, 4.0], rtol=1e-5)


# --- State ------------------------------------------------------------------


def _pointers(tree):
  return [
    shard.data.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards
  ]


@pytest.mark.parametrize('jit', [False, True])
def test_params_and_averages_share_no_buffer(jit):
  tx = _optimizer()

  def create(params, key):
    return train_state.create(params, tx, key)

  if jit:
    create = jax.jit(create)
  state = create(_params(), jax.random.key(0))
  arrays = (state.params, state.ema_params, state.opt_state)
  pointers = _pointers(arrays)
  assert len(set(pointers)) == len(pointers)
  jax.tree.map(np.testing.assert_array_equal, state.params, state.ema_params)
  # So that a step may have its buffers.
  step = jax.jit(
    lambda s: train_state.apply_gradients(s, s.params, tx, 0.9),
    donate_argnums=0,
  )
  assert int(step(state).step) == 1


def test_a_step_counts_and_keeps_the_key():
  tx = _optimizer(1e-3)
  state = train_state.create(_params(), tx, jax.random.key(3))
  assert state.step.dtype == jnp.int32
  new = train_state.apply_gradients(state, _params(), tx, 0.9)
  assert (int(state.step), int(new.step)) == (0, 1)
  assert (jax.random.key_data(new.key) == jax.random.key_data(state.key)).all()


def _averages(values, decay):
  """The average after each of a list of parameter values."""
  tx = optax.GradientTransformation(
    lambda params: (), lambda grads, state, params: (grads, state)
  )
  state = train_state.create({'w': jnp.zeros(())}, tx, jax.random.key(0))
  averages = []
  for value in values:
    grads = {'w': value - state.params['w']}  # the update, as it is
    state = train_state.apply_gradients(state, grads, tx, decay)
    averages.append(float(state.ema_params['w']))
  return averages


def test_average_warms_up():
  # decay (1 + step) / (10 + step): 2/11 at the first step, 3/12 at the next.
  first, second = _averages([1.0, 1.0], 0.999)
  assert first == pytest.approx(1 - 2 / 11, rel=1e-5)
  assert second == pytest.approx(1 - 2 / 11 * 3 / 12, rel=1e-5)


def test_average_decays_as_asked_once_warm():
  *_, before, after = _averages([0.0] * 100 + [1.0], 0.9)
  assert before == 0
  assert after == pytest.approx(0.1, rel=1e-5)


def test_average_of_bfloat16_gradients_stays_float32():
  tx = _optimizer(1e-3)
  state = train_state.create(_params(), tx, jax.random.key(0))
  grads = jax.tree.map(lambda p: p.astype(jnp.bfloat16), _params())
  state = train_state.apply_gradients(state, grads, tx, 0.999)
  kinds = {a.dtype for a in jax.tree.leaves((state.params, state.ema_params))}
  assert kinds == {jnp.dtype('float32')}
