"""Metrics to TensorBoard and to JSON lines; the only module with clu's writers.

clu's writers need TensorFlow. Without it only metrics.jsonl is written.
Only process 0 writes.
"""
import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import sys

import jax
import numpy as np

from gdc import atomic

_LOG = logging.getLogger(__name__)


def shows_images() -> bool:
  """Whether images are written at all.

  All processes of a run must agree: a picture takes all of them to make.
  """
  return all(map(importlib.util.find_spec, ('clu', 'tensorflow')))


class MetricWriter:
  """Scalars and images of a run, by step, below a folder."""

  def __init__(self, folder, resumed_step: int = 0):
    """Opens the folder; lines after `resumed_step` belong to a lost part.

    Args:
      folder: the run's folder, local or remote.
      resumed_step: the step that the run goes on from; 0 starts anew.
    """
    self._active = jax.process_index() == 0
    self._tensorboard = None
    self._lines = None
    if not self._active:
      return
    try:
      with _quiet():
        from clu import metric_writers
        self._tensorboard = metric_writers.SummaryWriter(
          os.path.join(str(folder), 'tensorboard')
        )
    except ImportError as e:
      _LOG.warning('No TensorBoard events: %s', e)
    if '://' not in str(folder):
      path = pathlib.Path(folder) / 'metrics.jsonl'
      path.parent.mkdir(parents=True, exist_ok=True)
      _drop_after(path, resumed_step)
      self._lines = path.open('a')

  def scalars(self, step: int, values: dict[str, float]):
    """Writes one line of named numbers."""
    if not self._active:
      return
    values = {k: float(v) for k, v in values.items()}
    if self._tensorboard:
      self._tensorboard.write_scalars(step, values)
    if self._lines:
      self._lines.write(json.dumps({'step': step, **values}) + '\n')
      self._lines.flush()

  def images(self, step: int, values: dict[str, np.ndarray]):
    """Writes named pictures, [n, height, width, 3] in [0, 1]."""
    if self._tensorboard:
      self._tensorboard.write_images(step, values)

  def close(self):
    """Flushes and closes."""
    if self._tensorboard:
      self._tensorboard.flush()
      self._tensorboard.close()
    if self._lines:
      self._lines.close()


@contextlib.contextmanager
def _quiet():
  """Drops what TensorFlow says of itself while it is imported.

  Its C++ libraries do so before they can be told not to; what fails raises.
  """
  try:
    kept = os.dup(2)
  except OSError:  # there is no standard error
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


def _drop_after(path: pathlib.Path, step: int):
  """Rewrites a JSON-lines file without the lines of later steps."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue  # a line that a kill cut short
    if row['step'] <= step:
      kept.append(line)
  with atomic.replaced(path) as temporary:
    temporary.write_text(''.join(line + '\n' for line in kept))
