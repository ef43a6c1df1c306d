"""Compiled programs: stored, loaded again, and checked."""
import concurrent.futures
import gc
import hashlib
import os
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from gdc.codec import programs


@pytest.fixture
def folder(tmp_path, monkeypatch):
  tmp_path.chmod(0o700)
  monkeypatch.setattr(programs, '_folder', tmp_path)
  monkeypatch.setattr(programs, '_in_use', {})
  return tmp_path


def _build(record=0, calls=None, dtype=np.float32):
  """Builds a program as another process would: none is in use."""
  programs._in_use.clear()

  def make():
    if calls is not None:
      calls.append(record)
    return lambda tree, x: tree['a'] * x + record
  shape = jax.ShapeDtypeStruct((3,), dtype)
  return programs.build('test', make, ({'a': shape}, shape), record)


X = np.arange(3, dtype=np.float32)


def test_the_second_time_nothing_is_made(folder):
  calls = []
  for _ in range(2):
    program = _build(calls=calls)
    np.testing.assert_array_equal(program({'a': X}, X), X * X)
  assert calls == [0]
  assert len(list(folder.iterdir())) == 1


def test_what_jax_has_in_its_own_cache_is_stored_whole(folder):
  """Runs in separate processes, as a program's code may linger in one."""
  script = (
    'import sys, jax, numpy\n'
    'from gdc.codec import programs\n'
    'programs.keep(sys.argv[1])\n'
    'jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)\n'
    'jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)\n'
    'def new():\n'
    '  return lambda x: jax.numpy.sin(x @ x.T).sum(0) * 2\n'
    'x = numpy.ones((9, 9), "f4")\n'
    'jax.jit(new())(x)\n'
    'made = []\n'
    'make = lambda: made.append(1) or new()\n'
    'print(programs.build("test", make, (x,), 0)(x).sum(), len(made))'
  )
  runs = []
  for delete in (False, True, False):
    if delete:
      for path in (folder / 'programs').iterdir():
        path.unlink()
    done = subprocess.run(
      [sys.executable, '-c', script, str(folder)], capture_output=True,
      text=True, check=True,
      env=os.environ | {'PYTHONPATH': ':'.join(p for p in sys.path if p)},
    )
    runs.append(done.stdout.split())
  assert [made for _, made in runs] == ['1', '1', '0']
  assert len({value for value, _ in runs}) == 1


def test_another_record_or_argument_is_another_program(folder):
  calls = []
  for record, dtype in ((0, np.float32), (1, np.float32), (0, np.int32)):
    x = X.astype(dtype)
    program = _build(record, calls, dtype)
    np.testing.assert_array_equal(program({'a': x}, x), x * x + record)
  assert calls == [0, 1, 0]


def test_another_machine_or_version_is_another_program(folder, monkeypatch):
  calls = []
  _build(calls=calls)
  machine = list(programs._machine())
  for i in range(len(machine)):
    other = [*machine[:i], machine[i] + '?', *machine[i + 1:]]
    monkeypatch.setattr(programs, '_machine', lambda other=other: other)
    _build(calls=calls)
  assert len(calls) == 1 + len(machine)


def test_settings_of_jax_make_no_other_program(folder):
  """Programs are traced and compiled under the default settings."""
  calls = []
  for setting in (jax.enable_x64(True), jax.threefry_partitionable(False)):
    with setting:
      _build(calls=calls)
  assert calls == [0]


def test_a_program_in_use_serves_all_threads(monkeypatch):
  """Eight threads compile once; without users the program is freed."""
  monkeypatch.setattr(programs, '_folder', None)
  compile_, calls = programs._compile, []
  monkeypatch.setattr(
    programs, '_compile', lambda *a: calls.append(a) or compile_(*a)
  )
  start = threading.Barrier(8)
  shape = jax.ShapeDtypeStruct((3,), np.float32)

  def build(_):
    start.wait()
    return programs.build('test', lambda: lambda x: x * 2, (shape,), 'threads')

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(build, range(8)))
  assert len(calls) == 1 and len(set(map(id, found))) == 1
  np.testing.assert_array_equal(found[0](X), 2 * X)
  del found
  gc.collect()
  assert not any('threads' in key for key in programs._in_use)


def test_one_byte_of_source_is_another_source(tmp_path):
  package = shutil.copytree(
    programs._PACKAGE, tmp_path / 'gdc',
    ignore=shutil.ignore_patterns('pretrained', 'photos', '__pycache__'),
  )
  source = programs._source(programs._PACKAGE)
  assert source in programs._machine()
  assert programs._source(package) == source
  for name in ('models/layers.py', 'decoders/flow.py', 'codec/networks.py'):
    with open(package / name, 'a') as f:
      f.write('#')
    assert programs._source(package) != source
    source = programs._source(package)


def test_a_folder_that_others_can_write_to_is_not_used(folder):
  calls = []
  _build(calls=calls)
  folder.chmod(0o777)
  _build(calls=calls)
  assert len(calls) == 2 and len(list(folder.iterdir())) == 1
  folder.chmod(0o700)
  _build(calls=calls)
  assert len(calls) == 2


def test_a_full_disk_is_no_error_and_leaves_nothing(folder, monkeypatch):
  def full(*_):
    raise OSError('No space left on device')
  monkeypatch.setattr(programs.os, 'replace', full)
  np.testing.assert_array_equal(_build()({'a': X}, X), X * X)
  assert not list(folder.iterdir())


def test_the_oldest_programs_go(folder, monkeypatch):
  monkeypatch.setattr(programs, '_MOST_PROGRAMS', 2)
  _build(1)
  first, = folder.iterdir()
  os.utime(first, (1, 1))
  _build(2)
  _build(1)  # used: it is no longer the oldest
  for path in {*folder.iterdir()} - {first}:
    os.utime(path, (2, 2))
  _build(3)
  assert len(list(folder.iterdir())) == 2 and first.exists()


def test_what_jax_keeps_is_ours_alone_and_bounded(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setattr(programs, '_folder', None)
  monkeypatch.setattr(programs, '_MOST_OF_JAX', 2)
  before, own = jax.config.jax_compilation_cache_dir, tmp_path / 'xla'
  try:
    own.mkdir()
    own.chmod(0o777)  # somebody's: what is read there can run code
    programs.keep(tmp_path)
    assert jax.config.jax_compilation_cache_dir == before
    own.chmod(0o775)  # as jax makes it for those who share with a group
    (own / 'folder').mkdir()  # of jax's, too
    programs.keep(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(own)
    assert own.stat().st_mode & 0o777 == 0o700
    for i in range(4):
      (own / f'{i}').write_text('')
      os.utime(own / f'{i}', (i, i))
    programs.keep(tmp_path)
    assert sorted(p.name for p in own.iterdir()) == ['2', '3', 'folder']
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


@pytest.mark.parametrize('damage', ['flip', 'cut', 'empty', 'pickle'])
def test_a_damaged_file_is_made_again(folder, damage):
  calls = []
  _build(calls=calls)
  path, = folder.iterdir()
  data = path.read_bytes()
  if damage == 'flip':
    data = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
  elif damage == 'cut':
    data = data[:100]
  elif damage == 'empty':
    data = b''
  else:
    data = hashlib.sha256(b'junk').digest() + b'junk'
  path.write_bytes(data)
  program = _build(calls=calls)
  np.testing.assert_array_equal(program({'a': X}, X), X * X)
  assert len(calls) == 2
  _build(calls=calls)
  assert len(calls) == 2


def test_a_stored_program_that_does_not_run_is_made_again(folder, monkeypatch):
  calls = []
  _build(calls=calls)

  def broken(*_):
    raise RuntimeError('Function fusion not found')
  monkeypatch.setattr(
    programs, '_read', lambda *_: broken
  )
  program = _build(calls=calls)
  for _ in range(2):
    np.testing.assert_array_equal(program({'a': X}, X), X * X)
  assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(programs, '_folder', tmp_path / 'file' / 'x')
  program = _build()
  np.testing.assert_array_equal(program({'a': X}, X), X * X)


def test_programs_are_kept_where_the_environment_says(monkeypatch):
  monkeypatch.setenv('HOME', '/somewhere')
  for name in ('GDC_CACHE_DIR', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  assert programs._default_folder() == '/somewhere/.cache/gdc'
  monkeypatch.setenv('XDG_CACHE_HOME', '~/x')
  assert programs._default_folder() == '/somewhere/x/gdc'
  for value, folder in (('~/y', '/somewhere/y'), ('z', 'z'), ('', '')):
    monkeypatch.setenv('GDC_CACHE_DIR', value)
    assert programs._default_folder() == folder
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)  # no home
  monkeypatch.setenv('GDC_CACHE_DIR', '~/y')
  assert programs._default_folder() == ''


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
  monkeypatch.setattr(programs, '_folder', None)
  monkeypatch.chdir(tmp_path)
  calls = []
  _build(calls=calls), _build(calls=calls)
  assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_a_second_run_needs_no_network_code(tiny_bundle_path, tmp_path):
  """The command's speed depends on it: no flax, no tracing, the same bytes."""
  script = (
    'import sys, numpy, gdc\n'
    'from gdc.codec import programs\n'
    'programs.keep()\n'
    'c = gdc.load(sys.argv[1])\n'
    'x = numpy.arange(1200, dtype="u1").reshape(20, 20, 3) * 7\n'
    'd = c.compress(x, lossless="never")\n'
    'p = c.decompress(d, "flow", steps=2)\n'
    'print(d.hex(), p.sum(), "flax" in sys.modules)'
  )
  environment = os.environ | {
    'GDC_CACHE_DIR': str(tmp_path),
    'PYTHONPATH': ':'.join(p for p in sys.path if p),
  }
  first, second = (
    subprocess.run(
      [sys.executable, '-c', script, str(tiny_bundle_path)],
      env=environment, capture_output=True, check=True, text=True,
    ).stdout.split()
    for _ in range(2)
  )
  assert first[:2] == second[:2]
  assert (first[2], second[2]) == ('True', 'False')
