"""Compiled programs, kept on disk between runs of the commands.

A command that compresses one small image would otherwise spend its time on
importing, tracing and compiling networks. A stored program needs none of the
three.

A stored program is only used by the same gdc (source, byte for byte), jax and
Python, on the same kind of processor, with the same settings; otherwise, or if
its file is damaged, it is compiled again. Reading a file can run code, so a
folder that others can write to is not used.
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
_SOURCES = ('codec', 'decoders', 'models')  # packages that shape a program
_DIGEST_BYTES = 32
_MOST_PROGRAMS = 64  # kept, of some 300 KB each
_MOST_OF_JAX = 512  # kept by jax, some for each image size
_UNDECIDED = 'undecided'
_folder: pathlib.Path | str | None = _UNDECIDED  # None keeps nothing
_in_use = weakref.WeakValueDictionary()  # programs of this process, by key
_building = threading.RLock()


def keep(folder=None):
  """Keeps programs, and those of jax itself, in a folder from now on.

  Without a call, programs are kept in the default folder, and none of jax.

  Args:
    folder: None takes GDC_CACHE_DIR if that is set, else `gdc` in the user's
      cache (XDG_CACHE_HOME or ~/.cache); an empty GDC_CACHE_DIR keeps none.
  """
  if folder is None:
    folder = _default_folder()
  _set_folder(folder)
  if not folder or os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  own = pathlib.Path(folder) / 'xla'
  with contextlib.suppress(OSError):  # then jax keeps nothing
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_ours(own, 0o002):  # jax may have made it group-writable
      own.chmod(0o700)
    if _is_ours(own):
      jax.config.update('jax_compilation_cache_dir', str(own))
      _prune(own, _MOST_OF_JAX)


def _set_folder(folder: str):
  global _folder
  _folder = pathlib.Path(folder) / 'programs' if folder else None


def _default_folder() -> str:
  folder = os.environ.get('GDC_CACHE_DIR')
  if folder is None:
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = os.path.join(cache, 'gdc')
  folder = os.path.expanduser(folder)
  return '' if folder.startswith('~') else folder  # the user has no home


def build(name: str, make, arguments, record, devices=None) -> Callable:
  """Returns a compiled program: in use already, stored, or compiled now.

  Threads wait for each other, so that each program is compiled once.

  Args:
    name: name of the program in file names and progress.
    make: () -> the function to compile, a new object each time, with one array
      as output; only called when it has to be compiled.
    arguments: pytrees of arrays or ShapeDtypeStructs like the function's
      arguments, with the program's shardings if any.
    record: whatever else identifies the program, for json.
    devices: devices of these shardings, in order; None is the first of this
      process.
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
  if _folder == _UNDECIDED:
    _set_folder(_default_folder())
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
  """A program from the folder; compiled again if it does not run here."""

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
  """Turns off jax's own cache of compiled programs.

  On CPU, a program from that cache runs, but serializes without its code.
  """
  name = 'jax_enable_compilation_cache'
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  compilation_cache.reset_cache()  # it reads the setting once
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
    with contextlib.suppress(OSError):  # the cache may be read-only
      os.utime(path)  # keeps it from being pruned
    return serialize_executable.deserialize_and_load(
      payload, *trees, execution_devices=devices
    )
  except Exception:  # whatever is wrong, it can be compiled again
    return None


def _write(path: pathlib.Path, program):
  """Stores a program, if that is possible."""
  with contextlib.suppress(Exception):
    payload, _, _ = serialize_executable.serialize(program)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(path.parent):
      return
    with atomic.replaced(path) as temporary:
      temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
    _prune(path.parent, _MOST_PROGRAMS)


def _prune(folder: pathlib.Path, most: int):
  """Removes the oldest files, as other processes may do meanwhile."""
  found = []
  for path in folder.iterdir():
    with contextlib.suppress(OSError):
      if path.is_file():
        found.append((path.stat().st_mtime, path))
  for _, path in sorted(found)[:-most]:
    with contextlib.suppress(OSError):
      path.unlink()


def _is_ours(folder: pathlib.Path, others: int = 0o022) -> bool:
  """Whether a folder is safe: nobody else can put files, that is code, there.

  Args:
    folder: the folder.
    others: bits of its mode that let others write.
  """
  if not hasattr(os, 'getuid'):
    return True
  state = folder.stat()
  return state.st_uid == os.getuid() and not state.st_mode & others


@functools.cache
def _machine() -> list[str]:
  """Returns the source, versions and hardware that a program depends on."""
  device = jax.devices()[0]
  return [
    _source(_PACKAGE), sys.version,
    *(importlib.metadata.version(p) for p in ('jax', 'jaxlib', 'flax')),
    device.platform, device.device_kind, device.client.platform_version,
    str(len(jax.devices())), platform.machine(), _processor(),
  ]


def _settings() -> list[str]:
  """Returns jax's settings that shape a program, besides jax_settings."""
  names = (
    'jax_default_dtype_bits', 'jax_disable_most_optimizations',
    'jax_optimization_level', 'jax_exec_time_optimization_effort',
  )
  return [os.environ.get('XLA_FLAGS', '')] + [
    str(getattr(jax.config, name, None)) for name in names
  ]


def _source(package: pathlib.Path) -> str:
  """Returns the digest of the code that shapes programs."""
  digest = hashlib.sha256()
  for folder in _SOURCES:
    for path in sorted((package / folder).glob('*.py')):
      digest.update(path.name.encode() + path.read_bytes())
  return digest.hexdigest()


def _processor() -> str:
  """Returns the processor's name and features, as far as they are known."""
  try:
    with open('/proc/cpuinfo') as f:
      lines = f.read().split('\n\n')[0].splitlines()
    return '\n'.join(
      line for line in lines
      if line.startswith(('model name', 'flags', 'Features', 'CPU'))
    )
  except OSError:
    return f'{platform.processor()} {platform.node()}'
