"""The command gdc: files in, files out, one clear line for what is wrong."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gdc
from gdc import cli


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))


@pytest.fixture
def photo(tmp_path):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 255, (21, 34, 3), dtype=np.uint8)
  path = tmp_path / 'photo.png'
  Image.fromarray(pixels).save(path)
  return path


@pytest.fixture
def model(tiny_bundle_path):
  return ['--model', str(tiny_bundle_path)]


def run(*arguments):
  return cli.main([str(a) for a in arguments])


def test_there_and_back(photo, model, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  assert run('compress', photo, '-o', out, '--quality', 4, *model) == 0
  assert f'{out.stat().st_size:,} bytes' in capsys.readouterr().out
  for flags in (
    ['--decoder', 'mse'], ['--decoder', 'flow', '--steps', 2],
    ['--decoder', 'diffusion', '--steps', 2, '--seed', 7], [],
  ):
    assert run('decompress', out, '-o', back, '--force', *flags, *model) == 0
    with Image.open(back) as image:
      assert image.size == (34, 21)
  codec = gdc.load(model[1])
  # The last one ran with the defaults: flow, and the file's own seed.
  np.testing.assert_array_equal(
    np.asarray(Image.open(back)), codec.decompress(out.read_bytes(), 'flow')
  )


def test_default_outputs_stand_beside_the_inputs(photo, model):
  assert run('compress', photo, *model) == 0
  photo.unlink()
  assert run('decompress', photo.with_suffix('.gdc'), *model) == 0
  assert photo.exists()


def test_many_files_into_a_folder(photo, model, tmp_path):
  other = tmp_path / 'other.jpg'
  Image.new('RGB', (9, 5), 'red').save(other)
  out = tmp_path / 'out'
  assert run('compress', photo, other, '-o', out, *model) == 0
  assert sorted(p.name for p in out.iterdir()) == ['other.gdc', 'photo.gdc']
  back = tmp_path / 'back'
  assert run('decompress', *sorted(out.iterdir()), '-o', back, *model) == 0
  assert sorted(p.name for p in back.iterdir()) == ['other.png', 'photo.png']


def test_info(photo, model, tmp_path, capsys):
  out = tmp_path / 'a.gdc'
  run('compress', photo, '-o', out, '--quality', 2.5, *model)
  capsys.readouterr()
  assert run('info', out, '--json', *model) == 0
  record = json.loads(capsys.readouterr().out)
  assert record['bytes'] == out.stat().st_size
  assert (record['width'], record['height']) == (34, 21)
  assert record['quality'] == 2.5
  assert gdc.load(model[1]).digest.startswith(record['model_digest'])
  assert record['header_bytes'] + record['payload_bytes'] == record['bytes']
  assert abs(record['ideal_bytes'] - record['payload_bytes']) < 10
  assert run('info', out, *model) == 0
  assert '34' in capsys.readouterr().out


def test_rotation_transparency_and_grey(model, tmp_path, capsys):
  rotated = tmp_path / 'rotated.jpg'
  exif = Image.Exif()
  exif[0x0112] = 6  # rotate by 90 degrees
  Image.new('RGB', (40, 20)).save(rotated, exif=exif)
  grey = tmp_path / 'grey.png'
  Image.new('L', (8, 8), 99).save(grey)
  clear = tmp_path / 'clear.png'
  Image.new('RGBA', (16, 16), (0, 0, 0, 0)).save(clear)
  assert run('compress', rotated, grey, clear, '-o', tmp_path, *model) == 0
  assert 'transparency is not kept' in capsys.readouterr().err
  codec = gdc.load(model[1])
  shape = codec.decompress((tmp_path / 'rotated.gdc').read_bytes()).shape
  assert shape == (40, 20, 3)
  white = codec.compress(np.full((16, 16, 3), 255, np.uint8))
  assert (tmp_path / 'clear.gdc').read_bytes() == white


def test_sixteen_bits_are_scaled_not_clipped(model, tmp_path, capsys):
  wide = tmp_path / 'wide.png'
  Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)).save(wide)
  assert run('compress', wide, *model) == 0
  assert '16 bits' in capsys.readouterr().err
  grey = gdc.load(model[1]).compress(np.full((16, 16, 3), 128, np.uint8))
  assert (tmp_path / 'wide.gdc').read_bytes() == grey


def _fails(capsys, *arguments):
  """Runs a command that fails; returns its one line on standard error."""
  assert run(*arguments) == 1
  error = capsys.readouterr().err
  assert error.startswith('gdc: ') and error.count('\n') == 1
  return error


def test_existing_outputs_are_kept(photo, model, tmp_path, capsys):
  out = tmp_path / 'a.gdc'
  out.write_bytes(b'precious')
  assert '--force' in _fails(capsys, 'compress', photo, '-o', out, *model)
  assert out.read_bytes() == b'precious'
  assert run('compress', photo, '-o', out, '--force', *model) == 0
  assert out.read_bytes() != b'precious'


def test_errors_name_what_is_wrong(photo, model, tmp_path, capsys):
  out = tmp_path / 'a.gdc'
  missing = tmp_path / 'missing.png'
  assert 'missing.png' in _fails(capsys, 'compress', missing, '-o', out, *model)
  text = tmp_path / 'text.png'
  text.write_text('not a picture')
  assert 'text.png' in _fails(capsys, 'compress', text, '-o', out, *model)
  assert 'from 1 to 6, not 7.0' in _fails(
    capsys, 'compress', photo, '-o', out, '--quality', 7, *model
  )
  assert "'nowhere'" in _fails(
    capsys, 'compress', photo, '-o', out, '--model', 'nowhere'
  )
  run('compress', photo, '-o', out, *model)
  capsys.readouterr()
  assert '.xyz' in _fails(
    capsys, 'decompress', out, '-o', tmp_path / 'b.xyz', *model
  )
  assert 'own output' in _fails(
    capsys, 'decompress', out, '-o', out, '--force', *model
  )
  twin = tmp_path / 'sub' / 'photo.png'
  twin.parent.mkdir()
  twin.write_bytes(photo.read_bytes())
  assert 'Several inputs' in _fails(
    capsys, 'compress', photo, twin, '-o', tmp_path / 'out', *model
  )


def test_damaged_files_leave_no_output(photo, model, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  run('compress', photo, '-o', out, *model)
  capsys.readouterr()
  data = bytearray(out.read_bytes())
  data[len(data) // 2] ^= 16
  out.write_bytes(data)
  for command in (
    ['decompress', out, '-o', back, *model], ['info', out, *model]
  ):
    assert 'damaged' in _fails(capsys, *command)
  assert not back.exists()


def test_one_bad_input_does_not_stop_the_others(
  photo, model, tmp_path, capsys
):
  bad = tmp_path / 'bad.png'
  bad.write_bytes(b'nothing')
  out = tmp_path / 'out'
  assert run('compress', bad, photo, '-o', out, *model) == 1
  error = capsys.readouterr().err
  assert 'bad.png' in error and '1 of 2 failed' in error
  assert [p.name for p in out.iterdir()] == ['photo.gdc']


def test_links_are_followed_and_devices_are_left_alone(
  photo, model, tmp_path, capsys
):
  real, link = tmp_path / 'real.gdc', tmp_path / 'link.gdc'
  real.write_bytes(b'old')
  link.symlink_to(real)
  assert run('compress', photo, '-o', link, '--force', *model) == 0
  assert link.is_symlink() and real.read_bytes() != b'old'
  capsys.readouterr()
  assert 'can be replaced' in _fails(
    capsys, 'compress', photo, '-o', '/dev/null', '--force', *model
  )


def test_a_failed_write_leaves_nothing(photo, model, tmp_path, monkeypatch):
  out = tmp_path / 'out' / 'a.gdc'

  def fail(*args):
    raise OSError('disk full')
  monkeypatch.setattr(os, 'replace', fail)
  assert run('compress', photo, '-o', out, *model) == 1
  assert list(out.parent.iterdir()) == []


def test_wrong_arguments_exit_with_2():
  for arguments in (['compress'], ['nonsense'], ['decompress', 'a', '--x']):
    with pytest.raises(SystemExit) as e:
      run(*arguments)
    assert e.value.code == 2


def test_help_does_not_import_jax():
  script = (
    'import sys\nfrom gdc import cli\n'
    'try: cli.main(["compress", "--help"])\nexcept SystemExit: pass\n'
    'print("jax" in sys.modules)'
  )
  result = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )
  assert '--quality' in result.stdout
  assert result.stdout.splitlines()[-1] == 'False'
