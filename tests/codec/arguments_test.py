"""Images, files and numbers that the codec accepts, and its errors."""
import array
import fractions
import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdc.codec import arguments, codec

pytestmark = pytest.mark.usefixtures('by_the_network')

# A whole tile is computed for the smallest image.
TILES = {
  'autoencoder_tile': (96, 96), 'score_tile': (96, 96), 'score_block': None,
}
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


class Tensor:
  """Like a tensor of torch: not a subclass of a numpy array."""

  def __init__(self, values):
    self._values = values

  def __array__(self, dtype=None, copy=None):
    if self._values is None:
      raise TypeError("can't convert cuda:0 device type tensor to numpy")
    return self._values


@pytest.fixture(scope='module')
def tiny(tiny_bundle):
  return codec.Codec(tiny_bundle, **TILES)


@pytest.fixture(scope='module')
def memmap(tmp_path_factory):
  path = tmp_path_factory.mktemp('map') / 'image'
  path.write_bytes(IMAGE.tobytes())
  return np.memmap(path, np.uint8, 'r', shape=IMAGE.shape)


def test_anything_with_an_array_of_uint8_is_an_image(tiny, memmap):
  read_only = IMAGE.copy()
  read_only.setflags(write=False)
  wide = np.zeros((24, 80, 5), np.uint8)
  wide[:, ::2, 4:1:-1] = IMAGE
  expected = tiny.compress(IMAGE)
  for image in (
    jnp.asarray(IMAGE), Tensor(IMAGE), memmap, read_only,
    np.asfortranarray(IMAGE), wide[:, ::2, 4:1:-1], IMAGE[::-1][::-1],
    np.ma.masked_array(IMAGE), IMAGE.astype('>u1'),
  ):
    assert tiny.compress(image) == expected
    np.testing.assert_array_equal(tiny.encode(image, 3), tiny.encode(IMAGE, 3))


@pytest.mark.parametrize('image, message', [
  (IMAGE.astype(np.float32) / 255,
   r'a numpy.ndarray of float32 \[24, 40, 3\]: give \(255 \* image\).round'),
  (IMAGE.astype(int), r'int64 \[24, 40, 3\]: give image.astype\(numpy.uint8\)'),
  (IMAGE.astype('>u2'), r'>u2 .*\(image // 257\)'),
  (IMAGE > 9, r'bool .*255 \* image.astype'),
  (IMAGE.astype(object), r'of object \[24, 40, 3\]\.'),
  (IMAGE.astype(complex), r'of complex128'),
  (IMAGE[:, :, 0], r'uint8 \[24, 40\]: give image\[:, :, None\]'),
  (IMAGE[None], r'uint8 \[1, 24, 40, 3\]: give one image at a time'),
  (np.moveaxis(IMAGE, -1, 0), r'\[3, 24, 40\]: give numpy.moveaxis'),
  (np.zeros((4, 4, 5), np.uint8), r'uint8 \[4, 4, 5\]\.'),
  (np.zeros((4, 4, 0), np.uint8), r'uint8 \[4, 4, 0\]\.'),
  (np.zeros((0, 4, 3), np.uint8), 'at least one pixel'),
  (np.uint8(7), r'a numpy.uint8 of uint8 \[\]'),
  (jnp.asarray(IMAGE, jnp.bfloat16), r'a jax.Array of bfloat16 \[24, 40, 3\]'),
  (Tensor(IMAGE.astype(np.float32)), r'Tensor of float32 .*\(255 \* image\)'),
  (Tensor(None), r"Tensor does not become one: can't convert cuda:0"),
  (np.ma.masked_equal(IMAGE, IMAGE[0, 0, 0]), r'masked values.*filled\(0\)'),
  (IMAGE.tolist(), r'not a list: give numpy.asarray\(image, numpy.uint8\)'),
  ('photo.png', "the str 'photo.png': read the file first"),
  (IMAGE.tobytes(), 'not a bytes: decode the file first'),
  (None, 'not None'),
  (Image.fromarray(IMAGE).convert('CMYK'),
   r"Pillow image of mode CMYK: give numpy.asarray\(image.convert\('RGB'\)\)"),
  (Image.fromarray(IMAGE), r'Pillow image of mode RGB'),
])
def test_other_values_for_an_image_are_named(tiny, image, message):
  with pytest.raises(ValueError, match=f'An image (is|needs) .*{message}'):
    tiny.compress(image)


def test_a_file_is_bytes_of_any_kind(tiny):
  data = tiny.compress(IMAGE)
  expected = tiny.decompress(data, 'mse')
  for same in (
    bytearray(data), memoryview(data), np.frombuffer(data, np.uint8),
    array.array('B', data),
  ):
    np.testing.assert_array_equal(tiny.decompress(same, 'mse'), expected)


@pytest.mark.parametrize('data, message', [
  ('photo.gdc', r"the str 'photo.gdc': give pathlib.Path\('photo.gdc'\)"),
  (pathlib.Path('a/b'), r"Path 'a/b': give pathlib.Path\('a/b'\).read_bytes"),
  (io.BytesIO(b''), r'an _io.BytesIO: give what its read\(\) returns'),
  (IMAGE, r'a numpy.ndarray of uint8 \[24, 40, 3\]'),
  (None, 'not None'), ([1, 2], 'a list'), (7, 'an int'),
])
def test_other_values_for_a_file_are_named(tiny, data, message):
  for method in (tiny.decompress, tiny.read, tiny.ideal_bits):
    with pytest.raises(ValueError, match=f'bytes of a .gdc file.*{message}'):
      method(data)


def test_numbers_of_other_libraries_are_numbers(tiny):
  data = tiny.compress(IMAGE, 4, seed=5)
  for four, five in (
    (np.float32(4), np.uint32(5)), (np.int64(4), np.int8(5)),
    (jnp.float32(4), jnp.int32(5)), (np.array(4.0), np.array(5)),
  ):
    assert tiny.compress(IMAGE, four, seed=five) == data
    image = tiny.decompress(
      data, 'flow', steps=np.int32(1), realism=np.float32(0)
    )
  np.testing.assert_array_equal(image, tiny.decompress(data, 'mse'))
  assert tiny.compress(IMAGE, fractions.Fraction(4), seed=5) == data
  target = tiny.compress(IMAGE, target_bytes=np.int64(len(data)))
  assert target == tiny.compress(IMAGE, target_bytes=float(len(data)))


@pytest.mark.parametrize('options, message', [
  ({'quality': '3'}, "quality must be a number, not the str '3'"),
  ({'quality': True}, 'quality must be a number, not True'),
  ({'quality': [3]}, 'quality must be a number, not a list'),
  ({'quality': float('nan')}, 'from 1 to 6, not nan'),
  ({'target_bytes': '50k'}, "target_bytes must be a number, not the str '50k'"),
  ({'target_bpp': np.bool_(True)}, 'target_bpp must be a number, not True'),
  ({'min_psnr': 30j}, 'min_psnr must be a number, not a complex'),
  ({'target_bytes': 10**400}, 'target_bytes is too large'),
  ({'min_psnr': -10**400}, 'min_psnr is too large'),
  ({'notices': ()}, 'notices must be a list, or None, not tuple'),
  ({'lossless': True}, 'lossless must be one of auto, .* not True'),
  ({'lossless': np.array(['auto', 'never'])}, 'lossless must be .* not array'),
  ({'seed': 1.0}, 'seed must be a whole number from 0 to .* not 1.0'),
  ({'seed': True}, 'seed .* not True'),
  ({'seed': 'a'}, "seed .* not the str 'a'"),
  ({'icc': 'sRGB'}, 'icc must be the bytes of .* not str'),
  ({'exif': 'EXIF'}, 'exif must be the bytes of EXIF, or None, not str'),
  ({'exif': b'a camera'}, "exif cannot be read: it starts with b'a ca', which"),
  ({'exif': b'Exif\0\0II*'}, "exif cannot be read: it starts with b'II.*no TI"),
  ({'exif': b'MM\0*\0\0\0\x08\0\1'}, 'its table of tags is cut off'),
  ({'exif': b'II*\0\x08\0\0\0' + bytes(2**20)}, 'exif must be at most 1048576'),
  ({'xmp': '<x/>'}, 'xmp must be the bytes of an XMP packet, or None, not str'),
  ({'xmp': bytes(2**20 + 1)}, 'xmp must be at most 1048576 bytes'),
  ({'quality': 3, 'target_bytes': 999}, 'Only one of quality and target_bytes'),
  ({'quality': 3, 'target_bpp': 1}, 'Only one of quality and target_bpp'),
  ({'quality': 3, 'min_psnr': 30}, 'Only one of quality and min_psnr'),
])
def test_options_of_compress_are_named(tiny, options, message):
  with pytest.raises(ValueError, match=message):
    tiny.compress(IMAGE, **options)


@pytest.mark.parametrize('options, message', [
  ({'decoder': 'mse', 'steps': 4}, 'steps is of the score decoders'),
  ({'decoder': 'mse', 'seed': -1}, 'seed must be .* not -1'),
  ({'decoder': 'mse', 'realism': 1.0}, 'realism is of the score decoders'),
  ({'decoder': 'flow', 'steps': True}, 'steps of flow .* not True'),
  ({'decoder': 'flow', 'steps': 2.0}, 'steps of flow .* not 2.0'),
  ({'decoder': 'flow', 'realism': '1'}, "realism must be a number, not the"),
  ({'decoder': 'flow', 'realism': float('nan')}, 'from 0 to 1, not nan'),
  ({'decoder': 7}, 'no decoder 7; it has mse'),
])
def test_options_of_decompress_are_named(tiny, options, message):
  with pytest.raises(ValueError, match=message):
    tiny.decompress(b'', **options)


def test_no_profile_is_srgb_and_no_metadata_none(tiny):
  plain = tiny.compress(IMAGE)
  for none in (None, b'', bytearray()):
    assert tiny.compress(IMAGE, icc=none, exif=none, xmp=none) == plain


def test_compressing_in_a_traced_function_is_refused(tiny):
  with pytest.raises(RuntimeError, match='call it outside of that function'):
    jax.jit(tiny.compress)(IMAGE)
  assert tiny.compress(IMAGE)


def test_the_default_quality_is_three(tiny):
  assert arguments.DEFAULT_QUALITY == 3
  assert tiny.compress(IMAGE) == tiny.compress(IMAGE, 3)
