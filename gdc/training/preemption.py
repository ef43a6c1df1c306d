"""Signals that ask a run to end: SIGINT (^C), SIGTERM and SIGHUP.

During training, the current step is saved; otherwise there is nothing to save
and the process ends. A second signal ends it at once in any case. Python
handles signals between two of its own instructions, which may be minutes apart
while XLA compiles, so a thread ends the process if the main thread does not.
"""
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

from gdc import atomic

SIGNALS = [
  getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
  if hasattr(signal, name)
]
_GRACE = 3.0  # seconds to end in an orderly way if there is nothing to save
_TWICE = 0.5  # seconds within which two signals are one; `timeout` sends two
_listener = None  # of this process


def status(number: int) -> int:
  """Returns the exit status of a process that a signal ended."""
  return 128 + number


class Listener:
  """Handles the signals of a process.

  Attributes:
    number: the first signal; 0 if none came.
    training: whether a signal is noted, so that the step can be saved;
      otherwise it raises SystemExit.
    joined: whether jax.distributed joined processes; it handles SIGTERM then.
  """

  def __init__(self):
    self.number = 0
    self.training = False
    self.joined = False
    self._stderr = 2  # a copy, as imports may silence the descriptor itself
    self._has_said_end = False
    # After SIGHUP, every write to the terminal fails.
    self._terminals = [fd for fd in (0, 1, 2) if _is_terminal(fd)]

  @property
  def name(self) -> str:
    """Name of the signal; other processes only pass SIGTERM on."""
    return signal.Signals(self.number or signal.SIGTERM).name

  @property
  def status(self) -> int:
    """Exit status of a run that the signal stops."""
    return status(self.number or signal.SIGTERM)

  def begin(self) -> None:
    """Says that from now on there is a step to save."""
    self.training = True

  def stops(self, step: int) -> bool:
    """Returns whether to save a step and stop.

    All processes call this for every step, and, as early as possible, for the
    step they start from: they stop together for signals after that.
    """
    if self.joined:
      from jax.experimental import multihost_utils
      return multihost_utils.reached_preemption_sync_point(step)
    return bool(self.number)

  @contextlib.contextmanager
  def installed(self) -> Iterator[None]:
    """Handles signals within the context; in the main thread only."""
    # What the parent process ignores, as nohup does, stays ignored. A handler
    # that Python did not set is None.
    before = {
      n: signal.getsignal(n) or signal.SIG_DFL for n in SIGNALS
      if signal.getsignal(n) != signal.SIG_IGN
    }
    ours, signals = socket.socketpair()
    signals.setblocking(False)
    wakeup = signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
    threading.Thread(
      target=self._watch, args=(ours, set(before)), daemon=True
    ).start()
    with contextlib.suppress(OSError):  # standard error is closed
      self._stderr = os.dup(2)
    try:
      for number in before:
        signal.signal(number, self._handle)
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
      signal.set_wakeup_fd(wakeup)
      signals.close()  # ends the thread
      if self._stderr != 2:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._stderr = 2

  def _handle(self, number, frame) -> None:
    del frame
    if self.number:
      return  # the thread handles a second signal
    self.number = number
    if number == getattr(signal, 'SIGHUP', None):
      _silence(self._terminals)
    if not self.training:
      self._say_end()
      if self._stderr != 2:
        _silence([2])  # libraries' threads complain while the process ends
      raise SystemExit(self.status)
    self._say(
      f'{self.name}: saving this step; a second signal ends the run at once.'
    )
    if self.joined:
      os.kill(os.getpid(), signal.SIGTERM)

  def _watch(self, ours: socket.socket, numbers: set[int]) -> None:
    """Ends the process if the main thread does not; in a thread of its own."""
    first = number = None
    with ours:
      while True:
        try:
          heard = ours.recv(1)
        except TimeoutError:
          if not self.training:
            self._end(number)
          ours.settimeout(None)  # until the step is saved
          continue
        if not heard:
          return
        if heard[0] not in numbers:
          continue
        if first is None:
          first, number = time.monotonic(), heard[0]
          if not self.training:
            ours.settimeout(_GRACE)
        elif time.monotonic() - first > _TWICE:
          self._end(number)

  def _end(self, number: int) -> None:
    self.number = number  # the handler may not have run
    atomic.discard()
    self._say_end()
    os._exit(self.status)

  def _say_end(self) -> None:
    if not self._has_said_end:
      self._has_said_end = True
      self._say(f'ended by {self.name}')

  def _say(self, text: str) -> None:
    """Writes a line on standard error, whatever state sys.stderr is in."""
    with contextlib.suppress(OSError):
      start = '\n' if os.isatty(self._stderr) else ''  # after a progress bar
      os.write(self._stderr, f'{start}gdc.main: {text}\n'.encode())


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
  """Handles signals in this process; nested contexts share one listener."""
  global _listener
  listener = Listener()
  if _listener or threading.current_thread() is not threading.main_thread():
    yield _listener or listener  # only the main thread may handle signals
    return
  _listener = listener
  try:
    with listener.installed():
      yield listener
  finally:
    _listener = None


@contextlib.contextmanager
def watched() -> Iterator[Listener]:
  """Lets a training loop save the step that a signal comes in.

  If jax.distributed joined processes, its preemption service tells all of them
  to stop after the same step, whichever of them got the signal.

  Raises:
    SystemExit: before Listener.begin; and at the end, if a signal came that
      the loop did not see.
  """
  import jax  # late: signals are handled before jax is imported
  with listening() as listener:
    listener.joined = jax.distributed.is_initialized()
    try:
      yield listener
    finally:
      listener.training = False
    if listener.number:
      raise SystemExit(listener.status)


def _silence(descriptors: list[int]) -> None:
  null = os.open(os.devnull, os.O_RDWR)
  for fd in descriptors:
    os.dup2(null, fd)
  os.close(null)


def _is_terminal(fd: int) -> bool:
  try:
    return os.isatty(fd)
  except OSError:
    return False
