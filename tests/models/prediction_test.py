"""Differences of latents: those of the codec, with gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder as autoencoder_config
from gdc.codec import prediction as coded
from gdc.models import autoencoder, prediction


def latents(*shape, scale=8.0):
  rng = np.random.default_rng(0)
  return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


def test_differences_of_integers_are_those_that_are_coded():
  y = jnp.round(latents(2, 5, 7, 4))
  made = prediction.differences(y, (2, 0))
  for image, ours in zip(np.asarray(y), np.asarray(made), strict=True):
    symbols = np.moveaxis(image, -1, 0).reshape(4, -1).astype(np.int32)
    expected = coded.to_differences(symbols, 5, (2, 0))
    np.testing.assert_array_equal(
      np.moveaxis(ours, -1, 0).reshape(4, -1), expected
    )


def test_predictions_are_from_rounded_neighbours():
  y = latents(1, 5, 7, 3)
  offset = prediction.differences(y, (1,)) - y
  expected = prediction.differences(jnp.round(y), (1,)) - jnp.round(y)
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
    lambda y: prediction.differences(y, (0,))[0, 1, 1, 0]
  )(y)[0, :, :, 0]
  np.testing.assert_array_equal(grad, [[by_corner, by_above], [by_left, 1]])


def test_without_channels_nothing_changes():
  y = latents(1, 2, 3, 4)
  assert prediction.differences(y, ()) is y


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
  """The channels that a flat picture reaches, one for each colour."""
  fields = autoencoder_config.get_config(variant).autoencoder
  patch, merge = autoencoder.initial_bases(*fields.widths)
  reached = set()
  for colour in np.eye(3):
    flat = np.tile(colour, 4 * 64).reshape(4, -1) @ patch
    reached |= set(np.flatnonzero(np.abs(flat.reshape(-1) @ merge) > 1e-6))
  assert reached == set(fields.predicted_channels)
