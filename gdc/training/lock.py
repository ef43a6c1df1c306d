"""One process trains in a workdir at a time."""
import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

try:
  import fcntl
except ImportError:  # a system without it
  fcntl = None

NAME = 'lock'


@contextlib.contextmanager
def held(workdir) -> Iterator[None]:
  """Keeps other processes from training in a workdir, which is made.

  The system drops the lock when the process ends, however it does: a file that
  is left behind keeps nobody out. A workdir in a bucket has no lock, nor has
  one on a file system that knows none.

  Raises:
    ValueError: another process has it, or the workdir is no folder.
    OSError: the workdir can not be made, or written to.
  """
  if '://' in str(workdir):
    yield
    return
  workdir = pathlib.Path(workdir)
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'workdir {str(workdir)!r} is a file, not a folder.')
  made = [p for p in (workdir, *workdir.parents) if not p.exists()]
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / NAME
  file = _locked(path)
  try:
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    yield
  finally:
    path.unlink(missing_ok=True)  # while it is ours
    file.close()
    with contextlib.suppress(OSError):  # a run that left nothing
      for folder in made:
        folder.rmdir()


def _locked(path: pathlib.Path):
  """The lock's file, open and ours."""
  while True:
    file = path.open('a+')
    try:
      if fcntl:
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
    # One that ended meanwhile has removed the file that was opened here.
    if path.exists() and os.path.samestat(
      os.fstat(file.fileno()), os.stat(path)
    ):
      file.truncate(0)
      return file
    file.close()
