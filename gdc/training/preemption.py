"""Signals that ask a run to end: SIGINT (^C), SIGTERM and SIGHUP.

While it trains, the step that one comes in is saved; at any other moment there
is nothing to save, and the process ends at once. A second one ends it at once
whatever it does. Python runs signal handlers between two of its own
instructions, which may take minutes while XLA compiles, so a thread listens,
too.
"""
import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

from gdc import atomic

SIGNALS = [
  getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
  if hasattr(signal, name)
]
# Seconds: that the main thread has to end in an orderly way where there is
# nothing to save, and within which two signals are one (`timeout` sends two).
_GRACE, _TWICE = 2.0, 0.5
_UNWINDING, _POLL = 10.0, 0.05  # seconds for that end itself, at most
_listener = None  # of this process
_stderr = 2  # descriptor; imports may silence 2 itself


def status(number: int) -> int:
  """The exit status of a process that a signal ended, as shells have it."""
  return 128 + number


class Listener:
  """What a process was asked by signals.

  Attributes:
    number: of the first signal; 0: none came.
    training: whether the next signal is noted, for the step to be saved; at
      other times it raises SystemExit.
  """

  def __init__(self):
    self.number = 0
    self.training = False
    self._joined = False  # by jax.distributed, which heeds SIGTERM itself
    self._answered = threading.Event()
    self._swallowed = False  # the exception was, and is due again
    self._hook = None
    # A terminal that has gone raises an error at every word.
    self._terminals = [fd for fd in (0, 1, 2) if _is_terminal(fd)]

  @property
  def name(self) -> str:
    """Of the signal that came; another process' was SIGTERM."""
    return _name(self.number or signal.SIGTERM)

  @contextlib.contextmanager
  def installed(self) -> Iterator[None]:
    """Listens until the context ends; in the main thread alone."""
    global _stderr
    # What the parent has ignored, as nohup does, stays so. None is of a
    # handler from before Python, which can not be set again.
    before = {
      n: signal.getsignal(n) or signal.SIG_DFL for n in SIGNALS
      if signal.getsignal(n) != signal.SIG_IGN
    }
    ours, signals = socket.socketpair()
    signals.setblocking(False)
    wakeup = signal.set_wakeup_fd(
      signals.fileno(), warn_on_full_buffer=False
    )
    threading.Thread(
      target=self._watch, args=(ours, set(before)), daemon=True
    ).start()
    self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
    with contextlib.suppress(OSError):  # it is closed
      _stderr = os.dup(2)
    try:
      for number in before:
        signal.signal(number, self._hear)
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
      signal.set_wakeup_fd(wakeup)
      sys.unraisablehook = self._hook
      signals.close()  # which ends the thread
      if _stderr != 2:
        os.dup2(_stderr, 2)
        os.close(_stderr)
        _stderr = 2

  def _hear(self, number, frame):
    """The handler; it runs in the main thread."""
    del frame
    if self._swallowed:
      self._swallowed = False
      raise SystemExit(status(self.number))
    if self.number:
      return  # a second one is the other thread's
    self.number = number
    self._answered.set()
    if number == getattr(signal, 'SIGHUP', None) and self._terminals:
      null = os.open(os.devnull, os.O_RDWR)
      for fd in self._terminals:
        os.dup2(null, fd)
    if not self.training:
      _say(f'ended by {_name(number)}')
      if _stderr != 2:  # what threads of libraries say of it is noise
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        os.close(null)
      raise SystemExit(status(number))
    _say(f'{_name(number)}: this step is saved; a second one ends at once.')
    if self._joined:
      os.kill(os.getpid(), signal.SIGTERM)

  def _unraisable(self, found):
    """A hook for exceptions that finalizers and the like swallow."""
    if self.number and issubclass(found.exc_type, SystemExit):
      self._swallowed = True
    else:
      self._hook(found)

  def _watch(self, ours, numbers):
    """Ends the process where the main thread can not; in its own thread."""
    first, again = None, 0
    with ours:
      while True:
        try:
          heard = ours.recv(1)
        except TimeoutError:  # a signal came, and the context goes on
          if self.training:
            ours.settimeout(None)  # until the step is saved
          elif self._swallowed:
            again += 1
            _thread.interrupt_main(self.number)
          elif time.monotonic() - first > _UNWINDING:
            atomic.discard()
            os._exit(status(self.number))
          continue
        if not heard:
          return
        if heard[0] not in numbers:
          continue
        if again:
          again -= 1  # it is our own
          continue
        now = time.monotonic()
        if first is None:
          first = now
          if not self.training:
            if not self._answered.wait(_GRACE):
              _end(heard[0])
            ours.settimeout(_POLL)
        elif now - first > _TWICE:
          _end(heard[0])

  @contextlib.contextmanager
  def saving(self) -> Iterator:
    """See watched."""
    import jax  # late: signals are listened to before it is imported
    from jax.experimental import multihost_utils
    self._joined = jax.distributed.is_initialized()
    try:
      yield Watch(
        self, multihost_utils.reached_preemption_sync_point if self._joined
        else lambda step: bool(self.number)
      )
    finally:
      self.training = False
    if self.number:
      raise SystemExit(status(self.number))


class Watch:
  """What a training loop asks of the signals."""

  def __init__(self, listener: Listener, reached):
    self._listener, self._reached = listener, reached

  @property
  def name(self) -> str:
    """Of the signal that came."""
    return self._listener.name

  @property
  def status(self) -> int:
    """The exit status of a run that it stops."""
    return status(self._listener.number or signal.SIGTERM)

  def begin(self):
    """From now on there is a step to save."""
    self._listener.training = True

  def stops(self, step: int) -> bool:
    """Whether to save that step and stop.

    Asked by all processes: first for the step that they start from, as early
    as possible (what a process hears before that, the others do not stop for),
    then for every step.
    """
    return self._reached(step)


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
  """Heeds signals in this process from now on; once, outermost."""
  global _listener
  listener = Listener()
  if _listener or threading.current_thread() is not threading.main_thread():
    yield _listener or listener  # only the main thread can listen
    return
  _listener = listener
  try:
    with listener.installed():
      yield listener
  finally:
    _listener = None


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
  """Lets a training loop save the step that a signal comes in.

  Processes that jax.distributed joined are told by jax's preemption service to
  stop after the same step, whichever of them was signalled. Any other process
  listens itself.

  Yields:
    A Watch.

  Raises:
    SystemExit: before Watch.begin; and in the end, if a signal came that the
      loop did not see.
  """
  with listening() as listener, listener.saving() as watch:
    yield watch


def _is_terminal(fd: int) -> bool:
  try:
    return os.isatty(fd)
  except OSError:
    return False


def _name(number: int) -> str:
  return signal.Signals(number).name


def _say(text: str):
  """A line on standard error, in whatever state its Python object is."""
  with contextlib.suppress(OSError):
    # A progress bar leaves the cursor.
    start = '\n' if os.isatty(_stderr) else ''
    os.write(_stderr, f'{start}gdc.main: {text}\n'.encode())


def _end(number: int):
  atomic.discard()
  _say(f'ended by {_name(number)}')
  os._exit(status(number))
