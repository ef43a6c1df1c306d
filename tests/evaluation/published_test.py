"""Others' curves: read as they are, refused where they are not."""
import json
import pathlib

import pytest

from gdc.evaluation import published

KODAK = pathlib.Path(__file__).parents[2] / 'results' / 'published' / 'kodak'


def test_every_file_in_the_repository_is_read():
  curves = published.read_all(KODAK)
  assert len(curves) == 50
  assert len({curve.name for curve in curves}) == 50
  for curve in curves:
    assert curve.source == 'kodak'
    rates = curve.results['bpp']
    assert rates == sorted(rates) and 0 < rates[0] < rates[-1] < 10
    assert {len(values) for values in curve.results.values()} == {len(rates)}
    assert all(20 < x < 60 for x in curve.results.get('psnr-rgb', ()))
    # Linear, also where the file has dB.
    assert all(0.7 < x <= 1 for x in curve.results.get('ms-ssim-rgb', ()))
    assert 'ms-ssim-db-rgb' not in curve.results
    assert len(curve.results) > 1


def test_points_are_sorted_together(tmp_path):
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps({
    'name': 'x', 'results': {
      'bpp': [0.4, 0.1], 'psnr-rgb': [30, 25], 'note': 'text', 'short': [1],
    },
  }))
  curve = published.read(path)
  assert curve.name == 'mine'
  assert curve.results == {'bpp': [0.1, 0.4], 'psnr-rgb': [25.0, 30.0]}
  assert published.read_all(path) == [curve]


def test_decibels_become_linear_and_a_gap_stays_one(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text(json.dumps({'results': {
    'bpp': [0.1, 0.2], 'ms-ssim-db-rgb': [10, 20], 'psnr-rgb': [30, None],
  }}))
  curve = published.read(path)
  assert curve.results['ms-ssim-rgb'] == pytest.approx([0.9, 0.99])
  assert curve.results['psnr-rgb'] == [30.0, None]


@pytest.mark.parametrize('text', [
  '', '[]', '{}', '{"results": {"psnr-rgb": [1]}}',
  '{"results": {"bpp": 3}}', '{"results": {"bpp": ["a"]}}',
  '{"results": {"bpp": []}}', '{"results": {"bpp": [-1, 2]}}',
  '{"results": {"bpp": [1, 2], "psnr-rgb": [30, NaN]}}',
  '{"results": {"bpp": [1, null], "psnr-rgb": [30, 31]}}',
])
def test_anything_else_is_refused_by_its_name(tmp_path, text):
  path = tmp_path / 'odd.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'odd\.json'):
    published.read(path)


def test_what_is_not_there_is_said(tmp_path):
  with pytest.raises(ValueError, match='nowhere'):
    published.read_all(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match='no .json file of a curve'):
    published.read_all(tmp_path)
