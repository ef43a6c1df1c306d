"""Outputs of a command: checked before any work, and written whole or not."""
import collections
import contextlib
import dataclasses
import functools
import os
import pathlib
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence

from gdc import atomic, paths

STREAM = '-'


class CliError(Exception):
  """What is reported as one line, with exit status 1."""


class ExistsError(CliError):
  """An output that another process has written meanwhile."""


@dataclasses.dataclass(frozen=True)
class Job:
  """An input and its output; None is standard input or standard output."""

  source: pathlib.Path | None
  target: pathlib.Path | None

  @property
  def source_name(self) -> str:
    return STREAM if self.source is None else str(self.source)

  @property
  def target_name(self) -> str:
    return STREAM if self.target is None else str(self.target)


def check(
  jobs: Sequence[Job],
  force: bool,
  existing: Sequence[Job] = (),
  advice: str = '--force overwrites {it}',
):
  """Whether outputs can be written; CliError if not.

  Args:
    jobs: whose outputs are to be written.
    force: whether they may exist.
    existing: jobs whose outputs will not be written, and stay.
    advice: what to do where they exist.
  """
  there, places = [], {}
  for job in jobs:
    target = job.target
    if target is None:
      continue
    try:
      exists = target.exists()
    except OSError:  # its name is too long, or so
      if len(jobs) == 1:
        raise
      continue  # writing it will fail, and not stop the others
    if exists:
      if job.source is not None and os.path.samefile(job.source, target):
        raise CliError(f'{job.source} would be its own output.')
      if target.is_dir():
        raise CliError(f'{target} is a folder; name a file in it.')
      if not target.is_file():
        raise CliError(
          f'{target} is not a file that can be replaced; -o - is standard '
          'output.'
        )
      there.append(target)
    if target.parent not in places or target.is_symlink():
      places[target.parent] = check_writable(target)
  _check_different([*jobs, *existing], places)
  if there and not force:
    exist, those = f'{there[0]} exists', 'it'
    if len(there) > 1:
      exist = f'{len(there)} outputs exist ({paths.listed(there)})'
      those = 'them'
    raise CliError(f'{exist}; {advice.format(it=those)}.')


def _check_different(jobs, places):
  """Whether every output is of one input; places: see check_writable."""
  sources = collections.defaultdict(list)
  for job in jobs:
    if job.target is not None:
      key = os.path.abspath(job.target)
      if places.get(job.target.parent):  # names do not differ by case alone
        key = unicodedata.normalize('NFC', key).casefold()
      sources[key].append(job)
  clashes = [clash for clash in sources.values() if len(clash) > 1]
  if clashes:
    said = '; '.join(
      f'{clash[0].target} ({", ".join(job.source_name for job in clash)})'
      for clash in clashes
    )
    alike = any(  # whatever is kept of them
      len({job.source.name.casefold() for job in clash}) < len(clash)
      for clash in clashes
    )
    raise CliError(f'Several inputs would be written to {said}. ' + (
      'Give a folder that holds them all, below which each keeps its place, '
      'or name one of them at a time.' if alike else
      '--keep-suffix keeps their endings, as in photo.jpg.gdc.'
    ))


def check_writable(target: pathlib.Path) -> bool:
  """Whether case is ignored where a file would be written.

  Raises:
    CliError: it could not be written there.
  """
  real = target.resolve() if target.is_symlink() else target
  place = next(
    (p for p in real.parents if os.path.lexists(p)), pathlib.Path()
  )
  if not place.is_dir():
    raise CliError(f'{target}: {place} is not a folder.')
  try:
    with atomic.unused(place / '_') as probe:
      with open(probe, 'xb'):
        pass
      return probe.with_name(probe.name.upper()).exists()
  except OSError as e:
    where = '' if place == target.parent else f' in {place}'
    raise CliError(
      f'{target} cannot be written{where}: {e.strerror or e}.'
    ) from e


def write(target: pathlib.Path | None, data: bytes, force: bool = False):
  """Writes a file whole or not at all; a link is followed. None is stdout.

  Raises:
    CliError: it cannot be written; or, without `force`, it is there by now.
  """
  if target is None:
    with naming('standard output'):
      sys.stdout.buffer.write(data)
      sys.stdout.buffer.flush()
    return
  try:
    real = target.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    opener = functools.partial(os.open, mode=_mode(real))
    with (
      atomic.replaced(real, overwrite=force) as temporary,
      open(temporary, 'xb', opener=opener) as file,
    ):
      file.write(data)
  except OSError as e:
    if isinstance(e, FileExistsError) and target.is_file():
      raise ExistsError(f'{target} exists; --force overwrites it.') from e
    raise CliError(f'{target} cannot be written: {e.strerror or e}.') from e


def _mode(target: pathlib.Path) -> int:
  """Permissions to write with: of what is replaced, or of any new file."""
  with contextlib.suppress(OSError):
    return stat.S_IMODE(target.stat().st_mode)
  return 0o666


@contextlib.contextmanager
def naming(stream: str) -> Iterator[None]:
  """Errors of a stream, which the system leaves without a name, get one."""
  try:
    yield
  except BrokenPipeError:
    raise  # whoever read it has gone: nothing is to be said
  except OSError as e:
    raise OSError(e.errno, e.strerror, stream) from e
