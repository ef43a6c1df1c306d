"""Choosing between a quality, a higher one, and a lossless file."""
import functools

import numpy as np
import pytest

from gdc.codec import bitstream, encoder, rate_control, tiles
from gdc.codec import codec as codec_lib


@pytest.fixture(scope='module')
def codec(tiny_bundle):
  return codec_lib.Codec(tiny_bundle)


def checkerboard(channels=3):
  return np.repeat(
    np.uint8(255 * (np.indices((32, 48)).sum(0) % 2))[..., None], channels, 2
  )


def noise():
  return np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


def header(data):
  return bitstream.unpack(data)[0]


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_what_is_smaller_losslessly_is_exact_by_any_decoder(codec, channels):
  image, notices = checkerboard(channels), []
  data = codec.compress(image, 6, notices=notices, seed=3)
  assert header(data).lossless and header(data).seed == 3
  assert header(data).quality_index is None and len(data) < 100
  [notice] = notices
  assert f'kept losslessly in {len(data)} bytes' in notice
  for decoder in codec.decoders:
    np.testing.assert_array_equal(
      codec.decompress(data, decoder), image
    )
  assert len(codec.compress(image, 6, lossless='never')) > len(data)
  assert data == codec.compress(image, lossless='always', seed=3)
  with pytest.raises(bitstream.BitstreamError, match='no latents'):
    codec.read(data)


def test_files_of_the_network_may_be_refused_or_forced(codec):
  image, notices = noise(), []
  lossy = codec.compress(image, 2, lossless='never', notices=notices)
  exact = codec.compress(image, lossless='always', notices=notices)
  assert not header(lossy).lossless and header(exact).lossless
  np.testing.assert_array_equal(codec.decompress(exact), image)
  assert notices == []
  with pytest.raises(ValueError, match='quality has no meaning .* leave out 2'):
    codec.compress(image, 2, lossless='always')


def test_errors_of_a_large_image_are_summed_up_exactly(codec, monkeypatch):
  # All samples are off by 255: the sum of squares exceeds an int32.
  image = np.full((70, 3000, 3), 255, np.uint8)
  made = encoder.Encoder(codec, image, functools.partial(
    bitstream.Header, 3000, 70, digest=b'abcd'
  ), 'auto')
  parts = [
    tiles.Window(0, 0, 64, 2000), tiles.Window(0, 2000, 64, 3000),
    tiles.Window(64, 0, 70, 3000),
  ]
  monkeypatch.setattr(
    codec._networks, 'synthesise_parts', lambda *_: (
      tiles.Plane(np.zeros((*w.shape, 3), np.uint8), w) for w in parts
    )
  )
  latents = np.zeros((5, 188, 24), np.int32)
  assert made._psnr(latents, 0) == 0


class Scripted(encoder.Encoder):
  """An encoder of 81 qualities whose network is a table.

  Attributes:
    table: quality index -> (bytes of the file, dB).
    made: indices that were decoded, in order.
  """

  def __init__(self, codec, table, exact, mode='auto'):
    image = np.zeros((8, 8, 3), np.uint8)

    def head(**fields):
      return bitstream.Header(8, 8, **{'digest': b'abcd', **fields})
    super().__init__(codec, image, head, mode)
    self.table, self.made = table, []
    self._exact = bytes(exact)
    self._estimate = self._fair_estimate = exact

  def floor(self, index):
    return 20 + index / 16

  def _is_flat(self, index):
    return False

  def _analyse(self, index):
    return None

  def _latents(self, index, features=None):
    return index

  def _pack(self, latents, index):
    return bytes(self._at(index)[0])

  def _psnr(self, latents, index):
    self.made.append(index)
    return self._at(index)[1]

  def _at(self, index):
    return self.table[max(i for i in self.table if i <= index)]


def test_a_quality_that_is_kept_costs_one_coding(codec):
  made = Scripted(codec, {0: (100, 30.0)}, 5000)
  assert len(made.at_quality(32)) == 100
  assert made.made == [32] and made.notices == []


def test_a_small_fast_estimate_is_looked_at_again(codec):
  # A fast estimate of a pattern is far too large.
  made = Scripted(codec, {0: (100, 60.0)}, 90)
  made._estimate, made._fair_estimate = 50_000, 240
  assert made.at_quality(32) is made._exact


@pytest.mark.parametrize('exact', [99, 100])
def test_lossless_wins_at_the_same_bytes(codec, exact):
  made = Scripted(codec, {0: (100, 60.0)}, exact)
  assert made.at_quality(32) is made._exact
  [notice] = made.notices
  assert f'in {exact} bytes, where quality 3 takes 100' in notice


def test_where_the_network_fails_the_image_is_kept_losslessly(codec):
  made = Scripted(codec, {0: (100, 21.9)}, 5000)
  assert made.at_quality(32) is made._exact
  assert made.made == [32, 48, 64, 80]
  assert 'quality 3 the network reaches 21.9 dB, less than the 22.0 dB' in (
    made.notices[0]
  )


def test_or_at_a_higher_quality_that_keeps_what_was_promised(codec):
  table = {0: (100, 9.0), 48: (300, 21.9), 64: (400, 22.0)}
  made = Scripted(codec, table, 5000)
  assert len(made.at_quality(32)) == 400
  assert made.notices[0].startswith('coded at quality 5: at quality 3')
  made = Scripted(codec, table, 350)  # the lossless file is smaller
  assert made.at_quality(32) is made._exact


def test_a_target_that_the_lossless_file_meets(codec):
  made = Scripted(codec, {0: (50, 40.0)}, 100)
  assert made.within(100) is made._exact
  assert 'which the target allows' in made.notices[0]
  made = Scripted(codec, {0: (50, 40.0), 40: (120, 50.0)}, 101)
  assert len(made.within(100)) == 50 and made.notices == []
  made = Scripted(codec, {0: (500, 40.0)}, 300)
  with pytest.raises(rate_control.RateError, match='500 .* losslessly'):
    made.within(200)


def test_a_target_where_more_quality_is_worse(codec):
  made = Scripted(codec, {0: (50, 17.0), 16: (60, 19.0), 32: (70, 9.0)}, 5000)
  assert len(made.within(100)) == 60
  assert 'quality 2 and 19.0 dB, less than the 21.0 dB' in made.notices[0]


def test_a_psnr(codec):
  table = {0: (100, 25.0), 32: (200, 30.0), 64: (300, 35.0)}
  made = Scripted(codec, table, 5000)
  assert len(made.above(30)) == 200 and made.notices == []
  made = Scripted(codec, table, 150)
  assert made.above(30) is made._exact
  assert 'takes 200' in made.notices[0]
  made = Scripted(codec, table, 5000)
  assert made.above(36) is made._exact
  assert 'of 6 qualities that were tried has 35.00 dB' in made.notices[0]
  with pytest.raises(rate_control.RateError, match='35.00 dB, less than'):
    Scripted(codec, table, 5000, 'never').above(36)
  # The best quality has a lower PSNR.
  table[64] = (300, 5.0)
  made = Scripted(codec, table, 5000)
  assert len(made.above(28)) == 200


def test_the_lossless_file_may_be_too_large(codec):
  image = noise()
  with pytest.raises(rate_control.RateError, match='more than .* of 99'):
    codec.compress(image, target_bytes=99, lossless='always')
  board = checkerboard()
  exact = len(codec.compress(board))
  with pytest.raises(rate_control.RateError) as e:
    codec.compress(board, target_bytes=exact // 9)
  assert str(e.value).endswith(f'; losslessly it has {exact}.')
  assert codec.compress(board, target_bytes=exact) == codec.compress(board)
  assert header(codec.compress(image, min_psnr=90)).lossless


def test_the_promise_is_relative_to_what_the_model_expects(codec):
  made = encoder.Encoder(codec, noise(), None, 'auto')
  for index in (0, 32, 80):
    rmse = codec.rmse(bitstream.index_to_quality(index))
    expected = 20 * np.log10(2 / rmse)
    assert made.floor(index) == pytest.approx(expected - 9.5424, abs=1e-3)


def test_the_psnr_is_that_of_the_decoded_image(codec):
  for channels in (1, 3, 4):
    image = np.random.default_rng(0).integers(
      0, 256, (70, 33, channels), np.uint8
    )
    data = codec.compress(image, 2, lossless='never')
    decoded = codec.decompress(data, 'mse')
    colours = min(channels, 3)
    error = image[..., :colours].astype(float) - decoded[..., :colours]
    head = functools.partial(
      bitstream.Header, 33, 70, digest=b'abcd', grey=channels == 1
    )
    made = encoder.Encoder(codec, image, head, 'auto')
    expected = 10 * np.log10(255**2 / np.mean(error**2))
    assert made._code(16).psnr == pytest.approx(expected, abs=1e-9)
