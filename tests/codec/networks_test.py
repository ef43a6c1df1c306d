"""One large image on one device and on eight: the same, an eighth on each."""
import jax
import numpy as np
import pytest

from gdc import decoders
from gdc.codec import bundle
from gdc.codec import networks as networks_lib

TILES = {
  'autoencoder_tile': (96, 128), 'score_tile': (128, 96), 'score_block': 32,
  'matmul_dtype': 'float32',
}
# Neither a multiple of 16, nor are their tiles of eight.
SIZE = (301, 233)


@pytest.fixture(scope='module')
def model(tiny_bundle):
  """With a diffusion decoder whose sampler keeps a memory."""
  spec, params = tiny_bundle.decoders['diffusion']
  sampling = {**spec['sampling'], 'sampler': 'dpmpp_2m'}
  decoder, _ = decoders.from_record(
    'diffusion', {**spec, 'sampling': sampling}
  )
  assert decoder.memory_channels == 3
  return bundle.add_decoder(
    tiny_bundle, 'diffusion', {**spec, 'sampling': sampling}, params
  )


@pytest.fixture(scope='module')
def one(model):
  return networks_lib.Networks(model, **TILES, devices=jax.devices()[:1])


@pytest.fixture(scope='module')
def eight(model):
  return networks_lib.Networks(model, **TILES)


def _programs(networks):
  return networks._runner.programs


def _image():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (*SIZE, 3), np.uint8)


def test_latents_and_images_of_eight_devices_are_those_of_one(one, eight):
  """To the last bit: each device runs what the one would run."""
  features, other = (n.analyse(_image(), 2.5) for n in (one, eight))
  np.testing.assert_array_equal(features, other)
  latents = np.rint(features).astype(np.int32)
  assert np.abs(latents).max() > 1
  x_hat, other = (n.synthesise(latents, 2.5, np.float32) for n in (one, eight))
  assert x_hat.std() > 0
  np.testing.assert_array_equal(x_hat, other)
  for n, networks in ((1, one), (8, eight)):
    assert {count for _, count in _programs(networks)} == {n}


@pytest.mark.parametrize('entry', ['flow', 'diffusion'])
def test_samples_of_eight_devices_are_those_of_one(one, eight, entry):
  """To the last bit, over steps: tiles find their neighbours' states."""
  rng = np.random.default_rng(1)
  x_hat = rng.uniform(-0.8, 0.8, (*SIZE, 3)).astype(np.float32)
  image, other = (
    n.sample(entry, x_hat, 3.5, 0.05, steps=3, seed=7, realism=0.6)
    for n in (one, eight)
  )
  assert image.shape == (*SIZE, 3)
  assert np.abs(image - (x_hat + 1) * 127.5).mean() > 1
  np.testing.assert_array_equal(image, other)


def test_a_sampler_with_a_memory_is_sampled_as_at_once(
  model, eight, sample_at_once
):
  """The memory is kept between tiles and steps."""
  spec, params = model.decoders['diffusion']
  rng = np.random.default_rng(2)
  x_hat = rng.uniform(-0.8, 0.8, (208, 144, 3)).astype(np.float32)
  whole = sample_at_once('diffusion', spec, params, x_hat, 2.5, 0.05, 3, 5)
  tiled = eight.sample('diffusion', x_hat, 2.5, 0.05, 3, 5, 1.0)
  difference = np.abs(tiled - np.round((whole + 1) * 127.5))
  assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def test_an_image_of_one_tile_takes_one_device(tiny_bundle):
  networks = networks_lib.Networks(tiny_bundle, **TILES)
  networks.analyse(_image()[:90, :120], 3)
  assert list(_programs(networks)) == [('analyse', 1)]


def test_a_device_of_eight_needs_what_the_only_one_needs(one, eight):
  """Its arguments and output are a tile's; so is, almost, what lies between."""
  rng = np.random.default_rng(3)
  x_hat = rng.uniform(-1, 1, (*SIZE, 3)).astype(np.float32)
  for networks in (one, eight):
    networks.sample('flow', x_hat, 3, 0.05, 1, 7, 1.0)
    networks.analyse(_image(), 3)
  for name in ('flow', 'analyse'):
    alone = _programs(one)[name, 1].memory_analysis()
    shared = _programs(eight)[name, 8].memory_analysis()
    assert shared.argument_size_in_bytes == alone.argument_size_in_bytes
    assert shared.output_size_in_bytes == alone.output_size_in_bytes
    more = shared.temp_size_in_bytes - alone.temp_size_in_bytes
    assert more < 0.05 * alone.temp_size_in_bytes
