"""The autoencoder: an orthonormal start, gains in log space, both transforms.

`lean` starts as an orthonormal transform codec: with all coefficients and no
rounding it returns its input.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import autoencoder as autoencoder_config
from gdc.models import autoencoder, elic, lean, receptive_field
from gdc.training import stages

TINY = {
  'lean': {'widths': (12, 16), 'depths': (1, 1), 'latent_channels': 16},
  'elic': {'widths': (6, 8, 8), 'latent_channels': 8},
}


def photo_like(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(np.float32)


def build(transforms='lean', **fields):
  return autoencoder.Autoencoder(
    transforms=transforms, num_levels=3, **{**TINY[transforms], **fields}
  )


def random_params(init, *args):
  """Parameters of init's shapes, random: every table differs by level."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda p: rng.normal(
      0, np.prod(p.shape[:-1]) ** -0.5 if p.ndim > 1 else 0.1, p.shape
    ).astype(np.float32),
    jax.eval_shape(init, *args),
  )


@functools.cache
def tiny(transforms='lean'):
  """The methods of a tiny model, and its parameters."""
  model = build(transforms)
  variables = random_params(
    model.init, jax.random.key(0), photo_like(1, 16, 16, 3), np.ones(1)
  )

  @functools.partial(jax.jit, static_argnames='method')
  def apply(*args, method):
    return model.apply(variables, *args, method=method)

  return apply, variables['params']


# --- The initial transform --------------------------------------------------


def gram(basis):
  return basis.T @ basis


@pytest.mark.parametrize('patch_width, merge_width', [
  (192, 768), (192, 256), (16, 24), (5, 20),
])
def test_bases_are_orthonormal(patch_width, merge_width):
  patch, merge = lean.initial_bases(patch_width, merge_width)
  assert patch.shape == (192, patch_width)
  assert merge.shape == (4 * patch_width, merge_width)
  np.testing.assert_allclose(gram(patch), np.eye(patch_width), atol=1e-12)
  np.testing.assert_allclose(gram(merge), np.eye(merge_width), atol=1e-12)


def test_surplus_channels_start_at_zero():
  patch, merge = lean.initial_bases(200, 800)
  assert patch.shape == (192, 200) and merge.shape == (800, 800)
  np.testing.assert_allclose(
    gram(patch), np.diag(np.arange(200) < 192), atol=1e-12
  )
  np.testing.assert_allclose(
    gram(merge), np.diag(np.arange(800) < 768), atol=1e-12
  )
  # Their inputs are not read either.
  unread = np.abs(merge.reshape(2, 2, 200, 800)[:, :, 192:]).max()
  assert unread == 0


def test_bases_are_ordered_by_frequency_and_colour():
  patch, merge = lean.initial_bases(192, 768)
  # The first channel is the mean, of brightness; colours come later.
  np.testing.assert_allclose(patch[:, 0], 1 / np.sqrt(192))
  whole = np.einsum('pc,rscm->rspm', patch, merge.reshape(2, 2, 192, 768))
  np.testing.assert_allclose(whole[..., 0], 1 / np.sqrt(768))
  # Truncation is nested: a narrower one is the first part of a wider one.
  narrow, _ = lean.initial_bases(16, 24)
  np.testing.assert_array_equal(narrow, patch[:, :16])
  # Smooth images end in the first channels, and noise is spread evenly.
  row, column = np.mgrid[:8, :8] / 8
  smooth = np.repeat((row + 0.5 * column**2)[..., None], 3, axis=-1).ravel()
  energy = (smooth @ patch) ** 2
  assert energy[:12].sum() > 0.99 * energy.sum()


def test_full_widths_return_the_image_when_nothing_is_rounded():
  model = build(
    widths=(192, 768), depths=(1, 1), latent_channels=768
  )
  image = photo_like(2, 16, 32, 3)
  quality = np.array([1.0, 2.5])
  variables = jax.jit(model.init)(jax.random.key(0), image, quality)

  @jax.jit
  def round_trip(variables):
    y = model.apply(variables, image, quality, method='encode')
    return y, model.apply(variables, y, quality, method='decode')

  y, decoded = round_trip(variables)
  assert y.shape == (2, 1, 2, 768)
  # The residual branches start near zero, but not at it.
  assert 1e-5 < np.max(np.abs(decoded - image)) < 0.05
  _, exact = round_trip(jax.tree_util.tree_map_with_path(
    lambda path, p: 0 * p if 'GatedBlock' in str(path) else p, variables
  ))
  np.testing.assert_allclose(exact, image, atol=2e-6)
  # Orthonormal but for the gain: energy is kept.
  gain = model.initial_gain * 2 ** ((quality - 1) / 2)
  np.testing.assert_allclose(
    np.sum(y**2, (1, 2, 3)) / gain**2, np.sum(image**2, (1, 2, 3)), rtol=0.02
  )


# --- Qualities --------------------------------------------------------------


def test_initial_gains_double_every_two_levels_and_cancel():
  model = build(initial_gain=1.25)
  params = model.init(
    jax.random.key(0), np.ones(1), method='level_weights'
  )['params']
  gain = np.exp(params['log_gain'])
  assert gain.shape == (3, 16)
  np.testing.assert_allclose(gain[:, 0], [1.25, 1.25 * 2**0.5, 2.5], 1e-6)
  np.testing.assert_array_equal(
    params['log_inverse_gain'], -params['log_gain']
  )


def test_encode_multiplies_and_decode_divides_in_log_space():
  apply, params = tiny('elic')  # the level acts through the gains alone
  quality = np.array([1, 2, 3, 1.5, 2.75])
  image = np.repeat(photo_like(1, 16, 16, 3), 5, axis=0)
  weights = np.zeros((5, 3))

  def gain(table):
    low = np.minimum(quality, 2).astype(int) - 1
    share = (quality - 1 - low)[:, None]
    mixed = (1 - share) * table[low] + share * table[low + 1]
    return np.exp(mixed)[:, None, None]

  y = jax.jit(elic.Analysis(**TINY['elic']).apply)(
    {'params': params['analysis']}, image, weights
  )
  encoded = apply(image, quality, method='encode')
  np.testing.assert_allclose(
    encoded, y * gain(params['log_gain']), rtol=1e-4, atol=1e-5
  )
  synthesis = elic.Synthesis(widths=TINY['elic']['widths'])
  decoded = apply(y, quality, method='decode')
  expected = jax.jit(synthesis.apply)(
    {'params': params['synthesis']}, y * gain(params['log_inverse_gain']),
    weights,
  )
  np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-4)


def test_rmse_is_its_table_on_levels_and_geometric_between():
  apply, params = tiny()
  rmse = np.exp(params['log_rmse'])
  found = apply(np.array([1, 2, 3, 1.5]), method='rmse')
  expected = [*rmse, np.sqrt(rmse[0] * rmse[1])]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('transforms', receptive_field.TRANSFORMS)
def test_quality_is_clipped_and_belongs_to_its_example(transforms):
  apply, _ = tiny(transforms)
  image = np.repeat(photo_like(1, 16, 16, 3), 4, axis=0)
  quality = np.array([-5.0, 1.0, 3.0, 99.0])
  y = apply(image, quality, method='encode')
  decoded = apply(y[2:3].repeat(4, 0), quality, method='decode')
  bits = apply(y[2:3].repeat(4, 0), quality, method='bin_bits')
  rmse = apply(quality, method='rmse')
  for found in (y, decoded, bits, rmse):
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    assert np.max(np.abs(found[1] - found[2])) > 1e-3


# --- Both pairs of transforms -----------------------------------------------


@pytest.mark.parametrize('transforms', receptive_field.TRANSFORMS)
def test_transforms_are_sixteen_times_smaller_and_back(transforms):
  apply, _ = tiny(transforms)
  image, quality = photo_like(2, 32, 48, 3), np.array([1.0, 2.5])
  y = apply(image, quality, method='encode')
  assert y.shape == (2, 2, 3, TINY[transforms]['latent_channels'])
  assert y.dtype == jnp.float32
  decoded = apply(jnp.round(y), quality, method='decode')
  assert decoded.shape == image.shape and decoded.dtype == jnp.float32
  bits = apply(y, quality, method='bin_bits')
  assert bits.shape == y.shape and np.all(np.asarray(bits) > 0)
  np.testing.assert_allclose(
    apply(image, quality, method='reconstruct'), np.clip(decoded, -1, 1),
    atol=1e-3,
  )


@pytest.mark.parametrize('transforms', receptive_field.TRANSFORMS)
def test_bfloat16_layers_keep_float32_latents_and_parameters(transforms):
  model = build(transforms, dtype=jnp.bfloat16)
  (decoded, bits, rmse), variables = jax.eval_shape(
    model.init_with_output, jax.random.key(0), photo_like(1, 16, 16, 3),
    np.ones(1),
  )
  y = jax.eval_shape(
    functools.partial(model.apply, method='encode'), variables,
    photo_like(1, 16, 16, 3), np.ones(1),
  )
  leaves = [decoded, bits, rmse, y, *jax.tree.leaves(variables)]
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}


def test_bfloat16_matmuls_are_in_the_blocks_alone():
  """Layers that map pixels and latents keep float32 inputs."""
  model = build('lean', matmul_dtype='bfloat16')
  image, quality = photo_like(1, 16, 16, 3), np.ones(1)
  variables = jax.eval_shape(model.init, jax.random.key(0), image, quality)
  traced = jax.make_jaxpr(
    functools.partial(model.apply, method='reconstruct')
  )(variables, image, quality)
  text = str(traced)
  # Two blocks a side; two inputs of each of their four matmuls.
  assert text.count('new_dtype=bfloat16') == 4 * 4 * 2
  assert text.count('dot_general[') > 4 * 4
  assert traced.out_avals[0].dtype == jnp.float32


def test_unknown_transforms_are_named():
  model = autoencoder.Autoencoder(transforms='fourier')
  with pytest.raises(ValueError, match="'lean', 'elic'.*not 'fourier'"):
    jax.eval_shape(
      model.init, jax.random.key(0), photo_like(1, 16, 16, 3), np.ones(1)
    )


def test_lean_names_sides_that_are_not_multiples_of_sixteen():
  for h, w in ((24, 16), (16, 20)):
    with pytest.raises(ValueError, match='must be multiples of'):
      jax.eval_shape(
        build().init, jax.random.key(0), photo_like(1, h, w, 3), np.ones(1)
      )


@pytest.mark.parametrize('transforms', receptive_field.TRANSFORMS)
def test_the_loss_of_stage_one_reaches_every_parameter(transforms):
  config = autoencoder_config.get_config('tiny')
  with config.unlocked():
    config.autoencoder.update(
      transforms=transforms, predicted_channels=(0, 5), **TINY[transforms]
    )
  stage = stages.build(config)
  rng = np.random.default_rng(3)
  batch = {'image': rng.integers(0, 256, (8, 16, 16, 3), np.uint8)}
  params = random_params(stage.init, jax.random.key(0), batch)
  step = jax.jit(
    jax.grad(stage.loss, has_aux=True),
    compiler_options={'xla_backend_optimization_level': 0},  # compiles faster
  )
  grads, metrics = step(params, {}, batch, jax.random.key(1))
  assert np.isfinite(metrics['rd'])
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    assert np.all(np.isfinite(grad)), name
    assert np.any(grad != 0), name
    if 'gain' in name or 'rmse' in name or 'prior' in name:
      assert np.all(np.any(grad.reshape(6, -1) != 0, axis=1)), name
