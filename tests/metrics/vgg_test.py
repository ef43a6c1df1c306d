"""VGG16 against its definition, from the raw weights in float64."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.metrics import lpips, vgg


@pytest.fixture(scope='module')
def params():
  return lpips.weights('vgg')['VGG16_0']


def images(height, width, batch=1):
  rng = np.random.default_rng(0)
  return rng.uniform(0, 1, (batch, height, width, 3))


def windows(x, size, stride):
  views = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))
  return views[::stride, ::stride]


def max_pool(x):
  return windows(x, 2, 2).max((-2, -1))


def l2_pool(x):
  hanning = np.hanning(5)[1:-1]
  window = np.outer(hanning, hanning)
  x = np.pad(x**2, ((1, 1), (1, 1), (0, 0)))
  return np.sqrt(
    np.einsum('hwcij,ij->hwc', windows(x, 3, 2), window / window.sum())
  )


def features(params, image, pool):
  x = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  maps = []
  # Configuration D of the paper, in the numbers of its convolutions.
  for stage in ([0, 1], [2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]):
    if stage[0]:
      x = pool(x)
    for index in stage:
      layer = params[f'Conv_{index}']
      patches = windows(np.pad(x, ((1, 1), (1, 1), (0, 0))), 3, 1)
      x = np.einsum(
        'hwcij,ijco->hwo', patches, np.float64(layer['kernel']), optimize=True
      )
      x = np.maximum(x + np.float64(layer['bias']), 0)
    maps.append(x)
  return maps


@pytest.mark.parametrize('name, pool, last', [
  ('max', max_pool, (1, 1)), ('l2', l2_pool, (1, 2)),
])
def test_matches_the_definition_written_out_in_numpy(params, name, pool, last):
  image = images(16, 19)  # odd sides on the way down
  found = jax.jit(vgg.features, static_argnums=2)(
    params, jnp.float32(image), name
  )
  expected = features(params, image[0], pool)
  assert [f.shape[-1] for f in found] == [64, 128, 256, 512, 512]
  assert found[-1].shape == (1, *last, 512)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a[0], b, atol=1e-4 * b.max())
    assert b.max() > 0.1


def test_layers_are_those_of_the_package(params):
  channels = [c for stage in vgg.STAGES for c in stage]
  assert len(params) == len(channels) == 13
  for index, (before, after) in enumerate(
    zip([3, *channels], channels, strict=False)
  ):
    assert params[f'Conv_{index}']['kernel'].shape == (3, 3, before, after)


@pytest.mark.parametrize('dtype, highest', [('float32', 26), ('bfloat16', 0)])
def test_only_float32_asks_for_all_of_its_digits(params, dtype, highest):
  image = jnp.zeros((1, 16, 16, 3))
  program = jax.jit(vgg.features, static_argnames='dtype').lower(
    params, image, dtype=dtype
  ).as_text()
  assert program.count('stablehlo.convolution') == 13
  assert program.count('#stablehlo<precision HIGHEST>') == highest
