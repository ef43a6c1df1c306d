"""Writes metrics to TensorBoard and to JSON lines; the only importer of clu.

Only process 0 writes.
"""
import contextlib
import json
import os
import pathlib
import sys

import jax
import numpy as np

from gdc import atomic


class MetricWriter:
  """Writes scalars and images of a run, by step."""

  def __init__(self, workdir, resumed_step: int = 0):
    """Opens the files; drops lines after a step.

    Args:
      workdir: local or remote.
      resumed_step: the step that the run is resumed at; 0 for a new run.
    """
    self._tensorboard = self._lines = None
    if jax.process_index():
      return
    with _quiet():
      from clu import metric_writers  # late: imports TensorFlow
      self._tensorboard = metric_writers.SummaryWriter(
        os.path.join(str(workdir), 'tensorboard')
      )
    if '://' not in str(workdir):
      path = pathlib.Path(workdir) / 'metrics.jsonl'
      path.parent.mkdir(parents=True, exist_ok=True)
      _drop_after(path, resumed_step)
      self._lines = path.open('a')

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Writes named numbers."""
    values = {k: float(v) for k, v in values.items()}
    if self._tensorboard:
      self._tensorboard.write_scalars(step, values)
    if self._lines:
      self._lines.write(json.dumps({'step': step, **values}) + '\n')
      self._lines.flush()

  def images(self, step: int, values: dict[str, np.ndarray]) -> None:
    """Writes named images, [n, height, width, 3] in [0, 1]."""
    if self._tensorboard:
      self._tensorboard.write_images(step, values)

  def close(self) -> None:
    """Flushes and closes the files."""
    if self._tensorboard:
      self._tensorboard.flush()
      self._tensorboard.close()
    if self._lines:
      self._lines.close()


@contextlib.contextmanager
def _quiet():
  """Silences TensorFlow, whose C++ libraries log while it is imported."""
  try:
    kept = os.dup(2)
  except OSError:  # standard error is closed
    yield
    return
  sys.stderr.flush()
  with open(os.devnull, 'w') as null:
    os.dup2(null.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)


def _drop_after(path: pathlib.Path, step: int) -> None:
  """Drops the lines of later steps, and one that a kill cut short."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      if json.loads(line)['step'] <= step:
        kept.append(line)
  with atomic.replaced(path) as temporary:
    temporary.write_text(''.join(f'{line}\n' for line in kept))
