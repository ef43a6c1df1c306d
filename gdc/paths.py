"""Paths as people write them, and what the system says of them in words."""
import os


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
