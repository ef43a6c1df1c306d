"""Compiled programs: kept, found again, and never trusted blindly."""
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from gdc.codec import programs


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(programs, '_folder', tmp_path)
  return tmp_path


def _build(record=0, calls=None, dtype=np.float32):
  def make():
    if calls is not None:
      calls.append(record)
    return lambda tree, x: tree['a'] * x + record, {'halo': 5}
  shape = jax.ShapeDtypeStruct((3,), dtype)
  return programs.build('test', make, ({'a': shape}, shape), record)


X = np.arange(3, dtype=np.float32)


def test_the_second_time_nothing_is_made(folder):
  calls = []
  for _ in range(2):
    program = _build(calls=calls)
    np.testing.assert_array_equal(program.run({'a': X}, X), X * X)
    assert program.facts == {'halo': 5}
  assert calls == [0]
  assert len(list(folder.iterdir())) == 1


def test_what_jax_has_in_its_own_cache_is_stored_whole(folder):
  """In processes of their own: the code of a program may linger in one."""
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
    'make = lambda: made.append(1) or (new(), {})\n'
    'print(programs.build("test", make, (x,), 0).run(x).sum(), len(made))'
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
    np.testing.assert_array_equal(program.run({'a': x}, x), x * x + record)
  assert calls == [0, 1, 0]


def test_another_source_machine_or_version_is_another_program(
  folder, monkeypatch
):
  calls = []
  _build(calls=calls)
  machine = list(programs._machine())
  for i in range(len(machine)):
    other = [*machine[:i], machine[i] + '?', *machine[i + 1:]]
    monkeypatch.setattr(programs, '_machine', lambda other=other: other)
    _build(calls=calls)
  assert len(calls) == 1 + len(machine)


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
    import hashlib
    data = hashlib.sha256(b'junk').digest() + b'junk'
  path.write_bytes(data)
  program = _build(calls=calls)
  np.testing.assert_array_equal(program.run({'a': X}, X), X * X)
  assert len(calls) == 2
  _build(calls=calls)
  assert len(calls) == 2


def test_a_stored_program_that_does_not_run_is_made_again(folder, monkeypatch):
  calls = []
  _build(calls=calls)

  def broken(*_):
    raise RuntimeError('Function fusion not found')
  monkeypatch.setattr(
    programs, '_read', lambda *_: programs.Program(broken, {'halo': 5})
  )
  program = _build(calls=calls)
  for _ in range(2):
    np.testing.assert_array_equal(program.run({'a': X}, X), X * X)
  assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(programs, '_folder', tmp_path / 'file' / 'x')
  program = _build()
  np.testing.assert_array_equal(program.run({'a': X}, X), X * X)


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
  monkeypatch.setattr(programs, '_folder', None)
  monkeypatch.chdir(tmp_path)
  calls = []
  _build(calls=calls), _build(calls=calls)
  assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_a_second_run_needs_no_network_code(tiny_bundle_path, tmp_path):
  """What the command's speed rests on: no flax, no tracing, the same bytes."""
  script = (
    'import sys, numpy, gdc\n'
    'from gdc.codec import programs\n'
    'programs.keep()\n'
    'c = gdc.load(sys.argv[1])\n'
    'd = c.compress(numpy.arange(1200, dtype="u1").reshape(20, 20, 3) * 7)\n'
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
