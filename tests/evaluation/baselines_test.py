import io
import os
import sys

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from gdc.evaluation import baselines
from gdc.metrics import distortion


def _image(height=72, width=56):
  rng = np.random.default_rng(1)
  coarse = rng.integers(0, 256, (5, 4, 3), np.uint8)
  smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
  noise = rng.normal(0, 6, (height, width, 3))
  return np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('name', baselines.BASELINES)
def test_along_the_sweep_bytes_and_decibels_grow(name):
  image = _image()
  sweep = baselines.BASELINES[name].sweep
  files = [baselines.encode(name, image, quality) for quality in sweep]
  decoded = [baselines.decode(data) for data in files]
  assert all(version.shape == image.shape for version in decoded)
  assert all(version.dtype == np.uint8 for version in decoded)
  sizes = [len(data) for data in files]
  psnrs = [distortion.psnr(image, version) for version in decoded]
  assert 5 <= len(sweep) <= 6
  assert sizes == sorted(sizes) and 3 * sizes[0] < 2 * sizes[-1]
  assert psnrs == sorted(psnrs) and psnrs[-1] > 30


@pytest.mark.parametrize('name', baselines.BASELINES)
@pytest.mark.parametrize('shape', [(1, 1), (7, 5), (33, 65), (2, 40)])
def test_odd_sizes_keep_size_and_colours(name, shape):
  """Flat, so that neither chroma at half resolution nor detail matters."""
  image = np.full((*shape, 3), (200, 60, 90), np.uint8)
  highest = baselines.BASELINES[name].highest
  decoded = baselines.decode(baselines.encode(name, image, highest))
  assert decoded.shape == image.shape
  # OpenJPEG has too few coefficients in one pixel to aim at a PSNR.
  limit = 16 if (name, shape) == ('jp2', (1, 1)) else 4
  assert np.abs(decoded.astype(int) - image).max() <= limit


@pytest.mark.parametrize('name', baselines.BASELINES)
def test_the_best_quality_is_close_to_the_image(name):
  # Smooth in colour, so that chroma at half resolution costs little.
  y, x = np.mgrid[:96, :80]
  gray = 128 + 60 * np.sin(x / 9) * np.cos(y / 12)
  image = np.stack([gray, 0.7 * gray + 40, 255 - gray], -1).astype(np.uint8)
  highest = baselines.BASELINES[name].highest
  decoded = baselines.decode(baselines.encode(name, image, highest))
  assert distortion.psnr(image, decoded) > 38


@pytest.mark.parametrize(
  'name, signature',
  [
    ('jpeg', (0, b'\xff\xd8\xff')),
    ('webp', (8, b'WEBPVP8 ')),  # lossy, without an extended header
    ('avif', (4, b'ftypavif')),
    ('jxl', (0, b'\xff\x0a')),  # a bare codestream
    ('jp2', (4, b'jP  \r\n\x87\n')),
    ('heic', (4, b'ftypheic')),
  ],
)
def test_the_bytes_are_that_format_without_metadata(name, signature):
  offset, magic = signature
  data = baselines.encode(name, _image(), 40)
  assert data[offset : offset + len(magic)] == magic
  for mark in (b'Exif', b'XMP', b'xml ', b'iCCP', b'ICC_PROFILE', b'prof'):
    assert mark not in data


@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='needs to set cores'
)
@pytest.mark.parametrize('name', baselines.BASELINES)
def test_same_bytes_again_and_on_one_core(name):
  image = _image(200, 136)
  quality = baselines.BASELINES[name].sweep[2]
  first = baselines.encode(name, image, quality)
  assert baselines.encode(name, image[:, ::-1][:, ::-1], quality) == first
  cores = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(cores)})
    assert baselines.encode(name, image, quality) == first
  finally:
    os.sched_setaffinity(0, cores)


def test_jpeg_chroma_is_subsampled_at_every_quality():
  for quality in (5, 95):
    data = baselines.encode('jpeg', _image(), quality)
    layers = Image.open(io.BytesIO(data)).layer
    assert [layer[1:3] for layer in layers] == [(2, 2), (1, 1), (1, 1)]


def test_jxl_has_libjxls_scale():
  image = _image()
  for quality in (5, 29, 30, 90, 99):
    expected = imagecodecs.jpegxl_encode(
      image, level=quality, lossless=False, effort=7
    )
    assert baselines.encode('jxl', image, quality) == expected
  assert baselines.jxl_distance(90) == pytest.approx(1.0)


def test_jp2_is_irreversible_and_aims_at_its_quality():
  image = _image(256, 256)
  for quality in (28, 36):
    data = baselines.encode('jp2', image, quality)
    decoded = baselines.decode(data)
    assert distortion.psnr(image, decoded) == pytest.approx(quality, abs=0.7)
    # Of the COD marker segment: colour transform, five levels, 9/7.
    at = data.index(b'\xff\x52')
    assert (data[at + 8], data[at + 9], data[at + 13]) == (1, 5, 0)


def test_heic_chroma_is_subsampled():
  data = baselines.encode('heic', _image(), 50)
  config = data.index(b'hvcC') + 4
  assert data[config + 16] & 3 == 1  # chroma_format_idc: 4:2:0


def _saved(image, format):
  buffer = io.BytesIO()
  image.save(buffer, format)
  return buffer.getvalue()


def test_gray_and_transparent_files_are_decoded_to_three_channels():
  gray = Image.fromarray(_image()).convert('L')
  heif = pillow_heif.from_pillow(gray.convert('RGBA'))
  buffer = io.BytesIO()
  heif.save(buffer)
  for data in (
    _saved(gray, 'PNG'),
    _saved(gray, 'AVIF'),
    imagecodecs.jpegxl_encode(np.asarray(gray), level=90),
    imagecodecs.jpegxl_encode(np.asarray(gray), level=90, usecontainer=True),
    imagecodecs.jpeg2k_encode(np.asarray(gray), level=40),
    imagecodecs.jpeg2k_encode(np.asarray(gray), level=40, codecformat='j2k'),
    buffer.getvalue(),
  ):
    decoded = baselines.decode(bytes(data))
    assert decoded.shape == (72, 56, 3)
    assert np.abs(decoded.mean((0, 1)) - np.asarray(gray).mean()).max() < 2


def test_what_is_no_image_is_refused():
  with pytest.raises(OSError, match='cannot identify'):
    baselines.decode(b'no image at all')


@pytest.mark.parametrize('name', baselines.BASELINES)
def test_at_most_bytes_is_the_last_quality_that_fits(name):
  image = _image()
  limit = len(baselines.encode(name, image, 40))
  data, quality = baselines.at_most_bytes(name, image, limit)
  assert len(data) <= limit
  assert data == baselines.encode(name, image, quality)
  finest = baselines.BASELINES[name].finest
  assert quality >= 40
  assert len(baselines.encode(name, image, quality + finest)) > limit


def test_jpeg_2000_fills_its_bytes():
  """A whole dB is a tenth of them."""
  image = _image(200, 136)
  at_40, at_41 = (len(baselines.encode('jp2', image, q)) for q in (40, 41))
  data, quality = baselines.at_most_bytes('jp2', image, at_41 - 1)
  assert 40 < quality < 41 and at_40 < len(data) < at_41
  for quality in (40.1, 14.875, 60.125):
    with pytest.raises(ValueError, match='a multiple of 0.125 from 15 to 60'):
      baselines.encode('jp2', image, quality)


def test_at_most_bytes_at_the_ends():
  image = _image()
  data, quality = baselines.at_most_bytes('jpeg', image, 10**9)
  assert quality == 95 and data == baselines.encode('jpeg', image, 95)
  smallest = len(baselines.encode('jpeg', image, 0))
  assert baselines.at_most_bytes('jpeg', image, smallest)[1] >= 0
  data, quality = baselines.at_most_bytes('jpeg', image, smallest - 1)
  assert quality == 0 and data == baselines.encode('jpeg', image, 0)


@pytest.mark.parametrize(
  'name, encoder, package',
  [
    ('jpeg', 'libjpeg-turbo', 'Pillow'),
    ('webp', 'libwebp', 'Pillow'),
    ('avif', 'libavif', 'Pillow'),
    ('jxl', 'libjxl', 'imagecodecs'),
    ('jp2', 'openjpeg', 'imagecodecs'),
    ('heic', 'x265', 'pillow-heif'),
  ],
)
def test_library_names_versions(name, encoder, package):
  words = baselines.library(name)
  assert words.startswith(encoder)
  assert f'({package} ' in words
  assert words.endswith(baselines.BASELINES[name].settings)


@pytest.mark.parametrize(
  'name, quality, words',
  [
    ('jpeg', 96, '96.*0 to 95'),
    ('webp', -1, '-1.*0 to 100'),
    ('avif', 50.5, '50.5'),
    ('jxl', 100, '100.*5 to 99'),
    ('jp2', 14, '14.*15 to 60'),
    ('heic', 101, '101.*0 to 100'),
    ('gif', 50, "'gif'.*'jpeg', 'webp', 'avif', 'jxl', 'jp2', 'heic'"),
  ],
)
def test_errors(name, quality, words):
  with pytest.raises(ValueError, match=words):
    baselines.encode(name, _image(), quality)


def test_library_of_an_unknown_codec():
  with pytest.raises(ValueError, match="'gif'"):
    baselines.library('gif')


def test_float_images_are_refused():
  with pytest.raises(ValueError, match='float64.*uint8'):
    baselines.encode('jpeg', _image() / 255.0, 50)


@pytest.mark.parametrize(
  'name, module, package',
  [
    ('jxl', 'imagecodecs', 'imagecodecs'),
    ('jp2', 'imagecodecs', 'imagecodecs'),
    ('heic', 'pillow_heif', 'pillow-heif'),
  ],
)
def test_a_missing_package_is_named_and_only_its_codecs_lack(
  monkeypatch, name, module, package
):
  image = _image()
  data = baselines.encode(name, image, 50)
  monkeypatch.setitem(sys.modules, module, None)  # import raises ImportError
  for call in (
    lambda: baselines.encode(name, image, 50),
    lambda: baselines.decode(data),
    lambda: baselines.library(name),
    lambda: baselines.at_most_bytes(name, image, 1000),
  ):
    with pytest.raises(RuntimeError, match=rf'{package} .*gdc-codec\[eval\]'):
      call()
  for other in ('jpeg', 'jxl' if name == 'heic' else 'heic'):
    baselines.decode(baselines.encode(other, image, 50))


@pytest.mark.parametrize(
  'name, module, attribute, value',
  [
    ('avif', baselines.features, 'check', lambda _: False),
    ('jxl', imagecodecs.JPEGXL, 'available', False),
    ('jp2', imagecodecs.JPEG2K, 'available', False),
    ('heic', pillow_heif, 'libheif_info', lambda: {'encoders': {}}),
  ],
)
def test_a_package_without_the_encoder(
  monkeypatch, name, module, attribute, value
):
  monkeypatch.setattr(module, attribute, value)
  with pytest.raises(RuntimeError, match='built without'):
    baselines.encode(name, _image(), 50)
