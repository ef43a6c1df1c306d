"""Door 1: training, sampling and evaluation.

  python -m gdc.main --config configs/flow.py --workdir DIR

Run from the repository's root. --mode=train trains (or goes on), exports a
bundle, evaluates it; --mode=sample and --mode=eval do the last parts alone,
from the newest checkpoint. Any field: --config.optimizer.learning_rate=1e-4.
With --mode=eval --out FILE the workdir is only read: so one run is sampled in
many ways (launch/sweep.py).

Exit status: 0 done; 1 something is at fault, 2 the arguments are, either said
in one line on standard error; 130, 143, 129: ended by ^C, SIGTERM, SIGHUP.
"""
# ruff: noqa: E402
import os
import signal

if __name__ == '__main__' and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
  # Until preemption.py listens, which is a moment of imports away.
  signal.signal(signal.SIGINT, lambda *_: (
    os.write(2, b'gdc.main: ended by SIGINT\n'), os._exit(130)
  ))

import contextlib
import json
import logging
import multiprocessing
import pathlib
import sys
import tempfile
import traceback

from gdc import atomic, paths
from gdc.training import preemption

# What of a config only training reads: results name what it was then.
_TRAINED_WITH = (
  'data', 'dtype', 'init_from', 'level_balance', 'one_step', 'optimizer',
  'matmul_dtype', 'seed',
)


def run(argv=None) -> int:
  """The command; returns its exit status."""
  with preemption.listening():
    try:
      from gdc.training import options  # late: listening comes first
      asked = options.parse(sys.argv[1:] if argv is None else argv, __doc__)
      main(asked)
    except SystemExit as e:
      return e.code or 0
    except BrokenPipeError:
      return 1  # whoever read the output has gone, as `| head` does
    except ImportError as e:
      if (e.name or '').partition('.')[0] in ('', 'gdc'):
        raise
      _say(f"{e}: pip install 'gdc-codec[train]' brings what training needs")
      return 1
    except (
      ArithmeticError, MemoryError, OSError, RuntimeError, ValueError
    ) as e:
      if not _expected(e):
        raise
      _say(_words(e))
      return 2 if type(e).__name__ == 'OptionError' else 1
    except Exception as e:
      if not type(e).__module__.startswith('tensorflow.'):
        raise
      _say(_words(e))  # of a bucket
      return 1
  return 0


def main(asked):
  """Does what a command line asks for; see options.Options."""
  import absl.flags
  import absl.logging
  import jax
  from jax.experimental import multihost_utils

  from gdc.codec import programs
  from gdc.training import limits, lock, loop, options
  # The libraries' own information would drown ours.
  absl.logging.set_verbosity(absl.logging.FATAL)
  logging.basicConfig(format='%(message)s', force=True)  # absl has its own
  logging.getLogger('gdc').setLevel(logging.INFO)
  absl.flags.FLAGS.mark_as_parsed()  # grain's workers read flags
  try:
    limits.check(asked.config)
  except ValueError as e:
    raise options.OptionError(f'config.{e}') from e
  # On a single host; on a pod, no other failure may pass as one.
  with contextlib.suppress(ValueError):
    jax.distributed.initialize()
  _check_backend()
  if asked.out and not jax.process_index():
    atomic.check_writable(pathlib.Path(asked.out))
  programs.keep()
  if asked.mode != 'train':
    _evaluate(asked)
  elif not _finished(asked):
    first = jax.process_index() == 0
    with lock.held(asked.workdir) if first else contextlib.nullcontext():
      loop.train(asked.config, asked.workdir)
      _evaluate(asked)
  # The others wait: one that left would end the run for all.
  multihost_utils.sync_global_devices('evaluated')


def _check_backend():
  """Raises ValueError where jax can not run on what it was told to."""
  import jax
  try:
    jax.devices()
  except Exception as e:  # an AssertionError, where a plugin is missing
    asked = jax.config.jax_platforms
    reason = f' ({_first_line(e)})' if str(e) else ''
    raise ValueError(
      f'jax has no back end for JAX_PLATFORMS={asked} here{reason}: '
      "JAX_PLATFORMS=cpu works everywhere; pip install 'gdc-codec[cuda]' or "
      "'gdc-codec[tpu]' brings others."
    ) from e


def _evaluate(asked):
  """Exports the newest checkpoint, evaluates it, prints where things are."""
  import jax

  from gdc.evaluation import heldout
  from gdc.training import export, runs
  config, workdir, out = asked.config, asked.workdir, asked.out
  # Results are made in a local folder; a bucket gets a copy of them. A bundle
  # that is evaluated for --out alone has no business in the workdir.
  remote = '://' in workdir
  aside = asked.mode == 'eval' and out
  with tempfile.TemporaryDirectory() as temporary:
    folder = temporary if remote or aside else workdir
    bundle_folder, steps = runs.export_bundle(
      config, workdir, f'{folder}/bundle'
    )
    if jax.process_index():
      return
    results = out or f'{folder}/results.json'
    found = heldout.run(
      bundle_folder,
      source=config.evaluation.source,
      qualities=config.evaluation.qualities,
      max_images=config.evaluation.max_images,
      decoder=None if config.stage == 'autoencoder' else config.stage,
      pictures=None if aside else f'{folder}/pictures',
      results=None if asked.mode == 'sample' else results,
      record=_record(config, workdir, steps),
    )
    if not aside:
      found |= _places(workdir)
      if remote:
        export.copy_files(folder, workdir)
    for name, path in found.items():
      print(f'{name:12} {path.replace(folder, workdir)}')


def _places(workdir) -> dict[str, str]:
  return {
    'bundle': f'{workdir}/bundle', 'tensorboard': f'{workdir}/tensorboard'
  }


def _record(config, workdir, steps: int):
  """What results say of the run that they are of."""
  from gdc.training import runs
  trained = runs.recorded(workdir)
  record = json.loads(config.to_json_best_effort()) | {'steps': steps}
  # A run that began before a field was there goes without it.
  return record | {n: trained[n] for n in _TRAINED_WITH if n in trained}


def _finished(asked) -> bool:
  """Says so, and where its results are, if there is nothing left to do."""
  from etils import epath

  from gdc.evaluation import records
  from gdc.training import checkpoints, runs
  config, workdir = asked.config, asked.workdir
  results = asked.out or f'{workdir}/results.json'
  done = max(checkpoints.steps(runs.checkpoint_folder(workdir)), default=0)
  if done < config.steps or not epath.Path(f'{workdir}/bundle').exists():
    return False
  try:
    curves = json.loads(epath.Path(results).read_text())
    record = records.portable(_record(config, workdir, done))
    if any(c['meta']['config'] != record for c in curves.values()):
      return False
  except (OSError, LookupError, TypeError, ValueError, AttributeError):
    return False  # no results yet, or others than this would give
  print(
    f'{workdir} is finished, at step {done}. --config.steps={2 * done} trains '
    'it on; --mode=eval evaluates it again.'
  )
  for name, path in {'results': results, **_places(workdir)}.items():
    print(f'{name:12} {path}')
  return True


# --- What went wrong --------------------------------------------------------


def _expected(error: BaseException) -> bool:
  """Whether an error is ours, the system's or for want of memory.

  Another is a mistake of this program, which its traceback helps to find.
  """
  if isinstance(error, OSError | MemoryError) or _lacks_memory(error):
    return True
  frames = traceback.extract_tb(error.__traceback__)
  ours = pathlib.Path(__file__).parent
  return bool(frames) and ours in pathlib.Path(frames[-1].filename).parents


def _lacks_memory(error) -> bool:
  return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)


def _words(error: BaseException) -> str:
  if _lacks_memory(error):
    return (
      'out of memory: lower --config.data.batch_size or --config.data.crop '
      f'({_first_line(error)})'
    )
  return ' '.join(paths.words(error).split())


def _first_line(error) -> str:
  return str(error).strip().partition('\n')[0][:200]


def _say(text: str):
  with contextlib.suppress(OSError, ValueError):
    print(f'gdc.main: {text}', file=sys.stderr, flush=True)


def _leave(status: int):
  """Ends the process."""
  jax = sys.modules.get('jax')
  alone = not (jax and jax.distributed.is_initialized())
  if alone and status in map(preemption.status, preemption.SIGNALS):
    # Past the libraries' threads: what they do meanwhile may crash it.
    for child in multiprocessing.active_children():
      child.terminate()
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(AttributeError, OSError, ValueError):
        stream.flush()
    os._exit(status)
  sys.exit(status)


if __name__ == '__main__':
  _leave(run())
