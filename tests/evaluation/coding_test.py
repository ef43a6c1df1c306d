"""Images through codecs that read the same file."""
import numpy as np
import pytest

from gdc.evaluation import codecs, coding

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


class _Fake:
  """Writes a byte of quality, then the samples."""

  name, digest = 'fake', 'c0ffee'
  decoders = ('mse', 'flow')
  decoder_digests = {'flow': 'decaf'}

  def __init__(self):
    self.compressed = []
    self.decompressed = []

  def compress(self, image, quality, lossless):
    self.compressed.append(quality)
    return bytes([int(quality)]) + image.tobytes()

  def resolve(self, decoder, steps=None):
    return decoder, steps

  def decompress(self, data, decoder, steps=None):
    self.decompressed.append((data[0], decoder, steps))
    return np.frombuffer(data[1:], np.uint8).reshape(IMAGE.shape)


def _coders(codec):
  return codecs.build(['gdc:mse', 'gdc:flow@2'], codec, [2.0, 4.0])


@pytest.mark.parametrize('warm_up', [True, False])
def test_one_compression_per_quality_and_one_warm_up(warm_up):
  codec = _Fake()
  found = list(coding.versions(_coders(codec), IMAGE, warm_up))
  assert [(coder.label, version.quality) for coder, version in found] == [
    ('gdc:mse', 2.0), ('gdc:flow@2', 2.0), ('gdc:mse', 4.0), ('gdc:flow@2', 4.0)
  ]
  assert codec.compressed == [2.0] * warm_up + [2.0, 4.0]
  assert codec.decompressed[-2:] == [(4, 'mse', None), (4, 'flow', 2)]
  assert len(codec.decompressed) == 2 * len(codec.compressed)
  for _, version in found:
    assert version.data[0] == version.quality
    np.testing.assert_array_equal(version.decoded, IMAGE)
    assert version.encode_seconds > 0 and version.decode_seconds > 0


def test_a_decoder_that_fails_is_given_up_alone(monkeypatch):
  codec = _Fake()
  decompress = codec.decompress

  def fails(data, decoder, steps=None):
    if decoder == 'flow' and data[0] == 4:
      raise RuntimeError('out of memory')
    return decompress(data, decoder, steps)

  monkeypatch.setattr(codec, 'decompress', fails)
  found = list(coding.versions(_coders(codec), IMAGE, False))
  assert str(found[-1][1]) == 'out of memory'
  assert [coder.label for coder, _ in found] == ['gdc:mse', 'gdc:flow@2'] * 2
  found = list(coding.versions(
    codecs.build(['gdc:flow'], codec, [4.0, 2.0]), IMAGE, True
  ))
  assert [str(version) for _, version in found] == ['out of memory']


def test_an_encoder_that_fails_fails_for_all_that_read_it():
  error = OSError('-6')

  def fails(image, quality):
    raise error

  coders = [coder._replace(encode=fails) for coder in _coders(_Fake())]
  assert list(coding.versions(coders, IMAGE, True)) == [
    (coder, error) for coder in coders
  ]
