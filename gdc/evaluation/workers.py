"""The processes of a study: several on one machine, or the hosts of a pod."""
import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable
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
  with concurrent.futures.ProcessPoolExecutor(
    jobs, multiprocessing.get_context('spawn'), _start,
    (study.plan, jobs),
  ) as pool:
    futures = [pool.submit(_work, index) for index in indices]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
        for _ in range(study.rows_per_picture):
          if on_row is not None:
            on_row(None)
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise


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


# --- A worker process -------------------------------------------------------

_study: study_lib.Study | None = None


def _start(plan: study_lib.Plan, processes: int):
  """Loads the plan, before the first picture."""
  global _study
  threading.Thread(target=_end_with_parent, daemon=True).start()
  # Each process keeps to one core: they would otherwise get in each other's
  # way. Read when the backend starts, which is later.
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'
  _study = study_lib.Study(plan, processes)


def _work(index: int) -> None:
  _study.work(index)


def _end_with_parent():
  """Ends this process as soon as the one that started it is gone."""
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)
