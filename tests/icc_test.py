"""ICC profiles: which are sRGB, and how images that carry one are read."""
import functools
import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from gdc import icc as icc_lib
from gdc.data import image_files

# XYZ of the primaries, adapted to D50.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971),
        (0.1431, 0.0606, 0.7139))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419),
              (0.1572, 0.0666, 0.7841))
WHITE = (0.9642, 1.0, 0.8249)


def _fixed(*values):
  return b''.join(struct.pack('>i', round(v * 65536)) for v in values)


def _xyz(values):
  return b'XYZ \0\0\0\0' + _fixed(*values)


def _gamma(value):
  return b'curv\0\0\0\0' + struct.pack('>IH', 1, round(value * 256))


def _profile(space, tags, kind=b'mntr', pcs=b'XYZ '):
  """Returns an ICC profile of version 2.1."""
  table, data = struct.pack('>I', len(tags)), b''
  for name, content in tags.items():
    content += bytes(-len(content) % 4)
    start = 128 + 4 + 12 * len(tags) + len(data)
    table += name + struct.pack('>II', start, len(content))
    data += content
  header = struct.pack(
    '>I4xI4s4s4s12x4s28x', 128 + len(table) + len(data), 0x02100000, kind,
    space, pcs, b'acsp'
  ) + _fixed(*WHITE)
  return header.ljust(128, b'\0') + table + data


def rgb_profile(primaries, gamma, padding=0):
  tags = {b'wtpt': _xyz(WHITE)}
  for name, primary in zip(b'rgb', primaries, strict=True):
    tags[bytes([name]) + b'XYZ'] = _xyz(primary)
    tags[bytes([name]) + b'TRC'] = _gamma(gamma)
  if padding:
    tags[b'zzzz'] = np.random.default_rng(0).bytes(padding)
  return _profile(b'RGB ', tags)


def grey_profile(gamma):
  return _profile(b'GRAY', {b'wtpt': _xyz(WHITE), b'kTRC': _gamma(gamma)})


def cmyk_profile():
  """Returns a profile: no ink is white, one full ink red, all else black."""
  colours = {(0, 0, 0, 0): (255, 128, 128)}
  for ink in np.eye(4, dtype=int):
    colours[tuple(ink)] = (128, 188, 188)
  cells = itertools.product((0, 1), repeat=4)
  lut = bytes(v for c in cells for v in colours.get(c, (0, 128, 128)))
  ramp = bytes(range(256))
  identity = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
  content = (
    b'mft1\0\0\0\0' + bytes([4, 3, 2, 0]) + identity + 4 * ramp + lut + 3 * ramp
  )
  return _profile(b'CMYK', {b'A2B0': content}, b'prtr', b'Lab ')


@functools.cache
def srgb_profile():
  return ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


P3 = rgb_profile(DISPLAY_P3, 2.2)
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def _save(tmp_path, pixels, icc, name='a.png', **options):
  path = tmp_path / name
  image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
  image.save(path, icc_profile=icc, **options)
  return path


# --- Profiles ---------------------------------------------------------------


def test_srgb_is_known():
  assert icc_lib.is_srgb(srgb_profile())
  assert not icc_lib.is_srgb(P3)
  # The right primaries, another curve: off by more than a step in the dark.
  assert not icc_lib.is_srgb(rgb_profile(SRGB, 2.2))
  assert not icc_lib.is_srgb(rgb_profile(SRGB, 1.0))


def test_one_step_is_still_srgb_and_two_are_not(monkeypatch):
  """A stand-in for the transform is off by the limit and beyond."""
  for place, step in itertools.product((40, -40), (1, 2)):
    def shifted(icc, mode, place=place, step=step):
      def transform(image):
        pixels = np.array(image)
        pixels[0, place] += step
        return Image.fromarray(pixels)
      return transform
    monkeypatch.setattr(icc_lib, 'to_srgb', shifted)
    icc_lib.is_srgb.cache_clear()
    assert icc_lib.is_srgb(b'any') == (step == 1)
  icc_lib.is_srgb.cache_clear()


def test_the_way_to_srgb_is_that_of_the_primaries():
  """Checks against the matrices from P3 through XYZ to sRGB."""
  icc = rgb_profile(DISPLAY_P3, 1.0)
  colour = np.array([120, 100, 90], np.uint8)  # within the gamut of sRGB
  linear = np.array(DISPLAY_P3).T @ (colour / 255)
  linear = np.linalg.solve(np.array(SRGB).T, linear)
  expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
  found = icc_lib.to_srgb(icc, 'RGB')(Image.new('RGB', (1, 1), tuple(colour)))
  np.testing.assert_allclose(np.asarray(found)[0, 0], expected, atol=1.5)


def test_greys_of_a_profile():
  same = np.arange(256)
  expected = (same / 255) ** 1.8
  expected = 255 * np.where(
    expected > 0.0031308, 1.055 * expected ** (1 / 2.4) - 0.055,
    12.92 * expected,
  )
  found = icc_lib.grey_to_srgb(grey_profile(1.8))
  np.testing.assert_allclose(found, expected, atol=1.5)


def test_greys_within_one_step_are_left_as_they_are():
  steps = np.arange(256)
  for off, same in ((0.6, True), (2.4, False)):
    value = np.clip((steps + off) / 255, 0, 1)
    linear = np.where(
      value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92
    )
    curve = b'curv\0\0\0\0' + struct.pack('>I', 256) + np.round(
      linear * 65535
    ).astype('>u2').tobytes()
    icc = _profile(b'GRAY', {b'wtpt': _xyz(WHITE), b'kTRC': curve})
    assert (icc_lib.grey_to_srgb(icc) == steps).all() == same


@pytest.mark.parametrize('icc,mode,message', [
  (b'no profile', 'RGB', 'are not an ICC profile'),
  (srgb_profile()[:200], 'RGB', 'it is damaged'),
  (grey_profile(2.2), 'RGB', 'of GRAY colours, the image is RGB'),
  (srgb_profile(), 'CMYK', 'of RGB colours, the image is CMYK'),
  (_profile(b'RGB ', {b'wtpt': _xyz(WHITE)}), 'RGB', 'it is incomplete'),
  (_profile(b'CMYK', {b'A2B0': b'junk' * 9}, b'prtr'), 'CMYK', 'no way'),
])
def test_profiles_of_no_use(icc, mode, message):
  with pytest.raises(icc_lib.ProfileError, match=message):
    icc_lib.to_srgb(icc, mode)


def test_bytes_after_the_end_of_a_profile_are_left_out(tmp_path):
  image = image_files.read(_save(tmp_path, COLOURS, P3 + b'\0\0\0'))
  assert image.icc == P3 and not image.notices


# --- Images with profiles -------------------------------------------------


@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif'])
def test_a_profile_is_kept_and_the_samples_with_it(tmp_path, name):
  options = {'lossless': True} if name == 'a.webp' else {}
  image = image_files.read(_save(tmp_path, COLOURS, P3, name, **options))
  assert image.icc == P3
  assert not image.notices
  np.testing.assert_array_equal(image.pixels, COLOURS)


@pytest.mark.parametrize('name', ['a.jpg', 'a.avif'])
def test_lossy_files_keep_their_profile_too(tmp_path, name):
  assert image_files.read(_save(tmp_path, COLOURS, P3, name)).icc == P3


def test_srgb_is_not_kept(tmp_path):
  image = image_files.read(_save(tmp_path, COLOURS, srgb_profile()))
  assert not image.icc and not image.notices
  np.testing.assert_array_equal(image.pixels, COLOURS)


@pytest.mark.parametrize('alpha', [False, True])
def test_on_demand_colours_become_srgb(tmp_path, alpha):
  image = Image.fromarray(COLOURS)
  if alpha:
    image.putalpha(77)
  image = image_files.read(_save(tmp_path, image, P3), srgb=True)
  assert not image.icc and not image.notices
  expected = icc_lib.to_srgb(P3, 'RGB')(Image.fromarray(COLOURS))
  np.testing.assert_array_equal(image.pixels[..., :3], expected)
  assert np.abs(image.pixels[..., :3].astype(int) - COLOURS).max() > 2
  if alpha:
    assert (image.pixels[..., 3] == 77).all()
  seen, _ = image_files.read_rgb(_save(tmp_path, COLOURS, P3))
  np.testing.assert_array_equal(seen, expected)


def test_a_palette_keeps_its_profile(tmp_path):
  image = Image.fromarray(COLOURS).quantize(30)
  found = image_files.read(_save(tmp_path, image, P3))
  assert found.icc == P3
  np.testing.assert_array_equal(found.pixels, image.convert('RGB'))


def test_profiles_of_no_use_are_left_out_and_that_is_said(tmp_path):
  for icc in (b'no profile', grey_profile(2.2)):
    image = image_files.read(_save(tmp_path, COLOURS, icc))
    assert not image.icc
    assert 'its colour profile is not used' in image.notices[0]
    np.testing.assert_array_equal(image.pixels, COLOURS)


def test_a_long_profile_is_kept_and_one_too_long_is_converted(tmp_path):
  # Pillow alone reads no more than 1 MiB from a PNG.
  long = rgb_profile(DISPLAY_P3, 2.2, 2 << 20)
  assert image_files.read(_save(tmp_path, COLOURS, long)).icc == long
  longer = rgb_profile(DISPLAY_P3, 2.2, 4 << 20)
  image = image_files.read(_save(tmp_path, COLOURS, longer, 'a.tif'))
  assert not image.icc and 'too long' in image.notices[0]
  np.testing.assert_array_equal(
    image.pixels, icc_lib.to_srgb(P3, 'RGB')(Image.fromarray(COLOURS))
  )


@pytest.mark.parametrize('mode', ['L', 'LA'])
def test_grey_of_another_profile_becomes_srgb(tmp_path, mode):
  grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
  if mode == 'LA':
    grey.putalpha(50)
  icc = grey_profile(1.8)
  image = image_files.read(_save(tmp_path, grey, icc))
  assert not image.icc
  assert image.notices == ['grey of another profile becomes sRGB']
  np.testing.assert_array_equal(
    image.pixels[0, :, 0], icc_lib.grey_to_srgb(icc)
  )
  assert image.pixels.shape[-1] == len(mode)
  if mode == 'LA':
    assert (image.pixels[..., 1] == 50).all()
  # RGB profiles do not describe grey.
  for icc in (srgb_profile(), P3):
    same = image_files.read(_save(tmp_path, grey, icc))
    assert not same.icc
    assert same.notices == [
      'its colour profile is not used: it is of RGB colours, the image is GRAY'
    ][:icc == P3]
    np.testing.assert_array_equal(same.pixels[0, :, 0], np.arange(256))


def test_sixteen_bits_of_grey_with_a_profile(tmp_path):
  wide = Image.fromarray(np.full((2, 2), 100 * 257, np.uint16))
  icc = grey_profile(1.8)
  image = image_files.read(_save(tmp_path, wide, icc))
  assert (image.pixels == icc_lib.grey_to_srgb(icc)[100]).all()
  assert len(image.notices) == 2


def test_cmyk_becomes_srgb(tmp_path):
  image = Image.new('CMYK', (2, 1), (0, 0, 0, 0))
  image.putpixel((1, 0), (255, 0, 0, 0))
  with_profile = image_files.read(
    _save(tmp_path, image, cmyk_profile(), 'a.tif')
  )
  assert with_profile.notices == ['CMYK becomes sRGB']
  assert not with_profile.icc
  white, ink = with_profile.pixels[0].astype(int)
  assert white.min() >= 253
  assert ink[0] > 150 > 100 > ink[2]  # the red of that profile
  without = image_files.read(_save(tmp_path, image, None, 'a.tif'))
  assert without.notices == ['CMYK becomes sRGB']
  assert without.pixels[0].tolist() == [[255, 255, 255], [0, 255, 255]]
  wrong = image_files.read(_save(tmp_path, image, P3, 'a.tif'))
  assert 'not used' in wrong.notices[1]
  np.testing.assert_array_equal(wrong.pixels, without.pixels)


def test_lab_becomes_srgb_whatever_its_profile(tmp_path):
  image = Image.new('LAB', (1, 1), (255, 0, 0))
  for icc in (P3, None):
    found = image_files.read(_save(tmp_path, image, icc, 'a.tif'))
    assert found.notices == ['LAB becomes sRGB'] and not found.icc
    np.testing.assert_array_equal(found.pixels, np.asarray(
      image.convert('RGB')
    ))


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.avif', '.tif'])
def test_outputs_carry_the_profile(suffix, channels):
  icc = P3 if channels > 2 else grey_profile(1.8)
  pixels = np.full((4, 4, channels), 90, np.uint8)
  fitted = image_files.fit(pixels, suffix, icc)
  if suffix == '.webp' and channels < 3 or suffix == '.avif' and channels == 2:
    # Written as colours, which a profile of grey does not describe.
    assert 'holds no profile of grey; converted to sRGB' in fitted.notices[0]
    assert not fitted.icc
    assert (fitted.pixels[..., 0] == icc_lib.grey_to_srgb(icc)[90]).all()
    return
  assert fitted.icc == icc
  with Image.open(io.BytesIO(image_files.encode(pixels, suffix, icc))) as image:
    assert image.info['icc_profile'] == icc


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.tif', '.bmp'])
def test_outputs_carry_no_profile_of_other_colours(suffix):
  for channels, icc in ((1, P3), (3, grey_profile(1.8)), (3, cmyk_profile())):
    pixels = np.full((4, 4, channels), 90, np.uint8)
    fitted = image_files.fit(pixels, suffix, icc)
    assert not fitted.icc and 'its colour profile is not' in fitted.notices[0]
    np.testing.assert_array_equal(fitted.pixels, pixels)
    data = image_files.encode(pixels, suffix, icc)
    with Image.open(io.BytesIO(data)) as image:
      assert 'icc_profile' not in image.info


@pytest.mark.parametrize('suffix', ['.bmp', '.ppm'])
def test_outputs_that_hold_no_profile_are_srgb(suffix):
  fitted = image_files.fit(COLOURS, suffix, P3)
  assert 'no colour profile; converted' in fitted.notices[0]
  expected = np.asarray(icc_lib.to_srgb(P3, 'RGB')(Image.fromarray(COLOURS)))
  np.testing.assert_array_equal(fitted.pixels, expected)
  data = image_files.encode(COLOURS, suffix, P3)
  np.testing.assert_array_equal(Image.open(io.BytesIO(data)), expected)
  broken = image_files.fit(COLOURS, suffix, b'no profile')
  assert 'its colour profile is not used' in broken.notices[0]
  np.testing.assert_array_equal(broken.pixels, COLOURS)
  grey = image_files.fit(np.full((2, 2, 1), 90, np.uint8), suffix,
                      grey_profile(1.8))
  assert (grey.pixels == icc_lib.grey_to_srgb(grey_profile(1.8))[90]).all()
