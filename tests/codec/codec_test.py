"""The codec: image -> bytes -> image, with a tiny random model."""
import contextlib
import dataclasses
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest

import gdc
from gdc import decoders
from gdc.codec import bitstream, bundle, prediction, range_coder, rate_control
from gdc.codec import codec as codec_lib
from gdc.codec import contexts as contexts_lib
from gdc.codec import tiles as tiles_lib
from gdc.data import sources
from gdc.models import autoencoder, receptive_field, score_net


@pytest.fixture(scope='module')
def codec(tiny_bundle):
  return codec_lib.Codec(tiny_bundle)


@pytest.fixture(scope='module')
def lean():
  return gdc.load('lean')


def _steps(decoder, steps):
  """Returns the steps, or None for mse."""
  return None if decoder == 'mse' else steps


def _image(height, width, seed=0):
  """Returns smooth colours with some noise, uint8."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / 20
  planes = [np.sin(x + i) * np.cos(y - i) * 100 + 128 for i in range(3)]
  noisy = np.stack(planes, -1) + rng.normal(0, 8, (height, width, 3))
  return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('shape', [(1, 1), (17, 23), (16, 32), (3, 50)])
@pytest.mark.parametrize('decoder', ['mse', 'flow', 'diffusion'])
def test_every_size_comes_back_at_its_own_size(codec, shape, decoder):
  data = codec.compress(_image(*shape), quality=2.5)
  decoded = codec.decompress(data, decoder, _steps(decoder, 2))
  assert decoded.shape == (*shape, 3)
  assert decoded.dtype == np.uint8


@pytest.mark.parametrize('quality', [1, 3.3125, 6])
def test_latents_are_exact(codec, quality):
  image = _image(40, 56)
  data = codec.compress(image, quality)
  latents, header, _ = codec.read(data)
  np.testing.assert_array_equal(latents, codec.encode(image, quality))
  assert latents.shape == (3, 4, 24)
  assert (header.width, header.height) == (56, 40)
  assert bitstream.index_to_quality(header.quality_index) == quality


@pytest.mark.parametrize('quality', [1, 2.3125, 6])
def test_gains_and_errors_are_those_of_the_network(codec, quality):
  """The codec interpolates levels on the host, the network when traced."""
  net = autoencoder.Autoencoder(**codec.bundle.autoencoder_spec)
  variables = {'params': codec.bundle.autoencoder_params}
  q = np.float32([quality])
  weights = net.apply(variables, q, method='level_weights')[0]
  np.testing.assert_allclose(
    codec._at_quality('log_gain', quality),
    weights @ codec.bundle.autoencoder_params['log_gain'], rtol=1e-5,
  )
  np.testing.assert_allclose(
    codec.rmse(quality),
    net.apply(variables, q, method='rmse')[0], rtol=1e-5,
  )


def test_latents_outlive_saving_and_loading(codec, tiny_bundle_path):
  data = codec.compress(_image(33, 47), 4.0)
  other = gdc.load(str(tiny_bundle_path))
  np.testing.assert_array_equal(other.read(data)[0], codec.read(data)[0])
  assert other.compress(_image(33, 47), 4.0) == data


@pytest.mark.parametrize('quality', [1, 3.5, 6])
def test_file_size_is_its_estimate(lean, quality):
  # Training counts the prior's bits, here of the rounded latents. The bundled
  # model has a prior that fits them, and contexts that save bits.
  _, image = next(sources.bundled_images('heldout'))
  model = dataclasses.replace(lean.bundle, contexts=None, fitted_on=None)
  data = codec_lib.Codec(model).compress(image, quality)
  assert len(lean.compress(image, quality)) < 0.9 * len(data)
  latents = lean.encode(image, quality)[None].astype(np.float32)
  net = autoencoder.Autoencoder(**lean.bundle.autoencoder_spec)
  variables = {'params': lean.bundle.autoencoder_params}
  coded = net.apply(variables, latents, method='coded')
  bits = net.apply(
    variables, coded, np.float32([quality]), method='bin_bits'
  )
  estimate = float(np.sum(np.asarray(bits, np.float64))) / 8
  header, payload, _ = bitstream.unpack(data)
  assert len(data) - len(payload) <= bitstream.OVERHEAD
  assert abs(len(payload) - estimate) <= 0.005 * estimate + 8


def test_a_file_holds_what_training_counts(codec, tiny_bundle):
  assert tiny_bundle.predicted_channels
  image = _image(70, 90)
  header, payload, _ = bitstream.unpack(codec.compress(image, 4))
  symbols = range_coder.decode(
    payload, tiny_bundle.tables, header.quality_index, 5 * 6
  )
  latents = codec.encode(image, 4).astype(np.float32)
  net = autoencoder.Autoencoder(**tiny_bundle.autoencoder_spec)
  coded = net.apply(
    {'params': tiny_bundle.autoencoder_params}, latents[None], method='coded'
  )
  np.testing.assert_array_equal(
    np.moveaxis(symbols.reshape(-1, 5, 6), 0, -1), coded[0]
  )


@pytest.mark.parametrize('quality', [1, 6])
def test_file_size_is_that_of_an_ideal_coder(codec, quality):
  data = codec.compress(_image(320, 480), quality)
  _, payload, _ = bitstream.unpack(data)
  ideal = codec.ideal_bits(data) / 8
  assert ideal - 8 <= len(payload) <= 1.001 * ideal + 8


def test_more_quality_is_more_bits_and_less_error(codec):
  image = _image(64, 64)
  sizes, errors = [], []
  for quality in (1, 2.5, 4, 6):
    data = codec.compress(image, quality)
    sizes.append(len(data))
    decoded = codec.decompress(data, 'mse').astype(float)
    errors.append(np.mean((decoded - image) ** 2))
  assert sizes == sorted(sizes) and len(set(sizes)) == 4
  assert errors == sorted(errors, reverse=True)


def test_the_decoder_costs_no_bits_and_mse_needs_no_seed(codec):
  data = codec.compress(_image(32, 32))
  first = codec.decompress(data, 'mse', seed=1)
  np.testing.assert_array_equal(first, codec.decompress(data, 'mse', seed=2))


@pytest.mark.parametrize('decoder', ['flow', 'diffusion'])
def test_the_seed_is_all_the_randomness(codec, decoder):
  data = codec.compress(_image(32, 32))
  one = codec.decompress(data, decoder, steps=2, seed=1)
  np.testing.assert_array_equal(
    one, codec.decompress(data, decoder, steps=2, seed=1)
  )
  assert (one != codec.decompress(data, decoder, steps=2, seed=2)).any()
  # By default it is the file's checksum.
  np.testing.assert_array_equal(
    codec.decompress(data, decoder, steps=2),
    codec.decompress(data, decoder, steps=2, seed=zlib.crc32(data[:-4])),
  )


def test_one_program_serves_all_sizes_steps_and_qualities(codec, monkeypatch):
  codec.decompress(codec.compress(_image(48, 16)), 'flow', steps=1)

  def fail(*_):
    raise AssertionError('compiled again')
  monkeypatch.setattr(codec_lib.networks.runner.programs, 'build', fail)
  for shape, quality, steps in (((7, 1), 1, 2), ((300, 70), 4.5, 3)):
    data = codec.compress(_image(*shape), quality)
    codec.decompress(data, 'flow', steps=steps)
  # The programs are XLA executables: no other shape fits them.
  for program in codec._networks._runner.programs.values():
    assert type(program).__name__ == 'Compiled'


# --- Tiles --------------------------------------------------------------------


@pytest.fixture(scope='module')
def small_tiles(tiny_bundle):
  return codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(128, 192), score_tile=(256, 128),
    score_block=32, matmul_dtype='float32',
  )


@pytest.fixture(scope='module')
def one_tile(tiny_bundle):
  return codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(512, 512), score_tile=(512, 512),
    score_block=None, matmul_dtype='float32',
  )


@pytest.mark.parametrize('shape', [(300, 333), (129, 401), (500, 17)])
def test_tiles_do_not_show(small_tiles, one_tile, shape):
  image = _image(*shape)
  features, whole = (
    c._networks.analyse(image, 2.5) for c in (small_tiles, one_tile)
  )
  np.testing.assert_allclose(features, whole, atol=1e-4 * np.abs(whole).max())
  data = one_tile.compress(image, 2.5)
  latents = one_tile.read(data)[0]
  x_hat, whole = (
    c._networks.synthesise(
      tiles_lib.Plane.of(latents, 16), [16 * n for n in latents.shape[:2]], 2.5,
      dtype=np.float32,
    ).array
    for c in (small_tiles, one_tile)
  )
  np.testing.assert_allclose(x_hat, whole, atol=1e-5)
  for decoder in ('mse', 'flow', 'diffusion'):
    tiled, whole = (
      c.decompress(data, decoder, _steps(decoder, 3)).astype(int)
      for c in (small_tiles, one_tile)
    )
    # Values may round differently; seams and borders would differ by more.
    difference = np.abs(tiled - whole)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def test_tiles_do_not_show_with_matmuls_in_bfloat16(tiny_bundle):
  """The default matmul dtype, where more values round differently."""
  codecs = [
    codec_lib.Codec(tiny_bundle, autoencoder_tile=n, score_tile=n)
    for n in ((96, 128), (512, 512))
  ]
  data = codecs[0].compress(_image(300, 333), 4)
  for decoder in ('mse', 'flow'):
    one, other = (
      c.decompress(data, decoder, _steps(decoder, 2)).astype(int)
      for c in codecs
    )
    difference = np.abs(one - other)
    assert difference.max() <= 2 and np.mean(difference > 0) < 0.01


def test_images_that_are_too_thin(codec):
  thin = np.broadcast_to(np.uint8(0), (1, 2**26, 3))
  with pytest.raises(ValueError, match='too thin'):
    codec.compress(thin)
  header = bitstream.Header(2**26, 1, 0, bytes.fromhex(codec.digest[:8]))
  with pytest.raises(gdc.codec.BitstreamError, match='too large'):
    codec.read(bitstream.pack(header, bytes(100)))


def test_tiles_are_what_is_sampled_at_once(
  small_tiles, tiny_bundle, sample_at_once
):
  """Compares the codec's loop over tiles and steps with base.sample."""
  rng = np.random.default_rng(0)
  x_hat = rng.uniform(-0.8, 0.8, (272, 144, 3)).astype(np.float32)
  check_tiles(small_tiles, tiny_bundle, x_hat, sample_at_once)


@pytest.mark.parametrize('process, sampler', [
  ('flow', 'midpoint'), ('flow', 'stochastic'), ('diffusion', 'ddim'),
])
def test_tiles_are_what_every_sampler_gives_at_once(
  tiny_bundle, sample_at_once, process, sampler
):
  spec, params = tiny_bundle.decoders[process]
  sampling = {**spec['sampling'], 'sampler': sampler}
  if process == 'flow':
    sampling['eta'] = 1.0
  spec = {**spec, 'sampling': sampling}
  made = bundle.add_decoder(tiny_bundle, process, spec, params)
  made = dataclasses.replace(made, decoders={process: made.decoders[process]})
  rng = np.random.default_rng(0)
  x_hat = rng.uniform(-0.8, 0.8, (208, 64, 3)).astype(np.float32)
  tiles = codec_lib.Codec(
    made, score_tile=(64, 64), score_block=32, matmul_dtype='float32'
  )
  check_tiles(tiles, made, x_hat, sample_at_once)


def check_tiles(tiles, model, x_hat, sample_at_once):
  """Compares a codec's loop over tiles and steps with base.sample."""
  for process, (spec, params) in model.decoders.items():
    whole = sample_at_once(process, spec, params, x_hat, 2.5, 0.05, 3, 5)
    expected = np.round((whole + 1) * 127.5)
    tiled = tiles._networks.sample(
      process, tiles_lib.Plane.of(x_hat), x_hat.shape[:2], 2.5, 0.05, 3, 5, 1.0
    )
    difference = np.abs(tiled - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3
    # Not all is clipped, or equal to the start.
    assert np.mean((tiled > 0) & (tiled < 255)) > 0.2
    assert np.mean(np.abs(tiled - (x_hat + 1) * 127.5) > 2) > 0.2


@pytest.fixture(scope='module')
def with_one_step(tiny_bundle):
  spec, params = tiny_bundle.decoders['flow']
  spec = {**spec, 'sampling': {**spec['sampling'], 'steps': 1}}
  other = jax.tree.map(lambda a: 0.9 * a, params)
  return bundle.add_decoder(tiny_bundle, 'one_step', spec, other)


def test_one_step_is_a_decoder_of_its_own(with_one_step, codec):
  both = codec_lib.Codec(with_one_step)
  image = _image(40, 56)
  data = both.compress(image, 2.0)
  assert data == codec.compress(image, 2.0)  # not a bit of it is in the file
  one = both.decompress(data, 'one_step')
  assert np.any(one != both.decompress(data, 'flow', steps=1))
  for steps in (None, 1, 2):
    np.testing.assert_array_equal(
      both.decompress(data, 'flow', steps=steps),
      codec.decompress(data, 'flow', steps=steps),
    )
  with pytest.raises(ValueError, match='steps of one_step must be 1, not 2'):
    both.decompress(data, 'one_step', steps=2)
  # It is the default, unless several steps are asked for.
  np.testing.assert_array_equal(one, both.decompress(data))
  np.testing.assert_array_equal(
    both.decompress(data, steps=2), codec.decompress(data, steps=2)
  )


@pytest.mark.parametrize('widths,depths,patch', [
  ((8,), (1,), 4), ((8, 8), (1, 1), 2), ((8, 8), (1, 1), 3),
  ((8, 8, 8), (1, 1, 9), 4),
], ids=['stride 4', 'stride 4 of two', 'stride 6', 'radius 176'])
def test_tiles_suit_every_score_network(tiny_bundle, widths, depths, patch):
  spec, _ = tiny_bundle.decoders['flow']
  spec = {**spec, 'widths': widths, 'depths': depths, 'patch': patch}
  _, fields = decoders.from_record('flow', spec)
  net = score_net.ScoreNet(**fields)
  side = 24 * receptive_field.score_stride(fields)
  z = np.zeros((1, side, side, 3), np.float32)
  shapes = jax.eval_shape(
    net.init, jax.random.key(0), z, z, np.zeros(1), np.ones(1)
  )['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), shapes
  )
  model = bundle.add_decoder(tiny_bundle, 'flow', spec, params)
  tiled, whole = (
    codec_lib.Codec(
      model, score_tile=(n, n), score_block=32, matmul_dtype='float32'
    )._networks
    for n in (32, 2048)
  )
  _, shape, halo, _ = tiled._score('flow')
  assert halo >= receptive_field.score_net(fields) and shape[0] > 2 * halo
  length = shape[0] + 50
  x_hat = rng.uniform(-0.8, 0.8, (length, 40, 3)).astype(np.float32)
  one, other = (
    n.sample(
      'flow', tiles_lib.Plane.of(x_hat), (length, 40), 2.5, 0.05, 2, 5, 1.0
    ).astype(int)
    for n in (tiled, whole)
  )
  assert np.abs(one - other).max() <= 1


def test_a_sampler_of_two_evaluations_has_twice_the_halo(tiny_bundle):
  spec, params = tiny_bundle.decoders['flow']
  heun = {**spec, 'sampling': {**spec['sampling'], 'sampler': 'heun'}}
  model = bundle.add_decoder(tiny_bundle, 'flow', heun, params)
  tiles = {
    'autoencoder_tile': (128, 128), 'score_block': 32,
    'matmul_dtype': 'float32',
  }
  tiled, whole = (
    codec_lib.Codec(model, score_tile=shape, **tiles)
    for shape in ((256, 160), (512, 512))
  )
  data = tiled.compress(_image(400, 290))
  difference = np.abs(
    tiled.decompress(data, 'flow', steps=2).astype(int)
    - whole.decompress(data, 'flow', steps=2)
  )
  assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3
  assert tiled._networks._score('flow')[2] >= (
    2 * receptive_field.score_net(spec)
  )


# --- Rate control and realism -------------------------------------------------


@pytest.fixture(scope='module')
def photograph():
  return next(sources.bundled_images('heldout'))[1]


def test_a_photograph_is_coded_as_without_the_check(lean, photograph):
  for quality in (1, 6):
    notices = []
    data = lean.compress(photograph, quality, notices=notices)
    assert data == lean.compress(photograph, quality, lossless='never')
    assert not notices and len(data) < 0.2 * photograph.size


def test_targets_are_kept_and_nearly_used(lean, photograph):
  pixels = photograph.shape[0] * photograph.shape[1]
  for target in (9_000, 20_000, 35_001):
    data = lean.compress(photograph, target_bytes=target)
    assert 0.97 * target < len(data) <= target
    lean.read(data)
  data = lean.compress(photograph, target_bpp=0.5)
  assert 0.97 * 0.5 < 8 * len(data) / pixels <= 0.5


def test_the_network_runs_once_for_a_target(lean, photograph, monkeypatch):
  analyse, calls = lean._networks.analyse, []

  def counted(*arguments):
    calls.append(arguments)
    return analyse(*arguments)
  monkeypatch.setattr(lean._networks, 'analyse', counted)
  lean.compress(photograph, target_bytes=15_000)
  lean.compress(photograph, min_psnr=30)
  assert len(calls) == 2


def test_the_network_runs_again_where_the_guess_was_far_off(
  lean, monkeypatch
):
  """Noise takes many times the bits of a photograph at any quality."""
  analyse, at = lean._networks.analyse, []
  monkeypatch.setattr(
    lean._networks, 'analyse',
    lambda image, quality: at.append(quality) or analyse(image, quality),
  )
  image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
  data = lean.compress(image, target_bytes=2_500, lossless='never')
  found = bitstream.index_to_quality(bitstream.unpack(data)[0].quality_index)
  assert len(data) <= 2_500 and abs(at[0] - found) > 1
  # The features are those of the quality found, or next to it.
  assert len(at) == 2 and abs(at[1] - found) <= 1


def test_a_target_that_the_smallest_file_meets_is_not_refused(lean):
  image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
  smallest = lean.compress(image, 1, lossless='never')
  assert smallest == lean.compress(
    image, target_bytes=len(smallest), lossless='never'
  )


def test_a_target_costs_next_to_nothing_over_its_quality(lean, photograph):
  """Features analysed at the guessed quality serve the quality found."""
  data = lean.compress(photograph, target_bytes=15_000)
  index = bitstream.unpack(data)[0].quality_index
  direct = lean.compress(photograph, bitstream.index_to_quality(index))
  errors = [
    np.mean((lean.decompress(d, 'mse').astype(float) - photograph) ** 2)
    for d in (data, direct)
  ]
  assert errors[0] < 1.03 * errors[1]
  assert len(data) < 1.03 * len(direct)


def test_min_psnr_is_kept_by_the_smallest_file(lean, photograph):
  def psnr(data):
    error = lean.decompress(data, 'mse').astype(float) - photograph
    return 10 * np.log10(255**2 / np.mean(error**2))

  data = lean.compress(photograph, min_psnr=31.5)
  assert 31.5 <= psnr(data) < 31.8


@pytest.mark.parametrize('target,message', [
  ({'target_bytes': 30}, 'smallest file .* target of 30'),
  ({'target_bpp': 1e-4}, 'smallest file'),
  ({'min_psnr': 99.0}, 'less than the 99 dB that are asked for'),
])
def test_targets_out_of_reach(codec, target, message):
  with pytest.raises(rate_control.RateError, match=message):
    codec.compress(_image(64, 64), lossless='never', **target)


@pytest.mark.parametrize('targets,message', [
  ({'target_bytes': 0}, 'target_bytes must be above 0, not 0'),
  ({'target_bpp': float('nan')}, 'target_bpp must be above 0, not nan'),
  ({'min_psnr': -1.0}, 'min_psnr must be above 0'),
  ({'target_bytes': 99, 'min_psnr': 30.0}, 'Only one of'),
  ({'seed': 2**32}, 'seed must be'),
  ({'lossless': 'yes'}, "one of auto, never, always, not 'yes'"),
])
def test_targets_that_make_no_sense(codec, targets, message):
  with pytest.raises(ValueError, match=message):
    codec.compress(_image(16, 16), **targets)


def test_realism_is_a_line_between_the_two_ends(codec):
  data = codec.compress(_image(40, 50))
  mse = codec.decompress(data, 'mse').astype(float)
  full = codec.decompress(data, 'flow').astype(float)
  assert np.abs(full - mse).max() > 4
  np.testing.assert_array_equal(codec.decompress(data, 'flow', realism=0), mse)
  half = codec.decompress(data, 'flow', realism=0.5)
  assert np.abs(half - (mse + full) / 2).max() <= 1.01  # three roundings
  with pytest.raises(ValueError, match='realism must be from 0 to 1, not 2'):
    codec.decompress(data, 'flow', realism=2)


# --- Grey, alpha, profiles, seeds ---------------------------------------------


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('decoder', ['mse', 'flow'])
def test_channels_come_back(codec, channels, decoder):
  colour = _image(37, 51)
  image = colour if channels > 2 else colour[:, :, :1]
  if channels in (2, 4):
    alpha = np.random.default_rng(1).integers(0, 256, (37, 51, 1), np.uint8)
    image = np.concatenate([image, alpha], axis=2)
  data = codec.compress(image)
  decoded = codec.decompress(data, decoder, _steps(decoder, 1))
  assert decoded.shape == image.shape
  if channels in (2, 4):
    np.testing.assert_array_equal(decoded[..., -1], image[..., -1])


@pytest.mark.parametrize('channels,change,message', [
  (1, {}, 'it is of RGB colours, the image is GRAY'),
  (4, {16: b'CMYK'}, 'it is of CMYK colours, the image is RGB'),
  (3, {16: b'GRAY'}, 'it is of GRAY colours'),
  (3, {12: b'link'}, "it is of class 'link'"),
  (3, {36: b'abcd'}, 'are not an ICC profile'),
  (3, {0: b'\0\0\1\0'}, 'damaged: 256 bytes by its header'),
  (3, {20: b'RGB '}, 'no known colour space'),
  (3, {136: b'\xff'}, 'its tags lie outside'),
  (3, {128: b'\0\0\0\1'}, 'tags that give its colours are missing'),
])
def test_profiles_that_do_not_fit_are_not_stored(
  codec, rgb_profile, channels, change, message
):
  icc = bytearray(rgb_profile)
  for at, value in change.items():
    icc[at:at + len(value)] = value
  with pytest.raises(ValueError, match=message):
    codec.compress(np.zeros((16, 16, channels), np.uint8), icc=bytes(icc))


def test_what_is_no_profile_is_refused(codec):
  for icc in (b'no profile', 'text', 5):
    with pytest.raises(ValueError, match='ICC profile'):
      codec.compress(np.zeros((16, 16, 3), np.uint8), icc=icc)


def test_grey_is_the_mean_of_the_decoded_colours(codec):
  grey = _image(20, 30)[:, :, :1]
  data = codec.compress(grey)
  latents, header, _ = codec.read(data)
  assert header.grey
  quality = bitstream.index_to_quality(header.quality_index)
  colours = codec._networks.synthesise(
    tiles_lib.Plane.of(latents, 16), (32, 32), quality
  ).array[:20, :30].astype(int)
  expected = (colours.sum(axis=2, keepdims=True) + 1) // 3
  np.testing.assert_array_equal(codec.decompress(data, 'mse'), expected)


def test_profile_and_seed_travel(codec, rgb_profile):
  image = _image(24, 24)
  plain = codec.compress(image, icc=None)
  data = codec.compress(image, icc=bytearray(rgb_profile), seed=5)
  assert len(data) < len(plain) + 4 + len(rgb_profile)
  _, header, seed = codec.read(data)
  assert header.icc == rgb_profile and seed == header.seed == 5
  np.testing.assert_array_equal(
    codec.decompress(data, 'flow', steps=1),
    codec.decompress(plain, 'flow', steps=1, seed=5),
  )


@pytest.mark.parametrize('lossless', ['never', 'always'])
def test_exif_and_xmp_travel(codec, lossless):
  image = _image(24, 24)
  exif = b'II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0abc\0\0\0\0\0'
  plain = codec.compress(image, lossless=lossless)
  for given in ({'exif': exif}, {'xmp': b'<x/>'}, {'exif': exif, 'xmp': b'x'}):
    data = codec.compress(image, lossless=lossless, **given)
    header, payload, _ = bitstream.unpack(data)
    assert (header.exif, header.xmp) == (
      given.get('exif', b''), given.get('xmp', b'')
    )
    assert payload == bitstream.unpack(plain)[1]
    np.testing.assert_array_equal(
      codec.decompress(data, 'mse'), codec.decompress(plain, 'mse')
    )
  prefixed = codec.compress(image, lossless=lossless, exif=b'Exif\0\0' + exif)
  assert prefixed == codec.compress(image, lossless=lossless, exif=exif)


def test_metadata_count_for_a_target_but_not_for_the_choice_of_lossless(codec):
  image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
  xmp = np.random.default_rng(1).bytes(5000)
  plain = codec.compress(image, 3)
  data = codec.compress(image, 3, xmp=xmp)
  assert bitstream.unpack(data)[0].lossless == (
    bitstream.unpack(plain)[0].lossless
  )
  target = len(data)
  assert len(codec.compress(image, target_bytes=target, xmp=xmp)) <= target
  with pytest.raises(ValueError, match='The '):
    codec.compress(image, target_bytes=5000, xmp=xmp)


@pytest.mark.parametrize('quality', [0.9, 6.1, float('nan'), -1])
def test_quality_out_of_range(codec, quality):
  with pytest.raises(ValueError, match=f'from 1 to 6, not {quality}'):
    codec.compress(_image(16, 16), quality)


# --- Bad streams --------------------------------------------------------------


def _resigned(data):
  """Recomputes the checksum of a file."""
  return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, 'little')


def test_another_models_file_is_refused_by_name(codec, tiny_bundle):
  params = dict(tiny_bundle.autoencoder_params)
  params['log_gain'] = params['log_gain'] + 0.1
  other = codec_lib.Codec(
    bundle.make('other', tiny_bundle.autoencoder_spec, params)
  )
  with pytest.raises(gdc.codec.BitstreamError, match=other.digest[:8]):
    codec.decompress(other.compress(_image(16, 16)))


def test_unknown_quality_index(codec):
  data = bytearray(codec.compress(_image(16, 16)))
  position = 5 + 2  # magic, version, flags, two one-byte sides
  data[position] = 255
  with pytest.raises(gdc.codec.BitstreamError, match='255'):
    codec.decompress(_resigned(bytes(data)))


def test_an_absurd_size_is_refused_before_anything_is_allocated(codec):
  data = codec.compress(_image(16, 16), 6)
  header, payload, _ = bitstream.unpack(data)
  huge = bitstream.Header(
    width=16000, height=16000, quality_index=header.quality_index,
    digest=header.digest,
  )
  with pytest.raises(gdc.codec.BitstreamError, match='too short'):
    codec.decompress(bitstream.pack(huge, payload))


@pytest.mark.parametrize('environment', [
  {'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false', 'OMP_NUM_THREADS': '1',
   'JAX_ENABLE_X64': '1'},
  {'XLA_FLAGS': '--xla_cpu_enable_fast_math=true '
                '--xla_force_host_platform_device_count=2',
   'JAX_DEFAULT_DTYPE_BITS': '32', 'JAX_NUMPY_DTYPE_PROMOTION': 'strict',
   'JAX_DEFAULT_MATMUL_PRECISION': 'bfloat16'},
], ids=['one thread, 64 bits', 'fast math, bfloat16'])
def test_latents_do_not_depend_on_threads_flags_or_types(
  tiny_bundle_path, codec, tmp_path, environment
):
  """Another process, thread count, XLA flags and types: the same integers."""
  data = codec.compress(_image(64, 80), 5)
  (tmp_path / 'x.gdc').write_bytes(data)
  script = (
    'import sys, numpy, gdc; c = gdc.load(sys.argv[1]);'
    'y = c.read(open(sys.argv[2], "rb").read())[0];'
    'sys.stdout.buffer.write(y.tobytes())'
  )
  result = subprocess.run(
    [sys.executable, '-c', script, str(tiny_bundle_path),
     str(tmp_path / 'x.gdc')],
    env=environment | {
      'PATH': '', 'PYTHONPATH': ':'.join(p for p in sys.path if p),
    },
    capture_output=True, check=True,
  )
  np.testing.assert_array_equal(
    np.frombuffer(result.stdout, np.int32), codec.read(data)[0].ravel()
  )


@pytest.mark.parametrize('where', ['everywhere', 'here'])
def test_images_do_not_depend_on_64_bit_types(
  codec, tiny_bundle_path, where
):
  data = codec.compress(_image(64, 80), 5)
  # The most sensitive decoder.
  expected = codec.decompress(data, 'diffusion', steps=2)
  before = jax.config.jax_enable_x64
  with contextlib.ExitStack() as stack:
    if where == 'here':
      stack.enter_context(jax.enable_x64(True))
    else:
      jax.config.update('jax_enable_x64', True)
      stack.callback(jax.config.update, 'jax_enable_x64', before)
    again = gdc.load(str(tiny_bundle_path))
    np.testing.assert_array_equal(
      again.decompress(data, 'diffusion', steps=2), expected
    )
    assert jax.numpy.zeros(1).dtype == np.float64  # as it was turned on
  assert jax.numpy.zeros(1).dtype == np.float32


def test_latents_do_not_depend_on_the_networks_type(codec, tiny_bundle):
  """A bfloat16 encoder gives other latents; a file gives back exactly those."""
  image = _image(64, 80)
  net = autoencoder.Autoencoder(
    **tiny_bundle.autoencoder_spec, dtype=jax.numpy.bfloat16
  )
  params = {'params': tiny_bundle.autoencoder_params}
  y = net.apply(
    params, image[None] / np.float32(127.5) - 1, np.float32([5]),
    method='encode',
  )
  latents = np.rint(np.asarray(y[0], np.float32)).astype(np.int32)
  assert (latents != codec.encode(image, 5)).any()
  symbols = np.moveaxis(latents, -1, 0).reshape(latents.shape[-1], -1)
  header = bitstream.Header(80, 64, 64, bytes.fromhex(codec.digest[:8]))
  coded = prediction.to_differences(
    symbols.copy(), len(latents), tiny_bundle.predicted_channels
  )
  payload = range_coder.encode(coded, tiny_bundle.tables, 64)
  read = codec.read(bitstream.pack(header, payload))[0]
  np.testing.assert_array_equal(read, latents)


# --- Regions ----------------------------------------------------------------


@pytest.fixture(scope='module')
def in_small_tiles(bundle_with_contexts):
  """Tiles are hardly larger than their halos."""
  return codec_lib.Codec(
    bundle_with_contexts, autoencoder_tile=(96, 128), score_tile=(96, 128),
    score_block=32, matmul_dtype='float32',
  )


@pytest.fixture
def sliced(in_small_tiles, monkeypatch):
  """With slices of 64 pixels."""
  monkeypatch.setattr(contexts_lib, 'SLICE_SIDE', 4)
  return in_small_tiles


@pytest.mark.parametrize('decoder', ['mse', 'flow', 'diffusion'])
def test_a_region_is_the_crop_of_the_whole(sliced, decoder):
  image = np.dstack([_image(300, 333), _image(300, 333)[:, :, :1]])
  data = sliced.compress(image, 2.5, lossless='never')
  options = decoder, _steps(decoder, 2)
  whole = sliced.decompress(data, *options)
  for x, y, width, height in (
    (0, 0, 333, 300), (332, 299, 1, 1), (70, 130, 100, 17), (0, 250, 9, 50)
  ):
    np.testing.assert_array_equal(
      sliced.decompress(data, *options, region=(x, y, width, height)),
      whole[y:y + height, x:x + width],
    )


def test_a_region_of_other_images(codec):
  grey = _image(50, 60)[:, :, :1]
  for lossless in ('never', 'always'):
    data = codec.compress(grey, lossless=lossless)
    np.testing.assert_array_equal(
      codec.decompress(data, 'mse', region=np.array([30, 5, 20, 40])),
      codec.decompress(data, 'mse')[5:45, 30:50],
    )


def test_a_region_needs_few_tiles(sliced, monkeypatch):
  data = sliced.compress(_image(800, 800), 2.5, lossless='never')
  ran, real = [], tiles_lib.cover

  def cover(*arguments):
    for tile in real(*arguments):
      ran.append(tile)
      yield tile

  monkeypatch.setattr(tiles_lib, 'cover', cover)
  sliced.decompress(data, 'mse')
  whole = len(ran)
  sliced.decompress(data, 'mse', region=(400, 400, 8, 8))
  assert len(ran) - whole <= 2 < whole / 20


@pytest.mark.parametrize('region, message', [
  ((0, 0, 61, 1), 'within the image of 60 x 50, not begin at 0, 0 with 61 x 1'),
  ((-1, 0, 5, 5), 'begin at -1, 0'), ((60, 0, 1, 1), 'begin at 60, 0'),
  ((0, 0, 0, 5), 'with 0 x 5'), ((0, 0, 2**70, 5), 'within the image'),
  ((0, 0, 5), r'in whole pixels, not \(0, 0, 5\)'), (7, 'not 7'),
  ((0, 0, 5, 5.5), 'in whole pixels'), ('0,0,5,5', 'in whole pixels'),
])
def test_wrong_regions_are_named(codec, region, message):
  data = codec.compress(_image(50, 60))
  with pytest.raises(ValueError, match=message):
    codec.decompress(data, region=region)


# --- Contexts ---------------------------------------------------------------


@pytest.fixture(scope='module')
def in_contexts(bundle_with_contexts):
  return codec_lib.Codec(bundle_with_contexts)


@pytest.mark.parametrize('shape', [(1, 1), (16, 90), (50, 20), (70, 90)])
@pytest.mark.parametrize('quality', [1, 3.3125, 6])
def test_contexts_leave_latents_and_image_as_they_are(
  codec, in_contexts, shape, quality
):
  image = _image(*shape)
  data = in_contexts.compress(image, quality, lossless='never')
  latents, header, _ = in_contexts.read(data)
  np.testing.assert_array_equal(latents, codec.encode(image, quality))
  np.testing.assert_array_equal(
    in_contexts.decompress(data, 'mse'),
    codec.decompress(codec.compress(image, quality, lossless='never'), 'mse'),
  )
  _, payload, _ = bitstream.unpack(data)
  ideal = in_contexts.ideal_bits(data) / 8
  assert len(payload) <= 1.001 * ideal + 8
  symbols = range_coder.decode(
    payload, in_contexts.bundle.contexts, header.quality_index,
    latents[..., 0].size, len(latents),
  )
  prediction.from_differences(
    symbols, len(latents), in_contexts.bundle.predicted_channels
  )
  np.testing.assert_array_equal(
    symbols, np.moveaxis(latents, -1, 0).reshape(len(symbols), -1)
  )
  with pytest.raises(bitstream.BitstreamError, match='made with model'):
    codec.read(data)


def test_targets_are_met_with_contexts(in_contexts, monkeypatch):
  image, analysed = _image(64, 64), []
  sizes = [
    len(in_contexts.compress(image, q, lossless='never')) for q in (1, 3, 6)
  ]
  assert sizes == sorted(sizes)
  analyse = in_contexts._networks.analyse

  def counted(image, quality):
    analysed.append(quality)
    return analyse(image, quality)

  monkeypatch.setattr(in_contexts._networks, 'analyse', counted)
  data = in_contexts.compress(image, target_bytes=sizes[1], lossless='never')
  assert 0.9 * sizes[1] <= len(data) <= sizes[1]
  assert len(analysed) <= 2
  with pytest.raises(rate_control.RateError):
    in_contexts.compress(image, target_bytes=30, lossless='never')
