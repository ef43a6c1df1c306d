"""Many inputs and outputs of a command: what goes where, and what is said.

Two promises: what can be wrong with names is said before any work is done, and
an output is written whole or not at all.
"""
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence

STREAM = '-'


class CliError(Exception):
  """What is reported as one line, with exit status 1."""


# BitstreamError, BundleError, RateError and PictureError are ValueErrors; what
# jax says where memory runs out is a RuntimeError.
ERRORS = (
  CliError, OSError, ValueError, RuntimeError, ImportError, MemoryError
)


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


# --- What goes where --------------------------------------------------------


def plan(
  inputs: Sequence[str],
  output: str | None,
  reads: Collection[str],
  writes: str,
  force: bool = False,
) -> tuple[list[Job], int]:
  """Pairs inputs with outputs, and checks them.

  Args:
    inputs: files and folders, or STREAM alone. What lies below a folder keeps
      its place below an output folder.
    output: a file, a folder or STREAM; None is beside each input, and STREAM
      for STREAM.
    reads: the endings, in lower case, of files that folders are searched for.
    writes: the ending of outputs that are not named.
    force: whether an output may exist.

  Returns:
    jobs: one for each input.
    skipped: how many files below folders have another ending.

  Raises:
    CliError: names that are wrong, or go to the same output.
  """
  if STREAM in inputs and len(inputs) > 1:
    raise CliError('- (standard input) is one input, and goes with no other.')
  found, skipped = [], 0
  for name in inputs:
    if name == STREAM:
      found.append((None, None))
    elif os.path.isdir(name):
      below, others = _search(pathlib.Path(name), reads)
      if not below:
        raise CliError(f'{name}: no file below it ends in {" ".join(reads)}.')
      found += below
      skipped += others
    elif os.path.exists(name):
      found.append((pathlib.Path(name), pathlib.Path(os.path.basename(name))))
    else:
      raise CliError(f'{name}: no such file or folder.')
  found = list(dict.fromkeys(found))
  several = len(found) > 1 or any(map(os.path.isdir, inputs))

  if output == STREAM or (output is None and inputs == [STREAM]):
    if several:
      raise CliError(f'{len(found)} outputs do not fit into standard output.')
    if sys.stdout.isatty():
      raise CliError('A terminal shows no such bytes; name an output with -o.')
    return [Job(found[0][0], None)], skipped
  if output is None:
    jobs = [Job(s, s.with_suffix(writes)) for s, _ in found]
  elif several or os.path.isdir(output) or output.endswith(os.sep):
    if os.path.exists(output) and not os.path.isdir(output):
      raise CliError(
        f'{output} is a file; {len(found)} inputs need a folder.'
      )
    if inputs == [STREAM]:
      raise CliError(f'{output} is a folder; standard input needs a file.')
    folder = pathlib.Path(output)
    jobs = [Job(s, folder / below.with_suffix(writes)) for s, below in found]
  else:
    jobs = [Job(found[0][0], pathlib.Path(output))]
  check(jobs, force)
  return jobs, skipped


def _search(folder: pathlib.Path, endings: Collection[str]):
  """Files below a folder that have one of these endings, hidden ones left out.

  Returns:
    A list of (path, path below the folder), and the number of other files.
  """
  found, others = [], 0

  def fail(error):
    raise error  # os.walk would leave out what it cannot open

  for place, folders, files in os.walk(folder, onerror=fail):
    folders[:] = sorted(f for f in folders if f[0] != '.')
    for name in sorted(f for f in files if f[0] != '.'):
      path = pathlib.Path(place, name)
      if path.suffix.lower() in endings:
        found.append((path, path.relative_to(folder)))
      else:
        others += 1
  return found, others


def check(jobs: Sequence[Job], force: bool):
  """Whether outputs can be written; CliError if not."""
  sources = collections.defaultdict(list)
  for job in jobs:
    if job.target is not None:
      sources[os.path.abspath(job.target)].append(job.source_name)
  for job in jobs:
    target = job.target
    if target is None:
      continue
    same = sources[os.path.abspath(target)]
    if len(same) > 1:
      raise CliError(
        f'Several inputs would be written to {target}: {", ".join(same)}.'
      )
    if target.exists():
      if job.source is not None and os.path.samefile(job.source, target):
        raise CliError(f'{job.source} would be its own output.')
      if not target.is_file():
        raise CliError(f'{target} is not a file that can be replaced.')
      if not force:
        raise CliError(f'{target} exists; --force overwrites it.')
    place = next(p for p in target.absolute().parents if p.exists())
    if not place.is_dir():
      raise CliError(f'{target}: {place} is not a folder.')


def write(target: pathlib.Path | None, data: bytes, force: bool = False):
  """Writes a file whole or not at all; a link is followed. None is stdout.

  Raises:
    CliError: without `force`, the file is there by now.
  """
  if target is None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return
  target = target.resolve()
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(prefix='.gdc-', dir=target.parent)
  try:
    with os.fdopen(handle, 'wb') as f:
      f.write(data)
    os.chmod(temporary, _mode(target))
    _publish(temporary, target, force)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):  # it has its name already
      os.unlink(temporary)
    raise


def _mode(target: pathlib.Path) -> int:
  """Permissions: of the file that is replaced, or as of any new one."""
  with contextlib.suppress(FileNotFoundError):
    return stat.S_IMODE(target.stat().st_mode)
  umask = os.umask(0)
  os.umask(umask)
  return 0o666 & ~umask


def _publish(temporary: str, target: pathlib.Path, force: bool):
  """Gives a finished file its name; what has it meanwhile is not lost."""
  if not force:
    try:
      os.link(temporary, target)
    except FileExistsError as e:
      raise CliError(f'{target} exists; --force overwrites it.') from e
    except OSError:  # a disk without hard links
      if target.exists():
        raise CliError(f'{target} exists; --force overwrites it.') from None
    else:
      os.unlink(temporary)
      return
  os.replace(temporary, target)


# --- What is said -----------------------------------------------------------


class Report:
  """What a command says: to people, or to programs as JSON Lines.

  Results go to standard output, notices and errors to standard error. As JSON,
  a line for each input, whether it succeeded or not, goes to standard output.
  Where that takes the data, all goes to standard error.
  """

  def __init__(self, as_json: bool = False, data_on_stdout: bool = False):
    self._as_json = as_json
    self._out = sys.stderr if data_on_stdout else sys.stdout
    self._print = _print

  def result(self, text: str, record: dict):
    """What was done; `input` and `notices` of the record are said, too."""
    if self._as_json:
      self._print(json.dumps(record), self._out)
      return
    for notice in record.get('notices', ()):
      self.notice(f'{record["input"]}: {notice}.')
    self._print(text, self._out)

  def notice(self, text: str):
    """For people only: one line on standard error."""
    self._print(f'gdc: {text}', sys.stderr)

  def error(self, error: BaseException, name: str | None = None):
    """What went wrong with an input, or, without a name, with all."""
    notes = ' '.join(getattr(error, '__notes__', []))
    message = ' '.join(f'{error} {notes}'.split()) or type(error).__name__
    if self._as_json:
      record = {'input': name, 'error': message}
      self._print(json.dumps(record), self._out)
    elif name and not re.search(
      rf'(?<![\w./-]){re.escape(name)}(?![\w/-])', message
    ):
      self.notice(f'{name}: {message}')
    else:
      self.notice(message)

  def each(
    self, jobs: Sequence[Job], work: Callable[[Job], tuple[str, dict]]
  ) -> int:
    """Does the work for every job; one that fails does not stop the rest.

    Args:
      jobs: several of them have a progress bar, if there is a terminal.
      work: returns what `result` takes.

    Returns:
      The exit status: 1 if one failed, else 0.
    """
    failed = 0
    with contextlib.ExitStack() as stack:
      if len(jobs) > 1:
        import tqdm
        bar = tqdm.tqdm(jobs, unit='file', disable=None)
        stack.callback(setattr, self, '_print', _print)

        def print_above(text, file):
          with tqdm.tqdm.external_write_mode(file):
            _print(text, file)

        self._print = print_above
        jobs = stack.enter_context(bar)
      for job in jobs:
        try:
          text, record = work(job)
        except BrokenPipeError:
          raise
        except ERRORS as e:
          self.error(e, job.source_name)
          failed += 1
        else:
          self.result(text, record)
      if failed and len(jobs) > 1:
        self.notice(f'{failed} of {len(jobs)} failed.')
    return int(failed > 0)


def _print(text: str, file):
  # A file name may hold bytes that are no text.
  encoding = file.encoding or 'utf-8'
  text = text.encode(encoding, 'backslashreplace').decode(encoding)
  print(text, file=file, flush=True)
