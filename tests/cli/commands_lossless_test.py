"""Images that are not photographs, through the command and Pillow."""
import json

import numpy as np
import pytest
from PIL import Image

import gdc.pillow
from gdc.cli import commands, main
from gdc.codec import bitstream
from gdc.codec import codec as codec_lib


@pytest.fixture(autouse=True)
def codec(tiny_bundle, monkeypatch):
  made = codec_lib.Codec(tiny_bundle)
  monkeypatch.setattr(commands, '_load', lambda *_, **__: made)
  monkeypatch.setattr(gdc.pillow, '_codec', lambda _: made)
  return made


@pytest.fixture
def board(tmp_path):
  path = tmp_path / 'board.png'
  pixels = np.uint8(255 * (np.indices((64, 96)).sum(0) % 2))
  Image.fromarray(pixels).save(path)
  return path


def run(*arguments):
  assert main.main([str(a) for a in arguments]) == 0


def test_a_checkerboard_is_kept_with_a_notice(board, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  run('compress', board, '-o', out, '-q', 6)
  said = capsys.readouterr()
  size = out.stat().st_size
  assert size < board.stat().st_size
  assert said.err.startswith(f'gdc: {board}: kept losslessly in {size} bytes')
  assert said.out.endswith('bpp, lossless\n')
  run('info', out)
  said = capsys.readouterr().out
  assert 'lossless       yes\nformats        ' in said
  assert 'quality' not in said and 'model' not in said
  for flags in ([], ['--decoder', 'mse'], ['--decoder', 'flow', '--steps', 2]):
    run('decompress', out, '-o', back, '--force', *flags)
    assert capsys.readouterr().out.endswith('96 x 64, lossless\n')
    np.testing.assert_array_equal(Image.open(back), Image.open(board))


def test_records(board, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  run('compress', board, '-o', out, '--json')
  run('info', out, '--json')
  run('decompress', out, '-o', back, '--json')
  compress, info, decompress = map(
    json.loads, capsys.readouterr().out.splitlines()
  )
  for record in (compress, info, decompress):
    assert record['lossless'] is True and record['model'] is None
  assert compress['quality'] is compress['model_digest'] is None
  assert 'kept losslessly' in compress['notices'][0]
  assert info['quality'] is info['seed'] is info['ideal_bytes'] is None
  assert len(info['formats']) == 1
  assert decompress['decoder'] is decompress['seed'] is None


def test_lossless_may_be_refused_and_forced(board, tmp_path, capsys):
  out, photo = tmp_path / 'a.gdc', tmp_path / 'photo.png'
  run('compress', board, '-o', out, '--lossless', 'never')
  assert capsys.readouterr().err == ''
  assert not bitstream.unpack(out.read_bytes())[0].lossless
  pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), np.uint8)
  Image.fromarray(pixels).save(photo)
  options = '--lossless', 'always', '--force', '--seed', '3'
  run('compress', photo, '-o', out, *options)
  assert capsys.readouterr().err == ''
  run('info', out, '--json')
  assert json.loads(capsys.readouterr().out)['seed'] == 3
  back = tmp_path / 'b.png'
  run('decompress', out, '-o', back)
  np.testing.assert_array_equal(Image.open(back), pixels)


def test_pillow_reads_them_without_a_model(board, tmp_path, monkeypatch):
  path = tmp_path / 'a.gdc'
  image = Image.open(board)
  image.save(path)
  monkeypatch.setattr(gdc.pillow, '_codec', lambda _: 1 / 0)
  opened = Image.open(path)
  assert opened.mode == 'L' and opened.info['lossless'] is True
  assert 'quality' not in opened.info
  np.testing.assert_array_equal(opened, image)
