"""Files that are there whole or not at all, on whatever file system."""
import contextlib
import errno
import os
import pathlib
import secrets
import stat
from collections.abc import Iterator

# What is said where a file cannot be renamed, or not onto another.
_NO_RENAME = {
  errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOSYS,
  errno.EOPNOTSUPP, errno.EPERM,
}
_in_use = set()


@contextlib.contextmanager
def replaced(path, overwrite: bool = True) -> Iterator:
  """Gives a name to write under; what was written there becomes the file.

  With an exception inside, nothing is left of it, and a file that was there
  stays as it was. A process that is killed leaves what it wrote so far, under
  the other name. Processes of several hosts may write the same file. A file
  that is replaced passes its permissions on, where the file system has any.

  Args:
    path: of the file; a pathlib.Path, or an epath.Path of a bucket.
    overwrite: whether the file may exist by then.

  Yields:
    A path of the same kind, in the same folder, that nothing has yet.

  Raises:
    FileExistsError: without `overwrite`.
    OSError: names the file, not the other name.
  """
  with unused(path) as temporary:
    try:
      yield temporary
      if isinstance(path, pathlib.Path):
        with contextlib.suppress(OSError):
          temporary.chmod(stat.S_IMODE(path.stat().st_mode))
      if overwrite:
        _rename(temporary, path)
      else:
        _publish(temporary, path)
    except OSError as e:
      if e.errno and e.filename in (None, str(temporary)):
        raise OSError(e.errno, e.strerror, str(path)) from e
      raise


@contextlib.contextmanager
def unused(path) -> Iterator:
  """Gives a name beside a path that nothing has, and leaves nothing there."""
  temporary = path.with_name(f'.gdc-{secrets.token_hex(8)}')
  _in_use.add(temporary)
  try:
    yield temporary
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    _in_use.discard(temporary)


def discard() -> None:
  """Removes what is half-written, in a process that is about to end."""
  for temporary in list(_in_use):
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)


def _publish(temporary: pathlib.Path, path: pathlib.Path):
  """Gives a finished file its name; what has it meanwhile is not lost."""
  try:
    os.link(temporary, path)
  except FileExistsError:
    raise
  except OSError:  # a file system without hard links
    if os.path.lexists(path):
      raise FileExistsError(
        errno.EEXIST, os.strerror(errno.EEXIST), str(path)
      ) from None
    _rename(temporary, path)


def _rename(temporary, path):
  try:
    temporary.replace(path)
  except OSError as e:
    if e.errno not in _NO_RENAME or path.is_dir():
      raise
    # In place, then, and back if that fails.
    former = path.read_bytes() if path.exists() else None
    try:
      path.write_bytes(temporary.read_bytes())
    except BaseException:
      with contextlib.suppress(OSError):
        if former is None:
          path.unlink(missing_ok=True)
        else:
          path.write_bytes(former)
      raise
