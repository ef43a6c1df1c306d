"""Tables of results."""
import pytest

from gdc.evaluation import bjontegaard, tables
from gdc.metrics import rate


def _result(bpp, psnr, sizes=(), quality=(1.0, 2.0, 3.0, 4.0), **more):
  return {
    'meta': {'features': 'FID/256'},
    'results': {
      'quality': list(quality), 'bpp': bpp, 'psnr-rgb': psnr,
      'encoding_time': [0.123] * len(bpp), 'decoding_time': [12.3] * len(bpp),
      **more,
    },
    'images': [
      {'name': name, 'quality': q, 'bytes': size}
      for q, pair in zip(quality, sizes, strict=False)
      for name, size in zip('ab', pair, strict=True)
    ],
  }


@pytest.fixture
def results():
  bpp, psnr = [0.1, 0.2, 0.4, 0.8], [25.0, 28.0, 31.0, 34.0]
  sizes = [(100, 300), (200, 600), (400, 1200), (800, 2400)]
  kid = {'kid-256': [0.004, 0.003, 0.002, None]}
  return {
    'gdc:mse': _result([b / 2 for b in bpp], psnr, sizes, **kid),
    'gdc:flow': _result([b / 2 for b in bpp], [24, 30, 29, 33], sizes, **kid),
    'jpeg': _result(bpp, psnr, quality=(10, 20, 30, 40), **kid),
    'jpeg=gdc': _result([0.04], [23.0], [(70, 310)], (1.0,), **kid),
  }


def test_equal_bytes(results):
  table = tables.equal_bytes(results)
  assert table.header == [
    'quality of gdc', 'codec', 'bytes', 'bpp', 'PSNR ↑, dB', 'KID/256 x 1000 ↓',
  ]
  assert table.rows[:3] == [
    ['1', 'gdc:mse', '200', '0.050', '25.00', '4.00'],
    ['1', 'gdc:flow', '200', '0.050', '24.00', '4.00'],
    ['1', 'jpeg (1 larger)', '190', '0.040', '23.00', '4.00'],
  ]
  assert [row[:2] for row in table.rows[3:5]] == [
    ['2', 'gdc:mse'], ['2', 'gdc:flow'],
  ]
  assert table.rows[-1][-1] == '–'
  assert tables.equal_bytes({'jpeg': results['jpeg']}) is None


def test_the_summary_for_a_terminal(results):
  del results['gdc:flow'], results['jpeg']
  lines = tables.summary(results).text.splitlines()
  assert lines == [
    'codec     quality    bpp  PSNR, dB  KID/256 x 1000',
    '--------  -------  -----  --------  --------------',
    'gdc:mse         1  0.050     25.00            4.00',
    'gdc:mse         2  0.100     28.00            3.00',
    'gdc:mse         3  0.200     31.00            2.00',
    'gdc:mse         4  0.400     34.00               -',
    'jpeg=gdc        1  0.040     23.00            4.00',
  ]


def test_means(results):
  table = tables.means(results)
  assert len(table.rows) == 4 + 4 + 4 + 1
  assert table.rows[8] == [
    'jpeg', '10', '0.100', '25.00', '4.00', '0.12', '12',
  ]


def test_ms_ssim_is_interpolated_in_decibels(results):
  decibels = [10.0, 13.0, 16.0, 19.0]
  values = [1 - 10 ** (-x / 10) for x in decibels]
  assert tables.scaled('ms-ssim-rgb', [*values, 1.0, None]) == [
    *map(pytest.approx, decibels), None, None
  ]
  assert tables.scaled('lpips-alex', [0.25, None]) == [0.25, None]
  for label, result in results.items():
    result['results']['ms-ssim-rgb'] = (
      decibels if label == 'gdc:flow' else values
    )
  row = next(
    row for row in bjontegaard.differences(results, 'jpeg')
    if (row['codec'], row['measure']) == ('gdc:mse', 'ms-ssim-rgb')
  )
  found = row['pchip']
  assert found['bd_rate_percent'] == pytest.approx(-50)
  assert found['bd_quality'] == pytest.approx(3.0)
  assert (found['from'], found['to']) == (
    pytest.approx(10), pytest.approx(19)
  )


def test_bjontegaard_differences(results):
  del results['jpeg=gdc']
  assert bjontegaard.anchor_of(list(results)) == 'jpeg'
  assert bjontegaard.anchor_of(['gdc:mse', 'gdc:flow']) == 'gdc:mse'
  rows = bjontegaard.differences(results, 'jpeg')
  assert [(row['codec'], row['measure']) for row in rows] == [
    (codec, key) for codec in ('gdc:mse', 'gdc:flow')
    for key in ('psnr-rgb', 'kid-256')
  ]
  for method in rate.METHODS:
    found = rows[0][method]
    assert found['bd_rate_percent'] == pytest.approx(-50)
    assert found['bd_quality'] == pytest.approx(3.0)  # a doubling is 3 dB
    assert (found['from'], found['to'], found['overlap']) == (25, 34, 1)
    assert found['from_bpp'] == pytest.approx(0.1)
    assert found['to_bpp'] == pytest.approx(0.4)
  assert 'no finite mean' in rows[1]['pchip']['why_not']
  assert 'turns back' in rows[2]['pchip']['why_not']
  # What a curve that turns back has all the same.
  assert rows[2]['pchip']['from_bpp'] == pytest.approx(0.1)
  assert rows[2]['pchip']['bd_quality'] < 3
  table = bjontegaard.table(rows, 'jpeg', results['jpeg'])
  assert table.header == ['codec', 'PSNR', 'KID/256 x 1000']
  assert table.rows == [
    ['gdc:mse', '-50.0 % (100%)', '–'], ['gdc:flow', '–', '–'],
  ]
  assert bjontegaard.table(rows[2:], 'jpeg', results['jpeg']) is None
  with pytest.raises(ValueError, match="'gif'.*gdc:mse, gdc:flow, jpeg"):
    bjontegaard.differences(results, 'gif')
