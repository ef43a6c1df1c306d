import io

import numpy as np
import pytest
from PIL import Image

from gdc.evaluation import baselines, distortion


def _picture(height=72, width=56):
  rng = np.random.default_rng(1)
  coarse = rng.integers(0, 256, (5, 4, 3), np.uint8)
  smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
  noise = rng.normal(0, 6, (height, width, 3))
  return np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('name', baselines.BASELINES)
def test_round_trip_and_more_quality_is_more_bytes_and_decibels(name):
  image = _picture()
  files = [baselines.encode(name, image, quality) for quality in (10, 50, 90)]
  decoded = [baselines.decode(data) for data in files]
  assert all(picture.shape == image.shape for picture in decoded)
  assert all(picture.dtype == np.uint8 for picture in decoded)
  sizes = [len(data) for data in files]
  psnrs = [distortion.psnr(image, picture) for picture in decoded]
  assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
  assert psnrs == sorted(psnrs) and psnrs[-1] > 30


@pytest.mark.parametrize('name', baselines.BASELINES)
@pytest.mark.parametrize('shape', [(1, 1, 3), (17, 23, 3)])
def test_odd_sizes(name, shape):
  image = _picture()[: shape[0], : shape[1]]
  assert baselines.decode(baselines.encode(name, image, 80)).shape == shape


@pytest.mark.parametrize(
  'name, signature',
  [
    ('jpeg', (0, b'\xff\xd8\xff')),
    ('webp', (8, b'WEBPVP8 ')),  # lossy, without an extended header
    ('avif', (4, b'ftypavif')),
  ],
)
def test_the_bytes_are_that_format(name, signature):
  offset, magic = signature
  data = baselines.encode(name, _picture(), 50)
  assert data[offset : offset + len(magic)] == magic


def test_jpeg_chroma_is_subsampled_at_every_quality():
  for quality in (5, 95):
    data = baselines.encode('jpeg', _picture(), quality)
    layers = Image.open(io.BytesIO(data)).layer
    assert [layer[1:3] for layer in layers] == [(2, 2), (1, 1), (1, 1)]


def test_a_grayscale_file_is_decoded_to_three_channels():
  buffer = io.BytesIO()
  Image.fromarray(_picture()).convert('L').save(buffer, 'PNG')
  assert baselines.decode(buffer.getvalue()).shape == (72, 56, 3)


@pytest.mark.parametrize('name', baselines.BASELINES)
def test_at_most_bytes_is_the_last_quality_that_fits(name):
  image = _picture()
  sizes = {
    quality: len(baselines.encode(name, image, quality))
    for quality in range(20, 61, 5)
  }
  limit = sizes[40]
  data, quality = baselines.at_most_bytes(name, image, limit)
  assert len(data) <= limit
  assert data == baselines.encode(name, image, quality)
  assert quality >= 40
  assert len(baselines.encode(name, image, quality + 1)) > limit


def test_at_most_bytes_at_the_ends():
  image = _picture()
  data, quality = baselines.at_most_bytes('jpeg', image, 10**9)
  assert quality == 95 and data == baselines.encode('jpeg', image, 95)
  smallest = len(baselines.encode('jpeg', image, 0))
  assert baselines.at_most_bytes('jpeg', image, smallest)[1] >= 0
  with pytest.raises(ValueError, match=f'is 10: .* {smallest} bytes'):
    baselines.at_most_bytes('jpeg', image, 10)


@pytest.mark.parametrize(
  'name, quality, words',
  [
    ('jpeg', 96, '96.*0 to 95'),
    ('webp', -1, '-1.*0 to 100'),
    ('avif', 50.5, '50.5'),
    ('gif', 50, "'gif'.*'jpeg', 'webp', 'avif'"),
  ],
)
def test_errors(name, quality, words):
  with pytest.raises(ValueError, match=words):
    baselines.encode(name, _picture(), quality)


def test_float_pictures_are_refused():
  with pytest.raises(ValueError, match='float64.*uint8'):
    baselines.encode('jpeg', _picture() / 255.0, 50)
