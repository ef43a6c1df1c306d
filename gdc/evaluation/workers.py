"""The processes of a study: several on one machine, or the hosts of a pod."""
import contextlib
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdc.evaluation import study as study_lib
from gdc.evaluation import worker

_LONGEST_END = 24 * 3600  # seconds


def run(
  study: study_lib.Study,
  jobs: int = 1,
  shard: tuple[int, int] = (0, 1),
  on_row: Callable[[Any], None] | None = None,
) -> None:
  """Evaluates this process' share of the pictures.

  Args:
    study: whose results() then adds up what all processes made.
    jobs: processes on this machine; more than one only on a CPU, since an
      accelerator belongs to one process, which uses all of its devices.
    shard: (i, n): every n-th picture, from the i-th on.
    on_row: called once per row, for progress; with None where another process
      made it.

  Raises:
    ValueError: jobs on an accelerator.
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
  _share(study, jobs, indices, on_row)


def _share(study, jobs, indices, on_row):
  """Hands images to worker processes, the next to whichever is done."""
  context = multiprocessing.get_context('spawn')
  left = iter(indices)
  working = {}
  try:
    for _, index in zip(range(jobs), left, strict=False):
      ours, theirs = context.Pipe()
      process = context.Process(target=worker.main, args=(theirs,))
      with _interrupts_held():
        process.start()
      working[ours] = process
      theirs.close()
      ours.send((study.plan, jobs))
      ours.send(index)
    while working:
      for connection in multiprocessing.connection.wait(list(working)):
        try:
          error = connection.recv()
          index = next(left, None)
          connection.send(index)
        except (EOFError, OSError) as e:
          raise RuntimeError(
            'A worker process has ended before its work; if memory ran out, '
            'fewer --jobs take less.'
          ) from e
        if error is not None:
          raise error
        for _ in range(study.rows_per_picture):
          if on_row is not None:
            on_row(None)
        if index is None:
          working.pop(connection).join()
  finally:
    for process in working.values():
      process.kill()
      process.join()


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


def start_hosts() -> tuple[int, int]:
  """Joins the hosts of a pod or cluster: (this one's place, how many).

  The first one adds up and writes, which may take long, while the others wait
  for it to end.
  """
  jax.distributed.initialize(shutdown_timeout_seconds=_LONGEST_END)
  return jax.process_index(), jax.process_count()


def meet(failed: bool) -> bool:
  """Waits for all hosts; whether any has failed."""
  everywhere = multihost_utils.process_allgather(np.array([failed]))
  return bool(np.any(everywhere))
