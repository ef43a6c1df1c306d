"""Checkpoints: the only module that imports orbax.

A checkpoint holds the training state and the data iterator's, so that a
resumed run is the run that was never stopped. It appears under its step's
name only when it is complete.
"""
import pathlib

import orbax.checkpoint as ocp
from grain import checkpoint as grain_checkpoint
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

  def save(self, step: int, state, data_iterator):
    """Starts saving; training may go on meanwhile."""
    if self._manager.latest_step() == step:
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        data=grain_checkpoint.CheckpointSave(data_iterator),
      ),
    )

  def restore(self, step: int, abstract_state, data_iterator=None):
    """Returns the state, and moves the data iterator to its place.

    Args:
      step: from latest_step.
      abstract_state: ShapeDtypeStructs that carry shardings.
      data_iterator: of the pipeline that the run was started with; None where
        only the state is wanted.

    Raises:
      ValueError: the checkpoint does not fit the state.
    """
    items = {'state': ocp.args.StandardRestore(abstract_state)}
    if data_iterator is not None:
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
