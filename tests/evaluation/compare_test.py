"""Codecs side by side: names, files, gains over JPEG."""
import numpy as np
import pytest

from gdc.codec import codec as codec_lib
from gdc.evaluation import compare


def test_names():
  assert compare.parse('jpeg') == {'baseline': 'jpeg'}
  assert compare.parse('gdc:mse') == {'decoder': 'mse'}
  assert compare.parse('gdc:flow@4') == {'decoder': 'flow', 'steps': 4}
  for wrong in ('gif', 'gdc', 'gdc:', 'gdc:flow@x', 'mse'):
    with pytest.raises(ValueError, match=repr(wrong)):
      compare.parse(wrong)


@pytest.fixture(scope='module')
def table(tiny_bundle, tmp_path_factory):
  y, x = np.mgrid[:64, :96]
  image = np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8)
  out = tmp_path_factory.mktemp('results')
  rows, _ = compare.run(
    codec_lib.Codec(tiny_bundle), [('ramp', image)],
    ['gdc:mse', 'gdc:flow@2', 'jpeg'], [1.0, 6.0], out,
  )
  return rows, out


def test_a_file_for_each_codec_and_a_row_for_each_quality(table):
  rows, out = table
  assert sorted(p.name for p in out.iterdir()) == [
    'gdc-tiny-flow@2.json', 'gdc-tiny-mse.json', 'jpeg.json',
  ]
  assert [(r['quality'], r['decoder']) for r in rows] == [
    (1.0, 'mse'), (1.0, 'flow@2'), (6.0, 'mse'), (6.0, 'flow@2'),
  ]
  assert rows[0]['bpp'] == rows[1]['bpp']


def test_jpeg_at_equal_bits_lies_on_its_curve():
  jpeg = {'results': {
    'bpp': [0.1, 0.4], 'psnr-rgb': [20.0, 30.0], 'lpips-alex': [0.5, 0.1],
  }}
  middle = compare._at_rate(jpeg, 0.2)  # half way in the logarithm
  assert abs(middle['jpeg_psnr'] - 25) < 1e-9
  assert abs(middle['jpeg_lpips'] - 0.3) < 1e-9
  assert compare._at_rate(jpeg, 0.05)['jpeg_psnr'] is None


def test_an_absent_decoder_is_named(tiny_bundle, tmp_path):
  import dataclasses
  bare = codec_lib.Codec(dataclasses.replace(tiny_bundle, decoders={}))
  with pytest.raises(ValueError, match="no decoder 'flow'"):
    compare.run(bare, [], ['gdc:flow'], [3.0], tmp_path)


def test_bd_rates():
  def curve(bpp, psnr):
    return {'results': {'bpp': bpp, 'psnr-rgb': psnr}}
  bpp = [0.1, 0.2, 0.4, 0.8, 1.6]
  psnr = [25, 28, 31, 34, 37]
  half, short = compare.bd_rates({
    'jpeg': curve(bpp, psnr),
    'half': curve([b / 2 for b in bpp], psnr),
    'short': curve(bpp[:2], psnr[:2]),
  })
  assert half['codec'] == 'half'
  assert abs(half['bd_rate_percent'] + 50) < 1e-6
  assert short['bd_rate_percent'] is None
