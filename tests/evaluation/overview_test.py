"""What an evaluation leaves behind."""
import csv
import json

import numpy as np
import pytest
from PIL import Image

from gdc.codec import codec as codec_lib
from gdc.evaluation import overview, published, records, workers
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
    note='CC0', references=[reference], num_pictures=2, crop=48,
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
  first, second = overview.exhibits(study, results, 2, 48)
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
  assert mse.num_bytes == len(data)
  np.testing.assert_array_equal(
    mse.image,
    study.codec.decompress(data, 'mse')[top:bottom, left:right],
  )
  row = next(
    row for row in results['gdc:mse']['images']
    if (row['name'], row['quality']) == ('a', 2.0)
  )
  assert mse.measures['LPIPS'] == row['lpips']
  # JPEG can not be as small as gdc is here, and that is said.
  jpeg = first.versions[-1]
  assert jpeg.num_bytes > len(data)
  assert f'{jpeg.num_bytes / len(data):.2f} x the bytes' in jpeg.note


def test_the_page_holds_everything(made):
  out, _, _ = made
  page = (out / 'page.html').read_text()
  for words in (
    'A &lt;title&gt;', 'gdc eval photos --out x', 'CC0', 'BD-rate against jpeg',
    'At equal bytes', 'gdc:mse+0.2', 'autoencoder',
  ):
    assert words in page, words


def test_a_wrong_anchor_is_named(made, tmp_path):
  _, results, study = made
  with pytest.raises(ValueError, match="anchor is 'gif'"):
    overview.write(study, results, command='', title='', anchor='gif')
