"""What an evaluation leaves behind."""
import csv
import json
import typing

import numpy as np
import pytest
from PIL import Image

from gdc.codec import codec as codec_lib
from gdc.evaluation import exhibits, overview, published, records, workers
from gdc.evaluation import study as study_lib


@pytest.fixture(scope='module')
def made(tiny_bundle, tmp_path_factory):
  """(folder of results, results, study) of a small evaluation."""
  codec = codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(64, 128), score_tile=(64, 128),
    score_block=None,
  )
  photos = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for name in ('a', 'b & <c>', 'd'):
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((128, 64)).save(photos / f'{name}.png')
  out = tmp_path_factory.mktemp('results')
  plan = study_lib.Plan(
    sorted(photos.iterdir()),
    ('gdc:mse', 'gdc:flow@1', 'gdc:mse+0.2', 'jpeg', 'webp', 'jpeg=gdc'), out,
    'tiny', (1.0, 2.0, 4.0, 6.0), (2.0,), ('psnr', 'lpips'),
    None,
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(study_lib.loading, 'load', lambda path: codec)
    study = study_lib.Study(plan)
  workers.run(study)
  results = study.results()
  reference = published.Curve(
    'theirs', 'kodak', {'bpp': [0.5, 1.0], 'psnr-rgb': [30.0, 35.0]}
  )
  overview.write(
    study, results, command='gdc eval photos --out x', title='A <title>',
    note='CC0', references=[reference], num_images=2, crop=48,
  )
  return out, results, study


def test_files(made):
  out, results, _ = made
  assert sorted(p.name for p in out.iterdir() if p.name[0] != '.') == [
    'bd.json', 'curves.svg', 'gdc-tiny-flow@1.json', 'gdc-tiny-mse+0.2.json',
    'gdc-tiny-mse.json', 'index.json', 'jpeg.json', 'jpeg=gdc.json',
    'page.html',
    'plane.svg', 'rows.csv', 'webp.json',
  ]
  with open(out / 'rows.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == sum(len(result['images']) for result in results.values())
  assert {row['codec'] for row in rows} >= {'gdc-tiny:mse', 'jpeg=gdc'}
  bd = json.loads((out / 'bd.json').read_text())
  assert bd['anchor'] == 'jpeg'
  assert {row['codec'] for row in bd['codecs']} == {
    'gdc:mse', 'gdc:flow@1', 'gdc:mse+0.2', 'webp',
  }
  assert 'theirs (published, kodak)' in (out / 'curves.svg').read_text()


def test_results_come_back_in_order_and_say_how_they_were_made(made):
  out, results, study = made
  found = records.read(out)
  assert list(found) == [
    'gdc:mse', 'gdc:flow@1', 'gdc:mse+0.2', 'jpeg', 'webp', 'jpeg=gdc',
  ]
  for label, result in found.items():
    assert result['meta']['command'] == 'gdc eval photos --out x'
    assert result['results'] == results[label]['results']
  meta = found['gdc:flow@1']['meta']
  assert meta['digest'] == study.codec.digest
  assert meta['decoder_digest'] == study.codec.decoder_digests['flow']
  assert 'libjpeg' in found['jpeg']['meta']['library']


def test_a_results_file_is_read_as_a_published_one(made):
  out, results, _ = made
  curve = published.read(out / 'jpeg.json')
  assert curve.results['psnr-rgb'] == results['jpeg']['results']['psnr-rgb']


def test_exhibits_are_of_the_measured_files(made):
  out, results, study = made
  first, second = exhibits.make(study, results, 2, 48)
  assert (first.name, second.name) == ('a', 'd')
  assert first.box[2] - first.box[0] == 48
  assert [version.codec for version in first.versions] == [
    'original', 'gdc:mse', 'gdc:flow@1', 'gdc:mse+0.2', 'jpeg',
  ]
  left, top, right, bottom = first.box
  image = np.asarray(Image.open(study.plan.paths[0]))
  np.testing.assert_array_equal(
    first.versions[0].image, image[top:bottom, left:right]
  )
  data = study.codec.compress(image, 2.0, lossless='never')
  mse = first.versions[1]
  assert mse.facts['bytes'] == f'{len(data):,}'
  assert mse.facts['bpp'] == f'{8 * len(data) / (64 * 128):.3f}'
  np.testing.assert_array_equal(
    mse.image,
    study.codec.decompress(data, 'mse')[top:bottom, left:right],
  )
  row = next(
    row for row in results['gdc:mse']['images']
    if (row['name'], row['quality']) == ('a', 2.0)
  )
  assert mse.facts['PSNR ↑'] == f'{row["psnr"]:.2f} dB'
  assert mse.facts['LPIPS ↓'] == f'{row["lpips"]:.4f}'
  assert mse.rate == 'gdc quality 2'
  # JPEG can not be as small as gdc is here, and that is said.
  jpeg = first.versions[-1]
  size = int(jpeg.facts['bytes'].replace(',', ''))
  assert size > len(data)
  assert f'{size / len(data):.2f} x the bytes' in jpeg.note


def test_the_page_holds_everything(made):
  out, _, _ = made
  page = (out / 'page.html').read_text()
  for words in (
    'A &lt;title&gt;', 'gdc eval photos --out x', 'CC0', 'BD-rate against jpeg',
    'At equal bytes', 'gdc:mse+0.2', 'autoencoder',
    'data-left="gdc:flow@1" data-right="jpeg"', 'Higher is better',
    'white noise of 0.2 times', 'value="curve-5" checked',
  ):
    assert words in page, words


def test_a_wrong_anchor_is_named(made, tmp_path):
  _, results, study = made
  with pytest.raises(ValueError, match="anchor is 'gif'"):
    overview.write(study, results, command='', title='', anchor='gif')


def test_the_page_opens_on_the_default_decoder_and_the_best_of_the_others():
  def result(lpips, psnr, bpp):
    return {'results': {
      'quality': [1.0], 'lpips-alex': lpips, 'psnr-rgb': psnr, 'bpp': [bpp],
    }}

  coders = [
    _Coder('gdc:mse', {'entry': 'mse'}),
    _Coder('gdc:flow@1', {'entry': 'one_step'}),
    _Coder('gdc:flow', {'entry': 'flow'}),
    _Coder('gdc:mse+0.2', {'entry': 'mse', 'noise': 0.2}),
    *(_Coder(f'{name}=gdc', {}) for name in ('jpeg', 'webp', 'avif')),
  ]
  results = {coder.label: result([0.2], [30.0], 100) for coder in coders[:4]}
  results['jpeg=gdc'] = result([0.5], [25.0], 90)
  results['webp=gdc'] = result([0.3], [24.0], 99)
  results['avif=gdc'] = result([0.1], [31.0], 120)  # larger than gdc
  pair, why = exhibits.opening(coders, results, 1.0)
  assert pair == ('gdc:flow@1', 'webp') and 'lowest LPIPS' in why
  for label in results:
    results[label]['results']['lpips-alex'] = [None]
  pair, why = exhibits.opening(coders, results, 1.0)
  assert pair == ('gdc:flow@1', 'jpeg') and 'highest PSNR' in why
  del results['jpeg=gdc'], results['webp=gdc']
  assert exhibits.opening(coders, results, 1.0)[0] == ('gdc:flow@1', 'avif')
  del results['avif=gdc'], results['gdc:flow@1']
  assert exhibits.opening(coders, results, 1.0)[0] == ('original', 'gdc:flow')
  assert exhibits.opening(coders[4:], {}, 1.0) == (('', ''), '')


class _Coder(typing.NamedTuple):
  label: str
  record: dict
