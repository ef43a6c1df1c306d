"""Checkpoints: the only module that imports orbax.

A checkpoint holds the training state and the data iterator's, so that a
resumed run is the run that was never stopped. It appears under its step's
name only when it is complete. Where batches depend on the step alone there is
no iterator, and grain is not imported.
"""
import contextlib
import json
import pathlib
from collections.abc import Iterator

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers


class Checkpoints:
  """The checkpoints below a folder."""

  def __init__(self, folder, keep: int = 2):
    """Opens, and if need be makes, the folder; keeps the newest `keep`."""
    self.folder = str(folder)
    if '://' not in self.folder:
      self.folder = str(pathlib.Path(self.folder).absolute())
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        create=True,
        preservation_policy=checkpoint_managers.LatestN(keep),
      ),
    )

  def latest_step(self) -> int | None:
    """The newest complete checkpoint's step, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state, data_iterator=None):
    """Starts saving; training may go on meanwhile."""
    if self._manager.latest_step() == step:
      return
    items = {'state': ocp.args.StandardSave(state)}
    if data_iterator is not None:
      from grain import checkpoint as grain_checkpoint
      items['data'] = grain_checkpoint.CheckpointSave(data_iterator)
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, step: int, abstract_state, data_iterator=None):
    """Returns the state, and moves the data iterator to its place.

    Args:
      step: from latest_step.
      abstract_state: ShapeDtypeStructs that carry shardings.
      data_iterator: of the pipeline that the run was started with; None where
        there is none, or only the state is wanted.

    Raises:
      ValueError: the checkpoint does not fit the state, or has no place in
        the data.
    """
    place = None
    if data_iterator is not None:
      # As grain writes it, a file for each process, all of them alike: a batch
      # is the same on any number of processes.
      found = (epath.Path(self.folder) / str(step) / 'data').glob('*.json')
      place = next(iter(found), None)
      if place is None:
        raise ValueError(
          f'The run in {self.folder} was trained with data.resident, and keeps '
          'no place in its data: go on with the data.resident of its '
          'config.json.'
        )
    items = {'state': ocp.args.StandardRestore(abstract_state)}
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except (KeyError, TypeError, ValueError) as e:
      raise ValueError(
        f'The checkpoint of step {step} in {self.folder} does not fit this '
        f'config: use another workdir, or the config it was made with. {e}'
      ) from e
    if place is not None:
      data_iterator.set_state(json.loads(place.read_text()))
    return restored.state

  def close(self):
    """Waits for the last save. Without this it is lost."""
    self._manager.close()


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
