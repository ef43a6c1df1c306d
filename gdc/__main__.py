"""The command `gdc`: the console script, and `python -m gdc`.

A signal ends the process at any moment, with one line and no half-written file.
Signals are handled before anything slow is imported.
"""
import os
import signal
import sys
import threading
import time

_PATIENCE = 0.5  # seconds for the main thread to act on a signal
_SIGNALS = {
  signal.SIGINT: 'interrupted',
  signal.SIGTERM: 'terminated',
  signal.SIGHUP: 'hung up',
}


def main() -> int:
  """Runs the command line; returns the exit status."""
  # Closed streams become /dev/null, or opened files would get their numbers.
  for name, mode in ('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
  sys.stdout.reconfigure(errors='backslashreplace')  # for undecodable names
  end_on_signals()
  from gdc.cli import main
  return main.main()


def end_on_signals() -> None:
  """Makes signals end the process, except those it inherited as ignored."""
  for number in _SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def _watch(reader: int):
  """Ends the process if the main thread is inside a long library call."""
  while (number := os.read(reader, 1)[0]) not in _SIGNALS:
    pass
  time.sleep(_PATIENCE)
  _end(number)


def _end(number, frame=None):
  """Removes temporary files, prints a line and ends the process."""
  del frame
  try:
    if hasattr(atomic := sys.modules.get('gdc.atomic'), 'discard'):
      atomic.discard()
    # sys.stderr may be in use, and a progress bar may have left the cursor in
    # the middle of a line.
    start = '\n' if os.isatty(2) else ''
    os.write(2, f'{start}gdc: {_SIGNALS[number]}\n'.encode())
  finally:
    os._exit(128 + number)


if __name__ == '__main__':
  sys.exit(main())
