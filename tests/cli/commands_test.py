"""The commands of gdc: files in, files out, errors in one line."""
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

import gdc
from gdc import atomic
from gdc.cli import commands, files, main
from gdc.codec import bitstream, programs
from gdc.data import image_files

pytestmark = pytest.mark.usefixtures('by_the_network')

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'command_line.md'


@pytest.fixture(autouse=True, scope='module')
def _cache(tmp_path_factory):
  """Keeps programs in a folder of these tests, JAX's cache where it was."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('GDC_CACHE_DIR', str(tmp_path_factory.mktemp('cache')))
    patch.setenv(
      'JAX_COMPILATION_CACHE_DIR', jax.config.jax_compilation_cache_dir
    )
    patch.setattr(programs, '_folder', programs._folder)
    yield


@pytest.fixture(autouse=True)
def _load_once(codec, tiny_bundle_path, monkeypatch):
  """Loads the tiny model, and compiles its programs, once for all tests."""
  load = gdc.load

  def load_once(model, score_decoders=True):
    if model == str(tiny_bundle_path):
      return codec
    return load(model, score_decoders)
  monkeypatch.setattr(gdc, 'load', load_once)


@pytest.fixture(scope='module')
def codec(tiny_bundle_path):
  return gdc.load(str(tiny_bundle_path))


@pytest.fixture
def model(tiny_bundle_path):
  return ['--model', str(tiny_bundle_path)]


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def photo(tmp_path):
  path = tmp_path / 'photo.png'
  Image.fromarray(noise(21, 34, 3)).save(path)
  return path


def run(*arguments):
  return main.main([str(a) for a in arguments])


def records(capsys):
  """What a command printed as JSON Lines."""
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- Files in, files out ----------------------------------------------------


def test_there_and_back(photo, model, codec, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  assert run('compress', photo, '-o', out, '--quality', 4, *model) == 0
  assert capsys.readouterr().out == (
    f'{out}  34 x 21, {out.stat().st_size:,} bytes, '
    f'{8 * out.stat().st_size / 34 / 21:.3f} bpp, quality 4\n'
  )
  data = out.read_bytes()
  for flags, arguments in (
    (['--decoder', 'mse'], {'decoder': 'mse'}),
    (['--decoder', 'flow', '--steps', 2, '--realism', 0.25],
     {'decoder': 'flow', 'steps': 2, 'realism': 0.25}),
    (['--decoder', 'diffusion', '--steps', 2, '--seed', 7],
     {'decoder': 'diffusion', 'steps': 2, 'seed': 7}),
    (['--decoder', 'mse', '--region', '3,0,31,20'],
     {'decoder': 'mse', 'region': (3, 0, 31, 20)}),
    ([], {}),
  ):
    assert run('decompress', out, '-o', back, '--force', *flags, *model) == 0
    np.testing.assert_array_equal(
      np.asarray(Image.open(back)), codec.decompress(data, **arguments)
    )


def test_a_region_outside_of_the_image_is_refused(
  photo, model, tmp_path, capsys
):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  assert run('compress', photo, '-o', out, *model) == 0
  capsys.readouterr()
  assert run('decompress', out, '-o', back, '--region', '4,0,31,21', *model)
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and not back.exists()
  assert 'within the image of 34 x 21, not begin at 4, 0 with 31 x 21' in error


def test_default_outputs_are_beside_the_inputs(photo, model):
  assert run('compress', photo, *model) == 0
  photo.unlink()
  assert run('decompress', photo.with_suffix('.gdc'), *model) == 0
  assert photo.exists()


def test_folders_and_files(photo, model, tmp_path, capsys):
  (tmp_path / 'in' / 'sub').mkdir(parents=True)
  photo.rename(tmp_path / 'in' / 'sub' / 'photo.png')
  (tmp_path / 'in' / 'notes.txt').write_text('not an image')
  other = tmp_path / 'other.jpg'
  Image.new('RGB', (9, 5), 'red').save(other)
  out, back = tmp_path / 'out', tmp_path / 'back'
  assert run('compress', tmp_path / 'in', other, '-o', out, *model) == 0
  assert '1 file skipped, of other types' in capsys.readouterr().err
  made = sorted(p.relative_to(out).as_posix() for p in out.rglob('*.*'))
  assert made == ['other.gdc', 'sub/photo.gdc']
  (out / 'photo.txt').touch()
  assert run('decompress', out, '-o', back, '--format', 'webp', *model) == 0
  assert '1 file skipped, of other types' in capsys.readouterr().err
  made = sorted(p.relative_to(back).as_posix() for p in back.rglob('*.*'))
  assert made == ['other.webp', 'sub/photo.webp']


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


class _Pipe(io.TextIOWrapper):
  """Standard input or output that holds bytes."""

  def __init__(self, data=b''):
    super().__init__(io.BytesIO(data), write_through=True)


def test_standard_streams(photo, model, codec, monkeypatch, capsys):
  def pipe(data, *arguments):
    out = _Pipe()
    monkeypatch.setattr(sys, 'stdin', _Pipe(data))
    with contextlib.redirect_stdout(out):
      assert run(*arguments, *model) == 0
    return out.buffer.getvalue()

  expected = codec.compress(noise(21, 34, 3))
  assert pipe(photo.read_bytes(), 'compress', '-') == expected
  assert '-  34 x 21' in capsys.readouterr().err
  assert pipe(b'', 'compress', photo, '-o', '-', '--json') == expected
  assert json.loads(capsys.readouterr().err)['output'] == '-'
  for name, kind in (None, 'PNG'), ('jpg', 'JPEG'), ('tif', 'TIFF'):
    flags = ['--format', name] if name else []
    back = pipe(expected, 'decompress', '-', '--decoder', 'mse', *flags)
    assert Image.open(io.BytesIO(back)).format == kind
  assert pipe(expected, 'info', '-').startswith(b'input          -\n')


def test_score_decoders_are_loaded_only_if_needed(
  photo, model, tmp_path, monkeypatch
):
  asked = []

  def load(name, score_decoders):
    asked.append((name, score_decoders))
    raise files.CliError('enough')
  monkeypatch.setattr(gdc, 'load', load)
  file = tmp_path / 'a.gdc'
  file.touch()
  for command in (
    ['compress', photo], ['info', file], ['decompress', file, '--decoder',
    'mse'], ['decompress', file], ['decompress', file, '--decoder', 'flow'],
  ):
    assert run(*command, *model) == 1
  assert asked == [(model[1], s) for s in (False, False, False, True, True)]


# --- Rates, seeds -----------------------------------------------------------


def test_rate_control(photo, model, codec, tmp_path, capsys):
  out = tmp_path / 'a.gdc'

  def compress(*flags):
    assert run('compress', photo, '-o', out, '--force', *flags, *model) == 0
    return out.read_bytes()

  image = noise(21, 34, 3)
  sizes = [len(codec.compress(image, q)) for q in (1, 6)]
  between = sum(sizes) // 2
  assert sizes[0] < len(compress('--target-bytes', between)) <= between
  assert len(compress('--target-bytes', f'{between / 1000}k')) <= between
  bpp = 8 * between / 34 / 21
  assert len(compress('--target-bpp', bpp)) <= between
  lowest = codec.decompress(codec.compress(image, 1), 'mse')
  mse = np.square(lowest.astype(float) - image).mean()
  psnr = 10 * np.log10(255**2 / mse)
  assert compress('--min-psnr', psnr - 0.01) == codec.compress(
    image, min_psnr=psnr - 0.01
  )
  capsys.readouterr()
  for flags in (['--target-bytes', 10], ['--min-psnr', 99]):
    error = _fails(capsys, 'compress', photo, '-o', out, '--force', *flags,
                   *model)
    assert 'photo.png: ' in error and 'The ' in error
    assert str(flags[1]) in error


def test_a_seed_is_stored_and_used(photo, model, codec, tmp_path, capsys):
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  assert run('compress', photo, '-o', out, '--seed', 77, *model) == 0
  capsys.readouterr()
  assert run('info', out, '--json', *model) == 0
  record, = records(capsys)
  assert (record['seed'], record['seed_stored']) == (77, True)
  for flags, seed in ([], 77), (['--seed', 5], 5):
    assert run('decompress', out, '-o', back, '--force', '--json', *flags,
               *model) == 0
    assert records(capsys)[0]['seed'] == seed
    np.testing.assert_array_equal(
      Image.open(back), codec.decompress(out.read_bytes(), seed=seed)
    )


# --- What images hold -------------------------------------------------------


def test_orientation_alpha_and_grey(model, tmp_path, capsys):
  exif = Image.Exif()
  exif[0x0112] = 6  # rotate by 90 degrees
  Image.new('RGB', (40, 20)).save(tmp_path / 'turned.jpg', exif=exif)
  Image.fromarray(noise(8, 9)).save(tmp_path / 'grey.png')
  clear = noise(16, 17, 4)
  Image.fromarray(clear).save(tmp_path / 'clear.png')
  out = tmp_path / 'out'
  assert run('compress', tmp_path, '-o', out, '--json', *model) == 0
  assert [(r['input'].rpartition('/')[2], r['channels'])
          for r in records(capsys)] == [
    ('clear.png', 4), ('grey.png', 1), ('turned.jpg', 3),
  ]
  assert run('decompress', out, *model) == 0
  assert Image.open(out / 'turned.png').size == (20, 40)
  assert Image.open(out / 'grey.png').mode == 'L'
  back = np.asarray(Image.open(out / 'clear.png'))
  np.testing.assert_array_equal(back[..., 3], clear[..., 3])
  capsys.readouterr()
  assert run('decompress', out / 'clear.gdc', '--format', 'jpg', *model) == 0
  assert 'clear.gdc: JPEG holds no transparency' in capsys.readouterr().err


def test_profiles(photo, model, codec, rgb_profile, tmp_path, capsys):
  image = noise(21, 34, 3)
  Image.fromarray(image).save(photo, icc_profile=rgb_profile)
  out, back = tmp_path / 'a.gdc', tmp_path / 'b.png'
  assert run('compress', photo, '-o', out, *model) == 0
  assert out.read_bytes() == codec.compress(image, icc=rgb_profile)
  assert run('decompress', out, '-o', back, *model) == 0
  with Image.open(back) as opened:
    assert opened.info['icc_profile'] == rgb_profile
  capsys.readouterr()
  assert run('decompress', out, '-o', tmp_path / 'b.bmp', *model) == 0
  assert 'a.gdc: BMP holds no colour profile' in capsys.readouterr().err
  assert run('info', out, '--json', *model) == 0
  assert records(capsys)[0]['icc_bytes'] == len(rgb_profile)
  assert run('compress', photo, '-o', out, '--srgb', '--force', *model) == 0
  header, _, _ = bitstream.unpack(out.read_bytes())
  assert not header.icc
  assert out.read_bytes() != codec.compress(image)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'avif', 'tif'])
def test_camera_and_place_are_kept(suffix, model, tmp_path, capsys):
  exif = Image.Exif()
  exif.update({271: 'a camera', 272: 'its model', 274: 6})
  exif.get_ifd(ExifTags.IFD.Exif)[33434] = (1, 125)
  exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: 'N', 2: (47.0, 30.0, 15.5)})
  xmp = b'<x:xmpmeta tiff:Orientation="6" title="a place"/>'
  photo, out = tmp_path / 'photo.jpg', tmp_path / 'photo.gdc'
  back = tmp_path / f'back.{suffix}'
  Image.fromarray(noise(21, 34, 3)).save(photo, exif=exif, xmp=xmp)
  assert run('compress', photo, '--json', *model) == 0
  record, = records(capsys)
  assert record['exif_bytes'] == len(exif.tobytes()) - 6
  assert record['xmp_bytes'] == len(xmp) and not record['notices']
  assert run('info', out, '--json', *model) == 0
  found, = records(capsys)
  assert found['flags'] == 96
  for field in ('exif_bytes', 'xmp_bytes'):
    assert found[field] == record[field]
  assert run('decompress', out, '-o', back, '--json', *model) == 0
  assert not records(capsys)[0]['notices']
  with Image.open(back) as opened:
    kept = opened.getexif()
    assert opened.size == (21, 34) and kept.get(274, 1) == 1
    assert (kept[271], kept[272]) == ('a camera', 'its model')
    assert kept.get_ifd(ExifTags.IFD.Exif)[33434] == (1, 125)
    assert kept.get_ifd(ExifTags.IFD.GPSInfo) == {1: 'N', 2: (47, 30, 15.5)}
    assert opened.info['xmp'] == xmp.replace(b'6', b'1')
  stripped = tmp_path / 'stripped.gdc'
  assert run('compress', photo, '-o', stripped, '--strip', *model) == 0
  header, payload, _ = bitstream.unpack(stripped.read_bytes())
  assert header.flags == 0
  assert payload == bitstream.unpack(out.read_bytes())[1]


def test_metadata_that_a_format_does_not_hold(photo, model, codec, tmp_path,
                                              capsys):
  exif = Image.Exif()
  exif.update({271: 'a camera', 37510: bytes(66_000)})
  image, out = noise(21, 34, 3), tmp_path / 'a.gdc'
  out.write_bytes(codec.compress(image, exif=exif.tobytes(), xmp=b'<x/>'))
  for suffix, said in (
    ('bmp', ['BMP holds no EXIF', 'BMP holds no XMP']),
    ('jpg', ['JPEG holds at most 65,527 bytes of EXIF; the 66,0']),
    ('png', []),
  ):
    back = tmp_path / f'a.{suffix}'
    assert run('decompress', out, '-o', back, '--json', *model) == 0
    record, = records(capsys)
    assert [n[:len(s)] for n, s in zip(record['notices'], said, strict=True)
            ] == said
    assert (record['exif_bytes'] > 0) == (suffix == 'png')
    assert record['xmp_bytes'] == (0 if suffix == 'bmp' else 4)
    assert Image.open(back).size == (34, 21)


def test_a_stored_profile_of_other_colours_is_left_out(
  model, codec, rgb_profile, tmp_path, capsys
):
  header, payload, _ = bitstream.unpack(codec.compress(noise(16, 16, 1)))
  header = dataclasses.replace(header, icc=rgb_profile)
  wrong, back = tmp_path / 'a.gdc', tmp_path / 'a.png'
  wrong.write_bytes(bitstream.pack(header, payload))
  assert run('decompress', wrong, '--decoder', 'mse', *model) == 0
  assert 'it is of RGB colours, the image is GRAY' in capsys.readouterr().err
  assert 'icc_profile' not in Image.open(back).info
  assert run('compress', back, '-o', tmp_path / 'b.gdc', *model) == 0


def test_16_bits_are_scaled_with_a_notice(model, codec, tmp_path,
                                                  capsys):
  wide = tmp_path / 'wide.png'
  Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)).save(wide)
  assert run('compress', wide, *model) == 0
  assert '16 bits' in capsys.readouterr().err
  grey = codec.compress(np.full((16, 16, 1), 128, np.uint8))
  assert (tmp_path / 'wide.gdc').read_bytes() == grey


# --- info, JSON -------------------------------------------------------------


def test_info(photo, model, codec, tmp_path, capsys):
  out = tmp_path / 'a.gdc'
  run('compress', photo, '-o', out, '--quality', 2.5, *model)
  capsys.readouterr()
  assert run('info', out, '--json', *model) == 0
  record, = records(capsys)
  size = out.stat().st_size
  ideal = record.pop('ideal_bytes')
  assert record == {
    'input': str(out), 'version': 1, 'flags': 0, 'width': 34, 'height': 21,
    'channels': 3, 'grey': False, 'alpha': False, 'icc_bytes': 0,
    'exif_bytes': 0, 'xmp_bytes': 0,
    'lossless': False, 'formats': None, 'quality': 2.5,
    'seed': bitstream.unpack(out.read_bytes())[2],
    'seed_stored': False, 'model_digest': codec.digest[:8], 'model': 'tiny',
    'bytes': size, 'bpp': 8 * size / 34 / 21, 'payload_bytes': size - 16,
    'header_bytes': 16,
  }
  assert abs(ideal - record['payload_bytes']) < 10
  assert run('info', out, out, *model) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 * 22
  assert lines[21].split() == ['ideal_bytes', f'{ideal:.6g}']


def test_info_of_a_file_of_another_model(photo, tmp_path, model, capsys):
  out = tmp_path / 'a.gdc'
  run('compress', photo, '-o', out, *model)
  capsys.readouterr()
  assert run('info', out, '--json') == 0  # the default model is another one
  record, = records(capsys)
  assert record['width'] == 34
  assert record['model'] is None and record['ideal_bytes'] is None
  assert run('info', out) == 0
  assert 'ideal_bytes' not in capsys.readouterr().out


def test_json_includes_errors(photo, model, tmp_path, capsys):
  bad = tmp_path / 'bad.png'
  bad.write_bytes(b'nothing')
  out = tmp_path / 'out'
  assert run('compress', bad, photo, '-o', out, '--json', *model) == 1
  first, second = records(capsys)
  assert set(first) == {'input', 'error'} and first['input'] == str(bad)
  assert second['output'] == str(out / 'photo.gdc')
  assert run('compress', 'missing', '--json', *model) == 1
  record, = records(capsys)
  assert record == {'input': None, 'error': 'missing: no such file or folder.'}
  assert run('info', bad, '--json', *model) == 1
  assert 'not a gdc file' in records(capsys)[0]['error']


def test_the_docs_name_every_field(photo, model, capsys):
  sections = re.split(r'\n##+ ', PAGE.read_text())
  run('compress', photo, '--json', *model)
  file = photo.with_suffix('.gdc')
  run('decompress', file, '--force', '--json', *model)
  run('info', file, '--json', *model)
  for record, command in zip(
    records(capsys), ('compress', 'decompress', 'info'), strict=True
  ):
    section, = (s for s in sections if s.startswith(f'Fields of {command}'))
    assert re.findall(r'^\| `(\w+)`', section, re.M) == list(record)


# --- What is wrong ----------------------------------------------------------


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
  text.write_text('not an image')
  assert 'text.png' in _fails(capsys, 'compress', text, '-o', out, *model)
  assert "'nowhere'" in _fails(
    capsys, 'compress', photo, '-o', out, '--model', 'nowhere'
  )
  run('compress', photo, '-o', out, *model)
  capsys.readouterr()
  assert 'compressed already' in _fails(capsys, 'compress', out, *model)
  assert '.xyz' in _fails(
    capsys, 'decompress', out, '-o', tmp_path / 'b.xyz', *model
  )
  assert '--format png' in _fails(
    capsys, 'decompress', out, '-o', 'b.jpg', '--format', 'png', *model
  )
  assert 'a.gdc: This file was made with model' in _fails(
    capsys, 'decompress', out, '-o', tmp_path / 'b.png'
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
    assert 'a.gdc: damaged' in _fails(capsys, *command)
  assert not back.exists()


@pytest.mark.parametrize('where, name', [
  (commands, '_load'), (atomic.os, 'link'), (atomic, '_link'),
])
def test_interruption(photo, model, monkeypatch, where, name):
  def interrupt(*arguments, **options):
    raise KeyboardInterrupt
  monkeypatch.setattr(where, name, interrupt)
  with pytest.raises(KeyboardInterrupt):
    run('compress', photo, *model)
  assert [p.name for p in photo.parent.iterdir()] == [photo.name]


def test_an_output_named_like_an_image_is_refused(
  photo, model, tmp_path, capsys
):
  other = tmp_path / 'other.JPG'
  other.write_bytes(b'mine')
  assert 'other.JPG: the output needs the suffix .gdc' in _fails(
    capsys, 'compress', photo, '-o', other, '--force', *model
  )
  assert other.read_bytes() == b'mine'


def test_options_that_fit_no_file_are_refused_once_and_first(
  photo, model, codec, tmp_path, monkeypatch, capsys
):
  out = tmp_path / 'a.gdc'
  run('compress', photo, '-o', out, *model)
  capsys.readouterr()

  def never(*arguments, **options):
    raise AssertionError('nothing is to be decoded')
  monkeypatch.setattr(type(codec), 'decompress', never)
  monkeypatch.setattr(codec, 'decoders', ('mse', 'flow'))
  said = _fails(
    capsys, 'decompress', out, '-o', tmp_path / 'b.png', '--decoder',
    'diffusion', *model,
  )
  assert 'has no decoder' in said and 'a.gdc' not in said
  monkeypatch.setattr(image_files, '_MAX_SIDE', {'WEBP': 20})
  assert 'a.gdc: 34 x 21 pixels are more than WEBP holds, 20 a side' in _fails(
    capsys, 'decompress', out, '-o', tmp_path / 'b.webp', *model
  )


def test_memory_that_runs_out_is_one_line(photo, model, monkeypatch, capsys):
  def fail(*arguments, **options):
    raise MemoryError('Unable to allocate 9 TiB')
  monkeypatch.setattr(type(commands._load(model[1])), 'compress', fail)
  assert 'photo.png: Unable to allocate' in _fails(
    capsys, 'compress', photo, *model
  )


# --- The other commands -----------------------------------------------------


def test_compare(photo, model, tmp_path, monkeypatch, capsys):
  from gdc.evaluation import showcase
  asked = []

  def make(codec, image, quality=3.0, crop=None, whole=False, **targets):
    asked.append((image, quality, crop, targets))
    return Image.new('RGB', (5, 4), 'red')
  monkeypatch.setattr(showcase, 'make', make)
  assert run('compare', photo, '-q', 2, *model) == 0
  assert Image.open(tmp_path / 'photo-compare.png').size == (5, 4)
  np.testing.assert_array_equal(asked[0][0], noise(21, 34, 3))
  assert asked[0][1:] == (2, None, {})
  capsys.readouterr()
  assert '--force' in _fails(capsys, 'compare', photo, *model)
  out = tmp_path / 'page.jpg'
  assert run('compare', photo, '-o', out, '--crop', '1,2,9,8',
             '--target-bytes', 900, *model) == 0
  assert Image.open(out).format == 'JPEG'
  assert asked[1][2:] == ((1, 2, 9, 8), {'target_bytes': 900})
  assert '.gdc' in _fails(
    capsys, 'compare', photo, '-o', tmp_path / 'a.gdc', *model
  )


def test_eval(photo, model, tmp_path, capsys):
  out = tmp_path / 'out'
  Image.open(photo).save(tmp_path / 'photo.ppm')  # told apart by suffix
  odd = os.fsdecode(b'a\xff\n<b>')
  (tmp_path / f'{odd}.png').write_bytes(photo.read_bytes())
  arguments = [
    'eval', tmp_path, '--out', out, '--qualities', '1,2.5', '--measures',
    'psnr', '--codecs', 'gdc:mse,jpeg', '--equal-bytes', '2.5', *model,
  ]
  assert run(*arguments) == 0
  printed = capsys.readouterr().out
  assert 'gdc:mse' in printed and 'jpeg=gdc' in printed
  assert str(out / 'page.html') in printed
  assert sorted(p.name for p in out.glob('*.json')) == [
    'bd.json', 'gdc-tiny-mse.json', 'index.json', 'jpeg.json',
    'jpeg=gdc.json',
  ]
  command = json.loads((out / 'jpeg.json').read_text())['meta']['command']
  assert command.startswith('gdc eval ') and str(tmp_path) not in command
  rows = json.loads((out / 'jpeg.json').read_text())['images']
  assert {row['name'] for row in rows} == {'photo.png', 'photo.ppm', odd}

  # A part of the images, and then all of them.
  share = [*arguments, '--out', tmp_path / 'parts']
  assert run(*share, '--shard', '1/2') == 0
  assert not list((tmp_path / 'parts').glob('*.json'))
  assert 'Part 1 of 2' in capsys.readouterr().out
  capsys.readouterr()
  # Images that cannot be read are named and counted.
  bad = tmp_path / 'bad.png'
  bad.write_bytes(photo.read_bytes()[:1000])
  os.mkfifo(tmp_path / 'pipe.png')
  assert run(*share) == 1
  said = capsys.readouterr().err
  assert f'gdc: {tmp_path}/pipe.png: is a named pipe.\n' in said
  assert f'gdc: {bad} is a damaged PNG file' in said
  assert '2 left out, 3 images are evaluated' in said
  assert len(list((tmp_path / 'parts').glob('*.json'))) == 5


def test_a_backend_that_is_missing(photo, model, monkeypatch, capsys):
  def fail():
    raise AssertionError
  monkeypatch.setattr(jax, 'devices', fail)
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  for command in ['compress', photo], ['info', photo], ['eval', photo.parent,
                                                        '--out', 'out']:
    said = _fails(capsys, *command, *model)
    assert said.startswith("gdc: JAX_PLATFORMS is 'cuda', for which this JAX ")
  assert run('compress', photo, '--json', *model) == 1
  record, = records(capsys)
  assert record['input'] is None and "'cuda'" in record['error']


def test_stopped_jobs_continue(photo, model, tmp_path, monkeypatch, capsys):
  Image.open(photo).save(tmp_path / 'photo.bmp')
  out = tmp_path / 'out'
  assert '--keep-suffix' in _fails(capsys, 'compress', tmp_path, *model)
  arguments = ['compress', tmp_path, '-o', out, '--keep-suffix', *model]
  assert run(*arguments) == 0
  (out / 'photo.png.gdc').unlink()
  before = (out / 'photo.bmp.gdc').stat()
  assert '--skip-existing' in _fails(capsys, *arguments)
  assert run(*arguments, '--skip-existing', '--json') == 0
  first, second = records(capsys)
  assert first == {
    'input': str(tmp_path / 'photo.bmp'), 'output': str(out / 'photo.bmp.gdc'),
    'skipped': True,
  }
  assert second['output'] == str(out / 'photo.png.gdc')
  assert (out / 'photo.bmp.gdc').stat() == before
  monkeypatch.setattr(commands, '_load', None)  # nothing is left to do
  assert run(*arguments, '--skip-existing') == 0


@pytest.mark.parametrize('arguments, words', [
  (['--codecs', 'gif'], "not 'gif'"),
  (['--codecs', 'gdc:mse,jpeg', '--anchor', 'webp'], "'webp'"),
  (['--equal-bytes', '2', '--qualities', '1'], 'at quality 2'),
  (['--reference', 'nowhere.json'], 'nowhere.json'),
  (['--inception', 'nowhere.pth'], 'nowhere.pth'),
  (['--codecs', 'gdc:gan'], "'gan'"),
  (['--measures', 'psnr,ssim'], "'ssim'"),
  (['--codecs', 'gdc:mse', '--qualities', '1,9'], 'from 1 to 6, not 9'),
])
def test_eval_refuses_before_it_measures(
  photo, model, tmp_path, capsys, arguments, words
):
  out = tmp_path / 'out'
  said = _fails(capsys, 'eval', tmp_path, '--out', out, *model, *arguments)
  assert words in said
  assert not out.exists()


def test_the_range_of_qualities_is_asked_of_the_model(photo, model, capsys):
  for quality in (0.99, 6.01, 'nan'):
    assert f'quality must be from 1 to 6, not {quality}' in _fails(
      capsys, 'compress', photo, '-q', quality, *model
    )
