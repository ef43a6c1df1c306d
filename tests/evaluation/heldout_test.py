"""The last part of a run, with a codec that costs nothing.

tests/main_test.py does it with a real one.
"""
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from gdc.evaluation import heldout


class _Codec:
  """Lossless and small, but for what its flow invents."""

  name, digest = 'toy', 'd' * 64
  decoders, decoder_digests = ('mse', 'flow'), {'flow': 'f' * 64}

  def __init__(self, path):
    assert path == 'runs/toy/bundle'

  def compress(self, image, quality, lossless):
    self.shape = image.shape
    return bytes([int(quality)]) + zlib.compress(image.tobytes())

  def resolve(self, decoder, steps=None):
    return decoder, steps

  def decompress(self, data, decoder, steps=None):
    image = np.frombuffer(zlib.decompress(data[1:]), np.uint8)
    return image.reshape(self.shape) ^ {'mse': 1, 'flow': 16}[decoder]


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
  monkeypatch.setattr(heldout.loading, 'load', _Codec)


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / 'photos'
  folder.mkdir()
  y, x = np.mgrid[:48, :64]
  image = np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8)
  Image.fromarray(image).save(folder / 'ramp.png')
  Image.fromarray(image[:20]).save(folder / 'thin.png')
  return f'folder:{folder}'


def test_results_carry_the_run_and_no_paths_of_this_machine(
  photos, tmp_path, capsys
):
  out = tmp_path / 'deep' / 'results.json'
  written = heldout.run(
    'runs/toy/bundle', source=photos, qualities=(2.0,), decoder='flow',
    results=out, record={
      'stage': 'flow', 'steps': 7, 'autoencoder_from': 'workdir:/home/me/ae',
      'init_from': '/home/me/bundle', 'missing': None,
      'data': {'source': photos, 'crop': 32},
      'evaluation': {'source': 'bundled:heldout'},
    },
  )
  assert written == {'results': str(out)}  # and no images
  assert 'Left out, below 31 pixels: thin' in capsys.readouterr().out
  curves = json.loads(out.read_text())
  assert set(curves) == {'mse', 'flow'}
  for curve in curves.values():
    assert [row['name'] for row in curve['images']] == ['ramp']
    assert curve['meta']['config'] == {
      'stage': 'flow', 'steps': 7, 'autoencoder_from': 'workdir:ae',
      'init_from': 'bundle', 'missing': None,
      'data': {'source': 'folder:photos', 'crop': 32},
      'evaluation': {'source': 'bundled:heldout'},
    }


def test_images_alone(photos, tmp_path):
  written = heldout.run(
    'runs/toy/bundle', source=photos, qualities=(3.0, 2.0), decoder='flow',
    pictures=tmp_path / 'shown',
  )
  assert list(written) == ['pictures']
  with Image.open(written['pictures']) as shown:
    assert shown.width > 3 * 64
  assert [p.name for p in (tmp_path / 'shown').iterdir()] == ['ramp_q2.png']


def test_a_set_without_files_is_refused(monkeypatch):
  monkeypatch.setattr(heldout.sources, 'build', lambda source: object())
  with pytest.raises(ValueError, match="evaluation.source must be.*'tfds:a'"):
    heldout.run('runs/toy/bundle', source='tfds:a', qualities=(3.0,))
