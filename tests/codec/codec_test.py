"""The codec: picture -> bytes -> picture, with a tiny random model."""
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gdc
from gdc.codec import bitstream, bundle
from gdc.codec import codec as codec_lib
from gdc.data import sources


@pytest.fixture(scope='module')
def codec(tiny_bundle):
  return codec_lib.Codec(tiny_bundle)


def _image(height, width, seed=0):
  """Smooth colours and some noise, uint8."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / 20
  planes = [np.sin(x + i) * np.cos(y - i) * 100 + 128 for i in range(3)]
  noisy = np.stack(planes, -1) + rng.normal(0, 8, (height, width, 3))
  return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('shape', [(1, 1), (17, 23), (16, 32), (3, 50)])
@pytest.mark.parametrize('decoder', ['mse', 'flow', 'diffusion'])
def test_every_size_comes_back_at_its_own_size(codec, shape, decoder):
  data = codec.compress(_image(*shape), quality=2.5)
  decoded = codec.decompress(data, decoder=decoder, steps=2)
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


def test_latents_outlive_saving_and_loading(codec, tiny_bundle_path):
  data = codec.compress(_image(33, 47), 4.0)
  other = gdc.load(str(tiny_bundle_path))
  np.testing.assert_array_equal(other.read(data)[0], codec.read(data)[0])
  assert other.compress(_image(33, 47), 4.0) == data


@pytest.mark.parametrize('quality', [1, 3.5, 6])
def test_file_size_is_its_estimate(quality):
  # What training counts: the prior's bits, here of the rounded latents. With
  # the model in the box, for a prior that fits its latents.
  codec = gdc.load('lean')
  _, image = next(sources.box_images('heldout'))
  data = codec.compress(image, quality)
  latents = codec.encode(image, quality)[None].astype(np.float32)
  bits = codec._autoencoder.apply(
    {'params': codec._params}, latents, np.float32([quality]),
    method='bin_bits',
  )
  estimate = float(np.sum(np.asarray(bits, np.float64))) / 8
  header, payload, _ = bitstream.unpack(data)
  assert len(data) - len(payload) <= bitstream.OVERHEAD
  assert abs(len(payload) - estimate) <= 0.005 * estimate + 8


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


def test_steps_share_one_program(codec):
  data = codec.compress(_image(48, 16))
  codec.decompress(data, 'flow', steps=1)
  count = codec._sample._cache_size()
  pictures = [codec.decompress(data, 'flow', steps=n) for n in (2, 3, 7)]
  assert codec._sample._cache_size() == count
  assert (pictures[0] != pictures[2]).any()


@pytest.mark.parametrize('quality', [0.9, 6.1, float('nan'), -1])
def test_quality_out_of_range(codec, quality):
  with pytest.raises(ValueError, match=f'from 1 to 6, not {quality}'):
    codec.compress(_image(16, 16), quality)


@pytest.mark.parametrize('image', [
  np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8),
  np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8),
])
def test_what_is_not_an_image(codec, image):
  with pytest.raises(ValueError, match='[Aa]n? image'):
    codec.compress(image)


def test_arguments_of_decompress(codec):
  data = codec.compress(_image(16, 16))
  with pytest.raises(ValueError, match="no decoder 'gan'.*mse, flow"):
    codec.decompress(data, 'gan')
  with pytest.raises(ValueError, match='not 0'):
    codec.decompress(data, 'flow', steps=0)
  with pytest.raises(ValueError, match='not -1'):
    codec.decompress(data, 'flow', seed=-1)


# --- Bad streams --------------------------------------------------------------


def _resigned(data):
  """The file with a valid checksum again."""
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


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_mutation_gets_past(codec, data):
  good = codec.compress(_image(20, 20), 3)
  kind = data.draw(st.sampled_from(['cut', 'flip', 'insert', 'random']))
  if kind == 'cut':
    bad = good[:data.draw(st.integers(0, len(good) - 1))]
  elif kind == 'flip':
    bad = bytearray(good)
    i = data.draw(st.integers(0, len(good) - 1))
    bad[i] ^= data.draw(st.integers(1, 255))
    bad = bytes(bad)
  elif kind == 'insert':
    i = data.draw(st.integers(0, len(good)))
    bad = good[:i] + data.draw(st.binary(min_size=1, max_size=9)) + good[i:]
  else:
    bad = data.draw(st.binary(max_size=100))
  with pytest.raises(gdc.codec.BitstreamError):
    codec.decompress(bad, 'mse')


def test_latents_do_not_depend_on_threads(tiny_bundle_path, codec, tmp_path):
  """Another process, one thread, other XLA flags: the same integers."""
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
    env={
      'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
      'OMP_NUM_THREADS': '1', 'JAX_ENABLE_X64': '1', 'PATH': '',
      'PYTHONPATH': ':'.join(p for p in sys.path if p),
    },
    capture_output=True, check=True,
  )
  np.testing.assert_array_equal(
    np.frombuffer(result.stdout, np.int32), codec.read(data)[0].ravel()
  )
