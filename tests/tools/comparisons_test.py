"""Tables of gdc beside other codecs, from curves whose ratios are known."""
import pytest

from tools import comparisons

BPP = [0.1, 0.2, 0.4, 0.8]
PSNR = [28.0, 31.0, 34.0, 37.0]
LPIPS = [0.4, 0.3, 0.2, 0.1]


def _result(bpp=BPP, psnr=PSNR, lpips=LPIPS, quality=None, images=(), **more):
  """A result; images: (quality, name, bytes, lpips)."""
  return {
    'meta': {},
    'results': {
      'quality': quality or [1.0, 2.0, 3.0, 4.0], 'bpp': bpp, 'psnr-rgb': psnr,
      'lpips-alex': lpips, **more,
    },
    'images': [
      dict(zip(('quality', 'name', 'bytes', 'lpips'), image, strict=True))
      for image in images
    ],
  }


def _times(factor):
  return [factor * bpp for bpp in BPP]


@pytest.fixture
def results():
  return {
    'gdc:mse': _result(),
    'gdc:one_step': _result(lpips=[0.3, 0.2, 0.1, 0.05]),
    # Twice the bytes of gdc in PSNR; of the same points in LPIPS.
    'avif': _result(_times(2), lpips=[0.3, 0.2, 0.1, 0.05]),
    'heic': _result(_times(0.9), [28.0, 31.0, 30.0, 37.0], [0.9, 0.8, 0.7, 0.6])
  }


def test_twice_the_bytes_are_two_times(results):
  table, missing = comparisons.same_quality(results)
  assert table.header == [
    'codec', 'PSNR, dB: gdc:mse', 'LPIPS: gdc:one_step',
  ]
  assert table.rows[2] == [
    'AVIF', '2.00 (28.0–37.0; 0.10–0.80)', '2.00 (0.050–0.300; 0.10–0.80)',
  ]
  # gdc's own decoders: each is 1 in its own column.
  assert [row[0] for row in table.rows[:2]] == ['gdc:mse', 'gdc:one_step']
  assert table.rows[0][1] == table.rows[1][2] == '1'
  assert table.rows[1][1].startswith('1.00 (28.0')
  # A curve that turns back, and one that does not reach these values.
  assert table.rows[3] == ['HEVC intra', '–', '–']
  assert missing == (
    'No figure: PSNR: HEVC intra turns back; LPIPS: gdc:one_step covers 0.05 '
    'to 0.3 and HEVC intra 0.6 to 0.9.'
  )


def test_the_shared_interval_and_its_bpp(results):
  # From 31 to 34 dB alone, where gdc needs 0.2 to 0.4 bpp.
  results['avif'] = _result(
    [0.3 * 2 ** (i / 3) for i in range(4)], [31.0, 32.0, 33.0, 34.0]
  )
  table, _ = comparisons.same_quality(results)
  assert table.rows[2][1] == '1.50 (31.0–34.0; 0.20–0.40)'


def test_ms_ssim_is_compared_in_decibels(results):
  decibels = [10.0, 13.0, 16.0, 19.0]
  for result in results.values():
    result['results']['ms-ssim-rgb'] = [1 - 10 ** (-x / 10) for x in decibels]
  table, _ = comparisons.same_quality(results)
  assert table.header[2] == 'MS-SSIM: gdc:mse'
  assert table.rows[2][2] == '2.00 (10.0–19.0; 0.10–0.80)'


def test_too_few_points_and_no_curve_are_said(results):
  results['avif=gdc'] = results['webp=gdc'] = _result()
  results['avif'] = _result(BPP[:2], PSNR[:2], LPIPS[:2])
  table, missing = comparisons.same_quality(results)
  assert table is None  # gdc beside gdc alone is no comparison
  assert missing.startswith(
    'WebP: no curve, only files at the bytes of gdc. No figure: PSNR: AVIF has '
    '2 points; '
  )


def test_a_metric_without_a_mean_is_said(results):
  results['avif'] = _result(_times(2), [28.0, None, 34.0, 37.0])
  _, missing = comparisons.same_quality(results)
  assert 'PSNR: AVIF, there is no finite mean at every quality' in missing


def test_only_files_at_the_bytes_of_gdc():
  results = {
    'gdc:mse': _result(BPP[:2], PSNR[:2], LPIPS[:2], [1.0, 3.0]),
    'avif=gdc': _result(BPP[:2], PSNR[:2], LPIPS[:2], [1.0, 3.0]),
  }
  table, missing = comparisons.same_quality(results)
  assert table is None
  assert missing == 'AVIF: no curve, only files at the bytes of gdc.'


def test_in_short(results):
  jpeg = {'gdc:mse': _result(), 'jpeg': _result(_times(4))}
  table, missing = comparisons.same_quality_in_short({
    'One': results, 'Two': jpeg, 'Three': {'gdc:mse': _result()},
  })
  assert table.header == [
    'codec', 'One, same PSNR', 'One, same LPIPS', 'Two, same PSNR',
  ]
  assert table.rows == [
    ['AVIF', '2.00 ×', '2.00 ×', '–'], ['HEVC intra', '–', '–', '–'],
    ['JPEG', '–', '–', '4.00 ×'],
  ]
  assert missing == 'Three: no curves that can be compared.'
  assert comparisons.same_quality_in_short({'Three': {'jpeg': _result()}}) == (
    None, missing,
  )


def test_decoders_beside_the_autoencoder():
  fd, kid = 'fd-vgg16-256', 'kid-vgg16-256'
  images = [(q, n, 9, 0.2) for q in (1.0, 3.0) for n in 'ab']
  results = {
    'gdc:mse': _result(
      [0.1, 0.4], [30.0, 34.0], [0.4, 0.2], [1.0, 3.0], images,
      **{fd: [10.0, 5.0], kid: [0.004, None]},
    ),
    'gdc:one_step': _result(
      [0.1, 0.4], [29.75, 34.001], [0.3, 0.22], [1.0, 3.0],
      [(1.0, 'a', 9, 0.1), (1.0, 'b', 9, 0.2), (3.0, 'a', 9, 0.3),
       (3.0, 'b', 9, 0.25)],
      **{fd: [8.0, None], kid: [0.002, -0.0001]},
    ),
    'jpeg': _result(),
  }
  table = comparisons.decoders(results)
  assert table.header == [
    'decoder', 'PSNR lower by, dB', 'LPIPS lower by, %',
    'images with higher LPIPS', 'FD-VGG16/256 lower by, %',
    'KID-VGG16/256 x 1000 (mse: 4.00, –)',
  ]
  assert table.rows == [
    ['gdc:one_step', '0.25, 0.00', '25, -10', '0, 2', '20, –', '2.00, -0.10'],
  ]
  assert 'at quality 1, 3;' in table.note
  del results['gdc:one_step']
  assert comparisons.decoders(results) is None


def test_equal_bytes_side_by_side():
  results = {
    'gdc:one_step': _result(
      images=[
        (quality, name, 100, lpips) for quality in (1.0, 2.0, 3.0, 4.0)
        for name, lpips in (('a', 0.2), ('b', 0.3), ('c', None))
      ],
      **{'fd-vgg16-256': [5.0, 4.0, 3.0, 2.0],
         'kid-vgg16-256': [5.0, 4.0, 3.0, 2.0]},
    ),
    'avif=gdc': _result(
      [0.09, 0.19], [27.0, 30.0], [0.5, 0.25], [1.0, 2.0],
      [
        (1.0, 'a', 101, 0.5), (1.0, 'b', 90, 0.4), (1.0, 'c', 90, 0.1),
        (2.0, 'a', 99, 0.2), (2.0, 'b', 100, 0.35), (2.0, 'c', 90, 0.1),
      ],
      **{'fd-vgg16-256': [5.5, 4.5]},
    ),
    'heic=gdc': _result(
      [0.18], [29.0], [0.35], [2.0],
      [(2.0, name, 95, 0.1) for name in 'abc'], **{'fd-vgg16-256': [None]},
    ),
    'jpeg=gdc': _result([0.4], [26.0], [0.6], [3.0]),
  }
  table = comparisons.equal_bytes(results)
  assert table.header == [
    'quality', 'bpp one_step', 'AVIF', 'HEVC intra',
    'LPIPS ↓ one_step', 'AVIF', 'HEVC intra', 'lower than AVIF',
    'lower than HEVC intra', 'FD-VGG16/256 ↓ one_step', 'AVIF', 'HEVC intra',
  ]
  # Equal is not lower; image c was too small; 3 has JPEG alone.
  assert table.rows == [
    ['1', '0.100', '0.090 (1 larger)', '–', '0.4000', '0.5000', '–', '2 of 2',
     '–', '5.00', '5.50', '–'],
    ['2', '0.200', '0.190', '0.180', '0.3000', '0.2500', '0.3500', '1 of 2',
     '0 of 2', '4.00', '4.50', '–'],
  ]
  del results['avif=gdc'], results['heic=gdc']
  assert comparisons.equal_bytes(results) is None
