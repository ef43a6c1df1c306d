"""Inputs and outputs of a command: what goes where, checked before any work."""
import collections
import contextlib
import dataclasses
import os
import pathlib
import stat
import sys
from collections.abc import Collection, Iterator, Sequence

from gdc import atomic, paths

STREAM = '-'


class CliError(Exception):
  """An error of the user's, reported as one line with exit status 1."""


class ExistsError(CliError):
  """Another process has written the output meanwhile."""


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


@dataclasses.dataclass(frozen=True)
class Plan:
  """The jobs of a command, and the inputs that it leaves out.

  Attributes:
    jobs: an output for each input.
    others: files in folders whose suffix is another.
    problems: (path, reason) of inputs that cannot be read.
    existing: jobs left out because their output exists.
    skip_existing: whether outputs that appear meanwhile are left, too.
  """

  jobs: list[Job]
  others: list[pathlib.Path] = dataclasses.field(default_factory=list)
  problems: list[tuple[pathlib.Path, str]] = dataclasses.field(
    default_factory=list
  )
  existing: list[Job] = dataclasses.field(default_factory=list)
  skip_existing: bool = False


# --- What goes where --------------------------------------------------------


def plan(
  inputs: Sequence[str],
  output: str | None,
  reads: Collection[str],
  writes: str,
  force: bool = False,
  skip_existing: bool = False,
  keep_suffix: bool = False,
) -> Plan:
  """Pairs inputs with outputs, and checks that the outputs can be written.

  Args:
    inputs: files and folders, or STREAM alone. Files in folders keep their
      place below an output folder.
    output: a file, a folder or STREAM; None is beside each input.
    reads: suffixes of the files to find in folders, in lower case.
    writes: suffix of outputs that are not named.
    force: whether outputs may exist.
    skip_existing: whether to leave out inputs whose output exists.
    keep_suffix: whether outputs keep their input's suffix before their own.

  Raises:
    CliError: an input does not exist, or an output cannot be written, exists,
      or is that of another input, too.
    OSError: the name of the only output is not possible.
  """
  found, others, problems, missing = _find(inputs, reads)
  if missing:
    raise CliError('; '.join(f'{name}: {why}' for name, why in missing) + '.')
  found = list(dict.fromkeys(found))
  several = len(found) + len(problems) > 1 or any(map(os.path.isdir, inputs))

  def named(path):
    if keep_suffix:
      return path.with_name(path.name + writes)
    return path.with_suffix(writes)

  if output == STREAM:
    if several:
      raise CliError(f'{len(found)} outputs do not fit into standard output.')
    if sys.stdout.isatty():
      raise CliError('Bytes are not for a terminal; name an output with -o.')
    jobs = [Job(source, None) for source, _ in found]
    return Plan(jobs, others, problems)
  if output is None:
    jobs = [Job(source, named(source)) for source, _ in found]
  elif several or os.path.isdir(output) or output.endswith(os.sep):
    need = 'several inputs, or a folder, need a folder'
    if os.path.exists(output) and not os.path.isdir(output):
      raise CliError(f'{output} is a file; {need}.')
    if output.lower().endswith(writes) and not os.path.exists(output):
      raise CliError(
        f'{output} is a name for a file; {need}. To make a folder of this '
        f'name, end it with {os.sep}'
      )
    if inputs == [STREAM]:
      raise CliError(f'{output} is a folder; standard input needs a file.')
    folder = pathlib.Path(output)
    jobs = [Job(source, folder / named(below)) for source, below in found]
  else:
    jobs = [Job(source, pathlib.Path(output)) for source, _ in found]
  every, jobs, existing = jobs, [], []
  for job in every:
    skipped = skip_existing and os.path.isfile(job.target)
    (existing if skipped else jobs).append(job)
  _check_different(every)
  check(jobs, force, ', --skip-existing leaves {it} out')
  return Plan(jobs, others, problems, existing, skip_existing)


def find(inputs: Sequence[str], reads: Collection[str]) -> Plan:
  """Plans to read inputs without writing anything; see plan."""
  found, others, problems, missing = _find(inputs, reads)
  jobs = [Job(source, None) for source, _ in found]
  return Plan(jobs, others, problems + missing)


def _find(inputs, reads):
  """Finds inputs.

  Returns:
    (path, path below its folder) of each; others and problems as in Plan; and
    the problems of inputs that do not exist.
  """
  if STREAM in inputs and len(inputs) > 1:
    raise CliError('- (standard input) cannot be combined with other inputs.')
  found, others, problems, missing = [], [], [], []
  for name in inputs:
    path = pathlib.Path(name)
    if name == STREAM:
      found.append((None, None))
    elif os.path.isdir(name):
      below = paths.search(path, reads)
      if not below.files and not below.problems:
        none = f'no file below it ends in {" ".join(reads)}'
        if len(inputs) == 1:
          raise CliError(f'{name}: {none}.')
        problems.append((path, none))
      found += [(file, file.relative_to(path)) for file in below.files]
      others += below.others
      problems += below.problems
    elif not os.path.lexists(name):
      missing.append((name, 'no such file or folder'))
    elif (why := paths.unusable(name)) and not (why == 'is a named pipe' and (
      # A pipe may never get a writer and hold up the other inputs, except one
      # that a shell made for <(...).
      len(inputs) == 1 or name.startswith('/dev/fd/')
    )):
      problems.append((path, why))
    else:
      found.append((path, pathlib.Path(path.name)))
  return found, others, problems, missing


# --- Outputs ----------------------------------------------------------------


def check(jobs: Sequence[Job], force: bool, advice: str = ''):
  """Checks that outputs can be written.

  Args:
    jobs: whose outputs are checked.
    force: whether they may exist.
    advice: what else to do where they exist, with {it}.

  Raises:
    CliError: an output exists, or cannot be written.
    OSError: the name of the only output is not possible.
  """
  there, folders = [], set()
  for job in jobs:
    target = job.target
    try:
      exists = target.exists()
    except OSError:  # such as a name that is too long
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
    if target.parent not in folders or target.is_symlink():
      folders.add(target.parent)
      atomic.check_writable(target)
  if there and not force:
    exist, it = f'{there[0]} exists', 'it'
    if len(there) > 1:
      exist = f'{len(there)} outputs exist ({paths.listed(there)})'
      it = 'them'
    raise CliError(f'{exist}; --force overwrites {it}{advice.format(it=it)}.')


def _check_different(jobs):
  """Checks that no two inputs have the same output."""
  sources = collections.defaultdict(list)
  for job in jobs:
    sources[os.path.abspath(job.target)].append(job)
  clashes = [clash for clash in sources.values() if len(clash) > 1]
  if clashes:
    said = '; '.join(
      f'{clash[0].target} ({", ".join(job.source_name for job in clash)})'
      for clash in clashes
    )
    same_names = any(
      len({job.source.name for job in clash}) < len(clash) for clash in clashes
    )
    raise CliError(f'Several inputs would be written to {said}. ' + (
      'Give the folder above them, below which each keeps its place, or name '
      'one of them at a time.' if same_names else
      '--keep-suffix keeps their suffixes, as in photo.jpg.gdc.'
    ))


def write(target: pathlib.Path | None, data: bytes, force: bool = False):
  """Writes a file whole or not at all, following a link; None is stdout.

  Raises:
    CliError: it cannot be written; or, without `force`, it exists by now.
  """
  if target is None:
    with naming_stdout():
      sys.stdout.buffer.write(data)
      sys.stdout.buffer.flush()
    return
  try:
    real = target.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else 0o666
    with atomic.replaced(real, overwrite=force) as temporary:
      temporary.touch(mode)  # a private file is private from the beginning
      temporary.write_bytes(data)
  except OSError as e:
    if isinstance(e, FileExistsError) and target.is_file():
      raise ExistsError(f'{target} exists; --force overwrites it.') from e
    raise CliError(f'{target} cannot be written: {e.strerror or e}.') from e


@contextlib.contextmanager
def naming_stdout() -> Iterator[None]:
  """Puts the name of standard output into its errors, which have none."""
  try:
    yield
  except BrokenPipeError:
    raise  # the reader has gone: nothing to say
  except OSError as e:
    raise OSError(e.errno, e.strerror, 'standard output') from e
