"""Picture files as people have them."""
import numpy as np
import pytest
from PIL import Image, ImageCms

from gdc.data import pictures

RED = (200, 30, 40)


def _save(tmp_path, image, name='a.png', **options):
  path = tmp_path / name
  image.save(path, **options)
  return path


@pytest.mark.parametrize('mode', ['L', 'P', 'CMYK', 'RGBA', 'LA', '1', 'RGB'])
def test_every_mode_becomes_rgb(tmp_path, mode):
  image = Image.new('RGB', (5, 3), 'white').convert(mode)
  name = 'a.tif' if mode == 'CMYK' else 'a.png'
  pixels, _ = pictures.read(_save(tmp_path, image, name))
  assert pixels.dtype == np.uint8
  np.testing.assert_array_equal(pixels, np.full((3, 5, 3), 255))


def test_transparency_is_laid_on_white_and_said(tmp_path):
  path = _save(tmp_path, Image.new('RGBA', (2, 2), (*RED, 0)))
  pixels, notices = pictures.read(path)
  assert (pixels == 255).all()
  assert 'transparency' in notices[0]


def test_sixteen_bits_are_scaled(tmp_path):
  image = Image.fromarray(np.array([[0, 257, 30000, 65535]], np.uint16))
  pixels, notices = pictures.read(_save(tmp_path, image))
  assert pixels[0, :, 0].tolist() == [0, 1, 117, 255]
  assert '16 bits' in notices[0]


def test_floating_point_pixels_are_refused_with_advice(tmp_path):
  path = _save(tmp_path, Image.new('F', (2, 2)), 'a.tif')
  with pytest.raises(pictures.PictureError, match='F pixels.*8 or 16 bits'):
    pictures.read(path)


def test_colours_of_another_profile_become_srgb(tmp_path):
  # A profile whose primaries are those of XYZ: far from sRGB.
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('XYZ')).tobytes()
  srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  image = Image.new('RGB', (2, 2), RED)
  same, notices = pictures.read(
    _save(tmp_path, image, 'srgb.png', icc_profile=srgb)
  )
  assert not notices
  assert np.abs(same.astype(int) - RED).max() <= 1
  other, notices = pictures.read(
    _save(tmp_path, image, 'xyz.png', icc_profile=profile)
  )
  assert notices or np.abs(other.astype(int) - RED).max() > 1
  broken, notices = pictures.read(
    _save(tmp_path, image, 'broken.png', icc_profile=b'no profile')
  )
  assert 'colour profile' in notices[0]
  np.testing.assert_array_equal(broken[0, 0], RED)


def test_only_the_first_frame_is_taken_and_that_is_said(tmp_path):
  frames = [Image.new('RGB', (4, 4), c) for c in ('red', 'blue')]
  path = tmp_path / 'a.webp'
  frames[0].save(
    path, save_all=True, append_images=frames[1:], lossless=True
  )
  pixels, notices = pictures.read(path)
  assert pixels[0, 0].tolist() == [255, 0, 0]
  assert 'first of 2' in notices[0]


def test_what_is_not_a_picture(tmp_path):
  path = tmp_path / 'a.png'
  path.write_bytes(b'text')
  with pytest.raises(pictures.PictureError, match='a.png'):
    pictures.read(path)
  with pytest.raises(FileNotFoundError):
    pictures.read(tmp_path / 'missing.png')
  cut = _save(tmp_path, Image.effect_noise((64, 64), 50), 'cut.png')
  cut.write_bytes(cut.read_bytes()[:500])
  with pytest.raises(pictures.PictureError, match='cut.png'):
    pictures.read(cut)


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.TIF', '.bmp', '.ppm'])
def test_lossless_formats_are_lossless(tmp_path, suffix):
  image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
  path = tmp_path / f'a{suffix}'
  path.write_bytes(pictures.encode(image, suffix))
  np.testing.assert_array_equal(pictures.read(path)[0], image)


def test_unknown_endings_are_named():
  with pytest.raises(pictures.PictureError, match="'.xyz'"):
    pictures.encode(np.zeros((1, 1, 3), np.uint8), '.xyz')
