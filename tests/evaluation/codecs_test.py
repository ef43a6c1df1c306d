"""Codecs by name."""
import numpy as np
import pytest

from gdc.codec import codec as codec_lib
from gdc.evaluation import baselines, codecs
from gdc.metrics import distortion

pytestmark = pytest.mark.usefixtures('by_the_network')


@pytest.fixture(scope='module')
def codec(tiny_bundle):
  return codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(64, 128), score_tile=(64, 128),
    score_block=None,
  )


def _ramp():
  y, x = np.mgrid[:64, :96]
  return np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8)


@pytest.mark.parametrize('name', [
  'gif', 'gdc', 'gdc:', 'gdc:flow@x', 'gdc:flow@0', 'mse', 'gdc:flow+0.1',
  'gdc:mse+', 'gdc:mse@3', 'jpeg=webp', 'gif=gdc', 'gdc:mse=gdc', '',
])
def test_unknown_names_are_named(name):
  with pytest.raises(ValueError, match=f'not {name!r}'.replace('+', r'\+')):
    codecs.parse(name)


def test_decoders_are_the_models_and_say_which(codec):
  image = _ramp()
  mse, flow = codecs.build(['gdc:mse', 'gdc:flow@2'], codec, [1.0, 6.0])
  assert mse.writer == flow.writer
  data = mse.encode(image, 6.0)
  assert data == codec.compress(image, 6.0, lossless='never')
  np.testing.assert_array_equal(
    flow.decode(data), codec.decompress(data, 'flow', 2)
  )
  assert (mse.name, mse.file) == ('gdc-tiny:mse', 'gdc-tiny-mse')
  assert flow.record == {
    'model': 'tiny', 'digest': codec.digest, 'decoder': 'flow',
    'entry': 'flow', 'decoder_digest': codec.decoder_digests['flow'],
    'steps': 2,
  }
  assert mse.record['decoder_digest'] is None
  assert len(codec.decoder_digests['flow']) == 64


def test_the_control_is_noise_of_the_amount_asked_for(codec):
  image = np.full((128, 128, 3), 128, np.uint8)
  mse, control = codecs.build(['gdc:mse', 'gdc:mse+0.5'], codec, [3.0])
  data = mse.encode(image, 3.0)
  plain, noisy = mse.decode(data), control.decode(data)
  np.testing.assert_array_equal(noisy, control.decode(data))  # of the file
  inside = (plain > 60) & (plain < 195)
  assert inside.mean() > 0.5
  difference = noisy.astype(float)[inside] - plain[inside]
  expected = 0.5 * codec.rmse(3.0) * 127.5
  assert difference.std() == pytest.approx(
    np.hypot(expected, np.sqrt(1 / 12)), rel=0.05
  )
  assert abs(difference.mean()) < 0.1 * expected


class _Fixed:
  """Writes as many bytes as it is told."""

  name, digest = 'fixed', 'd'

  def __init__(self, num_bytes):
    self._num_bytes = num_bytes

  def compress(self, image, quality, lossless):
    return bytes(int(self._num_bytes * quality))


def test_others_are_at_their_own_qualities_or_at_the_bytes_of_gdc():
  image = _ramp()
  jpeg, matched = codecs.build(['jpeg', 'jpeg=gdc'], _Fixed(600), [], [1, 3])
  assert jpeg.qualities == baselines.BASELINES['jpeg'].sweep
  assert matched.qualities == (1, 3) and matched.file == 'jpeg=gdc'
  for quality in (1, 3):
    data = matched.encode(image, quality)
    assert data == baselines.at_most_bytes('jpeg', image, 600 * quality)[0]
    assert len(data) <= 600 * quality
    assert distortion.psnr(image, matched.decode(data)) > 20


def test_a_codec_that_can_not_be_so_small_gives_its_smallest_file():
  image = _ramp()
  (matched,) = codecs.build(['webp=gdc'], _Fixed(4), [], [1.0])
  assert matched.encode(image, 1.0) == baselines.encode('webp', image, 0)


def test_who_is_held_to_which_bytes():
  both = ['gdc:mse', 'jpeg', 'webp']
  assert codecs.with_matched(both, [1, 2, 3, 4, 5, 6], None) == (
    [*both, 'jpeg=gdc', 'webp=gdc'], [1, 3]
  )
  assert codecs.with_matched(both, [2], None)[1] == [2]
  assert codecs.with_matched(both, [2], []) == (both, [])
  assert codecs.with_matched(['jpeg'], [1, 2], None) == (['jpeg'], [])
  given = ['gdc:mse', 'jpeg=gdc']
  assert codecs.with_matched(given, [1, 2, 3], [2]) == (given, [2])
  with pytest.raises(ValueError, match='at quality 4: some of 1, 3'):
    codecs.with_matched(both, [1, 3], [1, 4])
  with pytest.raises(ValueError, match=r'qualities \[1\]'):
    codecs.with_matched(['jpeg'], [1], [1])


def test_errors(codec):
  def build(names, **more):
    return codecs.build(names, codec, **{'qualities': [1.0], **more})
  with pytest.raises(ValueError, match='at least one'):
    build([])
  with pytest.raises(ValueError, match='all different'):
    build(['jpeg', 'jpeg'])
  with pytest.raises(ValueError, match="no decoder 'gan', only mse, flow"):
    build(['gdc:gan'])
  with pytest.raises(ValueError, match=r'gdc:mse are \[\]'):
    build(['gdc:mse'], qualities=[])
  with pytest.raises(ValueError, match='all different'):
    build(['gdc:mse'], qualities=[1.0, 1.0])
  with pytest.raises(ValueError, match=r'jpeg=gdc are \[\]'):
    build(['jpeg=gdc'])
