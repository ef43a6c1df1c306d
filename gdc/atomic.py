"""Files and folders that are written whole or not at all."""
import contextlib
import errno
import os
import pathlib
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator

# Errors of file systems that cannot rename a file, or not onto an existing one.
_NO_RENAME = {
  errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOSYS,
  errno.EOPNOTSUPP, errno.EPERM,
}
_in_use = set()


@contextlib.contextmanager
def replaced(path, overwrite: bool = True) -> Iterator:
  """Yields a temporary path, which becomes `path` on leaving the context.

  After an exception the temporary file is removed, and an existing file is
  unchanged. A replaced file passes on its permissions, where the file system
  has any. Processes on several hosts may write the same file.

  Args:
    path: pathlib.Path of the file, or epath.Path of one in a bucket.
    overwrite: whether the file may exist by then.

  Raises:
    FileExistsError: the file exists, without `overwrite`.
    OSError: names the file, not the temporary one.
  """
  with _temporary(path) as temporary:
    try:
      yield temporary
      if isinstance(path, pathlib.Path):
        with contextlib.suppress(OSError):
          temporary.chmod(stat.S_IMODE(path.stat().st_mode))
      (_rename if overwrite else _link)(temporary, path)
    except OSError as e:
      if e.errno and e.filename in (None, str(temporary)):
        raise OSError(e.errno, e.strerror, str(path)) from e
      raise


@contextlib.contextmanager
def replaced_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder, which becomes `folder` on leaving the context.

  After an exception it is removed, and an existing folder is unchanged. Files
  in it become readable for everybody.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent)
  )
  old = temporary.with_name(f'{temporary.name}-old')
  try:
    yield temporary
    for path in (temporary, *temporary.iterdir()):
      with contextlib.suppress(OSError):  # where there are no permissions
        path.chmod(0o755 if path == temporary else 0o644)
    if folder.exists():
      os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)
  except BaseException:
    if old.exists() and not folder.exists():
      os.replace(old, folder)
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def check_writable(path: pathlib.Path) -> None:
  """Checks that a file can be written, by trying in the folder it is for.

  Raises:
    OSError: it cannot; the message names the path.
  """
  real = path.resolve() if path.is_symlink() else path
  folder = next(
    (p for p in real.parents if os.path.lexists(p)), pathlib.Path()
  )
  where = '' if folder == path.parent else f' in {folder}'
  try:
    with _temporary(folder / '_') as temporary:
      temporary.touch(exist_ok=False)
  except OSError as e:
    raise OSError(
      e.errno, f'cannot be written{where}: {e.strerror}', str(path)
    ) from e


def discard() -> None:
  """Removes all temporary files, in a process that is about to end."""
  for temporary in list(_in_use):
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary(path) -> Iterator:
  temporary = path.with_name(f'.gdc-{secrets.token_hex(8)}')
  _in_use.add(temporary)
  try:
    yield temporary
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    _in_use.discard(temporary)


def _link(temporary: pathlib.Path, path: pathlib.Path):
  """Renames a file without replacing one that was created meanwhile."""
  try:
    os.link(temporary, path)
  except FileExistsError:
    raise
  except OSError as e:  # a file system without hard links
    if os.path.lexists(path):
      raise FileExistsError(
        errno.EEXIST, os.strerror(errno.EEXIST), str(path)
      ) from e
    _rename(temporary, path)


def _rename(temporary, path):
  try:
    temporary.replace(path)
  except OSError as e:
    if e.errno not in _NO_RENAME or path.is_dir():
      raise
    # Written in place instead; the old content comes back if that fails.
    old = path.read_bytes() if path.exists() else None
    try:
      path.write_bytes(temporary.read_bytes())
    except BaseException:
      with contextlib.suppress(OSError):
        if old is None:
          path.unlink(missing_ok=True)
        else:
          path.write_bytes(old)
      raise
