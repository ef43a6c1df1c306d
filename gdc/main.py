"""Door 1: training, sampling and evaluation.

  python -m gdc.main --config configs/flow.py --workdir DIR

Run from the repository's root. --mode=train trains (or goes on), exports a
bundle, evaluates it; --mode=sample and --mode=eval do the last parts alone,
from the newest checkpoint. Any field: --config.optimizer.learning_rate=1e-4.
"""
import logging
import pathlib

import absl.logging
import jax
from absl import app, flags
from ml_collections import config_flags

from gdc.evaluation import heldout
from gdc.training import loop

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Configuration, from configs/.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for checkpoints, metrics and results.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'sample', 'eval'], 'What to do; see the top.'
)
flags.mark_flags_as_required(['config', 'workdir'])


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  # The libraries' own information would drown ours.
  absl.logging.set_verbosity(absl.logging.WARNING)
  logging.getLogger('gdc').setLevel(logging.INFO)
  try:
    jax.distributed.initialize()
  except ValueError:
    pass  # a single host; on a pod any other failure must not pass as one
  jax.config.update('jax_compilation_cache_dir', str(
    pathlib.Path.home() / '.cache' / 'gdc' / 'xla'
  ))
  config, workdir = _CONFIG.value, _WORKDIR.value
  if _MODE.value == 'train':
    loop.train(config, workdir)
  paths = heldout.run(
    loop.export_bundle(config, workdir),
    workdir,
    source=config.evaluation.source,
    qualities=config.evaluation.qualities,
    max_images=config.evaluation.max_images,
    pictures_only=_MODE.value == 'sample',
  )
  print('\n'.join(f'{name:12} {path}' for name, path in paths.items()))


if __name__ == '__main__':
  app.run(main)
