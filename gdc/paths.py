"""Paths as people write them, and what the system says of them in words."""
import os
import pathlib
import stat
from collections.abc import Collection
from typing import NamedTuple


def expand(path: str) -> str:
  """A path with `~` or `~user` at its start written out; a URL stays.

  A shell expands neither in --option=~/name nor in quotes. A file that is
  itself called `~name` comes first, as in what a shell made of `*`.

  Raises:
    ValueError: there is no such user, or no home.
  """
  if not path.startswith('~') or (os.sep not in path and os.path.lexists(path)):
    return path
  expanded = os.path.expanduser(path)
  if expanded.startswith('~') and os.sep in path:
    raise ValueError(
      f'{path!r}: {path.partition(os.sep)[0]} is the home of no user here; '
      f'a folder of that name is ./{path}.'
    )
  return expanded


def words(error: BaseException) -> str:
  """What an exception says; of a system error, its name and its text."""
  if isinstance(error, OSError) and error.strerror:
    if isinstance(error.filename, str | bytes | os.PathLike):
      return f'{os.fsdecode(error.filename)}: {error.strerror}'
    return error.strerror
  return str(error) or type(error).__name__


def about(path, error: BaseException) -> str:
  """What an exception says of a file, with the file's name, once."""
  said, name = words(error), os.fspath(path)
  return said if name in said else f'{name}: {said}'


class Found(NamedTuple):
  """What lies below a folder, each kind sorted, hidden names left out.

  Attributes:
    files: of the endings that were asked for.
    others: files of other endings; links to folders, which are not followed.
    problems: (path, why it cannot be read) of folders, and of what has such an
      ending but is no file.
  """

  files: list[pathlib.Path]
  others: list[pathlib.Path]
  problems: list[tuple[pathlib.Path, str]]


def search(folder: pathlib.Path, endings: Collection[str]) -> Found:
  """Searches a folder to the bottom for files of some endings.

  Args:
    folder: where to search.
    endings: in lower case, with their dots.
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
      if path.suffix.lower() not in endings:
        found.others.append(path)
      elif why := unusable(path):
        found.problems.append((path, why))
      else:
        found.files.append(path)
  return found


def unusable(path) -> str:
  """Why a path is no file to be read, as its kind tells; '' for a file."""
  try:
    mode = os.stat(path).st_mode
  except FileNotFoundError as e:
    return 'is a link to nothing' if os.path.islink(path) else e.strerror
  except OSError as e:
    return e.strerror
  if stat.S_ISREG(mode):
    return ''
  return next((
    said for test, said in (
      (stat.S_ISDIR, 'is a folder'), (stat.S_ISFIFO, 'is a named pipe'),
      (stat.S_ISSOCK, 'is a socket'),
    ) if test(mode)
  ), 'is a device')


def listed(names: Collection, most: int = 3) -> str:
  """The first few of some names, for a message."""
  shown = ', '.join(map(printable, list(names)[:most]))
  more = len(names) - most
  return f'{shown} and {more} more' if more > 0 else shown


def printable(name) -> str:
  """A name on one line, and without what a terminal would obey."""
  return ''.join(
    # Lone surrogates are bytes that are no text; printing shows them.
    c if c.isprintable() or '\ud800' <= c <= '\udfff'
    else c.encode('unicode_escape').decode() for c in str(name)
  )
