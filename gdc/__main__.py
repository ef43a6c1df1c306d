"""The command `gdc`: the console script, and `python -m gdc`.

A signal ends the process at any moment, with one line and no half-written file.
Signals are handled before anything slow is imported, and in a thread, since the
main thread may be inside a library call that takes minutes.
"""
import os
import signal
import sys
import threading

_SIGNALS = {
  signal.SIGINT: 'interrupted',
  signal.SIGTERM: 'terminated',
  signal.SIGHUP: 'hung up',
}


def main() -> int:
  """Runs the command line; returns the exit status."""
  end_on_signals()
  # Closed streams become /dev/null, or opened files would get their numbers.
  for name, mode in ('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
  sys.stdout.reconfigure(errors='backslashreplace')  # for undecodable names
  from gdc.cli import main
  return main.main()


def end_on_signals() -> None:
  """Makes signals end the process, except those it inherited as ignored."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  for number in _SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, lambda *_: None)  # the thread acts on it
  threading.Thread(target=_wait, args=(reader,), daemon=True).start()


def _wait(reader: int):
  """Waits for a signal, cleans up, and ends the process."""
  while (number := os.read(reader, 1)[0]) not in _SIGNALS:
    pass
  try:
    if hasattr(atomic := sys.modules.get('gdc.atomic'), 'discard'):
      atomic.discard()
    # The main thread may hold the lock of sys.stderr; a progress bar may have
    # left the cursor in the middle of a line.
    start = '\n' if os.isatty(2) else ''
    os.write(2, f'{start}gdc: {_SIGNALS[number]}\n'.encode())
  finally:
    os._exit(128 + number)


if __name__ == '__main__':
  sys.exit(main())
