"""JAX's default settings, which gdc computes with whatever its caller chose.

Callers may forbid implicit transfers, rank promotion or NaNs, and choose other
types, precisions, devices and random numbers. Results must not depend on it.
"""
import contextlib

import jax

# Context managers of jax, and the defaults.
_DEFAULTS = {
  'array_garbage_collection_guard': 'allow',
  'check_tracer_leaks': False,
  'debug_infs': False,
  'debug_key_reuse': False,
  'debug_nans': False,
  'default_device': None,
  'default_matmul_precision': None,
  'default_prng_impl': 'threefry2x32',
  'disable_jit': False,
  'enable_checks': False,
  'enable_custom_prng': False,
  'enable_x64': False,
  'legacy_prng_key': 'allow',
  'no_execution': False,
  'no_tracing': False,
  'numpy_dtype_promotion': 'standard',
  'numpy_rank_promotion': 'allow',
  'threefry_partitionable': True,
  'transfer_guard': 'allow',
}
# Settings that look for errors, which training may want.
_DEBUGGING = (
  'check_tracer_leaks', 'debug_infs', 'debug_key_reuse', 'debug_nans',
  'disable_jit', 'enable_checks', 'no_execution', 'no_tracing',
)


@contextlib.contextmanager
def defaults(debugging: bool = False):
  """A context with JAX's default settings and no mesh, for this thread.

  Args:
    debugging: whether to leave settings that look for errors unchanged.

  Raises:
    RuntimeError: JAX is tracing a function in this thread.
  """
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(jax.set_mesh(None))
    except ValueError as e:
      raise RuntimeError(
        'The codec was called while JAX traces a function (jit, vmap, grad, '
        '...); it works on values, so call it outside of that function.'
      ) from e
    for name, value in _DEFAULTS.items():
      if debugging and name in _DEBUGGING:
        continue
      if hasattr(jax, name):  # not all versions have all
        stack.enter_context(getattr(jax, name)(value))
    if not hasattr(jax, 'enable_x64'):
      from jax import experimental  # where older jax has it
      stack.enter_context(experimental.disable_x64())
    yield
