"""Checkpoints: the only module that imports orbax.

A checkpoint holds the training state and the data iterator's, so that a
resumed run is the run that was never stopped. It appears under its step's
name only when it is complete; one that has lost files since, or bits of them,
is found by its manifest.py, and the whole one before it is used. Where batches
depend on the step alone there is no iterator, and grain is not imported.
"""
import contextlib
import gc
import itertools
import json
import logging
import pathlib
import sys
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from gdc.training import manifest

_LOG = logging.getLogger(__name__)
# What tensorstore begins its errors with where files are missing or damaged;
# errors of a checkpoint of another config have none of it.
_DAMAGE = (
  'NOT_FOUND', 'DATA_LOSS', 'OUT_OF_RANGE', 'Error opening', 'Encountered error'
)


class Checkpoints:
  """The checkpoints below a folder."""

  def __init__(self, folder, keep: int = 2):
    """Opens, and if need be makes, the folder; keeps the newest `keep`."""
    self.folder = str(folder)
    if '://' not in self.folder:
      self.folder = str(pathlib.Path(self.folder).absolute())
    self._faults = {}  # of steps that are not whole
    self._saving = None
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        create=True,
        preservation_policy=checkpoint_managers.LatestN(keep),
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_manifest
        ),
      ),
    )

  def latest_step(self) -> int | None:
    """The newest whole checkpoint's step, or None.

    Raises:
      ValueError: there are checkpoints, and none of them is whole.
    """
    found = self._manager.all_steps()
    for step in sorted(found, reverse=True):
      if step not in self._faults:
        self._faults[step] = manifest.fault(self._path(step))
      if not self._faults[step]:
        return step
    if found:
      raise ValueError(
        f'No checkpoint in {self.folder} is whole ({self._incomplete()}): copy '
        'one there again, or remove them all to begin at step 0.'
      )
    return None

  def save(self, step: int, state, data_iterator=None):
    """Starts saving; training may go on meanwhile."""
    if self._manager.latest_step() == step:
      return
    items = {'state': ocp.args.StandardSave(state)}
    if data_iterator is not None:
      from grain import checkpoint as grain_checkpoint
      items['data'] = grain_checkpoint.CheckpointSave(data_iterator)
    self._manager.wait_until_finished()
    self._saving = step
    self._faults[step] = ''
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, abstract_state, data_iterator=None):
    """The newest whole checkpoint; moves the data iterator to its place.

    Newer ones that are not whole are named in a warning.

    Args:
      abstract_state: ShapeDtypeStructs that carry shardings.
      data_iterator: of the pipeline that the run was started with; None where
        there is none, or only the state is wanted.

    Returns:
      step: of the checkpoint.
      state: as it was saved.

    Raises:
      ValueError: no checkpoint is whole, or the newest whole one does not fit
        the state, or has no place in the data.
    """
    while True:
      step = self.latest_step()
      if step is None:
        raise ValueError(f'No checkpoint in {self.folder}.')
      try:
        state = self._restore(step, abstract_state, data_iterator)
      except _Damaged as e:
        if self._path(step).exists():
          self._faults[step] = str(e)
        else:  # a run that lives has removed it meanwhile
          self._manager.reload()
        continue
      if newer := self._incomplete(step):
        _LOG.warning(
          'In %s, checkpoint %s is not whole (%s): step %d is used.',
          self.folder, ', '.join(map(str, self._newer(step))), newer, step,
        )
      return step, state

  def set_aside(self, step: int):
    """Renames the checkpoints after a step, which are not whole.

    Else a run that goes on from that step could not save theirs.
    """
    newer = self._newer(step)
    if not newer:
      return
    if jax.process_index() == 0:
      for found in newer:
        path = self._path(found)
        others = (
          path.with_name(f'{found}.incomplete-{i}') for i in itertools.count()
        )
        target = next(p for p in others if not p.exists())
        path.rename(target)
        _LOG.warning('%s is now called %s.', path, target.name)
    multihost_utils.sync_global_devices('set aside')
    self._manager.reload()

  def _restore(self, step, abstract_state, data_iterator):
    place = None
    if data_iterator is not None:
      place = self._place(step)
    items = {'state': ocp.args.StandardRestore(abstract_state)}
    try:
      with _quiet():
        restored = self._manager.restore(
          step, args=ocp.args.Composite(**items)
        )
    except Exception as e:
      if self._is_damage(step, e):
        raise _Damaged(str(e).partition('\n')[0][:120]) from e
      raise ValueError(
        f'The checkpoint of step {step} in {self.folder} does not fit this '
        f'config: use another workdir, or the config it was made with. {e}'
      ) from e
    if place is not None:
      data_iterator.set_state(place)
    return restored.state

  def _is_damage(self, step: int, error: Exception) -> bool:
    """Whether an error is of the files, and not of what was asked of them."""
    path = self._path(step)
    if not path.exists():
      return True
    if manifest.recorded(path):
      return False  # all files are as they were written
    return isinstance(error, (OSError, json.JSONDecodeError)) or any(
      word in str(error) for word in _DAMAGE
    )

  def _place(self, step: int):
    """A run's place in its data, for its iterator."""
    path = self._path(step)
    if not manifest.has_place(path):
      raise ValueError(
        f'The run in {self.folder} was trained with data.cache_on_device, and keeps '
        'no place in its data: go on with the data.cache_on_device of its '
        'config.json.'
      )
    # As grain writes it, a file for each process, all of them alike: a batch
    # is the same on any number of processes.
    try:
      return json.loads(next((path / 'data').glob('*.json')).read_text())
    except (OSError, StopIteration, ValueError) as e:
      raise _Damaged('its place in the data is missing') from e

  def _path(self, step: int):
    return epath.Path(self.folder) / str(step)

  def _newer(self, step: int) -> list[int]:
    return sorted(s for s, fault in self._faults.items() if fault and s > step)

  def _incomplete(self, step: int = -1) -> str:
    """The checkpoints after a step that are not whole, and why."""
    return '; '.join(f'{s}: {self._faults[s]}' for s in self._newer(step))

  def _write_manifest(self):
    """Called when all files of the step are there, before it has its name."""
    if '://' in self.folder or jax.process_index():
      return  # a bucket would send all of it back
    for path in pathlib.Path(self.folder).glob(f'{self._saving}.orbax-*'):
      manifest.write(path)

  def close(self):
    """Waits for the last save. Without this it is lost."""
    self._manager.close()


class _Damaged(Exception):
  """A checkpoint whose files are missing or damaged."""


@contextlib.contextmanager
def _quiet():
  """Drops what orbax's coroutines print after a restore that failed."""
  hook = sys.unraisablehook
  try:
    yield
  except Exception:
    sys.unraisablehook = lambda _: None
    gc.collect()
    raise
  finally:
    sys.unraisablehook = hook


def steps(folder) -> list[int]:
  """The steps of complete checkpoints below a folder; nothing is made."""
  path = epath.Path(folder)
  names = [p.name for p in path.iterdir()] if path.exists() else []
  return sorted(int(name) for name in names if name.isdigit())


@contextlib.contextmanager
def opened(folder) -> Iterator[Checkpoints]:
  """A run's checkpoints to read, closed in the end; nothing is made.

  Args:
    folder: of the checkpoints.

  Raises:
    ValueError: there is none in it.
  """
  if not steps(folder):
    raise ValueError(
      f'No checkpoint in {epath.Path(folder).parent}: train first, with '
      '--mode=train.'
    )
  with contextlib.closing(Checkpoints(folder)) as store:
    yield store
