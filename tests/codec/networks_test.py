"""One large image on one device and on eight: the same, an eighth on each."""
import jax
import numpy as np
import pytest

from gdc import decoders
from gdc.codec import bundle, tiles
from gdc.codec import networks as networks_lib
from gdc.decoders import noise
from gdc.models import receptive_field, score_net

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
  plane = tiles.Plane.of(latents, 16)
  x_hat, other = (
    n.synthesise(plane, (304, 240), 2.5, dtype=np.float32).array
    for n in (one, eight)
  )
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
    n.sample(
      entry, tiles.Plane.of(x_hat), SIZE, 3.5, 0.05, steps=3, seed=7,
      realism=0.6,
    )
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
  tiled = eight.sample(
    'diffusion', tiles.Plane.of(x_hat), (208, 144), 2.5, 0.05, 3, 5, 1.0
  )
  difference = np.abs(tiled - np.round((whole + 1) * 127.5))
  assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


@pytest.mark.parametrize('entry', [None, 'flow', 'diffusion'])
@pytest.mark.parametrize('window', [
  tiles.Window(0, 0, 1, 1), tiles.Window(150, 100, 190, 233),
  tiles.Window(290, 5, 301, 230), tiles.Window(0, 0, *SIZE),
])
def test_a_window_is_the_crop_of_the_whole(one, eight, entry, window):
  """To the last bit, from no more than the pixels that it sees."""
  rng, size = np.random.default_rng(4), (304, 240)
  if entry is None:
    latents = rng.integers(-9, 9, (19, 15, 24), np.int32)
    whole = one.synthesise(tiles.Plane.of(latents, 16), size, 2.5).array
    seen = one.seen(window, size)
    rows, columns = (
      slice(s.start // 16, s.stop // 16) for s in seen.slices
    )
    plane = tiles.Plane(latents[rows, columns], seen, 16)
    found = [n.synthesise(plane, size, 2.5, window).array for n in (one, eight)]
  else:
    x_hat = rng.uniform(-0.8, 0.8, (*size, 3)).astype(np.float32)
    given = 2.5, 0.05, 2, 7, 1.0
    whole = one.sample(entry, tiles.Plane.of(x_hat), size, *given)
    seen = one.seen(window, size, entry, 2)
    plane = tiles.Plane(x_hat[seen.slices], seen)
    found = [n.sample(entry, plane, size, *given, window) for n in (one, eight)]
  for part in found:
    np.testing.assert_array_equal(part, whole[window.slices])


@pytest.mark.parametrize('sampler', ['euler', 'heun'])
def test_a_window_may_begin_anywhere(tiny_bundle, monkeypatch, sampler):
  """Within a cell of the score network, where its halo has nothing to spare."""
  spec, _ = tiny_bundle.decoders['flow']
  spec = {
    **spec, 'widths': (8,), 'depths': (4,), 'patch': 4,
    'sampling': {**spec['sampling'], 'sampler': sampler},
  }
  decoder, fields = decoders.from_record('flow', spec)
  assert receptive_field.score_net(fields) == noise.CELL
  net, z = score_net.ScoreNet(**fields), np.zeros((1, 16, 16, 3), np.float32)
  rng = np.random.default_rng(5)
  params = jax.tree.map(
    lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32),
    jax.eval_shape(net.init, jax.random.key(0), z, z, np.ones(1), np.ones(1))
  )['params']
  networks = networks_lib.Networks(
    bundle.add_decoder(tiny_bundle, 'flow', spec, params), score_tile=(32, 32),
    score_block=32, matmul_dtype='float32', devices=jax.devices()[:1],
  )
  size, given = (256, 272), (2.5, 0.5, 2, 7, 1.0)
  x_hat = rng.uniform(-0.5, 0.5, (*size, 3)).astype(np.float32)
  whole = networks.sample('flow', tiles.Plane.of(x_hat), size, *given)
  # What is beyond the planes is now seen in every output that depends on it.
  pad = np.pad
  monkeypatch.setattr(np, 'pad', lambda array, widths, mode: pad(
    array, widths, constant_values=np.nan
  ))
  for window in (
    tiles.Window(147, 148, 148, 149), tiles.Window(97, 99, 106, 114)
  ):
    seen = networks.seen(window, size, 'flow', 2)
    assert seen.top > 0 and seen.bottom < size[0]
    part = networks.sample(
      'flow', tiles.Plane(x_hat[seen.slices], seen), size, *given, window
    )
    np.testing.assert_array_equal(part, whole[window.slices])


def test_an_image_of_one_tile_takes_one_device(tiny_bundle):
  networks = networks_lib.Networks(tiny_bundle, **TILES)
  networks.analyse(_image()[:90, :120], 3)
  assert list(_programs(networks)) == [('analyse', 1)]


def test_a_device_of_eight_needs_what_the_only_one_needs(one, eight):
  """Its arguments and output are a tile's; so is, almost, what lies between."""
  rng = np.random.default_rng(3)
  x_hat = rng.uniform(-1, 1, (*SIZE, 3)).astype(np.float32)
  for networks in (one, eight):
    networks.sample('flow', tiles.Plane.of(x_hat), SIZE, 3, 0.05, 1, 7, 1.0)
    networks.analyse(_image(), 3)
  for name in ('flow', 'analyse'):
    alone = _programs(one)[name, 1].memory_analysis()
    shared = _programs(eight)[name, 8].memory_analysis()
    assert shared.argument_size_in_bytes == alone.argument_size_in_bytes
    assert shared.output_size_in_bytes == alone.output_size_in_bytes
    more = shared.temp_size_in_bytes - alone.temp_size_in_bytes
    assert more < 0.05 * alone.temp_size_in_bytes
