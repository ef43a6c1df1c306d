"""Sweeps: rows from real bytes, means of per-picture figures."""
import numpy as np
import pytest

from gdc.evaluation import codecs, measures, sweep
from gdc.metrics import distortion


class FakeCodec:
  """Keeps the upper bits: quality q writes q bits a sample, one byte each."""

  name = 'fake'
  digest = 'c0ffee'
  decoders = ('mse', 'flow')
  decoder_digests = {'flow': 'decaf', 'one_step': 'beef'}

  def __init__(self):
    self.compressed = []
    self.decompressed = []

  def compress(self, image, quality=3.0, lossless=None):
    self.compressed.append((image.shape, quality))
    step = 2 ** (8 - int(quality))
    height, width, _ = image.shape
    header = bytes([height, width, step])
    return header + bytes(image // step) + bytes(int(quality))

  def resolve(self, decoder, steps=None):
    if decoder == 'mse':
      return 'mse', None
    return ('one_step', 1) if steps == 1 else (decoder, steps or 4)

  def decompress(self, data, decoder='mse', steps=None):
    self.decompressed.append((len(data), decoder, steps))
    height, width, step = data[:3]
    samples = np.frombuffer(data, np.uint8, height * width * 3, 3)
    image = (samples * step).reshape(height, width, 3)
    return image if decoder == 'flow' else image + step // 2


def _images():
  rng = np.random.default_rng(2)
  for name, size in (('a', (40, 32)), ('b', (35, 48)), ('c', (40, 32))):
    yield name, rng.integers(0, 256, (*size, 3), np.uint8)


def _coders(names=('gdc:mse', 'gdc:flow@2'), codec=None):
  return codecs.build(names, codec or FakeCodec(), [2.0, 4.0])


def test_means_are_of_per_picture_figures_from_real_bytes():
  results = sweep.evaluate(_coders(), _images(), ['psnr'])
  assert list(results) == ['gdc:mse', 'gdc:flow@2']
  images = dict(_images())
  bpps = [
    8 * (3 + image.size + 4) / (image.shape[0] * image.shape[1])
    for image in images.values()
  ]
  curve = results['gdc:mse']['results']
  assert curve['quality'] == [2.0, 4.0]
  assert curve['bpp'][1] == pytest.approx(np.mean(bpps))
  codec = FakeCodec()
  psnrs = [
    distortion.psnr(image, codec.decompress(codec.compress(image, 4)))
    for image in images.values()
  ]
  assert curve['psnr-rgb'][1] == pytest.approx(np.mean(psnrs))
  flow = results['gdc:flow@2']['results']
  assert flow['psnr-rgb'][1] < curve['psnr-rgb'][1]
  assert flow['bpp'] == curve['bpp']


def test_rows():
  seen = []
  results = sweep.evaluate(
    _coders(), _images(), ['psnr', 'lpips'], on_row=seen.append
  )
  rows = results['gdc:flow@2']['images']
  assert [(row['name'], row['quality']) for row in rows] == [
    (name, quality) for name in 'abc' for quality in (2.0, 4.0)
  ]
  assert list(rows[0]) == [
    'name', 'height', 'width', 'codec', 'quality', 'bytes', 'bpp', 'psnr',
    'lpips', 'encode_seconds', 'decode_seconds',
  ]
  assert rows[2]['height'] == 35 and rows[2]['width'] == 48
  assert rows[2]['bytes'] == 3 + 35 * 48 * 3 + 2
  assert rows[0]['codec'] == 'gdc-fake:flow@2'
  assert rows[0]['lpips'] > rows[1]['lpips'] > 0
  assert rows[0]['decode_seconds'] > 0
  assert len(seen) == 12
  assert [r for r in seen if r['codec'] == 'gdc-fake:flow@2'] == rows


def test_one_compression_per_quality_and_one_warm_up_per_size():
  codec = FakeCodec()
  sweep.evaluate(_coders(codec=codec), _images(), ['psnr'])
  # Two sizes are warmed up; three pictures at two qualities.
  assert len(codec.compressed) == 2 + 3 * 2
  assert len(codec.decompressed) == 2 * (2 + 3 * 2)
  assert {call[1:] for call in codec.decompressed} == {
    ('mse', None), ('flow', 2),
  }


def test_no_mean_where_a_picture_is_too_small():
  """It would be over other pictures than its bits per pixel."""
  small = ('small', next(_images())[1][:30])
  results = sweep.evaluate(_coders(), [small, *_images()], ['psnr', 'lpips'])
  rows = results['gdc:mse']['images']
  assert rows[0]['lpips'] is None and rows[0]['psnr'] > 0
  result = results['gdc:mse']
  assert result['results']['lpips-alex'] == [None, None]
  assert result['meta']['too_small'] == {'lpips': ['small']}
  assert result['results']['psnr-rgb'][0] == pytest.approx(
    np.mean([row['psnr'] for row in rows[::2]])
  )


def test_decoded_pictures_are_handed_on():
  seen = []
  name, image = next(_images())
  sweep.picture(
    _coders(), name, image, measures.against(image, ['psnr']),
    on_decoded=lambda row, data, decoded: seen.append(
      row['psnr'] == distortion.psnr(image, decoded)
      and row['bytes'] == len(data)
    ),
  )
  assert seen == [True] * 4


def test_errors():
  with pytest.raises(ValueError, match='images is empty'):
    sweep.evaluate(_coders(), [], ['psnr'])
  with pytest.raises(ValueError, match="'ssim'.*'psnr', 'ms-ssim'"):
    sweep.evaluate(_coders(), _images(), ['psnr', 'ssim'])


def test_an_error_names_the_picture():
  wrong = [('grey.png', np.zeros((17, 23), np.uint8))]
  with pytest.raises(ValueError, match='17, 23') as caught:
    sweep.evaluate(_coders(), wrong)
  assert "'grey.png'" in caught.value.__notes__[0]
