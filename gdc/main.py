"""Door 1: training, sampling and evaluation.

  python -m gdc.main --config configs/flow.py --workdir DIR

Run from the repository's root. --mode=train trains (or goes on), exports a
bundle, evaluates it; --mode=sample and --mode=eval do the last parts alone,
from the newest checkpoint. Any field: --config.optimizer.learning_rate=1e-4.
"""
import contextlib
import logging
import tempfile

import absl.logging
import jax
from absl import app, flags
from jax.experimental import multihost_utils
from ml_collections import config_flags

from gdc.codec import programs
from gdc.evaluation import heldout
from gdc.training import export, loop, runs

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
  # On a single host; on a pod, no other failure may pass as one.
  with contextlib.suppress(ValueError):
    jax.distributed.initialize()
  programs.keep()
  config, workdir = _CONFIG.value, _WORKDIR.value
  if _MODE.value == 'train':
    loop.train(config, workdir)
  # Results are made in a local folder; a bucket gets a copy of them.
  remote = '://' in workdir
  with tempfile.TemporaryDirectory() as temporary:
    folder = temporary if remote else workdir
    bundle_folder = runs.export_bundle(config, workdir, f'{folder}/bundle')
    if jax.process_index() == 0:
      paths = heldout.run(
        bundle_folder,
        folder,
        source=config.evaluation.source,
        qualities=config.evaluation.qualities,
        max_images=config.evaluation.max_images,
        decoder=None if config.stage == 'autoencoder' else config.stage,
        pictures_only=_MODE.value == 'sample',
      )
      if remote:
        export.copy_files(folder, workdir)
      paths['tensorboard'] = f'{workdir}/tensorboard'
      for name, path in paths.items():
        print(f'{name:12} {path.replace(folder, workdir)}')
  # The others wait: one that left would end the run for all.
  multihost_utils.sync_global_devices('evaluated')


if __name__ == '__main__':
  app.run(main)
