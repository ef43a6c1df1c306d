"""Patches by the protocol, and features of them."""
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
  picture = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
  return np.asarray(picture)


def test_vgg16_is_the_mean_of_relu5_3():
  extractor = patch_features.vgg16()
  assert extractor.label == 'FD-VGG16/256'
  assert extractor.keys == ('fd-vgg16-256', 'kid-vgg16-256')
  patches = patch_features.patches(_texture(0, 256, 512))
  found = extractor(patches)
  assert found.shape == (2, 512) and found.dtype == np.float32
  maps = vgg.features(
    lpips.weights('vgg')['VGG16_0'], jnp.asarray(patches[:1], jnp.float32) / 255
  )
  assert maps[-1].shape == (1, 16, 16, 512)
  np.testing.assert_allclose(
    found[:1], np.mean(maps[-1], (1, 2)), rtol=1e-3, atol=1e-4
  )
  # A resumed run finds the same bits, whatever came before a patch.
  np.testing.assert_array_equal(extractor(patches[1:]), found[1:])
  assert extractor is patch_features.vgg16()


def test_no_patches_have_no_features():
  found = patch_features.vgg16()(np.zeros((0, 256, 256, 3), np.uint8))
  assert found.shape == (0, 512) and found.dtype == np.float32


@pytest.mark.parametrize('patches', [
  np.zeros((1, 256, 256, 3)),
  np.zeros((1, 128, 256, 3), np.uint8),
  np.zeros((256, 256, 3), np.uint8),
  [[0]],
])
def test_features_are_of_patches(patches):
  with pytest.raises(ValueError, match=r'uint8 \[n, 256, 256, 3\] is expected'):
    patch_features.vgg16()(patches)


def test_distances_grow_with_blur():
  # Small patches, which the network takes as well, to save time.
  compute = patch_features.vgg16().compute
  images = [_texture(seed, 64, 64) for seed in range(5)]
  features = [
    np.stack([compute(_blur(image, radius)) for image in images])
    for radius in (0, 0.7, 2)
  ]
  for measure in (
    frechet.kid,
    lambda x, y: frechet.distance(frechet.moments(x), frechet.moments(y)),
  ):
    same, little, much = (measure(features[0], x) for x in features)
    assert same < little < much
    assert little - same < 0.5 * (much - same)


@pytest.fixture(scope='module')
def weights():
  """Weights of Inception that are all alike, but whole."""
  return {
    name: np.full(shape, 0.01, np.float32)
    for name, shape in inception.shapes().items()
  }


def test_inception_reads_a_file(weights, tmp_path):
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file(weights, path)
  extractor = patch_features.inception(path)
  assert extractor.label == 'FID/256'
  assert extractor.keys == ('fid-256', 'kid-256')
  assert extractor.dimension == 2048
  assert extractor(np.zeros((0, 256, 256, 3), np.uint8)).shape == (0, 2048)

  weights['Mixed_7c.branch1x1.bn.bias'] = np.ones(320, np.float32)
  safetensors.numpy.save_file(weights, path)
  other = patch_features.inception(str(path))
  three = extractor, other, patch_features.vgg16()
  assert len({e.digest for e in three}) == 3


def test_inception_refuses_other_files(tmp_path):
  with pytest.raises(ValueError, match='absent.pth is not a file'):
    patch_features.inception(tmp_path / 'absent.pth')
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file({'a': np.zeros(1, np.float32)}, path)
  with pytest.raises(ValueError, match='w.safetensors does not hold.*missing'):
    patch_features.inception(path)
  path = tmp_path / 'pt_inception-2015-12-05-6726825d.pth'
  path.write_bytes(b'half of it')
  with pytest.raises(ValueError, match='SHA-256 begins with.*damaged'):
    patch_features.inception(path)
