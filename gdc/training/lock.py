"""A lock on a workdir, so that one process trains in it at a time."""
import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

NAME = 'lock'


@contextlib.contextmanager
def held(workdir) -> Iterator[None]:
  """Creates a workdir and keeps other processes from training in it.

  The system drops the lock when the process ends in any way, so a lock file
  that is left behind does no harm. There is no lock in a bucket, or on a file
  system without locks. If nothing was written, the workdir is removed again.

  Raises:
    ValueError: another process has the lock, or the workdir is a file.
    OSError: the workdir cannot be created or written to.
  """
  if '://' in str(workdir):
    yield
    return
  workdir = pathlib.Path(workdir)
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'workdir {str(workdir)!r} is a file, not a folder.')
  created = [p for p in (workdir, *workdir.parents) if not p.exists()]
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / NAME
  file = _locked(path)
  try:
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    yield
  finally:
    path.unlink(missing_ok=True)  # while the lock is held
    file.close()
    with contextlib.suppress(OSError):  # not empty
      for folder in created:
        folder.rmdir()


def _locked(path: pathlib.Path):
  """Opens the lock's file and locks it."""
  while True:
    file = path.open('a+')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      with file:
        file.seek(0)
        owner = file.read().strip() or 'another process'
      raise ValueError(
        f'{path.parent} is being trained in by {owner}: wait for it or stop '
        'it, or use another workdir; --mode=eval and --mode=sample work '
        'meanwhile.'
      ) from None
    except OSError:
      pass  # a file system without locks
    # A process that ended just now may have removed the file opened here.
    if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
      file.truncate(0)
      return file
    file.close()
