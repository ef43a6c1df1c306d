"""Reading and writing image files; ICC profiles are in icc_test."""
import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from gdc.codec import bitstream
from gdc.data import decoding, formats, image_files

RED = (200, 30, 40)


def _save(tmp_path, image, name='a.png', **options):
  path = tmp_path / name
  image.save(path, **options)
  return path


def _noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _png(width, height, depth, colour_type, rows, chunks=()):
  """Returns the bytes of a PNG that Pillow does not write."""
  def chunk(name, data):
    body = name + data
    return struct.pack('>I', len(data)) + body + struct.pack(
      '>I', zlib.crc32(body)
    )

  header = struct.pack('>IIBBBBB', width, height, depth, colour_type, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(
    chunk(*c) for c in chunks
  ) + chunk(b'IDAT', zlib.compress(b''.join(b'\0' + r for r in rows))) + chunk(
    b'IEND', b''
  )


# --- Modes ------------------------------------------------------------------


@pytest.mark.parametrize('mode,channels', [
  ('1', 1), ('L', 1), ('LA', 2), ('P', 3), ('RGB', 3), ('RGBA', 4), ('CMYK', 3),
])
def test_every_mode_becomes_one_of_four(tmp_path, mode, channels):
  image = Image.new('RGB', (5, 3), 'white')
  if 'A' in mode:
    image.putalpha(77)
  name = 'a.tif' if mode == 'CMYK' else 'a.png'
  image = image_files.read(_save(tmp_path, image.convert(mode), name))
  assert image.pixels.dtype == np.uint8
  assert image.pixels.flags.c_contiguous
  expected = np.full((3, 5, channels), 255)
  if 'A' in mode:
    expected[..., -1] = 77
  np.testing.assert_array_equal(image.pixels, expected)
  seen, _ = image_files.read_rgb(tmp_path / name)
  np.testing.assert_array_equal(seen, np.full((3, 5, 3), 255))


@pytest.mark.parametrize('mode,channels', [('LA', 1), ('RGBA', 3)])
def test_alpha_is_kept_unless_all_is_opaque(tmp_path, mode, channels):
  alpha = np.full((4, 6), 255, np.uint8)
  colours = _noise(4, 6, channels)
  for value, expected in ((255, channels), (254, channels + 1)):
    alpha[2, 3] = value
    pixels = np.dstack([colours, alpha])
    image = image_files.read(_save(tmp_path, Image.fromarray(pixels)))
    assert not image.notices
    np.testing.assert_array_equal(image.pixels, pixels[..., :expected])


def test_transparency_of_palettes_and_of_one_colour(tmp_path):
  image = Image.new('P', (2, 1))
  image.putpalette([*RED, 1, 2, 3])
  image.putpixel((1, 0), 1)
  path = _save(tmp_path, image, transparency=bytes([9, 255]))
  expected = [[[*RED, 9], [1, 2, 3, 255]]]
  assert image_files.read(path).pixels.tolist() == expected
  colours = image.convert('RGB')
  path = _save(tmp_path, colours, transparency=RED)
  expected = [[[*RED, 0], [1, 2, 3, 255]]]
  assert image_files.read(path).pixels.tolist() == expected
  grey = Image.fromarray(np.array([[7, 8]], np.uint8))
  path = _save(tmp_path, grey, transparency=8)
  assert image_files.read(path).pixels.tolist() == [[[7, 255], [8, 0]]]


def test_transparency_is_laid_on_white_in_rgb_and_said(tmp_path):
  alphas = (0, 255, 128, 127, 3)
  pixels = np.array([[[*RED, a] for a in alphas]], np.uint8)
  path = _save(tmp_path, Image.fromarray(pixels))
  seen, notices = image_files.read_rgb(path)
  assert 'transparency' in notices[0]
  expected = [[round(255 + (c - 255) * a / 255) for c in RED] for a in alphas]
  assert seen.tolist() == [expected]


def test_only_the_first_frame_is_taken_and_that_is_said(tmp_path):
  frames = [Image.new('RGB', (4, 4), c) for c in ('red', 'blue')]
  for name in ('a.webp', 'a.tif', 'a.gif', 'a.mpo', 'a.png'):
    options = {'lossless': True} if name == 'a.webp' else {}
    path = tmp_path / name
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    image = image_files.read(path)
    assert np.abs(image.pixels[0, 0].astype(int) - [255, 0, 0]).max() < 3
    assert image.notices == ['only the first of 2 frames is taken'], name


# --- Orientation ------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif', 'a.avif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_orientation(tmp_path, name, orientation):
  image = Image.fromarray(_noise(4, 6, 3)).resize((24, 16))
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {'lossless': True} if name == 'a.webp' else {}
  path = _save(tmp_path, image, name, exif=exif, **options)
  with Image.open(path) as opened:
    expected = np.asarray(ImageOps.exif_transpose(opened))
  np.testing.assert_array_equal(image_files.read(path).pixels, expected)
  assert expected.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))


def test_orientation_is_right_across_bands(tmp_path, monkeypatch):
  monkeypatch.setattr(image_files, '_BAND_PIXELS', 50)
  image = Image.fromarray(_noise(31, 17, 4))
  for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path, image, exif=exif)
    with Image.open(path) as opened:
      expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(image_files.read(path).pixels, expected)


def test_damaged_metadata_do_not_spoil_an_image(tmp_path):
  image = Image.fromarray(_noise(4, 6, 3))
  for exif in (b'Exif\0\0garbage', b'Exif\0\0II*\0\xff\xff\xff\xff'):
    path = _save(tmp_path, image, exif=exif)
    np.testing.assert_array_equal(image_files.read(path).pixels, image)
  exif = Image.Exif()
  exif[0x0112] = 99
  path = _save(tmp_path, image, exif=exif)
  np.testing.assert_array_equal(image_files.read(path).pixels, image)


# --- More than 8 bits -------------------------------------------------------


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
def test_sixteen_bits_of_grey_are_scaled(tmp_path, name):
  image = Image.fromarray(np.array([[0, 257, 30000, 65535]], np.uint16))
  image = image_files.read(_save(tmp_path, image, name))
  assert image.pixels[..., 0].tolist() == [[0, 1, 117, 255]]
  assert image.notices == ['16 bits per channel become 8']


def test_white_is_zero_in_some_tiffs(tmp_path):
  image = Image.fromarray(np.array([[0, 65535]], np.uint16))
  path = _save(tmp_path, image, 'a.tif', tiffinfo={262: 0})
  assert image_files.read(path).pixels[..., 0].tolist() == [[255, 0]]


def test_sixteen_bits_with_a_transparent_grey(tmp_path):
  row = np.array([257, 258, 65535], '>u2').tobytes()
  data = _png(3, 1, 16, 0, [row], [(b'tRNS', b'\x01\x02')])
  image = image_files.read(io.BytesIO(data))
  assert image.pixels.tolist() == [[[1, 255], [1, 0], [255, 255]]]


def test_a_transparent_colour_of_sixteen_bits_is_left_out_and_that_is_said():
  row = np.array([257, 258, 259], '>u2').tobytes()
  data = _png(1, 1, 16, 2, [row], [(b'tRNS', row)])
  image = image_files.read(io.BytesIO(data))
  assert image.pixels.tolist() == [[[1, 1, 1]]]
  assert image.notices[1] == 'its transparent colour is not kept'


@pytest.mark.parametrize('colour_type,channels', [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_are_noticed(colour_type, channels):
  """Pillow narrows them silently."""
  row = np.array([range(1000, 1000 + 2 * channels)], '>u2').tobytes()
  image = image_files.read(io.BytesIO(_png(2, 1, 16, colour_type, [row])))
  assert image.notices == ['16 bits per channel become 8']
  assert image.pixels.shape == (1, 2, channels)
  assert (np.abs(image.pixels.astype(int) - 4) <= 1).all()


def test_sixteen_bits_of_other_formats():
  row = np.array([1000, 30000, 65535], '>u2').tobytes()
  for magic, shape in ((b'P6 1 1', (1, 1, 3)), (b'P5 3 1', (1, 3, 1))):
    image = image_files.read(io.BytesIO(magic + b' 65535\n' + row))
    assert image.notices == ['16 bits per channel become 8']
    np.testing.assert_array_equal(
      image.pixels, np.reshape([4, 117, 255], shape)
    )
  ten = np.array([0, 512, 1023], '>u2').tobytes()
  image = image_files.read(io.BytesIO(b'P5 3 1 1023\n' + ten))
  assert image.pixels.ravel().tolist() == [0, 128, 255]
  tiff = io.BytesIO()
  Image.new('RGB', (2, 1), RED).save(tiff, 'TIFF')
  data = bytearray(tiff.getvalue())
  # BitsPerSample 8, 8, 8 -> 16, 16, 16, of an image half as wide.
  data = data.replace(b'\x08\0\x08\0\x08\0', b'\x10\0\x10\0\x10\0')
  data = data.replace(b'\x00\x01\x04\0\x01\0\0\0\x02\0\0\0',
                      b'\x00\x01\x04\0\x01\0\0\0\x01\0\0\0')
  image = image_files.read(io.BytesIO(bytes(data)))
  assert image.notices == ['16 bits per channel become 8']
  assert image.pixels.shape == (1, 1, 3)


# --- Limits and errors ------------------------------------------------------


def test_large_images_are_read_and_larger_ones_refused(monkeypatch):
  """Pillow's own limit, which is lower, has no effect."""
  data = io.BytesIO()
  Image.new('L', (100, 100)).save(data, 'PNG')
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
  assert image_files.read(data).pixels.shape == (100, 100, 1)
  assert Image.MAX_IMAGE_PIXELS == 2000
  monkeypatch.setattr(bitstream, 'MAX_PIXELS', 9999)
  with pytest.raises(image_files.ImageError, match='more than 9,999 pixels'):
    image_files.read(data)
  assert Image.MAX_IMAGE_PIXELS == 2000
  monkeypatch.setattr(bitstream, 'MAX_PIXELS', 10_000)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    image_files.read(data)
  assert not caught


def test_the_limit_is_that_of_the_format_and_nothing_is_decoded():
  for side, message in ((16_385, 'more than 268,435,456'), (16_384, 'damaged')):
    with pytest.raises(image_files.ImageError, match=message):
      image_files.read(io.BytesIO(_png(16_384, side, 8, 0, [b''])))


def test_limits_of_pillow_come_back_after_many_threads():
  before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
  data = io.BytesIO()
  Image.fromarray(_noise(200, 200)).save(data, 'PNG')
  filters = list(warnings.filters)
  with decoding._limits():
    image_files.read(data)  # in another thread, meanwhile
    assert bitstream.MAX_PIXELS // 2 == Image.MAX_IMAGE_PIXELS
  threads = [
    threading.Thread(
      target=lambda: image_files.read(io.BytesIO(data.getvalue()))
    ) for _ in range(8)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert before == (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK)
  assert warnings.filters == filters


def test_what_is_not_an_image(tmp_path, monkeypatch):
  path = tmp_path / 'a.png'
  path.write_bytes(b'text')
  with pytest.raises(image_files.ImageError, match='a.png is not an image'):
    image_files.read(path)
  (tmp_path / 'b.png').touch()
  with pytest.raises(image_files.ImageError, match='b.png is empty'):
    image_files.read(tmp_path / 'b.png')
  with pytest.raises(FileNotFoundError):
    image_files.read(tmp_path / 'missing.png')
  cut = _save(tmp_path, Image.effect_noise((64, 64), 50), 'cut.png')
  cut.write_bytes(cut.read_bytes()[:500])
  # The host program's setting has no effect.
  monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
  with pytest.raises(image_files.ImageError, match='cut.png is a damaged PNG'):
    image_files.read(cut)


@pytest.mark.parametrize(
  'name', ['PNG', 'JPEG', 'WEBP', 'AVIF', 'GIF', 'BMP', 'PPM', 'TIFF']
)
def test_damage_is_one_kind_of_error(name):
  data = io.BytesIO()
  Image.fromarray(_noise(20, 30, 3)).save(data, name)
  rng = np.random.default_rng(0)
  for cut in (False, True):
    for _ in range(40):
      damaged = np.frombuffer(data.getvalue(), np.uint8).copy()
      damaged[rng.integers(0, min(len(damaged), 200), 3)] = rng.integers(256)
      if cut:
        damaged = damaged[:rng.integers(len(damaged))]
      try:
        pixels = image_files.read(io.BytesIO(damaged.tobytes())).pixels
        assert pixels.dtype == np.uint8
      except image_files.ImageError:
        pass


def test_a_stream_that_cannot_seek(tmp_path):
  pixels = _noise(5, 4, 3)
  data = image_files.encode(pixels, '.png')
  reader, writer = os.pipe()
  with open(writer, 'wb') as f:
    f.write(data)
  with open(reader, 'rb') as f:
    np.testing.assert_array_equal(image_files.read(f).pixels, pixels)


# --- Writing ----------------------------------------------------------------


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('suffix', ['.png', '.webp', '.TIF'])
def test_lossless_formats_are_lossless(tmp_path, suffix, channels):
  pixels = _noise(7, 9, channels)
  path = tmp_path / f'a{suffix}'
  path.write_bytes(image_files.encode(pixels, suffix))
  read = image_files.read(path).pixels
  if suffix == '.webp' and channels < 3:  # it has no grey
    pixels = np.concatenate([pixels[..., :1]] * 2 + [pixels], -1)
  np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('suffix', ['.bmp', '.ppm'])
def test_old_formats_are_lossless_too(suffix, channels):
  pixels = _noise(7, 9, channels)
  read = image_files.read(io.BytesIO(image_files.encode(pixels, suffix))).pixels
  np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('suffix', ['.jpg', '.avif'])
def test_lossy_formats_are_close(suffix, channels):
  pixels = np.full((16, 16, channels), 180, np.uint8)
  read = image_files.read(io.BytesIO(image_files.encode(pixels, suffix))).pixels
  expected = image_files.fit(pixels, suffix).pixels
  if suffix == '.avif' and channels == 2:
    expected = expected[..., [0, 0, 0, 1]]
  assert read.shape == expected.shape
  assert np.abs(read.astype(int) - expected).max() <= 3


@pytest.mark.parametrize('suffix', ['.jpg', '.bmp', '.ppm'])
def test_formats_without_transparency_get_white(suffix):
  for channels in (2, 4):
    pixels = np.zeros((8, 8, channels), np.uint8)
    fitted = image_files.fit(pixels, suffix)
    assert 'no transparency; it is laid on white' in fitted.notices[0]
    assert (fitted.pixels == 255).all()
    assert fitted.pixels.shape == (8, 8, channels - 1)
    read = image_files.read(io.BytesIO(image_files.encode(pixels, suffix)))
    np.testing.assert_array_equal(read.pixels, fitted.pixels)
  assert not image_files.fit(pixels, '.png').notices


def test_unknown_endings_are_named():
  for act in (image_files.encode, image_files.fit):
    with pytest.raises(image_files.ImageError, match="'.xyz'"):
      act(np.zeros((1, 1, 3), np.uint8), '.xyz')


def test_a_pgm_holds_grey_only():
  with pytest.raises(image_files.ImageError, match='.pgm holds grey only'):
    image_files.encode(_noise(4, 4, 3), '.PGM')
  assert image_files.encode(_noise(4, 4, 1), '.pgm').startswith(b'P5')


def test_sizes_that_a_format_cannot_hold_are_named():
  wide = np.zeros((1, 20_000, 3), np.uint8)
  with pytest.raises(image_files.ImageError, match='20000 x 1 .* WEBP'):
    image_files.encode(wide, '.webp')


def test_endings_are_those_of_pillow():
  Image.init()
  known = Image.registered_extensions()
  for suffix, name in formats.READ.items():
    assert name == known[suffix].replace('MPO', 'JPEG'), suffix
  assert set(formats.WRITTEN) < set(formats.READ)
  assert set(formats.SUFFIXES_WRITTEN.split()) < set(formats.WRITTEN)
  assert set(formats.WRITTEN.values()) == set(image_files._OPTIONS)


def test_the_earlier_name_still_works(tmp_path):
  from gdc.data import pictures
  (tmp_path / 'a.png').write_bytes(b'nothing')
  with pytest.raises(pictures.PictureError):
    pictures.read(tmp_path / 'a.png')
