"""Results files: CompressAI's form, strict JSON, whole or not at all."""
import csv
import json
import math
import os

import numpy as np
import pytest

from gdc.evaluation import codecs, records

CODER = codecs.Coder(
  label='gdc:mse', file='gdc-fake-mse', name='gdc-fake:mse',
  description='gdc, model fake, decoder mse', qualities=(2.0, 4.0),
  encode=None, decode=None, writer='gdc',
  record={'model': 'fake', 'digest': 'c0ffee'}, compiles=True,
)


def _rows():
  return [
    {
      'name': name, 'height': 4, 'width': 5, 'codec': 'gdc-fake:mse',
      'quality': quality, 'bytes': 10, 'bpp': bpp, 'psnr': 30.0 + bpp,
      'encode_seconds': 0.25, 'decode_seconds': 0.5,
    }
    for name, bpp in (('a', 0.1), ('b', 0.2), ('c', 0.3))
    for quality in (2.0, 4.0)
  ]


def test_the_form_is_compressais():
  made = records.result(CODER, _rows(), ['psnr'], {'fid-256': [2.0, 1.0]})
  assert list(made) == ['name', 'description', 'meta', 'results', 'images']
  assert made['name'] == 'gdc-fake:mse'
  assert made['results'] == {
    'quality': [2.0, 4.0],
    'bpp': [0.6 / 3] * 2,
    'encoding_time': [0.25] * 2,
    'decoding_time': [0.5] * 2,
    'psnr-rgb': [pytest.approx(30.2)] * 2,
    'fid-256': [2.0, 1.0],
  }
  meta = made['meta']
  assert meta['digest'] == 'c0ffee' and meta['model'] == 'fake'
  assert meta['num_images'] == 3
  assert meta['versions']['numpy'] == np.__version__
  assert meta['date'].endswith('+00:00')
  assert made['images'] == _rows()


def test_no_mean_if_an_image_is_too_small():
  """It would be over other images than its bits per pixel."""
  rows = [
    row | {'lpips': None if row['name'] == 'b' else 0.1} for row in _rows()
  ]
  made = records.result(CODER, rows, ['psnr', 'lpips'])
  assert made['results']['lpips-alex'] == [None, None]
  assert made['results']['psnr-rgb'] == [pytest.approx(30.2)] * 2
  assert made['meta']['too_small'] == {'lpips': ['b']}


def test_a_machine_that_stood_still_decides_no_time():
  rows = _rows()
  rows[0]['decode_seconds'] = 1300.0
  made = records.result(CODER, rows, ['psnr'])
  assert made['results']['decoding_time'] == [0.5, 0.5]
  assert made['meta']['timing'].startswith('median')


def test_a_mean_does_not_depend_on_the_order_of_the_rows():
  rng = np.random.default_rng(0)
  values = rng.uniform(0, 1, 1000) ** 8
  rows = [
    {**_rows()[0], 'name': str(i), 'bpp': float(value)}
    for i, value in enumerate(values)
  ]
  coder = CODER._replace(qualities=(2.0,))
  whole = records.result(coder, rows, ['psnr'])['results']['bpp'][0]
  # Plain sums do depend on it, on these numbers.
  assert sum(values) != sum(sorted(values))
  for seed in range(5):
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(1000)]
    made = records.result(coder, shuffled, ['psnr'])
    assert made['results']['bpp'][0] == whole


def test_save_is_strict_json(tmp_path):
  path = tmp_path / 'new' / 'fake.json'
  value = {
    'psnr': math.inf, 'bpp': np.float32(0.5), 'n': (np.int64(3),),
    'deep': [{'a': 1, 'b': 'x\n"'}, {'c': {'d': [1.5, None]}}], 'empty': {},
  }
  records.save(value, path)

  def refuse(constant):
    raise AssertionError(constant)

  saved = json.loads(path.read_text(), parse_constant=refuse)
  assert saved == {
    'psnr': None, 'bpp': 0.5, 'n': [3], 'deep': value['deep'], 'empty': {},
  }


def test_a_row_is_a_line(tmp_path):
  made = records.result(CODER, _rows(), ['psnr'])
  records.save(made, tmp_path / 'a.json')
  lines = (tmp_path / 'a.json').read_text().splitlines()
  assert sum('"encode_seconds"' in line for line in lines) == len(_rows())
  assert json.loads('\n'.join(lines)) == made


def test_rows_as_csv(tmp_path):
  rows = [{'name': 'a, "b"', 'psnr': 30.5}, {'name': 'c', 'lpips': None}]
  records.save_rows(rows, tmp_path / 'rows.csv')
  with open(tmp_path / 'rows.csv', newline='') as file:
    assert list(csv.DictReader(file)) == [
      {'name': 'a, "b"', 'psnr': '30.5', 'lpips': ''},
      {'name': 'c', 'psnr': '', 'lpips': ''},
    ]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(
  tmp_path, monkeypatch
):
  path = tmp_path / 'fake.json'
  records.save({'bpp': 1.0}, path)

  def fail(source, target):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    records.save({'bpp': 2.0}, path)
  assert json.loads(path.read_text()) == {'bpp': 1.0}
  assert os.listdir(tmp_path) == ['fake.json']


@pytest.mark.parametrize('value, shown', [
  ('/home/me/photos', 'photos'),
  ('/home/me/photos/', 'photos'),
  ('--out=/home/me/a=b', '--out=a=b'),
  ('workdir:/home/me/ae', 'workdir:ae'),
  ('/home/me/a:b', 'a:b'),
  ('photos/of me', 'photos/of me'),
  ('gs://bucket/run', 'gs://bucket/run'),
  ('see https://example.org/a', 'see https://example.org/a'),
  ({'a': ['/b/c', 3, None], 'd': ('e', '/f')}, {'a': ['c', 3, None],
                                                'd': ['e', 'f']}),
])
def test_paths_of_this_machine_are_cut(value, shown):
  assert records.portable(value) == shown
