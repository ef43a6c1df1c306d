"""Checkpoints: the only module that imports orbax.

A checkpoint holds the training state and the state of the data iterator, so
that a resumed run is bit for bit the run that was never stopped. Checkpoints
get their names only when they are complete; files that are lost or damaged
later are found by their manifest, and the newest whole checkpoint is used.
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
from grain import checkpoint as grain_checkpoint
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from gdc.training import manifest

_LOG = logging.getLogger(__name__)


class Checkpoints:
  """The checkpoints of a run."""

  def __init__(self, workdir, keep: int = 2):
    """Opens the checkpoints of a workdir, and creates their folder.

    Args:
      workdir: local folder, or URL of a folder in a bucket.
      keep: number of newest checkpoints to keep.
    """
    self._folder = folder(workdir)
    self._is_local = isinstance(self._folder, pathlib.Path)
    self._faults = {}  # step -> what is wrong with its files, '' if nothing
    self._saving = None
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        create=True,
        preservation_policy=checkpoint_managers.LatestN(keep),
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_manifest
        ),
      ),
    )

  def latest_step(self) -> int | None:
    """Returns the newest whole checkpoint's step, or None.

    Raises:
      ValueError: there are checkpoints, but none is whole.
    """
    found = self._manager.all_steps()
    for step in sorted(found, reverse=True):
      if step not in self._faults:
        # Reading everything back from a bucket would take too long.
        self._faults[step] = (
          manifest.fault(self._path(step)) if self._is_local else ''
        )
      if not self._faults[step]:
        return step
    if found:
      raise ValueError(
        f'No checkpoint in {self._folder} is whole ({self._described()}): copy '
        'one there again, or remove them all to start at step 0.'
      )
    return None

  def save(self, step: int, state, data_iterator=None) -> None:
    """Starts to save a step, unless it is saved already; does not wait."""
    if self._manager.latest_step() == step:
      return
    items = {'state': ocp.args.StandardSave(state)}
    if data_iterator is not None:
      items['data'] = grain_checkpoint.CheckpointSave(data_iterator)
    self._manager.wait_until_finished()
    self._saving = step
    self._faults[step] = ''
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, abstract_state, data_iterator=None):
    """Restores the newest whole checkpoint.

    Logs a warning that names newer checkpoints that are not whole.

    Args:
      abstract_state: ShapeDtypeStructs with shardings.
      data_iterator: moved to where the run was in its data; None if the run
        has none, or if only the state is wanted.

    Returns:
      step: the checkpoint's step.
      state: the training state.

    Raises:
      ValueError: no checkpoint is whole, or the newest whole one has another
        state or no data iterator.
    """
    while True:
      step = self.latest_step()
      if step is None:
        raise ValueError(f'No checkpoint in {self._folder}.')
      try:
        position = None if data_iterator is None else self._position(step)
        with _quiet():
          state = self._manager.restore(step, args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract_state)
          )).state
        break
      except Exception as e:
        if self._path(step).exists():
          raise ValueError(
            f'The checkpoint of step {step} in {self._folder} does not fit '
            'this config: use another workdir, or the config it was made '
            f'with. {e}'
          ) from e
      self._manager.reload()  # a run in progress has removed it meanwhile
    if data_iterator is not None:
      data_iterator.set_state(position)
    if newer := self._newer(step):
      _LOG.warning(
        'In %s, checkpoint %s is not whole (%s): step %d is used.',
        self._folder, ', '.join(map(str, newer)), self._described(step), step,
      )
    return step, state

  def set_aside(self, step: int) -> None:
    """Renames damaged checkpoints after a step, so that it can be saved."""
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
        _LOG.warning('Renamed %s to %s.', path, target.name)
    multihost_utils.sync_global_devices('set aside')
    self._manager.reload()

  def close(self) -> None:
    """Waits for the last save, which is lost otherwise."""
    self._manager.close()

  def _position(self, step: int) -> dict:
    """The state of the data iterator, the same for all processes."""
    path = self._path(step) / 'data'
    if not path.exists():
      raise ValueError(
        'It has no position in the data, because data.cache_on_device was '
        'set: resume with the data.cache_on_device of config.json.'
      )
    # Grain writes a file per process; batches do not depend on their number.
    return json.loads(next(path.glob('*.json')).read_text())

  def _path(self, step: int):
    return self._folder / str(step)

  def _newer(self, step: int) -> list[int]:
    return sorted(s for s, fault in self._faults.items() if fault and s > step)

  def _described(self, step: int = -1) -> str:
    """The damaged checkpoints after a step, with what is wrong."""
    return '; '.join(f'{s}: {self._faults[s]}' for s in self._newer(step))

  def _write_manifest(self) -> None:
    """Called when a checkpoint is complete, before it gets its name."""
    if self._is_local and jax.process_index() == 0:
      for path in self._folder.glob(f'{self._saving}.orbax-*'):
        manifest.write(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences the coroutines that orbax leaves when a restore fails."""
  hook = sys.unraisablehook
  try:
    yield
  except Exception:
    sys.unraisablehook = lambda _: None
    gc.collect()
    raise
  finally:
    sys.unraisablehook = hook


def folder(workdir) -> pathlib.Path | epath.Path:
  """Returns the folder of a workdir's checkpoints."""
  path = f'{workdir}/checkpoints'
  if '://' in path:
    return epath.Path(path)
  return pathlib.Path(path).absolute()


def steps(workdir) -> list[int]:
  """Returns the ascending steps of a workdir's complete checkpoints."""
  path = folder(workdir)
  names = [p.name for p in path.iterdir()] if path.exists() else []
  return sorted(int(name) for name in names if name.isdigit())


@contextlib.contextmanager
def opened(workdir) -> Iterator[Checkpoints]:
  """Opens a run's checkpoints for reading; creates nothing.

  Raises:
    ValueError: the workdir has no checkpoint.
  """
  if not steps(workdir):
    raise ValueError(
      f'No checkpoint in {workdir}: train first, with --mode=train.'
    )
  with contextlib.closing(Checkpoints(workdir)) as store:
    yield store
