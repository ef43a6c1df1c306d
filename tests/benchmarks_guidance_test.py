"""Guidance, on linear transforms whose answers are known."""
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.models import layers

_PATH = pathlib.Path(__file__).parents[1] / 'benchmarks' / 'guidance.py'
_SPEC = importlib.util.spec_from_file_location('guidance', _PATH)
guidance = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(guidance)

SHAPE = (2, 4, 4, 3)
LATENTS = 20  # fewer than the 48 values of an image: some detail is not coded


def _rng():
  return np.random.default_rng(5)


def _orthonormal():
  """[LATENTS, 48] with orthonormal rows, times a gain: steps of 1 / 8."""
  q, _ = np.linalg.qr(_rng().normal(size=(48, LATENTS)))
  return jnp.asarray(8 * q.T, jnp.float32)


def _codec(matrix):
  """Analysis and its pseudo-inverse, as functions of images and latents."""
  inverse = jnp.asarray(np.linalg.pinv(np.asarray(matrix, np.float64)))

  def encode(image):
    return image.reshape(len(image), -1) @ matrix.T

  def decode(latents):
    return (latents @ inverse.T).reshape(-1, *SHAPE[1:])

  return encode, decode


def _image():
  return jnp.asarray(_rng().uniform(-1, 1, SHAPE), jnp.float32)


def _elsewhere(encode, image):
  """Integers of a image nearby, and that image."""
  other = image + jnp.asarray(_rng().normal(0, 0.2, SHAPE), jnp.float32)
  symbols = jnp.round(encode(other))
  assert (symbols != jnp.round(encode(image))).mean() > 0.3
  return symbols, other


def _energy(encode, image, symbols, width=1.0):
  outside = guidance.excess(encode(image), symbols, width)
  return np.sum(np.square(outside), axis=1)


def test_excess_has_its_sign_and_is_zero_inside():
  latents = jnp.array([[-0.7, -0.5, 0.2, 0.5, 2.0]])
  np.testing.assert_allclose(
    guidance.excess(latents, jnp.zeros_like(latents)),
    [[-0.2, 0, 0, 0, 1.5]], rtol=1e-6,
  )
  np.testing.assert_allclose(
    guidance.excess(latents, jnp.zeros_like(latents), 0.5),
    [[-0.45, -0.25, 0, 0.25, 1.75]], rtol=1e-6,
  )
  np.testing.assert_array_equal(
    guidance.excess(latents, jnp.ones_like(latents), 0), latents - 1
  )


@pytest.mark.parametrize('width', [1.0, 0.5, 0.0])
def test_projection_lands_in_the_cells(width):
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  assert (_energy(encode, image, symbols, width) > 0.1).all()
  moved = guidance.project(encode, decode, image, symbols, 1.0, width)
  np.testing.assert_allclose(
    guidance.excess(encode(moved), symbols, width), 0, atol=1e-4
  )


def test_projection_is_the_nearest_image_of_the_set():
  """The rest of the image stays, and no image of the set gets further."""
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols, other = _elsewhere(encode, image)
  moved = guidance.project(encode, decode, image, symbols)

  def unseen(x):
    return x - decode(encode(x))

  np.testing.assert_allclose(unseen(moved), unseen(image), atol=1e-5)
  # Of a convex set: <x - p, q - p> <= 0 for the projection p, any q of it.
  inner = jnp.sum((image - moved) * (other - moved), axis=(1, 2, 3))
  assert (inner <= 1e-4).all()
  assert (inner < -1e-2).any()


def test_width_of_nothing_leaves_what_latents_do_not_see():
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  np.testing.assert_allclose(
    guidance.project(encode, decode, image, symbols, 1.0, 0.0),
    decode(symbols) + image - decode(encode(image)), atol=1e-5,
  )


@pytest.mark.parametrize('strength', [0.25, 1.0, 1.75])
def test_strength_is_a_share_of_the_projection(strength):
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  whole = guidance.project(encode, decode, image, symbols)
  part = guidance.project(encode, decode, image, symbols, strength)
  np.testing.assert_allclose(
    part - image, strength * (whole - image), atol=1e-5
  )


def test_a_image_that_is_in_its_cells_is_left_alone():
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols = jnp.round(encode(image))
  np.testing.assert_array_equal(
    guidance.project(encode, decode, image, symbols), image
  )
  np.testing.assert_array_equal(
    guidance.descend(encode, image, symbols), image
  )


def test_gradient_step_is_the_projection_of_an_orthonormal_transform():
  encode, decode = _codec(_orthonormal())
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  np.testing.assert_allclose(
    guidance.descend(encode, image, symbols),
    guidance.project(encode, decode, image, symbols), atol=1e-5,
  )


@pytest.mark.parametrize('strength', [0.5, 1.0, 1.9])
def test_gradient_steps_reduce_the_excess_of_any_linear_transform(strength):
  matrix = jnp.asarray(_rng().normal(size=(LATENTS, 48)), jnp.float32)
  # Gains from 1 to 10: no one length suits all directions.
  encode, _ = _codec(matrix * jnp.geomspace(1, 10, LATENTS)[:, None])
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  before = _energy(encode, image, symbols)
  for _ in range(3):
    image = guidance.descend(encode, image, symbols, strength)
    after = _energy(encode, image, symbols)
    assert (after < before).all()
    before = after


def test_gradient_step_has_the_length_that_minimises_its_bound():
  """|d - length J g|^2, for an analysis that is not linear."""
  matrix = jnp.asarray(_rng().normal(size=(LATENTS, 48)), jnp.float32)

  def encode(image):
    return 4 * jnp.tanh(image.reshape(len(image), -1) @ matrix.T / 4)

  image = _image()
  symbols, _ = _elsewhere(encode, image)
  outside = guidance.excess(encode(image), symbols)
  moved = guidance.descend(encode, image, symbols) - image
  _, change = jax.jvp(encode, (image,), (moved,))
  left = np.sum(np.square(outside + change), axis=1)
  for factor in (0.98, 1.02):
    assert (
      left < np.sum(np.square(outside + factor * change), axis=1)
    ).all()
  # And it goes down the gradient.
  gradient = jax.grad(lambda x: jnp.sum(
    guidance.excess(encode(x), symbols)**2
  ))(image)
  cosine = jnp.sum(gradient * moved, axis=(1, 2, 3)) / (
    jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3)))
    * jnp.sqrt(jnp.sum(moved**2, axis=(1, 2, 3)))
  )
  np.testing.assert_allclose(cosine, -1, atol=1e-5)


def test_examples_of_a_batch_do_not_meet():
  """One is in its cells and stays; the other goes where it goes alone."""
  encode, _ = _codec(_orthonormal())
  image = _image()
  symbols, _ = _elsewhere(encode, image)
  symbols = symbols.at[0].set(jnp.round(encode(image))[0])
  both = guidance.descend(encode, image, symbols)
  np.testing.assert_array_equal(both[0], image[0])
  alone = guidance.descend(encode, image[1:], symbols[1:])
  np.testing.assert_allclose(both[1:], alone, atol=1e-6)
  assert np.abs(both[1] - image[1]).max() > 1e-2


def test_layers_with_derivatives_by_hand_can_be_guided():
  """They have no forward mode; the length of a step must do without it."""
  kernel = jnp.asarray(_rng().normal(size=(3, 3, 3)), jnp.float32)

  def encode(image):
    return 4 * layers.depthwise(image, kernel)

  image = _image()
  symbols, _ = _elsewhere(encode, image)
  moved = guidance.descend(encode, image, symbols)

  def energy(x):
    return jnp.sum(guidance.excess(encode(x), symbols) ** 2, axis=(1, 2, 3))

  assert (energy(moved) < 0.9 * energy(image)).all()
