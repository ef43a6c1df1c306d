"""Which checkpoints a run has, told by names alone: no jax, no orbax."""
import pathlib
import re


def newest(workdir: pathlib.Path) -> int | None:
  """The step of the newest complete checkpoint of a workdir; None: none."""
  found = [
    int(path.name) for path in (workdir / 'checkpoints').glob('*')
    if re.fullmatch(r'\d+', path.name)
  ]
  return max(found, default=None)
