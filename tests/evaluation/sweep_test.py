import json
import math
import os

import numpy as np
import pytest

from gdc.evaluation import distortion, sweep


class FakeCodec:
  """Keeps the upper bits: quality q writes q bits a sample, one byte each."""

  name = 'fake'
  digest = 'c0ffee'
  decoders = ('mse', 'flow')

  def __init__(self):
    self.compressed = []
    self.decompressed = []

  def compress(self, image, quality=3.0):
    self.compressed.append((image.shape, quality))
    step = 2 ** (8 - int(quality))
    height, width, _ = image.shape
    header = bytes([height, width, step])
    return header + bytes(image // step) + bytes(int(quality))

  def resolve(self, decoder, steps=None):
    return ('one_step', 1) if steps == 1 else (decoder, steps)

  def decompress(self, data, decoder='mse', steps=None, seed=None):
    self.decompressed.append((len(data), decoder, steps, seed))
    height, width, step = data[:3]
    samples = np.frombuffer(data, np.uint8, height * width * 3, 3)
    image = (samples * step).reshape(height, width, 3)
    return image if decoder == 'flow' else image + step // 2


def _images():
  rng = np.random.default_rng(2)
  for name, size in (('a', (40, 32)), ('b', (35, 48)), ('c', (40, 32))):
    yield name, rng.integers(0, 256, (*size, 3), np.uint8)


DECODERS = [
  {'decoder': 'mse'},
  {'decoder': 'flow', 'steps': 4, 'seed': 7},
]


def test_labels():
  assert [sweep.label(d) for d in DECODERS] == ['mse', 'flow@4']
  assert sweep.label({'decoder': 'flow', 'steps': None}) == 'flow'


def test_means_are_of_per_picture_figures_from_real_bytes():
  results = sweep.evaluate(
    FakeCodec(), _images(), [2.0, 4.0], DECODERS, ['psnr']
  )
  assert list(results) == ['mse', 'flow@4']
  images = dict(_images())
  bpps = [
    8 * (3 + image.size + 4) / (image.shape[0] * image.shape[1])
    for image in images.values()
  ]
  curve = results['mse']['results']
  assert curve['quality'] == [2.0, 4.0]
  assert curve['bpp'][1] == pytest.approx(np.mean(bpps))
  codec = FakeCodec()
  psnrs = [
    distortion.psnr(image, codec.decompress(codec.compress(image, 4)))
    for image in images.values()
  ]
  assert curve['psnr-rgb'][1] == pytest.approx(np.mean(psnrs))
  assert results['flow@4']['results']['psnr-rgb'][1] < curve['psnr-rgb'][1]
  assert results['flow@4']['results']['bpp'] == curve['bpp']


def test_rows():
  seen = []
  results = sweep.evaluate(
    FakeCodec(),
    _images(),
    [2.0, 4.0],
    DECODERS,
    ['psnr', 'lpips'],
    on_row=seen.append,
  )
  rows = results['flow@4']['images']
  assert [(row['name'], row['quality']) for row in rows] == [
    (name, quality) for name in 'abc' for quality in (2.0, 4.0)
  ]
  assert list(rows[0]) == [
    'name',
    'height',
    'width',
    'codec',
    'quality',
    'bytes',
    'bpp',
    'psnr',
    'lpips',
    'encode_seconds',
    'decode_seconds',
  ]
  assert rows[2]['height'] == 35 and rows[2]['width'] == 48
  assert rows[2]['bytes'] == 3 + 35 * 48 * 3 + 2
  assert rows[0]['codec'] == 'gdc-fake:flow@4'
  assert rows[0]['lpips'] > rows[1]['lpips'] > 0
  assert rows[0]['decode_seconds'] > 0
  assert len(seen) == 12
  assert [r for r in seen if r['codec'] == 'gdc-fake:flow@4'] == rows


def test_one_compression_per_quality_and_one_warm_up_per_size():
  codec = FakeCodec()
  sweep.evaluate(codec, _images(), [2.0, 4.0], DECODERS, ['psnr'])
  # Two sizes are warmed up; three pictures at two qualities.
  assert len(codec.compressed) == 2 + 3 * 2
  assert len(codec.decompressed) == 2 * (2 + 3 * 2)
  assert {call[1:] for call in codec.decompressed} == {
    ('mse', None, None),
    ('flow', 4, 7),
  }
  codec = FakeCodec()
  sweep.evaluate(
    codec, _images(), [2.0, 4.0], DECODERS, ['psnr'], warm_up=False
  )
  assert len(codec.compressed) == 3 * 2


def test_the_form_is_compressais():
  results = sweep.evaluate(FakeCodec(), _images(), [2.0, 4.0], DECODERS)
  for label, result in results.items():
    assert list(result) == ['name', 'description', 'meta', 'results', 'images']
    assert result['name'] == f'gdc-fake:{label}'
    assert {
      'bpp',
      'psnr-rgb',
      'lpips-alex',
      'encoding_time',
      'decoding_time',
    } < set(result['results'])
    assert {len(values) for values in result['results'].values()} == {2}
  meta = results['flow@4']['meta']
  assert meta['digest'] == 'c0ffee' and meta['model'] == 'fake'
  assert meta['decoder'] == DECODERS[1]
  assert meta['num_images'] == 3
  assert meta['versions']['numpy'] == np.__version__
  assert meta['date'].endswith('+00:00')


def test_baseline_has_the_same_form():
  results = sweep.baseline('jpeg', _images(), [30, 60], ['psnr'])
  assert list(results) == ['jpeg']
  curve = results['jpeg']['results']
  assert curve['bpp'][0] < curve['bpp'][1]
  assert curve['psnr-rgb'][0] < curve['psnr-rgb'][1]
  theirs = sweep.evaluate(FakeCodec(), _images(), [2.0], measures=['psnr'])
  assert list(results['jpeg']) == list(theirs['mse'])
  assert list(results['jpeg']['images'][0]) == list(theirs['mse']['images'][0])
  assert list(curve) == list(theirs['mse']['results'])


def test_save_is_strict_json(tmp_path):
  path = tmp_path / 'new' / 'fake.json'
  sweep.save(
    {'psnr': math.inf, 'bpp': np.float32(0.5), 'n': (np.int64(3),)}, path
  )

  def refuse(constant):
    raise AssertionError(constant)

  saved = json.loads(path.read_text(), parse_constant=refuse)
  assert saved == {'psnr': None, 'bpp': 0.5, 'n': [3]}


def test_results_come_back_from_the_file(tmp_path):
  results = sweep.evaluate(FakeCodec(), _images(), [2.0], DECODERS, ['psnr'])
  sweep.save(results['mse'], tmp_path / 'mse.json')
  assert json.loads((tmp_path / 'mse.json').read_text()) == results['mse']


def test_a_save_that_fails_leaves_the_old_file_and_no_other(
  tmp_path, monkeypatch
):
  path = tmp_path / 'fake.json'
  sweep.save({'bpp': 1.0}, path)

  def fail(source, target):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    sweep.save({'bpp': 2.0}, path)
  assert json.loads(path.read_text()) == {'bpp': 1.0}
  assert os.listdir(tmp_path) == ['fake.json']


@pytest.mark.parametrize(
  'change, words',
  [
    (dict(images=[]), 'images is empty'),
    (dict(qualities=[]), 'qualities'),
    (dict(qualities=[2.0, 2.0]), 'qualities'),
    (dict(decoders=[]), 'decoders'),
    (dict(decoders=[{'decoder': 'mse'}, {'decoder': 'mse', 'seed': 1}]), 'mse'),
    (dict(measures=['psnr', 'ssim']), "'ssim'.*'psnr', 'lpips'"),
  ],
)
def test_errors(change, words):
  good = dict(
    images=_images(), qualities=[2.0], decoders=DECODERS, measures=['psnr']
  )
  with pytest.raises(ValueError, match=words):
    sweep.evaluate(FakeCodec(), **(good | change))


def test_an_error_names_the_picture():
  small = [('tiny.png', np.zeros((17, 23, 3), np.uint8))]
  with pytest.raises(ValueError, match='17 x 23') as caught:
    sweep.evaluate(FakeCodec(), small, [2.0])
  assert "'tiny.png'" in caught.value.__notes__[0]
