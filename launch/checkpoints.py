"""Which checkpoints a run has, told by names alone: no jax, no orbax."""
import pathlib
import re


def newest(workdir: pathlib.Path, whole: bool = False) -> int | None:
  """The step of the newest checkpoint of a workdir; None: none.

  Args:
    workdir: of a run.
    whole: whether the files of it are looked at, too, if it lists them.
  """
  found = sorted((
    (int(path.name), path) for path in (workdir / 'checkpoints').glob('*')
    if re.fullmatch(r'\d+', path.name)
  ), reverse=True)
  return next((step for step, path in found if not whole or _whole(path)), None)


def _whole(path: pathlib.Path) -> bool:
  from gdc.training import manifest  # late: sweeps need nothing of gdc
  if manifest.recorded(path):
    return not manifest.fault(path)
  return any(path.iterdir())
