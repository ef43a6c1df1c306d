"""The command as a process: signals at any moment, and its streams."""
import os
import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, '-m', 'gdc']
SIGNALS = {
  signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated',
  signal.SIGHUP: 'hung up',
}


def _start(code, *arguments, **options):
  """Starts a process that runs some code with the command's signals."""
  code = (
    'import sys, time\nimport gdc.__main__\ngdc.__main__.end_on_signals()\n'
    + code
  )
  return subprocess.Popen(
    [sys.executable, '-c', code, *arguments], text=True,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
  )


def _run(*arguments, shell):
  """Runs gdc with redirections of a shell."""
  return subprocess.run(
    ['bash', '-c', f'"$@" {shell}', 'bash', *COMMAND, *arguments],
    capture_output=True, text=True, check=False,
  )


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_leaves_nothing_behind(number, tmp_path):
  process = _start("""
import pathlib
from gdc import atomic
with atomic.replaced(pathlib.Path(sys.argv[1])) as temporary:
  temporary.write_text('half')
  try:
    print('written', flush=True)
    time.sleep(600)
  except BaseException:
    print('signals must not raise exceptions', flush=True)
""", str(tmp_path / 'a'))
  process.stdout.readline()
  assert len(os.listdir(tmp_path)) == 1
  process.send_signal(number)
  said = process.communicate(timeout=60)
  assert said == ('', f'gdc: {SIGNALS[number]}\n')
  assert process.returncode == 128 + number
  assert not os.listdir(tmp_path)


def test_a_signal_ends_a_library_call():
  process = _start("""
import ctypes
lock = ctypes.CDLL(None).pthread_mutex_lock
mutex = ctypes.create_string_buffer(64)
lock(mutex)
print('now', flush=True)
lock(mutex)
""")
  process.stdout.readline()
  process.send_signal(signal.SIGINT)
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=60)[1] == 'gdc: interrupted\n'
  assert process.returncode == 130


def test_ignored_signals_stay_ignored():
  """As with nohup and background jobs of a shell."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited
  try:
    process = _start("""
print('now', flush=True)
time.sleep(0.2)
print('done')
""")
  finally:
    signal.signal(signal.SIGHUP, before)
  process.stdout.readline()
  process.send_signal(signal.SIGHUP)
  assert process.communicate(timeout=60) == ('done\n', '')


# --- Streams ----------------------------------------------------------------


@pytest.mark.parametrize('arguments', [
  ['--version'], ['compress', '--help'], ['completion', 'bash'],
])
def test_a_full_disk_is_an_error(arguments):
  done = _run(*arguments, shell='>/dev/full')
  assert done.returncode == 1
  assert done.stderr == 'gdc: standard output: No space left on device\n'


def test_closed_streams():
  done = _run('info', 'missing', shell='>&-')
  assert done.returncode == 1
  assert done.stderr == 'gdc: missing: no such file or folder.\n'
  done = _run('info', 'missing', '--json', shell='2>&-')
  assert done.returncode == 1
  assert done.stdout == (
    '{"input": "missing", "error": "missing: no such file or folder."}\n'
  )
  # If errors cannot be printed, there is still the exit status.
  assert _run('info', 'missing', shell='2>/dev/full').returncode == 1
  assert _run('info', 'missing', '--json', shell='>/dev/full').stderr == (
    'gdc: missing: no such file or folder.\n'
  )


def test_a_broken_jax_is_one_line(tmp_path):
  (tmp_path / 'jax.py').write_text('raise AttributeError("of another version")')
  (tmp_path / 'a.png').touch()
  done = subprocess.run(
    [*COMMAND, 'compress', tmp_path / 'a.png', '--json'], capture_output=True,
    text=True, check=False, env={**os.environ, 'PYTHONPATH': str(tmp_path)},
  )
  assert done.returncode == 1 and not done.stderr
  assert done.stdout.startswith(
    '{"input": null, "error": "JAX cannot be imported (AttributeError: of '
  )


def test_a_failing_jax_plugin_is_one_line(tmp_path):
  plugin = tmp_path / 'jax_plugins' / 'gpu' / '__init__.py'
  plugin.parent.mkdir(parents=True)
  plugin.write_text('def initialize():\n  raise RuntimeError("no such chip")')
  (tmp_path / 'a.png').touch()
  done = subprocess.run(
    [*COMMAND, 'compress', tmp_path / 'a.png', '--model', 'nowhere'],
    capture_output=True, text=True, check=False,
    env={**os.environ, 'PYTHONPATH': str(tmp_path), 'JAX_PLATFORMS': 'cpu'},
  )
  first, last = done.stderr.splitlines()
  assert first.endswith('jax_plugins.gpu.initialize(): no such chip')
  assert last.startswith("gdc: No model 'nowhere'")
