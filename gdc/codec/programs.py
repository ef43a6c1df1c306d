"""Compiled programs, kept on disk between runs of the commands.

A command that compresses one small picture would otherwise spend its time on
importing network code, tracing and compiling it. A program that was compiled
once is stored, and the next run loads it without any of the three.

A stored program is only used by the same versions of gdc (its source, byte for
byte), jax and Python, on the same kind of processor, with the same settings;
anything else, and a file that is damaged, is compiled afresh. Files are read
with pickle: the folder is the user's own, as that of any compiler's cache.
"""
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import pickle
import platform
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

_PACKAGE = pathlib.Path(__file__).parents[1]
# What goes into a program: the source of these rooms.
_ROOMS = ('codec', 'models', 'processes')
_DIGEST_BYTES = 32
_folder: pathlib.Path | None = None


class Program(NamedTuple):
  """A compiled function, and what its caller must know of it."""

  run: Callable
  facts: dict[str, Any]


def keep(folder=None):
  """Keeps programs in a folder from now on; jax keeps its own in it, too.

  Args:
    folder: None takes GDC_CACHE_DIR if that is set, else `gdc` in the user's
      cache (XDG_CACHE_HOME or ~/.cache); an empty GDC_CACHE_DIR keeps none.
  """
  global _folder
  if folder is None:
    folder = os.environ.get('GDC_CACHE_DIR')
  if folder is None:
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    # A user without a home keeps none.
    folder = '' if cache.startswith('~') else os.path.join(cache, 'gdc')
  _folder = pathlib.Path(folder) / 'programs' if folder else None
  if folder and not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    jax.config.update(
      'jax_compilation_cache_dir', os.path.join(folder, 'xla')
    )


def build(name: str, make, arguments, record) -> Program:
  """A compiled program: the stored one, or compiled now and stored.

  Args:
    name: of the program, for people.
    make: () -> (function, facts); only called when it has to be compiled. The
      function is a new object each time, and returns one array.
    arguments: of the function; pytrees of arrays or ShapeDtypeStructs.
    record: whatever else decides on the program, for json.
  """
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments
  )
  trees = jax.tree.structure((shapes, {})), jax.tree.structure(0)
  path = None
  if _folder is not None:
    described = [str(s) for s in jax.tree.leaves(shapes)] + [str(trees[0])]
    key = hashlib.sha256(
      json.dumps([name, record, described, _machine()]).encode()
    )
    path = _folder / f'{name}-{key.hexdigest()[:24]}'
    stored = _read(path, trees)
    if stored is not None:
      return Program(
        _Stored(stored.run, lambda: _compile(make, shapes, path).run),
        stored.facts,
      )
  return _compile(make, shapes, path)


def _compile(make, shapes, path) -> Program:
  function, facts = make()
  with _without_jax_cache():
    program = Program(jax.jit(function).lower(*shapes).compile(), facts)
  if path is not None:
    _write(path, program)
  return program


class _Stored:
  """A program from the folder; compiled afresh if it does not run here."""

  def __init__(self, run, compile_again):
    self._run, self._compile_again = run, compile_again
    self._ran = False

  def __call__(self, *arguments):
    if self._ran:
      return self._run(*arguments)
    try:
      result = jax.block_until_ready(self._run(*arguments))
    except RuntimeError:
      self._run = self._compile_again()
      result = self._run(*arguments)
    self._ran = True
    return result


@contextlib.contextmanager
def _without_jax_cache():
  """Keeps jax's own cache of compiled programs out of it.

  On CPU, a program that came out of that cache can be run, but what is
  serialized from it lacks its code.
  """
  name = 'jax_enable_compilation_cache'
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  compilation_cache.reset_cache()  # it has looked at the setting already
  try:
    yield
  finally:
    jax.config.update(name, before)
    compilation_cache.reset_cache()


def _read(path: pathlib.Path, trees):
  try:
    data = path.read_bytes()
    digest, payload = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
      return None
    facts, executable = pickle.loads(payload)
    run = serialize_executable.deserialize_and_load(
      executable, *trees, execution_devices=jax.devices()[:1]
    )
    return Program(run, facts)
  except Exception:  # whatever is wrong with it: it can be made again
    return None


def _write(path: pathlib.Path, program: Program):
  """Stores a program; a folder that cannot be written is no error."""
  try:
    executable, _, _ = serialize_executable.serialize(program.run)
    payload = pickle.dumps((program.facts, executable))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix='.program-')
    with os.fdopen(handle, 'wb') as f:
      f.write(hashlib.sha256(payload).digest() + payload)
    os.replace(temporary, path)
  except (OSError, ValueError, NotImplementedError, RuntimeError):
    pass


@functools.cache
def _machine() -> list[str]:
  """What a compiled program depends on, besides what it was made from."""
  source = hashlib.sha256()
  for room in _ROOMS:
    for path in sorted((_PACKAGE / room).glob('*.py')):
      source.update(path.name.encode() + path.read_bytes())
  device = jax.devices()[0]
  return [
    source.hexdigest(), sys.version, jax.__version__, jax.lib.__version__,
    device.platform, device.device_kind, device.client.platform_version,
    str(len(jax.devices())), platform.machine(), _processor(),
    os.environ.get('XLA_FLAGS', ''), str(jax.config.jax_enable_x64),
  ]


def _processor() -> str:
  """The processor's name and what it can do, as far as the system says."""
  try:
    with open('/proc/cpuinfo') as f:
      lines = f.read().split('\n\n')[0].splitlines()
    return '\n'.join(
      line for line in lines
      if line.startswith(('model name', 'flags', 'Features', 'CPU'))
    )
  except OSError:
    return f'{platform.processor()} {platform.node()}'
