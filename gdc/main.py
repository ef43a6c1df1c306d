"""Door 1: training, sampling and evaluation.

  python -m gdc.main --config configs/flow.py --workdir DIR

Run from the repository's root. --mode=train trains (or goes on), exports a
bundle, evaluates it; --mode=sample and --mode=eval do the last parts alone,
from the newest checkpoint. Any field: --config.optimizer.learning_rate=1e-4.
With --mode=eval --out FILE the workdir is only read: so one run is sampled in
many ways (launch/sweep.py).
"""
import contextlib
import json
import logging
import tempfile

import absl.logging
import jax
from absl import app, flags
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import config_flags

from gdc.codec import programs
from gdc.evaluation import heldout
from gdc.training import checkpoints, export, loop, runs

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Configuration, from configs/.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for checkpoints, metrics and results.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'sample', 'eval'], 'What to do; see the top.'
)
_OUT = flags.DEFINE_string(
  'out', None, 'File of the results; WORKDIR/results.json if not given.'
)
flags.mark_flags_as_required(['config', 'workdir'])

# What of a config only training reads: results name what it was then.
_TRAINED_WITH = (
  'data', 'dtype', 'init_from', 'level_balance', 'one_step', 'optimizer',
  'products', 'seed',
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  config, workdir = _CONFIG.value, _WORKDIR.value
  mode, out = _MODE.value, _OUT.value
  if out and (mode == 'sample' or '://' in out):
    raise app.UsageError('--out is a local file, and not for --mode=sample.')
  # The libraries' own information would drown ours.
  absl.logging.set_verbosity(absl.logging.WARNING)
  logging.getLogger('gdc').setLevel(logging.INFO)
  # On a single host; on a pod, no other failure may pass as one.
  with contextlib.suppress(ValueError):
    jax.distributed.initialize()
  programs.keep()
  if mode == 'train':
    loop.train(config, workdir)
  # Results are made in a local folder; a bucket gets a copy of them. A bundle
  # that is evaluated for --out alone has no business in the workdir.
  remote = '://' in workdir
  aside = mode == 'eval' and out
  with tempfile.TemporaryDirectory() as temporary:
    folder = temporary if remote or aside else workdir
    bundle_folder = runs.export_bundle(config, workdir, f'{folder}/bundle')
    with checkpoints.opened(runs.checkpoint_folder(workdir)) as store:
      steps = store.latest_step()  # asked by all processes together
    if jax.process_index() == 0:
      trained = json.loads((epath.Path(workdir) / runs.CONFIG).read_text())
      record = json.loads(config.to_json_best_effort()) | {'steps': steps}
      paths = heldout.run(
        bundle_folder,
        source=config.evaluation.source,
        qualities=config.evaluation.qualities,
        max_images=config.evaluation.max_images,
        decoder=None if config.stage == 'autoencoder' else config.stage,
        pictures=None if aside else f'{folder}/pictures',
        results=None if mode == 'sample' else out or f'{folder}/results.json',
        # A run that began before a field was there goes without it.
        record=record | {n: trained[n] for n in _TRAINED_WITH if n in trained},
      )
      if not aside:
        paths['bundle'] = str(bundle_folder)
        paths['tensorboard'] = f'{workdir}/tensorboard'
        if remote:
          export.copy_files(folder, workdir)
      for name, path in paths.items():
        print(f'{name:12} {path.replace(folder, workdir)}')
  # The others wait: one that left would end the run for all.
  multihost_utils.sync_global_devices('evaluated')


if __name__ == '__main__':
  app.run(main)
