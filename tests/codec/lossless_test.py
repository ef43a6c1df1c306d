"""Images kept exactly, in the smallest of several formats."""
import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from gdc.codec import bitstream, lossless


def header_of(image):
  height, width, channels = image.shape
  return bitstream.Header(
    width, height, None, b'', lossless=True, grey=channels < 3,
    alpha=b'' if channels in (2, 4) else None,
  )


def images():
  """name -> uint8 [height, width, 1 to 4]."""
  y, x = np.mgrid[:40, :60]
  rng = np.random.default_rng(0)
  page = Image.new('L', (240, 120), 255)
  draw = ImageDraw.Draw(page)
  font = ImageFont.load_default(24)
  for k in range(5):
    draw.text((5, 24 * k), f'{k} lines, grey {k * k}', 0, font)
  text = np.asarray(page)[..., None]
  large = Image.new('1', (300, 100), 1)
  font = ImageFont.load_default(60)
  ImageDraw.Draw(large).text((5, 5), 'large 7', 0, font)
  colours = rng.integers(0, 256, (5, 3), np.uint8)
  smooth = np.stack([4 * x, 5 * y, 2 * (x + y), 255 - 4 * x], -1) % 256
  return {
    'one pixel': np.uint8([[[7, 8, 9]]]),
    'one grey pixel': np.uint8([[[7]]]),
    'flat': np.full((40, 60, 3), 200, np.uint8),
    'checkerboard': (255 * ((x + y) % 2))[..., None].astype(np.uint8),
    'two levels in colour': np.repeat(255 * (text > 127), 3, 2).astype(
      np.uint8
    ),
    'black and white': (255 * (text > 127)).astype(np.uint8),
    'text': text,
    'large letters': np.uint8(255) * np.asarray(large)[..., None],
    'wide': np.full((1, 16384, 1), 9, np.uint8),
    'five colours': colours[rng.integers(0, 5, (40, 60))],
    'noise': rng.integers(0, 256, (40, 60, 3), np.uint8),
    'grey and alpha': smooth[..., [0, 3]].astype(np.uint8),
    'colours under nothing': np.concatenate(
      [smooth[..., :3], np.zeros((40, 60, 1), int)], -1
    ).astype(np.uint8),
    'colour': smooth[..., :3].astype(np.uint8),
    'grey as colour, alpha': smooth[..., [0, 0, 0, 1]].astype(np.uint8),
  }


IMAGES = images()


@pytest.mark.parametrize('name', IMAGES)
def test_an_image_comes_back_and_takes_no_more_than_any_file(name):
  image = IMAGES[name]
  header = header_of(image)
  payload = lossless.encode(image)
  np.testing.assert_array_equal(lossless.decode(payload, header), image)
  data = bitstream.pack(header, payload)
  pillow = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  writers = [('PNG', {}), ('PNG', {'optimize': True})] + [
    ('WEBP', {'lossless': True, 'exact': True, 'method': m, 'quality': q})
    for m, q in ((0, 0), (4, 80), (4, 100), (6, 80), (6, 100))
  ]
  others = [(pillow, *writer) for writer in writers]
  if set(np.unique(image)) <= {0, 255} and image.shape[2] in (1, 3):
    bilevel = pillow.convert('1')
    others += [(bilevel, 'PNG', {'optimize': True})]
    others += [(bilevel, 'TIFF', {'compression': 'group4'})]
  for other, format, options in others:
    if format == 'WEBP' and max(other.size) > 16383:
      continue
    file = io.BytesIO()
    other.save(file, format, **options)
    assert len(data) <= len(file.getvalue()), (format, options)
  assert len(data) <= image.size + 12 + 2 * (image.shape[1] > 127)
  assert lossless.estimate(image) <= (
    lossless.ESTIMATE_FACTORS[0] * len(payload)
  )
  assert lossless.estimate(image, is_fair=True) <= (
    lossless.ESTIMATE_FACTORS[1] * len(payload) + 20
  )


@pytest.mark.parametrize('kind', ['tiles', 'waves'])
def test_larger_images_get_the_slow_settings(kind):
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:260, :260]
  image = {
    'tiles': np.tile(rng.integers(0, 256, (20, 20, 3), np.uint8), (13, 13, 1)),
    'waves': np.stack([
      128 + 120 * np.sin(x / 50) * np.cos(y / 70), 128 + 120 * np.sin(y / 90)
    ] * 2, -1)[..., :3].astype(np.uint8),
  }[kind]
  assert x.size > 2**16
  payload = lossless.encode(image)
  for options in ({}, {'method': 5}, {'method': 6, 'quality': 100}):
    file = io.BytesIO()
    Image.fromarray(image).save(
      file, 'WEBP', **{'lossless': True, 'exact': True, **options}
    )
    assert len(payload) < len(file.getvalue())


def test_every_format_has_its_image():
  found = {
    lossless.NAMES[lossless.encode(image)[0]] for image in IMAGES.values()
  }
  assert found == set(lossless.NAMES)


@pytest.mark.parametrize('name', ['text', 'colours under nothing', 'noise'])
def test_strips(name, monkeypatch):
  monkeypatch.setattr(lossless, 'STRIP_PIXELS', 1000)
  image = IMAGES[name]
  payload, header = lossless.encode(image), header_of(image)
  np.testing.assert_array_equal(lossless.decode(payload, header), image)
  assert set(lossless.kinds(payload, header)) <= set(lossless.NAMES)
  for cut in (0, 1, 2, len(payload) // 2):
    with pytest.raises(bitstream.BitstreamError):
      lossless.decode(payload[:cut], header)


@pytest.mark.parametrize('shape', [(1, 16384, 3), (16384, 1, 1)])
def test_sides_that_webp_does_not_hold(shape):
  image = np.broadcast_to(np.uint8(9), shape)
  payload = lossless.encode(image)
  assert lossless.NAMES[payload[0]] == 'PNG' and len(payload) < 120
  np.testing.assert_array_equal(
    lossless.decode(payload, header_of(image)), image
  )
  assert lossless.estimate(image) <= 8 * len(payload)


def test_a_limit_of_pillow_is_said(monkeypatch):
  image = IMAGES['five colours']
  payload, header = lossless.encode(image), header_of(image)
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
  with pytest.raises(bitstream.BitstreamError, match='MAX_IMAGE_PIXELS is 10'):
    lossless.decode(payload, header)
  # Nothing is written that this process could not read.
  np.testing.assert_array_equal(
    lossless.decode(lossless.encode(image), header), image
  )


# Every later reader must read these: 17 x 9 pixels, bilevel and RGBA.
GOLDEN = {
  ('WebP', 1): (
    '0285583099bf747f0411fd0f5405aa4825e42aa214a9405550422a4d'
  ),
  ('PNG', 1): (
    '0101000000002649444154789c6390676f60e1cff9cac4c0c0c0c4c0c0c090729381'
    'e1c10f06968f531860620082ba06c1d169be71'
  ),
  ('TIFF G4', 1): (
    '030030671a28744748a1fffffead5ab5518c744748a1d11d7fffff001001'
  ),
  ('WebP', 4): (
    '02b98ce87fec22a2ff0121016188ff5735791e26404890424c4e00c467b501'
  ),
  ('PNG', 4): (
    '0108060000002149444154789c6364606060e0676064a704b330c830323030508647'
    '0d19f6860000153102fa55d11a68'
  ),
}


@pytest.mark.parametrize('kind, channels', GOLDEN)
def test_golden_payloads(kind, channels):
  y, x = np.mgrid[:9, :17]
  image = (255 * ((x * x + y) // 5 % 2))[..., None]
  if channels == 4:
    image = np.stack([x * 15, y * 28, x + y, x * 7], -1)
  image = image.astype(np.uint8)
  payload = bytes.fromhex(GOLDEN[kind, channels])
  assert lossless.NAMES[payload[0]] == kind
  np.testing.assert_array_equal(
    lossless.decode(payload, header_of(image)), image
  )


def chunk(name, body):
  return lossless._chunk(name, body)


@pytest.mark.parametrize('payload, message', [
  (b'', 'ends within the lossless image before row 0'),
  (b'\4abc', 'unknown kind 4'),
  (bytes(1 + 17), 'are 17 bytes for 3 x 2 pixels of 3 channels'),
  (b'\1', 'no bits and colour type'),
  (b'\1\x10\2' + chunk(b'IDAT', b'x'), 'no bits and colour type'),
  (b'\1\x08\2' + chunk(b'iCCP', b'x'), "a chunk b'iCCP'"),
  (b'\1\x08\2' + chunk(b'IHDR', b'x'), "a chunk b'IHDR'"),
  (b'\1\x08\2' + chunk(b'IDAT', b'x'), 'Pillow cannot read its PNG'),
  (b'\1\x08\2' + chunk(b'IDAT', zlib.compress(b'x'))[:-1], 'cannot read'),
  (b'\2', 'Pillow cannot read its WebP'),
  (b'\2' + bytes(50), 'Pillow cannot read its WebP'),
  (b'\3\2abc', 'Group 4 image starts with'),
  (b'\3', 'Group 4 image starts with'),
])
def test_bad_payloads(payload, message):
  header = bitstream.Header(3, 2, None, b'', lossless=True)
  with pytest.raises(bitstream.BitstreamError, match=message) as caught:
    lossless.decode(payload, header)
  assert len(str(caught.value)) < 200


@pytest.mark.parametrize('kind, data', [
  (0, bytes(100)),
  (1, b'\x08\2' + chunk(b'IDAT', zlib.compress(bytes(2**20)))),
  (2, bytes(100)),
])
def test_a_few_bytes_do_not_claim_a_large_image(kind, data):
  header = bitstream.Header(2**14, 2**14, None, b'', lossless=True)
  with pytest.raises(bitstream.BitstreamError):
    lossless.decode(bytes([kind]) + data, header)
