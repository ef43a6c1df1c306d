"""The README's image: sizes, figures and layout, of a codec made up here."""
import json

import numpy as np
import pytest
from PIL import Image

from gdc.codec import loading
from gdc.data import sources
from gdc.evaluation import baselines
from gdc.metrics import distortion, perceptual
from tools import blocks, example


class FakeCodec:
  """Files of WebP, decoded with an error."""

  name, digest = 'lean', 'a' * 64
  decoders = ('mse', 'flow', 'one_step')
  decoder_digests = {'one_step': 'b' * 64}

  def compress(self, image, quality, lossless):
    assert (quality, lossless) == (example.QUALITY, 'never')
    return baselines.encode('webp', image, 30)

  def decompress(self, data, decoder):
    assert decoder == 'one_step'
    return baselines.decode(data) ^ np.uint8(1)


@pytest.fixture(scope='module')
def photo():
  files = sources.build('bundled:heldout')
  return np.ascontiguousarray(files[0]['image'][100:260, 80:280])


def test_every_file_is_no_larger_and_measured_as_it_is(photo):
  own, avif, heic = example.compare(FakeCodec(), photo)
  data = FakeCodec().compress(photo, example.QUALITY, 'never')
  assert own.record['name'] == 'gdc (one_step)'
  assert own.record['bytes'] == len(data)
  for name, version in (('avif', avif), ('heic', heic)):
    record = version.record
    assert record['bytes'] <= len(data)
    better = baselines.encode(name, photo, record['quality'] + 1)
    assert len(better) > len(data)
    np.testing.assert_array_equal(version.image, baselines.decode(
      baselines.encode(name, photo, record['quality'])
    ))
  for image, record in (own, avif, heic):
    assert record['psnr-rgb'] == pytest.approx(distortion.psnr(photo, image))
    assert record['lpips-alex'] == pytest.approx(perceptual.lpips(photo, image))
    assert record['dists'] == pytest.approx(
      perceptual.dists(photo, image), abs=1e-6
    )


def test_four_panels_above_their_details(photo):
  records = [
    {'name': name, 'bytes': 3000, 'psnr-rgb': 25.0, 'lpips-alex': 0.25,
     'dists': 0.125} for name in ('gdc', 'AVIF', 'HEVC')
  ]
  flat = [np.full_like(photo, value) for value in (50, 100, 150)]
  sheet = np.asarray(example.draw(
    photo, list(map(example.Version, flat, records))
  ))
  step = example.PANEL + 8  # beside a margin
  assert sheet.shape[1] == 8 + 4 * step
  # A wide image is drawn to the panel's width, its detail to a square.
  height = round(example.PANEL * 160 / 200)
  for i, value in enumerate((None, 100, 150, 50)):  # gdc is last
    left = 8 + i * step
    for top in (8, 8 + height + 8):
      panel = sheet[top:top + height, left:left + example.PANEL]
      assert value is None or (panel == value).all()
  assert example.caption(records[0]) == [
    'gdc', '3,000 bytes, PSNR 25.00 dB', 'LPIPS 0.250, DISTS 0.125',
  ]


def test_the_command_takes_the_first_photograph_and_records_it(
  tmp_path, monkeypatch, photo
):
  seen = []

  def compare(codec, image):
    seen.append(image)
    return [
      example.Version(image, {
        'name': name, 'quality': 1, 'bytes': 3000, 'psnr-rgb': 25.0,
        'lpips-alex': 0.25, 'dists': 0.125,
      }) for name in ('gdc (one_step)', 'AVIF')
    ]

  monkeypatch.setattr('sys.argv', ['example'])
  monkeypatch.setattr(loading, 'load', lambda name: FakeCodec())
  monkeypatch.setattr(example, 'compare', compare)
  monkeypatch.setattr(example, 'OUT', tmp_path / 'docs' / 'example.jpg')
  monkeypatch.setattr(
    example, 'RECORD', tmp_path / 'results' / 'example.json'
  )
  example.main()
  files = sources.build('bundled:heldout')
  first = sorted(files.paths)[0]
  with Image.open(first) as expected:
    np.testing.assert_array_equal(seen[0], np.asarray(expected))
  record = json.loads(example.RECORD.read_text())
  assert record['photograph'] == first.stem
  # The caption is that of this image; its weights are not the bundled ones.
  block = blocks.build(tmp_path / 'results')['example']
  assert '3,000 bytes with gdc (one_step), 3,000 with AVIF' in (
    ' '.join(block.text.split())
  )
  assert block.wrong == [
    f'{example.RECORD}: made with other weights than the bundled ones'
  ]
