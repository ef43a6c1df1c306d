"""Checkpoints: the only module that imports orbax.

A checkpoint holds the training state and the data iterator's, so that a
resumed run is the run that was never stopped. It appears under its step's
name only when it is complete. Where batches depend on the step alone there is
no iterator, and grain is not imported.
"""
import pathlib

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
    items = {'state': ocp.args.StandardRestore(abstract_state)}
    if data_iterator is not None:
      if not (epath.Path(self.folder) / str(step) / 'data').exists():
        raise ValueError(
          f'The run in {self.folder} was trained with data.resident, and keeps '
          'no place in its data: go on with the data.resident of its '
          'config.json.'
        )
      from grain import checkpoint as grain_checkpoint
      items['data'] = grain_checkpoint.CheckpointRestore(data_iterator)
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except (KeyError, TypeError, ValueError) as e:
      raise ValueError(
        f'The checkpoint of step {step} in {self.folder} does not fit this '
        f'config: use another workdir, or the config it was made with. {e}'
      ) from e
    return restored.state

  def close(self):
    """Waits for the last save. Without this it is lost."""
    self._manager.close()
