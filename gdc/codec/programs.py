"""Compiled programs, kept on disk between runs of the commands.

A command that compresses one small picture would otherwise spend its time on
importing network code, tracing and compiling it. A program that was compiled
once is stored, and the next run loads it without any of the three.

A stored program is only used by the same versions of gdc (its source, byte for
byte), jax and Python, on the same kind of processor, with the same settings;
anything else, and a file that is damaged, is compiled afresh. Reading a file
can run code, so a folder that others can write to is not used.
"""
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import threading
import weakref
from collections.abc import Callable

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from gdc import atomic, progress
from gdc.codec import jax_settings

_PACKAGE = pathlib.Path(__file__).parents[1]
# What goes into a program: the source of these rooms.
_ROOMS = ('codec', 'decoders', 'models')
_DIGEST_BYTES = 32
_MOST_PROGRAMS = 64  # that are kept, of some 300 KB each
_MOST_OF_JAX = 512  # of those that jax keeps, some for each size of pictures
_DEFAULT = 'default'
# Where programs are kept: None keeps none, _DEFAULT is not decided yet.
_folder: pathlib.Path | str | None = _DEFAULT
_in_use = weakref.WeakValueDictionary()  # programs of this process, by key
_building = threading.RLock()


def keep(folder=None):
  """Keeps programs in a folder from now on; jax keeps its own in it, too.

  Args:
    folder: None takes GDC_CACHE_DIR if that is set, else `gdc` in the user's
      cache (XDG_CACHE_HOME or ~/.cache); an empty GDC_CACHE_DIR keeps none.
      Without a call, programs are kept there, but none of jax.
  """
  global _folder
  if folder is None:
    folder = _default_folder()
  _folder = pathlib.Path(folder) / 'programs' if folder else None
  jax_folder = os.environ.get('JAX_COMPILATION_CACHE_DIR', '')
  if jax_folder.startswith('~'):  # which jax takes for a folder of that name
    jax.config.update(
      'jax_compilation_cache_dir', os.path.expanduser(jax_folder)
    )
  if not folder or jax_folder:
    return
  own = pathlib.Path(folder) / 'xla'
  with contextlib.suppress(OSError):  # then jax keeps nothing
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_ours(own, 0o002):  # jax makes it as it makes all folders
      own.chmod(0o700)
    if _is_ours(own):
      jax.config.update('jax_compilation_cache_dir', str(own))
      _prune(own, _MOST_OF_JAX)


def _default_folder() -> str:
  folder = os.environ.get('GDC_CACHE_DIR')
  if folder is None:
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.path.join(cache, 'gdc')
  folder = os.path.expanduser(folder)
  # A user without a home keeps none.
  return '' if folder.startswith('~') else folder


def build(name: str, make, arguments, record, devices=None) -> Callable:
  """A compiled program: one in use, the stored one, or compiled and stored.

  Threads wait for each other, so that each program is compiled once.

  Args:
    name: of the program, for people.
    make: () -> the function to compile, a new object each time, of one output
      array; only called when it has to be compiled.
    arguments: of the function; pytrees of arrays or ShapeDtypeStructs. Their
      shardings, where they have one, are the program's.
    record: whatever else decides on the program, for json.
    devices: of these shardings, in order; None is the first of this process.

  Returns:
    A function of such arguments.
  """
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(
      a.shape, a.dtype, sharding=getattr(a, 'sharding', None)
    ),
    arguments,
  )
  devices = jax.local_devices()[:1] if devices is None else list(devices)
  trees = jax.tree.structure((shapes, {})), jax.tree.structure(0)
  described = [str(s) for s in jax.tree.leaves(shapes)] + [str(trees[0])]
  described += [f'device {d.id}' for d in devices]
  key = [name, record, described]
  known = json.dumps(key)
  with _building, jax_settings.defaults():
    program = _in_use.get(known)
    if program is None:
      program = _build(name, make, shapes, trees, devices, key)
      _in_use[known] = program
  return program


def _build(name, make, shapes, trees, devices, key):
  global _folder
  if _folder == _DEFAULT:
    folder = _default_folder()
    _folder = pathlib.Path(folder) / 'programs' if folder else None
  if _folder is None:
    with progress.compiling(name):
      return _compile(make, shapes)
  key = hashlib.sha256(json.dumps([*key, _machine(), _settings()]).encode())
  path = _folder / f'{name}-{key.hexdigest()[:24]}'

  def compile_and_store():
    with progress.compiling(name, kept=True), _without_jax_cache():
      program = _compile(make, shapes)
    _write(path, program)
    return program

  run = _read(path, trees, devices)
  return compile_and_store() if run is None else _Stored(run, compile_and_store)


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


def _compile(make, shapes):
  return jax.jit(make()).lower(*shapes).compile()


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


def _read(path: pathlib.Path, trees, devices):
  try:
    if not _is_ours(path.parent):
      return None
    data = path.read_bytes()
    digest, payload = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
      return None
    with contextlib.suppress(OSError):  # of a cache that is only to be read
      os.utime(path)  # what is used is kept
    return serialize_executable.deserialize_and_load(
      payload, *trees, execution_devices=devices
    )
  except Exception:  # whatever is wrong with it: it can be made again
    return None


def _write(path: pathlib.Path, program):
  """Stores a program; one that cannot be stored is no error."""
  with contextlib.suppress(Exception):
    payload, _, _ = serialize_executable.serialize(program)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(path.parent):
      return
    with atomic.replaced(path) as temporary:
      temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
    _prune(path.parent, _MOST_PROGRAMS)


def _prune(folder: pathlib.Path, most: int):
  """Removes the oldest files: other versions leave theirs behind.

  Other processes may do the same.
  """
  found = []
  for path in folder.iterdir():
    with contextlib.suppress(OSError):
      if path.is_file():
        found.append((path.stat().st_mtime, path))
  for _, path in sorted(found)[:-most]:
    with contextlib.suppress(OSError):
      path.unlink()


def _is_ours(folder: pathlib.Path, others: int = 0o022) -> bool:
  """Whether nobody else can put files there: reading them runs their code.

  Args:
    folder: that is looked at.
    others: the bits of its mode that would let others.
  """
  if not hasattr(os, 'getuid'):
    return True
  state = folder.stat()
  return state.st_uid == os.getuid() and not state.st_mode & others


@functools.cache
def _machine() -> list[str]:
  """What a compiled program depends on: our source, versions, hardware."""
  device = jax.devices()[0]
  return [
    _source(_PACKAGE), sys.version,
    *(importlib.metadata.version(p) for p in ('jax', 'jaxlib', 'flax')),
    device.platform, device.device_kind, device.client.platform_version,
    str(len(jax.devices())), platform.machine(), _processor(),
  ]


def _settings() -> list[str]:
  """jax's settings that decide what is compiled, beside jax_settings."""
  names = (
    'jax_default_dtype_bits', 'jax_disable_most_optimizations',
    'jax_optimization_level', 'jax_exec_time_optimization_effort',
  )
  return [os.environ.get('XLA_FLAGS', '')] + [
    str(getattr(jax.config, name, None)) for name in names
  ]


def _source(package: pathlib.Path) -> str:
  """Digest of the code that goes into programs."""
  digest = hashlib.sha256()
  for room in _ROOMS:
    for path in sorted((package / room).glob('*.py')):
      digest.update(path.name.encode() + path.read_bytes())
  return digest.hexdigest()


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
