"""Detects forked processes in which JAX would hang.

A child that is forked while JAX is running has the parent's JAX without its
threads, and would wait for them forever; `check` raises an error instead. A
child that was forked before JAX started works. This module imports no jax.
"""
import os
import sys
import threading


def check():
  """Raises RuntimeError if JAX was running before this process was forked."""
  if _forked_from_jax:
    raise RuntimeError(
      'This process was forked after its parent had started JAX, which would '
      "hang here: start workers with multiprocessing's 'spawn' or 'forkserver' "
      'in place of fork, or fork before the parent uses JAX or a codec, and '
      'load the codec in the child.'
    )


def lock():
  """Returns a reentrant lock that is free in a forked child."""
  fresh = threading.RLock()
  _after_fork(fresh._at_fork_reinit)
  return fresh


def _jax_is_running() -> bool:
  """Whether JAX has started, or is starting, a backend in this process."""
  bridge = sys.modules.get('jax._src.xla_bridge')
  if bridge is None:
    return False
  # A future jax without these names counts as running: a needless error is
  # better than a hang.
  starting = getattr(bridge, '_backend_lock', None)
  return bool(getattr(bridge, '_backends', True)) or (
    starting is not None and starting.locked()
  )


def _is_alone() -> bool:
  """Whether this process has a single thread, as after a fork."""
  try:
    return len(os.listdir('/proc/self/task')) == 1
  except OSError:
    return False


def _note_fork():
  global _forked_from_jax
  _forked_from_jax = _forked_from_jax or _jax_is_running()


def _after_fork(function):
  if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=function)


# A running JAX has threads; without them this process is a forked child.
_forked_from_jax = _jax_is_running() and _is_alone()
_after_fork(_note_fork)
