"""Forked processes: JAX hangs in a child that is forked while it is running.

A child has the parent's JAX without its threads, and waits for them for ever.
`check` raises an error there instead. A child that was forked before JAX was
started has nothing to wait for, and works. No jax is imported here.
"""
import os
import sys
import threading


def check():
  """Raises RuntimeError where JAX would hang: it was running before a fork."""
  if _forked_from_jax:
    raise RuntimeError(
      'This process was forked after its parent had started JAX, which would '
      "hang here: start workers with multiprocessing's 'spawn' or 'forkserver' "
      'in place of fork, or fork before the parent uses JAX or a codec, and '
      'load the codec in the child.'
    )


def lock():
  """A reentrant lock that is free in a forked child, whoever held it."""
  made = threading.RLock()
  _after_fork(made._at_fork_reinit)
  return made


def _jax_is_running() -> bool:
  """Whether JAX has started, or is starting, a backend in this process."""
  bridge = sys.modules.get('jax._src.xla_bridge')
  if bridge is None:
    return False
  # Without these names, a version of jax to come counts as running: an error
  # too many is better than a process that hangs.
  starting = getattr(bridge, '_backend_lock', None)
  return bool(getattr(bridge, '_backends', True)) or (
    starting is not None and starting.locked()
  )


def _is_alone() -> bool:
  """Whether this process has no thread but one, as after a fork."""
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


# A running JAX has threads. Without them, this module is imported by a child.
_forked_from_jax = _jax_is_running() and _is_alone()
_after_fork(_note_fork)
