"""Files that are there whole or not at all."""
import contextlib
import secrets
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path) -> Iterator:
  """Gives a name to write under; what was written there becomes the file.

  With an exception inside, nothing is left of it, and a file that was there
  stays as it was. A process that is killed leaves what it wrote so far, under
  the other name. Processes of several hosts may write the same file.

  Args:
    path: of the file; a pathlib.Path, or an epath.Path of a bucket.

  Yields:
    A path of the same kind, in the same folder, that nothing has yet.
  """
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}')
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
