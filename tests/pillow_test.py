"""The plugin for Pillow: open, load and save, as Pillow's users know them."""
import concurrent.futures
import dataclasses
import functools
import io
import pathlib
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import gdc
from gdc import pillow
from gdc.codec import bitstream, bundle, loading
from gdc.codec import codec as codec_lib

pytestmark = pytest.mark.usefixtures('by_the_network')

MODES = ['L', 'LA', 'RGB', 'RGBA']
# Of the images' size: a whole tile is computed for the smallest image.
TILES = {
  'autoencoder_tile': (96, 96), 'score_tile': (96, 96), 'score_block': None,
}


@functools.cache
def _load(path):
  return codec_lib.Codec(bundle.load(path), **TILES)


@pytest.fixture(autouse=True)
def model(tiny_bundle_path, monkeypatch):
  """The tiny bundle is everyone's default; the path of it."""
  monkeypatch.setattr(pillow.GdcImageFile, 'model', tiny_bundle_path)
  monkeypatch.setattr(loading, 'load', lambda path, _: _load(path))
  return tiny_bundle_path


@pytest.fixture
def codec(model):
  return pillow._codec(str(model))


def _image(mode, size=(34, 21)):
  width, height = size
  shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  return Image.fromarray(pixels, mode)


def _save(image, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, 'GDC', **options)
  return out.getvalue()


def _open(data):
  return Image.open(io.BytesIO(data))


# --- There and back ---------------------------------------------------------


@pytest.mark.parametrize('mode', MODES)
def test_there_and_back(mode, codec, tmp_path):
  image = _image(mode)
  path = tmp_path / 'a.gdc'
  image.save(path, quality=2.5)
  pixels = np.asarray(image).reshape(21, 34, -1)
  data = path.read_bytes()
  assert data == codec.compress(pixels, 2.5)
  with Image.open(path) as opened:
    assert (opened.format, opened.mode, opened.size) == ('GDC', mode, (34, 21))
    assert opened.get_format_mimetype() == 'image/x-gdc'
    assert opened.info == {
      'quality': 2.5,
      'bpp': 8 * len(data) / (34 * 21),
      'lossless': False,
      'model_digest': codec.digest[:8],
    }
    decoded = np.asarray(opened).reshape(21, 34, -1)
  # With the model's flow, and the file's own seed.
  np.testing.assert_array_equal(decoded, codec.decompress(data, 'flow'))
  if mode.endswith('A'):
    np.testing.assert_array_equal(decoded[..., -1], pixels[..., -1])


@pytest.mark.parametrize('settings', [
  {'decoder': 'mse'}, {'decoder': 'flow', 'steps': 1, 'seed': 7},
  {'decoder': 'diffusion', 'steps': 2}, {'realism': 0.25}, {'seed': 9},
], ids=str)
def test_settings(settings, codec, monkeypatch):
  data = _save(_image('RGB'))
  expected = codec.decompress(data, **{'decoder': 'flow', **settings})
  assert (expected != codec.decompress(data)).any()
  image = _open(data)
  for name, value in settings.items():
    setattr(image, name, value)
  np.testing.assert_array_equal(np.asarray(image), expected)
  # No one else's, unless they are set on the class.
  np.testing.assert_array_equal(
    np.asarray(_open(data)), codec.decompress(data)
  )
  for name, value in settings.items():
    monkeypatch.setattr(pillow.GdcImageFile, name, value)
  np.testing.assert_array_equal(np.asarray(_open(data)), expected)


def test_pillow_works_on_it(codec):
  data = _save(_image('RGB'))
  decoded = Image.fromarray(codec.decompress(data))

  def same(found, expected):
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))

  same(_open(data).convert('L'), decoded.convert('L'))
  same(_open(data).crop((3, 4, 9, 8)), decoded.crop((3, 4, 9, 8)))
  same(_open(data).copy(), decoded)
  same(pickle.loads(pickle.dumps(_open(data))), decoded)
  thumbnail, expected = _open(data), decoded.copy()
  thumbnail.thumbnail((9, 9))
  expected.thumbnail((9, 9))
  same(thumbnail, expected)
  painted = _open(data)
  painted.putpixel((0, 0), (1, 2, 3))
  assert painted.getpixel((0, 0)) == (1, 2, 3)
  parser = ImageFile.Parser()  # in pieces, as from a network
  for i in range(0, len(data), 50):
    parser.feed(data[i:i + 50])
  same(parser.close(), decoded)


def test_threads_may_ask_for_the_pixels_of_one_image(codec):
  image = _open(_save(_image('RGB')))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda _: np.asarray(image), range(8)))
  for pixels in found:
    np.testing.assert_array_equal(pixels, np.asarray(image), strict=True)


def test_an_image_without_pixels_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'an image of \(0, 5\) pixels'):
    Image.new('RGB', (0, 5)).save(tmp_path / 'a.gdc')


def test_saved_over_itself(codec, tmp_path):
  path = tmp_path / 'a.gdc'
  _image('RGB').save(path)
  decoded = codec.decompress(path.read_bytes())
  image = Image.open(path)
  image.save(path)
  assert path.read_bytes() == codec.compress(decoded)


# --- Modes ------------------------------------------------------------------


def _with_transparency(mode, transparency):
  image = _image('RGB').quantize(8) if mode == 'P' else _image(mode)
  image.info['transparency'] = transparency
  return image


@pytest.mark.parametrize('image,mode', [
  (_image('L').convert('1'), 'L'),
  (_image('RGB').quantize(8), 'RGB'),
  (_image('RGB').convert('RGBX'), 'RGB'),
  (_image('LA').convert('PA'), 'RGBA'),
  (_with_transparency('P', 2), 'RGBA'),
  (_with_transparency('P', bytes(range(8))), 'RGBA'),
  (_with_transparency('L', 128), 'LA'),
  (_with_transparency('RGB', (10, 20, 30)), 'RGBA'),
], ids=['1', 'P', 'RGBX', 'PA', 'P+t', 'P+bytes', 'L+t', 'RGB+t'])
def test_modes_that_become_others_without_loss(image, mode, codec):
  converted = image.convert(mode)
  expected = codec.compress(np.asarray(converted).reshape(21, 34, -1))
  assert _save(image) == expected
  assert _open(expected).mode == mode


@pytest.mark.parametrize('mode', ['CMYK', 'YCbCr', 'HSV', 'I', 'F', 'I;16'])
def test_other_modes_are_refused(mode, tmp_path):
  path = tmp_path / 'a.gdc'
  with pytest.raises(OSError, match=(
    f'cannot write mode {mode} as GDC; convert the image to (RGB|L)'
  )):
    Image.new(mode, (8, 8)).save(path)
  assert not path.exists()


def test_several_frames_are_refused(tmp_path):
  path, image = tmp_path / 'a.gdc', _image('RGB')
  with pytest.raises(OSError, match='holds one image, not 3 frames'):
    image.save(path, save_all=True, append_images=[image, image])
  assert not path.exists()
  assert _save(image, save_all=True) == _save(image)


# --- Options ----------------------------------------------------------------


class FakeCodec:
  """Remembers what it was asked for."""

  def __init__(self, decoders=('mse',)):
    self.decoders = decoders
    self.asked = []

  def compress(self, image, **options):
    self.asked.append(options)
    return b'bytes'

  def decompress(self, data, *arguments):
    self.asked.append(arguments)
    return np.zeros((21, 34, 3), np.uint8)


@pytest.fixture
def fake(monkeypatch):
  """A codec in place of every model; `loaded` are the names asked for."""
  made = FakeCodec()
  made.loaded = []
  monkeypatch.setattr(
    loading, 'load', lambda path, _: made.loaded.append(path) or made
  )
  loading._cached.cache_clear()
  yield made
  loading._cached.cache_clear()


@pytest.mark.parametrize('options', [
  {}, {'quality': 5}, {'target_bytes': 1000}, {'target_bpp': 0.5, 'seed': 3},
  {'min_psnr': 30.0},
], ids=str)
def test_options_reach_the_codec(options, fake):
  assert _save(_image('RGB'), **options, optimize=True) == b'bytes'
  assert fake.asked == [{**options, 'icc': b'', 'exif': b'', 'xmp': b''}]


def test_a_model_is_loaded_once(fake, model):
  image = _image('RGB')
  for name in ('a', 'b', 'a', pathlib.Path('a')):
    _save(image, model=name)
  _save(image)
  assert fake.loaded == ['a', 'b', str(model)]


def test_the_default_decoder_is_that_of_the_codec(codec, fake):
  data = codec.compress(np.zeros((21, 34, 3), np.uint8))
  _open(data).load()
  assert fake.asked == [(None, None, None, None)]


def test_quality_out_of_range(tmp_path):
  with pytest.raises(ValueError, match='from 1 to 6, not 75'):
    _image('RGB').save(tmp_path / 'a.gdc', quality=75)
  assert not (tmp_path / 'a.gdc').exists()


def test_a_row_is_as_large_as_what_it_takes_to_decode_it(codec, monkeypatch):
  row = codec.compress(np.zeros((1, 640, 3), np.uint8))
  square = codec.compress(np.zeros((24, 24, 3), np.uint8))
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 320)
  with pytest.warns(Image.DecompressionBombWarning, match='576 pixels'):
    assert _open(square).size == (24, 24)
  with pytest.raises(pillow.GdcError, match='640 x 1 pixels take the latents'):
    _open(row)
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 3200)
  assert _open(row).size == (640, 1)


def test_a_setting_out_of_range_can_be_put_right(codec):
  image = _open(_save(_image('RGB')))
  image.steps = 0
  with pytest.raises(ValueError, match='steps'):
    image.load()
  image.steps = 1
  assert image.load()


# --- EXIF and XMP -----------------------------------------------------------

XMP = b'<x:xmpmeta tiff:Orientation="6"/>'


def test_metadata_travel_if_given():
  exif = Image.Exif()
  exif[271] = 'a camera'
  exif.get_ifd(0x8825)[1] = 'N'
  image = _image('RGB')
  plain = _save(image)
  image.info.update(exif=exif.tobytes(), xmp=XMP)
  assert _save(image) == plain  # as Pillow's own formats
  place = Image.Exif()
  place.get_ifd(0x8825)[1] = 'N'
  opened = _open(_save(image, exif=place))
  assert opened.getexif().get_ifd(0x8825) == {1: 'N'}
  assert _save(image, exif=Image.Exif()) == plain
  for given in (exif, exif.tobytes(), exif.tobytes()[6:]):
    opened = _open(_save(image, exif=given))
    assert opened.info['exif'] == exif.tobytes() and 'xmp' not in opened.info
    assert opened.getexif()[271] == 'a camera'
    assert opened.getexif().get_ifd(0x8825) == {1: 'N'}
  opened = _open(_save(image, exif=exif, xmp=XMP, lossless='always'))
  assert opened.info['xmp'] == XMP.replace(b'6', b'1')
  again = io.BytesIO()
  opened.save(again, 'JPEG', exif=opened.info['exif'])
  assert Image.open(again).getexif()[271] == 'a camera'
  with pytest.raises(ValueError, match='exif cannot be read'):
    _save(image, exif=b'nothing')


@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_orientation_that_is_given_is_applied(orientation):
  exif = Image.Exif()
  exif.update({271: 'a camera', 274: orientation})
  image = _image('RGBA')
  opened = _open(_save(image, exif=exif, lossless='always'))
  assert opened.getexif()[274] == 1
  image.info['exif'] = exif.tobytes()
  np.testing.assert_array_equal(opened, ImageOps.exif_transpose(image))


def test_damaged_exif_of_a_file_is_left_out():
  header, payload, _ = bitstream.unpack(_save(_image('RGB')))
  header = dataclasses.replace(header, exif=b'nothing', xmp=XMP)
  with pytest.warns(UserWarning, match='its EXIF is left out: it starts with'):
    opened = _open(bitstream.pack(header, payload))
  assert 'exif' not in opened.info and opened.info['xmp'] == XMP


# --- Colour profiles --------------------------------------------------------


def test_profiles_travel(rgb_profile):
  image = _image('RGB')
  plain = _save(image)
  assert 'icc_profile' not in _open(plain).info
  image.info['icc_profile'] = rgb_profile
  assert _open(_save(image)).info['icc_profile'] == rgb_profile
  assert _save(image, icc_profile=None) == plain
  del image.info['icc_profile']
  assert _open(_save(image, icc_profile=rgb_profile)).info['icc_profile'] == (
    rgb_profile
  )
  # That of an opened file goes on, into whatever it is saved as.
  image.info['icc_profile'] = rgb_profile
  again = io.BytesIO()
  _open(_save(image)).save(again, 'PNG')
  assert Image.open(again).info['icc_profile'] == rgb_profile


def test_srgb_is_not_written(recwarn):
  srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  for image in (_image('RGB'), _image('L')):
    plain = _save(image)
    image.info['icc_profile'] = srgb
    assert _save(image) == plain
  assert _open(_save(_image('RGB'), icc_profile=srgb)).info['icc_profile']
  assert not recwarn.list


@pytest.mark.parametrize('mode,source', [
  ('RGB', 'GRAY'), ('RGB', 'CMYK'), ('L', 'RGB'), ('LA', 'RGB'), ('1', 'RGB'),
  ('RGB', 'cut'), ('RGBA', 'link'),
])
def test_a_profile_of_other_colours_is_not_saved(
  mode, source, rgb_profile, codec
):
  """As after convert(), which keeps the profile of what was converted."""
  icc = {
    'RGB': rgb_profile, 'cut': rgb_profile[:-9],
    'link': rgb_profile[:12] + b'link' + rgb_profile[16:],
  }.get(source) or rgb_profile.replace(b'RGB ', source.encode())
  image = _image('RGB').convert(mode)
  plain = _save(image)
  with pytest.raises(ValueError, match='icc does not fit the image: it is'):
    _save(image, icc_profile=icc)
  image.info['icc_profile'] = icc
  with pytest.warns(UserWarning, match='the ICC profile is not used: it is'):
    assert _save(image) == plain
  # A file that was written in spite of that.
  header, payload, _ = bitstream.unpack(plain)
  wrong = bitstream.pack(dataclasses.replace(header, icc=icc), payload)
  with pytest.warns(UserWarning, match='the ICC profile is not used: it is'):
    opened = _open(wrong)
  assert 'icc_profile' not in opened.info
  assert opened.mode == _open(plain).mode


# --- Bad files --------------------------------------------------------------


@pytest.mark.parametrize('data', [b'', b'GD', b'not an image, long enough'])
def test_other_files_are_not_identified(data):
  with pytest.raises(UnidentifiedImageError):
    _open(data)


@pytest.mark.parametrize('error', [gdc.codec.BitstreamError, OSError])
def test_damaged_files_are_refused_when_opened(error, tmp_path):
  data = bytearray(_save(_image('RGB')))
  path = tmp_path / 'a.gdc'
  path.write_bytes(data[:-1])
  with pytest.raises(error, match='damaged or cut off'):
    Image.open(path)
  data[30] ^= 1
  path.write_bytes(data)
  with pytest.raises(error, match='damaged or cut off'):
    Image.open(path)
  data[3] = 9
  with pytest.raises(error, match='version 9'):
    _open(bytes(data))


def test_a_file_of_another_model(model, tmp_path):
  original = bundle.load(model)
  params = jax.tree.map(lambda a: a * 1.5, original.autoencoder_params)
  other = bundle.save(
    bundle.make('other', original.autoencoder_spec, params), tmp_path / 'other'
  )
  image = _open(_save(_image('RGB'), model=other))
  for error in (gdc.codec.BitstreamError, OSError):
    with pytest.raises(error, match='was made with model'):
      image.load()
  image.model = other
  image.load()
  assert image.getpixel((0, 0))


# --- Files and imports ------------------------------------------------------


def test_files_are_closed(tmp_path):
  path = tmp_path / 'a.gdc'
  _image('RGB').save(path)
  image = Image.open(path)
  file = image.fp
  image.load()
  assert file.closed and not hasattr(image, '_data')
  # Pillow would copy an image of megabytes before it is written to.
  assert not image.readonly
  with Image.open(path) as image:
    file = image.fp
  assert file.closed
  image = Image.open(path)
  image.close()
  with pytest.raises(ValueError, match='closed'):
    image.load()
  with open(path, 'rb') as file:
    Image.open(file).load()
    assert not file.closed  # it is the caller's


def test_importing_and_opening_need_no_jax(tmp_path):
  path = tmp_path / 'a.gdc'
  _image('RGBA').save(path)
  code = (
    'import sys, gdc.pillow\n'
    'from PIL import Image\n'
    f'print(Image.open({str(path)!r}).mode)\n'
    'print([m for m in ("jax", "flax") if m in sys.modules])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False,
    cwd=pathlib.Path(gdc.__file__).parents[1],
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ['RGBA', '[]']
