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
  stop after the same step, whichever of them was signalled. Any other process
  listens itself, in its main thread: a second signal ends it at once.

  Yields:
    step -> whether to save that step and stop. Asked by all processes: first
    for the step that they start from, as early as possible (what a process
    hears before that, the others do not stop for), then for every step.

  Raises:
    SystemExit: with STATUS, in the end: a process of its own has heard it.
  """
  if jax.distributed.is_initialized():
    yield multihost_utils.reached_preemption_sync_point
    return
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False  # only the main thread can listen
    return
  heard = False
  # None: one that was there before Python, which can not be set again.
  before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

  def hear(number, frame):
    nonlocal heard
    signal.signal(signal.SIGTERM, before)
    heard = True

  signal.signal(signal.SIGTERM, hear)
  try:
    yield lambda step: heard
  finally:
    signal.signal(signal.SIGTERM, before)
  if heard:
    raise SystemExit(STATUS)
