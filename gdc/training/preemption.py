"""Notice that a machine is about to be taken away: SIGTERM."""
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

STATUS = 128 + signal.SIGTERM  # of a process that it ended, as shells have it


@contextlib.contextmanager
def watched() -> Iterator[Callable[[int], bool]]:
  """Listens for SIGTERM instead of dying of it.

  Processes that jax.distributed joined are told by jax's preemption service to
  stop after the same step, whichever of them was signalled. A process of its
  own listens itself, in its main thread; a second signal ends it at once.

  Yields:
    step -> whether to save that step and stop. Asked at every step, and by all
    processes.
  """
  if jax.distributed.is_initialized():
    yield multihost_utils.reached_preemption_sync_point
    return
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False  # only the main thread can listen
    return
  heard = threading.Event()
  # None: a handler that Python did not set, and can not set again.
  before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

  def hear(number, frame):
    heard.set()
    signal.signal(signal.SIGTERM, before)

  signal.signal(signal.SIGTERM, hear)
  try:
    yield lambda step: heard.is_set()
  finally:
    signal.signal(signal.SIGTERM, before)
