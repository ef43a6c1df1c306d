"""File paths as people write them, searching folders, and system errors."""
import os
import pathlib
import stat
from collections.abc import Collection
from typing import NamedTuple


def expand(path: str) -> str:
  """Expands `~` or `~user` at the start of a path.

  A shell does not expand it in --option=~/name or in quotes. A file that is
  itself called `~name`, as a shell may expand `*`, comes first.

  Raises:
    ValueError: there is no such user, or no home.
  """
  if not path.startswith('~') or (os.sep not in path and os.path.lexists(path)):
    return path
  expanded = os.path.expanduser(path)
  if expanded.startswith('~') and os.sep in path:
    raise ValueError(
      f'{path!r}: no user {path.partition(os.sep)[0]!r} has a home here; '
      f'a folder of that name is ./{path}.'
    )
  return expanded


def words(error: BaseException) -> str:
  """Returns an exception's message; of a system error, file name and reason."""
  if isinstance(error, OSError) and error.strerror:
    if isinstance(error.filename, str | bytes | os.PathLike):
      return f'{os.fsdecode(error.filename)}: {error.strerror}'
    return error.strerror
  return str(error) or type(error).__name__


def about(path, error: BaseException) -> str:
  """Returns an exception's message with a file's name, once."""
  said, name = words(error), os.fspath(path)
  return said if name in said else f'{name}: {said}'


class Found(NamedTuple):
  """Contents of a folder, each list sorted, without hidden names.

  Attributes:
    files: files with the wanted suffixes.
    others: other files, and links to folders, which are not followed.
    problems: (path, reason) of folders that cannot be read, and of paths with
      a wanted suffix that are not files.
  """

  files: list[pathlib.Path]
  others: list[pathlib.Path]
  problems: list[tuple[pathlib.Path, str]]


def search(folder: pathlib.Path, suffixes: Collection[str]) -> Found:
  """Searches a folder, at any depth, for files with some suffixes.

  Args:
    folder: where to search.
    suffixes: in lower case, with their dots.
  """
  found = Found([], [], [])

  def fail(error):
    found.problems.append((pathlib.Path(error.filename), error.strerror))

  for place, folders, files in os.walk(folder, onerror=fail):
    folders[:] = sorted(name for name in folders if name[0] != '.')
    found.others.extend(
      path for path in (pathlib.Path(place, name) for name in folders)
      if path.is_symlink()
    )
    for name in sorted(name for name in files if name[0] != '.'):
      path = pathlib.Path(place, name)
      if path.suffix.lower() not in suffixes:
        found.others.append(path)
      elif why := unusable(path):
        found.problems.append((path, why))
      else:
        found.files.append(path)
  return found


def unusable(path) -> str:
  """Returns why a path is not a file to read; '' if it is one."""
  try:
    mode = os.stat(path).st_mode
  except FileNotFoundError as e:
    return 'is a link to nothing' if os.path.islink(path) else e.strerror
  except OSError as e:
    return e.strerror
  if stat.S_ISREG(mode):
    return ''
  kinds = {
    stat.S_IFDIR: 'a folder', stat.S_IFIFO: 'a named pipe',
    stat.S_IFSOCK: 'a socket',
  }
  return f'is {kinds.get(stat.S_IFMT(mode), "a device")}'


def listed(names: Collection, most: int = 3) -> str:
  """Returns the first few of some names, for a message."""
  shown = ', '.join(map(printable, list(names)[:most]))
  more = len(names) - most
  return f'{shown} and {more} more' if more > 0 else shown


def printable(name) -> str:
  """Escapes what is not text in a name, or a terminal would obey."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode()
    for c in str(name)
  )
