"""A worker process of an evaluation, see workers.

What takes long to import is imported once the process ends with its parent.
"""
import multiprocessing
import multiprocessing.connection
import os
import pickle
import threading


def main(connection) -> None:
  """Evaluates images until there is none left.

  Args:
    connection: gives (study.Plan, number of processes), then indices, and None
      at the end; takes None for each that is done, or what went wrong.
  """
  threading.Thread(target=_end_with_parent, daemon=True).start()
  try:
    plan, processes = connection.recv()
    # Each process keeps to one core: they would otherwise get in each other's
    # way. Read when the backend starts, which is later.
    flags = os.environ.get('XLA_FLAGS', '')
    os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'
    from gdc.evaluation import study
    made = study.Study(plan, processes)
    while (index := connection.recv()) is not None:
      made.work(index)
      connection.send(None)
  except Exception as e:
    connection.send(_portable(e))


def _portable(error: Exception) -> Exception:
  """What can be sent of it."""
  try:
    return pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'{type(error).__name__}: {error}')


def _end_with_parent():
  """Ends this process as soon as the one that started it is gone."""
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)
