"""Whether a run may be resumed with a config: the record in its workdir.

`config.json` holds the config that a run was last trained with and, as
`frozen`, the digests of the networks that it builds upon. Shapes alone do not
tell: the same network may have been trained with other noise, or on another
autoencoder of the same shape.
"""
import json
import logging
from typing import Any

import ml_collections
from etils import epath
from flax import traverse_util

from gdc import atomic, decoders

_LOG = logging.getLogger(__name__)
NAME = 'config.json'
FROZEN = 'frozen'
# A trained network is bound to these parts of its config,
_BINDING = ('stage', 'autoencoder', 'score_net', *decoders.DECODERS, FROZEN)
# except for settings of decoders that only the loss reads.
_FREE = {
  decoder.full_name(field) for decoder in decoders.DECODERS.values()
  for field in decoder.settings('training')
}


def read(workdir) -> dict[str, Any]:
  """Returns the record of a run.

  Raises:
    ValueError: there is none, or it is damaged.
  """
  path = epath.Path(workdir) / NAME
  if not path.exists():
    raise ValueError(f'{workdir} is not the workdir of a run: no {NAME}.')
  try:
    return dict(json.loads(path.read_text()))
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'{path} is damaged ({e}): restore it from a copy, or remove it to '
      'resume with the config that is given.'
    ) from e


def check(
  config: ml_collections.ConfigDict, workdir, frozen: dict[str, str]
) -> None:
  """Raises ValueError if the run was trained as something else.

  Args:
    config: the config to resume, sample or evaluate the run with.
    workdir: the run's workdir; accepted if it has no record.
    frozen: digests of the networks that the config builds upon, by name.
  """
  if not (epath.Path(workdir) / NAME).exists():
    return
  before = _binding(read(workdir))
  now = _binding(_record(config, frozen))
  # The stage first: another one differs in everything else.
  for field in sorted({*before, *now}, key=lambda f: (f != 'stage', f)):
    if before.get(field) != now.get(field):
      old, new = (
        value[:8] if field.startswith(FROZEN) and value else value
        for value in (before.get(field), now.get(field))
      )
      raise ValueError(
        f'{workdir} was trained with {field} = {old}, not {new}: name another '
        '--workdir, or use the value it was trained with.'
      )


def write(
  config: ml_collections.ConfigDict, workdir, frozen: dict[str, str]
) -> None:
  """Writes the record of a run; logs what changed in it."""
  path = epath.Path(workdir) / NAME
  path.parent.mkdir(parents=True, exist_ok=True)
  record = _record(config, frozen)
  if path.exists():
    before = read(workdir)
    for name in sorted({*before, *record}):
      if before.get(name) != record.get(name):
        _LOG.warning(
          'Resumed with %s = %s, which was %s.',
          name, record.get(name), before.get(name),
        )
  with atomic.replaced(path) as temporary:
    temporary.write_text(json.dumps(record, indent=2) + '\n')


def _record(config, frozen) -> dict[str, Any]:
  record = json.loads(config.to_json_best_effort())
  return {**record, FROZEN: frozen} if frozen else record


def _binding(record: dict[str, Any]) -> dict[str, Any]:
  """The fields of a record that a trained network is bound to."""
  parts = {name: record[name] for name in _BINDING if name in record}
  flat = traverse_util.flatten_dict(parts, sep='.')
  return {name: value for name, value in flat.items() if name not in _FREE}
