import os
import signal
import subprocess
import sys
import time

import pytest

from gdc.training import metric_writers, preemption

_STATUS = {'SIGINT': 130, 'SIGTERM': 143, 'SIGHUP': 129}


@pytest.mark.parametrize('name', _STATUS)
def test_the_step_that_a_signal_comes_in_is_saved(name, capfd):
  number = getattr(signal, name)
  before = signal.getsignal(number)
  with pytest.raises(SystemExit) as ended, preemption.watched() as watch:
    assert not watch.stops(0)
    watch.begin()
    assert not watch.stops(1)
    os.kill(os.getpid(), number)
    assert watch.stops(2)
    assert watch.name == name
    assert watch.status == _STATUS[name]
  assert ended.value.code == _STATUS[name]
  assert signal.getsignal(number) == before
  assert f'{name}: saving this step' in capfd.readouterr().err


def test_before_the_first_step_there_is_nothing_to_save():
  with pytest.raises(SystemExit) as ended, preemption.watched():
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError('not reached')
  assert ended.value.code == 130


def test_a_signal_is_told_where_standard_error_is_silenced(capfd):
  with pytest.raises(SystemExit), preemption.watched(), (
    metric_writers._quiet()
  ):
    os.kill(os.getpid(), signal.SIGTERM)
  assert capfd.readouterr().err == 'gdc.main: ended by SIGTERM\n'


_BUSY = """
import hashlib, os, signal, sys, time
from gdc.training import preemption

class Owner:
  def __del__(self):  # swallows what the handler raises
    print('busy', flush=True)
    os.kill(os.getpid(), signal.SIGINT)

with preemption.listening() as listener:
  if sys.argv[1] == 'finalizing':
    Owner()
    while True:
      time.sleep(0.01)
  listener.training = sys.argv[1] == 'training'
  print('busy', flush=True)
  # A call that runs no Python code for hours, as XLA's compiler may.
  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
"""


@pytest.mark.parametrize('when', ['compiling', 'training', 'finalizing'])
def test_a_signal_ends_what_python_cannot_interrupt(when):
  """The first signal if there is nothing to save, else the second."""
  process = subprocess.Popen(
    [sys.executable, '-c', _BUSY, when], stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, text=True,
  )
  try:
    assert process.stdout.readline() == 'busy\n'
    if when != 'finalizing':
      time.sleep(0.5)  # until the call has begun
      process.send_signal(signal.SIGINT)
    if when == 'training':
      with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)  # it is noted
      process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == 130
  assert errors == 'gdc.main: ended by SIGINT\n'


def test_what_the_parent_ignores_stays_ignored():
  done = subprocess.run([sys.executable, '-c', (
    'import os, signal\n'
    'signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'  # as nohup does
    'from gdc.training import preemption\n'
    'with preemption.listening() as listener:\n'
    '  os.kill(os.getpid(), signal.SIGHUP)\n'
    '  print(listener.number)'
  )], capture_output=True, text=True, check=True)
  assert done.stdout == '0\n'
