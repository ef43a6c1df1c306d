"""Training, sampling and evaluation.

  python -m gdc.main --config configs/flow.py [--workdir DIR]

Run from the repository's root. Without --workdir everything is written to
runs/flow, after the config. --mode=train trains, or resumes training,
exports a bundle, with contexts that are fitted to a new autoencoder, and
evaluates it; --mode=sample and --mode=eval only do the
last parts, with the newest checkpoint. Set any field of the config with a flag
such as --config.optimizer.learning_rate=1e-4. With --mode=eval --out FILE the
workdir is only read, so that one run can be sampled in many ways (see
launch/sweep.py). --mode=compile --topology v5e:16x16 compiles for TPUs that
need not be there, and prints what a chip would hold and do.

Exit status: 0 success; 1 failure and 2 wrong arguments, each with one line on
standard error; 130, 143, 129: stopped by ^C, SIGTERM, SIGHUP.
"""
import contextlib
import json
import logging
import multiprocessing
import os
import pathlib
import sys
import tempfile
import traceback

from gdc import atomic, paths
from gdc.training import preemption

# Training-only fields: results record the values they had during training.
_TRAINING_ONLY = (
  'contexts', 'data', 'dtype', 'init_from', 'level_balance', 'matmul_dtype',
  'one_step', 'optimizer', 'seed',
)


def run(argv=None) -> int:
  """Runs the command; returns its exit status."""
  with preemption.listening():
    try:
      from gdc.training import options  # late: signals are heeded first
      main(options.parse(sys.argv[1:] if argv is None else argv, __doc__))
    except SystemExit as e:
      return e.code or 0
    except BrokenPipeError:
      return 1  # the reader of the output has gone, as `| head` does
    except Exception as e:
      message = _message(e)
      if not message:
        raise
      with contextlib.suppress(OSError, ValueError):
        print(f'gdc.main: {message}', file=sys.stderr, flush=True)
      return 2 if type(e).__name__ == 'OptionError' else 1
  return 0


def main(asked) -> None:
  """Does what a command line asks for; see options.parse."""
  import absl.flags
  import absl.logging
  import jax
  from jax.experimental import multihost_utils

  from gdc.codec import programs
  from gdc.training import limits, lock, loop, options

  # --- Set up ---------------------------------------------------------------
  absl.logging.set_verbosity(absl.logging.FATAL)  # of libraries
  logging.basicConfig(format='%(message)s', force=True)
  logging.getLogger('gdc').setLevel(logging.INFO)
  absl.flags.FLAGS.mark_as_parsed()  # grain's workers read flags
  try:
    limits.check(asked.config)
  except ValueError as e:
    raise options.OptionError(f'config.{e}') from e
  if asked.mode == 'compile':
    from gdc.training import aot
    try:
      print(aot.compile_all(asked.config, asked.topology, asked.stand_in))
    except ValueError as e:
      raise options.OptionError(str(e)) from e
    return
  with contextlib.suppress(ValueError):  # raised on a single host
    jax.distributed.initialize()
  _check_backend()
  if jax.process_count() > 1 and not asked.chosen:
    raise options.OptionError(
      f'--workdir is missing: {jax.process_count()} processes need one that '
      'all of them see, such as gs://BUCKET/FOLDER.'
    )
  is_first = jax.process_index() == 0
  if is_first and not asked.chosen:
    logging.getLogger('gdc').info(
      'The work directory is %s; --workdir=DIR sets another.', asked.workdir
    )
  if asked.out and is_first:
    atomic.check_writable(pathlib.Path(asked.out))
  programs.keep()

  # --- Train, evaluate ------------------------------------------------------
  if asked.mode != 'train':
    _evaluate(asked)
  elif not _is_finished(asked):
    with lock.held(asked.workdir) if is_first else contextlib.nullcontext():
      if asked.config.stage != 'contexts':
        loop.train(asked.config, asked.workdir)
      _evaluate(asked)
  # A process that left early would end the run for all.
  multihost_utils.sync_global_devices('evaluated')


def _check_backend() -> None:
  """Raises ValueError if jax cannot use the platform it was told to."""
  import jax
  try:
    jax.devices()
  except Exception as e:  # an AssertionError if a plugin is missing
    reason = f' ({_first_line(e)})' if str(e) else ''
    raise ValueError(
      f'jax has no back end for JAX_PLATFORMS={jax.config.jax_platforms} '
      f'here{reason}: JAX_PLATFORMS=cpu works everywhere; pip install '
      "'gdc-codec[cuda]' or 'gdc-codec[tpu]' brings others."
    ) from e


def _evaluate(asked) -> None:
  """Makes a bundle, evaluates it, prints what was written.

  All processes restore the checkpoint together; the first one does the rest.
  """
  import jax

  from gdc.codec import bundle
  from gdc.evaluation import heldout
  from gdc.training import experiment, export
  config, workdir, out = asked.config, asked.workdir, asked.out
  made, steps = experiment.restore_bundle(config, workdir)
  if jax.process_index():
    return
  if 'contexts' in config:
    made = experiment.with_contexts(
      config, made, workdir, fit=asked.mode == 'train'
    )
  # Results are made in a local folder, which is then copied to a bucket. With
  # --mode=eval --out the workdir is left as it is.
  in_bucket = '://' in workdir
  only_read = asked.mode == 'eval' and out
  with tempfile.TemporaryDirectory() as temporary:
    folder = temporary if in_bucket or only_read else workdir
    bundle_folder = pathlib.Path(folder, 'bundle')
    bundle.save(made, bundle_folder)
    written = heldout.run(
      bundle_folder,
      source=config.evaluation.source,
      qualities=config.evaluation.qualities,
      max_images=config.evaluation.max_images,
      decoder=None if 'contexts' in config else config.stage,
      pictures=None if only_read else f'{folder}/pictures',
      results=None if asked.mode == 'sample' else out or (
        f'{folder}/results.json'
      ),
      record=_record(config, workdir, steps),
    )
    if not only_read:
      written |= _places(workdir, config)
      if in_bucket:
        export.copy_files(folder, workdir)
    for name, path in written.items():
      print(f'{name:12} {path.replace(folder, workdir)}')


def _places(workdir, config) -> dict[str, str]:
  places = {'bundle': f'{workdir}/bundle'}
  if config.stage != 'contexts':
    places['tensorboard'] = f'{workdir}/tensorboard'
  return places


def _record(config, workdir, steps: int | None):
  """The config as results record it, with the number of steps trained."""
  from gdc.training import resume
  trained = resume.read(workdir)
  record = json.loads(config.to_json_best_effort())
  if steps is not None:
    record['steps'] = steps
  return record | {n: trained[n] for n in _TRAINING_ONLY if n in trained}


def _is_finished(asked) -> bool:
  """Whether nothing is left to do; if so, prints where the results are."""
  from etils import epath

  from gdc.evaluation import records
  from gdc.training import checkpoints
  config, workdir = asked.config, asked.workdir
  if config.stage == 'contexts':
    return False  # fitting them again takes minutes
  results = asked.out or f'{workdir}/results.json'
  done = max(checkpoints.steps(workdir), default=0)
  if done < config.steps or not epath.Path(f'{workdir}/bundle').exists():
    return False
  try:
    curves = json.loads(epath.Path(results).read_text())
    record = records.portable(_record(config, workdir, done))
    if any(c['meta']['config'] != record for c in curves.values()):
      return False
  except (OSError, LookupError, TypeError, ValueError, AttributeError):
    return False  # no results yet, or not of this config
  print(
    f'{workdir} is finished, at step {done}. --config.steps={2 * done} trains '
    'it on; --mode=eval evaluates it again.'
  )
  for name, path in {'results': results, **_places(workdir, config)}.items():
    print(f'{name:12} {path}')
  return True


# --- Errors and exit --------------------------------------------------------


def _message(error: Exception) -> str:
  """An error's line for the user; '' for a bug, which needs its traceback."""
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
    return (
      'out of memory: lower --config.data.batch_size or --config.data.crop; '
      'for contexts, --config.contexts.max_crops '
      f'({_first_line(error)})'
    )
  if isinstance(error, ImportError):
    if (error.name or '').partition('.')[0] in ('', 'gdc'):
      return ''
    return f"{error}: pip install 'gdc-codec[train]' brings what is missing"
  frames = traceback.extract_tb(error.__traceback__)
  package = pathlib.Path(__file__).parent
  is_ours = package in pathlib.Path(frames[-1].filename).parents
  if (
    isinstance(error, OSError)
    or type(error).__module__.startswith('tensorflow.')  # of a bucket
    or is_ours
    and isinstance(error, ArithmeticError | RuntimeError | ValueError)
  ):
    return ' '.join(paths.words(error).split())
  return ''


def _first_line(error) -> str:
  return str(error).strip().partition('\n')[0][:200]


def _exit(status: int) -> None:
  """Ends the process."""
  jax = sys.modules.get('jax')
  alone = not (jax and jax.distributed.is_initialized())
  if alone and status in map(preemption.status, preemption.SIGNALS):
    # Without waiting for threads of libraries, which may crash meanwhile.
    for child in multiprocessing.active_children():
      child.terminate()
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(AttributeError, OSError, ValueError):
        stream.flush()
    os._exit(status)
  sys.exit(status)


if __name__ == '__main__':
  _exit(run())
