"""The processes of a study: several on one machine, or the hosts of a pod."""
import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from multiprocessing import resource_tracker
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdc.evaluation import study as study_lib

_LONGEST_END = 24 * 3600  # seconds


def run(
  study: study_lib.Study,
  jobs: int = 1,
  shard: tuple[int, int] = (0, 1),
  on_row: Callable[[Any], None] | None = None,
) -> None:
  """Evaluates this process's share of the images.

  Args:
    study: whose results() then adds up what all processes made.
    jobs: processes on this machine; more than one only on a CPU, since an
      accelerator belongs to one process, which uses all of its devices.
    shard: (i, n): every n-th image, from the i-th on.
    on_row: called once per row, for progress; with None if another process
      made it.

  Raises:
    ValueError: jobs on an accelerator.
    RuntimeError: a worker process ended early.
  """
  indices = range(shard[0], len(study.plan.paths), shard[1])
  if jobs == 1:
    for index in indices:
      study.work(index, on_row)
    return
  if jax.default_backend() != 'cpu':
    raise ValueError(
      f'jobs is {jobs}: 1 is expected on a {jax.default_backend()}, which one '
      'process must have for itself'
    )
  context = multiprocessing.get_context('spawn')
  # Workers end when our end is closed, be it by the end of this process.
  theirs, ours = context.Pipe(duplex=False)
  pool = futures.ProcessPoolExecutor(
    jobs, context, _start_worker, (theirs, study.plan, jobs)
  )
  try:
    with _interrupts_held():  # workers are started by the first submissions
      done = [pool.submit(_work, index) for index in indices]
    for future in futures.as_completed(done):
      future.result()
      for _ in study.rows if on_row is not None else ():
        on_row(None)
    pool.shutdown()
  except futures.BrokenExecutor as error:
    raise RuntimeError(
      'A worker process has ended before its work; if memory ran out, fewer '
      '--jobs take less.'
    ) from error
  finally:
    ours.close()
    pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held():
  """Processes that are started meanwhile are never interrupted themselves.

  A terminal interrupts all of them; this one ends them.
  """
  if not hasattr(signal, 'pthread_sigmask'):
    yield
    return
  resource_tracker.ensure_running()  # or starting it would lift the block
  signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


# --- In a worker process ----------------------------------------------------

_plan_and_processes = None  # set once by _start_worker


def _start_worker(parent, plan, processes):
  global _plan_and_processes
  _plan_and_processes = plan, processes
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  # Each process keeps to one core, or they would get in each other's way. Read
  # when the backend starts, which is later.
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'


@functools.cache
def _study() -> study_lib.Study:
  return study_lib.Study(*_plan_and_processes)


def _work(index):
  try:
    _study().work(index)
  except Exception as error:
    raise _portable(error) from None


def _portable(error: Exception) -> Exception:
  """Returns an exception that survives the way to another process."""
  try:
    return pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'{type(error).__name__}: {error}')


def _end_with(parent):
  """Ends this process as soon as the other end of a pipe is closed."""
  with contextlib.suppress(EOFError, OSError):
    parent.recv()
  os._exit(1)


# --- Hosts ------------------------------------------------------------------


def start_hosts() -> tuple[int, int]:
  """Joins the hosts of a pod or cluster; returns (index, number of hosts).

  The first one adds up and writes, which may take long, while the others wait
  for it to end.
  """
  jax.distributed.initialize(shutdown_timeout_seconds=_LONGEST_END)
  return jax.process_index(), jax.process_count()


def meet(failed: bool) -> bool:
  """Waits for all hosts; returns whether any has failed."""
  everywhere = multihost_utils.process_allgather(np.array([failed]))
  return bool(np.any(everywhere))
