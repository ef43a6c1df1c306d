"""Patches by the protocol, and features of them."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, ImageFilter

from gdc.metrics import frechet, inception, lpips, patch_features, vgg

# --- Patches ----------------------------------------------------------------


@pytest.mark.parametrize('height,width,first,second', [
  (255, 1000, 0, 0),
  (256, 256, 1, 0),
  (383, 512, 2, 0),
  (384, 384, 1, 1),
  (512, 383, 2, 0),
  (512, 512, 4, 1),
  (640, 512, 4, 2),
  (1000, 700, 6, 6),
])
def test_patches_are_two_grids(height, width, first, second):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (height, width, 3), np.uint8)
  found = patch_features.patches(image)
  assert found.dtype == np.uint8
  assert found.shape == (first + second, 256, 256, 3)
  corners = [
    (y, x)
    for start, count in ((0, first), (128, second)) if count
    for y in range(start, height - 255, 256)
    for x in range(start, width - 255, 256)
  ]
  for patch, (y, x) in zip(found, corners, strict=True):
    np.testing.assert_array_equal(patch, image[y:y + 256, x:x + 256])


def test_patches_take_8_bit_rgb():
  with pytest.raises(ValueError, match='float64.*uint8'):
    patch_features.patches(np.zeros((256, 256, 3)))


# --- Features ---------------------------------------------------------------


def _texture(seed, height=512, width=512):
  """Noise of several scales: texture that a blur takes away."""
  rng = np.random.default_rng(seed)
  layers = [
    Image.fromarray(
      rng.integers(0, 256, (height // s, width // s, 3), np.uint8)
    ).resize((width, height), Image.Resampling.BICUBIC)
    for s in (1, 2, 4, 16)
  ]
  mean = np.mean([np.asarray(layer, np.float64) for layer in layers], 0)
  return mean.round().astype(np.uint8)


def _blur(image, radius):
  return np.asarray(
    Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
  )


def test_vgg16_is_the_mean_of_relu5_3():
  extractor = patch_features.vgg16()
  patches = patch_features.patches(_texture(0, 256, 512))
  found = extractor(patches)
  assert found.shape == (2, 512) and found.dtype == np.float32
  maps = jax.jit(vgg.features)(
    lpips.weights('vgg')['VGG16_0'], jnp.asarray(patches[:1], jnp.float32) / 255
  )
  assert maps[-1].shape == (1, 16, 16, 512)
  np.testing.assert_allclose(
    found[:1], np.mean(maps[-1], (1, 2)), rtol=1e-3, atol=1e-4
  )
  # A resumed run finds the same bits, whatever came before a patch.
  np.testing.assert_array_equal(extractor(patches[1:]), found[1:])
  assert extractor is patch_features.vgg16()

  blurred = [
    extractor(np.stack([_blur(patch, radius) for patch in patches]))
    for radius in (0.7, 4)
  ]
  for metric in (frechet.kid, frechet.distance):
    same, little, much = (metric(found, x) for x in (found, *blurred))
    assert same < little < much


def test_no_patches_have_no_features():
  found = patch_features.vgg16()(np.zeros((0, 256, 256, 3), np.uint8))
  assert found.shape == (0, 512) and found.dtype == np.float32


def test_inception_reads_a_file(tmp_path):
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file({
    name: np.full(shape, 0.01, np.float32)
    for name, shape in inception.shapes().items()
  }, path)
  extractor = patch_features.inception(path)
  assert (extractor.network, extractor.dimension) == ('inception', 2048)
  assert extractor(np.zeros((0, 256, 256, 3), np.uint8)).shape == (0, 2048)


def test_the_digest_is_of_names_and_values():
  digests = {
    patch_features._extractor(
      'n', params, lambda params, patch: jnp.zeros(3)
    ).digest
    for params in (
      {'a': np.zeros(2)}, {'b': np.zeros(2)}, {'a': np.ones(2)},
      {'a': np.zeros((2, 1))},
    )
  }
  assert len(digests) == 4


def test_inception_refuses_other_files(tmp_path):
  with pytest.raises(ValueError, match='absent.safetensors is not a file'):
    patch_features.inception(tmp_path / 'absent.safetensors')
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file({'a': np.zeros(1, np.float32)}, path)
  with pytest.raises(ValueError, match='w.safetensors does not hold.*missing'):
    patch_features.inception(path)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match='w.safetensors does not hold'):
    patch_features.inception(path)
  path = path.rename(tmp_path / 'pt_inception-2015-12-05-6726825d.pth')
  with pytest.raises(ValueError, match='.pth was written by torch: convert it'):
    patch_features.inception(path)
