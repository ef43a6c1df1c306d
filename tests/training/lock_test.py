import os
import socket
import subprocess
import sys

import pytest

from gdc.training import lock

_HOLD = (
  'import sys\nfrom gdc.training import lock\n'
  'with lock.held(sys.argv[1]):\n  print("held", flush=True)\n  input()'
)


def test_one_process_at_a_time(tmp_path):
  workdir = tmp_path / 'runs' / 'a'
  with subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(workdir)], stdin=subprocess.PIPE,
    stdout=subprocess.PIPE, text=True,
  ) as process:
    try:
      assert process.stdout.readline() == 'held\n'
      with (
        pytest.raises(ValueError, match=(
          f'process {process.pid} on {socket.gethostname()}: wait for it'
        )),
        lock.held(workdir),
      ):
        pass
    finally:
      process.kill()
  assert (workdir / lock.NAME).exists()  # it was killed
  with lock.held(workdir):
    assert f'process {os.getpid()} ' in (workdir / lock.NAME).read_text()
  assert not list(workdir.iterdir())


def test_a_workdir_that_nothing_was_left_in_goes(tmp_path):
  with lock.held(tmp_path / 'a' / 'b'):
    pass
  assert not list(tmp_path.iterdir())
  with lock.held(tmp_path / 'a' / 'b'):
    (tmp_path / 'a' / 'b' / 'config.json').touch()
  assert [p.name for p in (tmp_path / 'a' / 'b').iterdir()] == ['config.json']


def test_a_file_is_no_workdir(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match='is a file'), lock.held(
    tmp_path / 'file'
  ):
    pass
  with lock.held('gs://bucket/run'):  # has none
    pass
