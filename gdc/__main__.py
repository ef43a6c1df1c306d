"""The command `gdc`, which a signal ends at any moment in one line.

Nothing of a command is worth saving but whole files, so that a signal ends the
process where it stands: temporary files are removed, and worker processes end
with it. What takes long to import is imported once that is so.
"""
import _signal as signal  # that module takes longer than all else here
import _thread
import os
import sys
import time

_SIGNALS = {
  'SIGINT': 'interrupted', 'SIGTERM': 'terminated', 'SIGHUP': 'hung up',
}
_PATIENCE = 0.5  # seconds
_ending = _thread.allocate_lock()


def main() -> int:
  """Runs the command line; returns the exit status."""
  from gdc.cli import main
  if sys.stdout is not None:
    sys.stdout.reconfigure(errors='backslashreplace')  # names may be no text
  return main.main()


def _catch():
  """Has signals end the process, except those that it was to ignore."""
  for name in _SIGNALS:
    number = _number(name)
    if number and signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)
  for stream in (0, 1, 2):
    try:
      os.fstat(stream)
    except OSError:  # closed: a file that is opened must not be taken for it
      os.open(os.devnull, os.O_RDWR)
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  _thread.start_new_thread(_watch, (reader,))


def _watch(reader):
  """Ends the process where its main thread is in a library's long call."""
  while (number := os.read(reader, 1)[0]) not in map(_number, _SIGNALS):
    pass
  time.sleep(_PATIENCE)
  _end(number)


def _end(number, frame=None):
  """Ends the process with a line, and leaves nothing half-written."""
  del frame
  if not _ending.acquire(blocking=False):
    time.sleep(_PATIENCE)  # the other thread is at it
    return
  try:
    atomic = sys.modules.get('gdc.atomic')
    if hasattr(atomic, 'discard'):  # it may be half imported
      atomic.discard()
    # Streams may be in use: past them. A progress bar has left the cursor.
    start = '\n' if os.isatty(2) else ''
    said = next(w for n, w in _SIGNALS.items() if _number(n) == number)
    os.write(2, f'{start}gdc: {said}\n'.encode())
  finally:
    os._exit(128 + number)


def _number(name) -> int | None:
  return getattr(signal, name, None)


# A worker process imports the main module of the one that started it.
if '--multiprocessing-fork' not in sys.orig_argv:
  _catch()
if __name__ == '__main__':
  sys.exit(main())
