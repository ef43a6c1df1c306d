"""Rounding and prediction in training: values, gradients, uniform noise."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder as autoencoder_config
from gdc.codec import prediction as coded
from gdc.models import autoencoder, lean, quantization


def test_rounding_gives_exact_integers_and_the_gradient_of_the_identity():
  y = jnp.concatenate([
    jnp.linspace(-3, 3, 241), jnp.array([-1e5 - 0.3, 0.49999997, 12345.67])
  ])
  rounded = jax.jit(quantization.round_straight_through)(y)
  np.testing.assert_array_equal(rounded, np.round(np.asarray(y)))
  towards = jnp.arange(len(y)) + 1.0
  grad = jax.grad(
    lambda y: jnp.sum(towards * quantization.round_straight_through(y))
  )(y)
  np.testing.assert_array_equal(grad, towards)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_noise_is_uniform_in_the_unit_bin_and_differentiable(dtype):
  y = jnp.zeros((100, 200), dtype)
  noisy = quantization.add_uniform_noise(jax.random.key(0), y)
  assert noisy.dtype == dtype
  u = np.asarray(noisy, np.float64)
  assert u.min() >= -0.5 and u.max() <= 0.5
  count = np.histogram(u, 10, (-0.5, 0.5))[0]
  assert np.all(np.abs(count - 2000) < 6 * np.sqrt(2000 * 0.9))
  # Neighbours have their own draws.
  assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.03
  grad = jax.grad(
    lambda y: jnp.sum(quantization.add_uniform_noise(jax.random.key(0), y))
  )(y)
  assert np.all(np.asarray(grad) == 1)


def test_noise_comes_from_the_key():
  y = jnp.arange(12.0).reshape(3, 4)
  first, again, other = (
    quantization.add_uniform_noise(jax.random.key(k), y) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.all(np.asarray(first) != np.asarray(other))


# --- Differences from predictions -------------------------------------------


def latents(*shape, scale=8.0):
  rng = np.random.default_rng(0)
  return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


def test_differences_of_integers_are_those_that_are_coded():
  y = jnp.round(latents(2, 5, 7, 4))
  made = quantization.differences(y, (2, 0))
  for image, ours in zip(np.asarray(y), np.asarray(made), strict=True):
    symbols = np.moveaxis(image, -1, 0).reshape(4, -1).astype(np.int32)
    expected = coded.to_differences(symbols, 5, (2, 0))
    np.testing.assert_array_equal(
      np.moveaxis(ours, -1, 0).reshape(4, -1), expected
    )


def test_predictions_are_from_rounded_neighbours():
  y = latents(1, 5, 7, 3)
  offset = quantization.differences(y, (1,)) - y
  expected = quantization.differences(jnp.round(y), (1,)) - jnp.round(y)
  np.testing.assert_allclose(offset, expected, atol=1e-5)
  assert jnp.any(offset[..., 1]) and not jnp.any(offset[..., ::2])


@pytest.mark.parametrize('corner, by_corner, by_left, by_above', [
  (9.1, 0, -1, 0),  # above both: the smaller of left and above predicts
  (1.2, 0, 0, -1),  # below both: the larger
  (5.8, 1, -1, -1),  # between: the plane through all three
])
def test_gradients_reach_the_neighbours(
  corner, by_corner, by_left, by_above
):
  left, above, own = 4.9, 7.1, 3.3
  y = jnp.array([[corner, above], [left, own]])[None, :, :, None]
  grad = jax.grad(
    lambda y: quantization.differences(y, (0,))[0, 1, 1, 0]
  )(y)[0, :, :, 0]
  np.testing.assert_array_equal(grad, [[by_corner, by_above], [by_left, 1]])


def test_without_channels_nothing_changes():
  y = latents(1, 2, 3, 4)
  assert quantization.differences(y, ()) is y


@pytest.mark.parametrize('channels', [(3, 24), (-1,), (2, 2)])
def test_channels_are_checked(channels):
  model = autoencoder.Autoencoder(
    widths=(16, 24), depths=(1, 1), latent_channels=24,
    predicted_channels=channels,
  )
  with pytest.raises(ValueError, match='predicted_channels must be .* 0 to 23'):
    jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.ones(1)
    )


@pytest.mark.parametrize('variant', ['default', 'tiny'])
def test_the_configs_predict_the_means(variant):
  """The channels that a flat image reaches, one for each colour."""
  fields = autoencoder_config.get_config(variant).autoencoder
  patch, merge = lean.initial_bases(*fields.widths)
  reached = set()
  for colour in np.eye(3):
    flat = np.tile(colour, 4 * 64).reshape(4, -1) @ patch
    reached |= set(np.flatnonzero(np.abs(flat.reshape(-1) @ merge) > 1e-6))
  assert reached == set(fields.predicted_channels)
