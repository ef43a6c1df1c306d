"""Many inputs and outputs of a command: what goes where, and what is said.

What can be wrong with names is said before any work is done; see outputs.
"""
import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Collection, Sequence

from gdc import outputs, paths, progress

STREAM = outputs.STREAM
CliError, Job = outputs.CliError, outputs.Job
check, write = outputs.check, outputs.write

TRACEBACK = 'GDC_TRACEBACK'  # variable that asks for tracebacks, too
# BitstreamError, BundleError, RateError and ImageError are ValueErrors; what
# jax says where memory runs out is a RuntimeError. All others are our faults.
ERRORS = (
  CliError, OSError, ValueError, RuntimeError, ImportError, MemoryError
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a command is to do.

  Attributes:
    jobs: an output for each input.
    others: what folders hold with other endings.
    problems: (path, why it cannot be read) of what was asked for.
    existing: jobs that are left out, since their outputs exist.
    skip_existing: whether outputs that come to exist are left as they are.
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
  """Pairs inputs with outputs, and checks them.

  Args:
    inputs: files and folders, or STREAM alone. What lies below a folder keeps
      its place below an output folder.
    output: a file, a folder or STREAM; None is beside each input, and STREAM
      for STREAM.
    reads: the endings, in lower case, of files that folders are searched for.
    writes: the ending of outputs that are not named.
    force: whether an output may exist.
    skip_existing: whether inputs are left out whose output exists.
    keep_suffix: whether outputs keep their inputs' endings before their own.

  Raises:
    CliError: names that are wrong, or go to the same output.
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

  if output == STREAM or (output is None and inputs == [STREAM]):
    if several:
      raise CliError(f'{len(found)} outputs do not fit into standard output.')
    if sys.stdout.isatty():
      raise CliError('A terminal shows no such bytes; name an output with -o.')
    jobs = [Job(source, None) for source, _ in found]
    return Plan(jobs, others, problems)
  if output is None:
    jobs = [Job(s, named(s)) for s, _ in found]
  elif several or os.path.isdir(output) or output.endswith(os.sep):
    need = f'{len(found)} inputs need' if len(found) > 1 else (
      'an input that is a folder needs'
    )
    if os.path.exists(output) and not os.path.isdir(output):
      raise CliError(f'{output} is a file; {need} a folder.')
    if output.lower().endswith(writes) and not os.path.exists(output):
      raise CliError(
        f'{output} is a name for a file; {need} a folder. For a folder of '
        f'this name, end it with {os.sep}'
      )
    if inputs == [STREAM]:
      raise CliError(f'{output} is a folder; standard input needs a file.')
    folder = pathlib.Path(output)
    jobs = [Job(s, folder / named(below)) for s, below in found]
  else:
    jobs = [Job(s, pathlib.Path(output)) for s, _ in found]
  existing = []
  if skip_existing:
    every, jobs = jobs, []
    for job in every:
      (existing if os.path.isfile(job.target) else jobs).append(job)
  check(jobs, force, existing,
        '--force overwrites {it}, --skip-existing leaves {it} out')
  return Plan(jobs, others, problems, existing, skip_existing)


def find(inputs: Sequence[str], reads: Collection[str]) -> Plan:
  """Plans to read inputs, for which nothing is written; see plan."""
  found, others, problems, missing = _find(inputs, reads)
  jobs = [Job(source, None) for source, _ in found]
  return Plan(jobs, others, problems + missing)


def _find(inputs, reads):
  """Inputs with their paths below folders; others and problems, as in Plan.

  Problems of what is not there at all are a list of their own.
  """
  if STREAM in inputs and len(inputs) > 1:
    raise CliError('- (standard input) is one input, and goes with no other.')
  found, others, problems, missing = [], [], [], []
  for name in inputs:
    path = pathlib.Path(name)
    why = None if name == STREAM else paths.unusable(name)
    if name == STREAM:
      found.append((None, None))
    elif os.path.isdir(name):
      below = paths.search(path, reads)
      if not below.files and not below.problems:
        none = f'no file below it ends in {" ".join(reads)}'
        if len(inputs) == 1:
          raise CliError(f'{name}: {none}.')
        problems.append((path, none))  # it does not stop the others
      found += [(file, file.relative_to(path)) for file in below.files]
      others += below.others
      problems += below.problems
    elif not os.path.lexists(name):
      none = why == os.strerror(errno.ENOENT)
      missing.append((name, 'no such file or folder' if none else why))
    elif why and not (why == 'is a named pipe' and (
      # Nobody may ever write to it, while others wait; what a shell makes of
      # <(...) has a writer.
      len(inputs) == 1 or name.startswith('/dev/fd/')
    )):
      problems.append((path, why))
    else:
      found.append((path, pathlib.Path(path.name)))
  return found, others, problems, missing


# --- What is said -----------------------------------------------------------


class Report:
  """What a command says: to people, or to programs as JSON Lines.

  Results go to standard output, notices and errors to standard error. As JSON,
  a line for each input, whether it succeeded or not, goes to standard output.
  Where that takes the data, all goes to standard error.
  """

  def __init__(
    self, as_json: bool = False, data_on_stdout: bool = False,
    quiet: bool = False,
  ):
    self._as_json = as_json
    self._quiet = quiet
    self._out = sys.stderr if data_on_stdout else sys.stdout
    self._unread = 0  # problems of the plan
    self._skip_existing = False

  def result(self, text: str, record: dict):
    """What was done; `input` and `notices` of the record are said, too."""
    if self._as_json:
      _print(json.dumps(record), self._out)
      return
    for name in (record.get('input'), record.get('output')):
      if name:
        text = text.replace(name, paths.printable(name))
    for notice in record.get('notices', ()):
      self.notice(f'{paths.printable(record["input"])}: {notice}.')
    if not self._quiet:
      _print(text, self._out)

  def notice(self, text: str):
    """For people only: one line on standard error."""
    if not self._quiet:
      self._say(text)

  def _say(self, text: str):
    _print(f'gdc: {text}', sys.stderr)

  def error(self, error: BaseException, name: str | None = None):
    """What went wrong with an input, or, without a name, with all."""
    if os.environ.get(TRACEBACK):
      traceback.print_exception(error)
    message = _message(error, name)
    if self._as_json:
      with contextlib.suppress(OSError):  # full; it is said below, then
        record = {'input': name, 'error': message}
        _print(json.dumps(record), self._out)
        return
    shown = paths.printable(name)
    if name and not re.search(
      rf'(?<![\w./-]){re.escape(shown)}(?![\w/-])', message
    ):
      message = f'{shown}: {message}'
    self._say(message)

  def begin(self, plan: Plan, why: str):
    """Says what a plan leaves out, and what of it cannot be done.

    Args:
      plan: see jobs.plan.
      why: its other files are left out.
    """
    if plan.others:
      files = 'file' if len(plan.others) == 1 else 'files'
      self.notice(
        f'{len(plan.others)} {files} skipped: {why}: '
        f'{paths.listed(plan.others)}.'
      )
    if plan.existing and self._as_json:
      for job in plan.existing:
        self._skipped(job)
    elif plan.existing:
      self.notice(
        f'{len(plan.existing)} of {len(plan.existing) + len(plan.jobs)} '
        'outputs exist and are left as they are.'
      )
    self._unread = len(plan.problems)
    self._skip_existing = plan.skip_existing
    for path, problem in plan.problems:
      self.error(CliError(f'{path}: {problem}.'), str(path))

  def _skipped(self, job: Job):
    if self._as_json:
      record = {'input': job.source_name, 'output': job.target_name}
      _print(json.dumps(record | {'skipped': True}), self._out)
    else:
      self.notice(f'{job.target} exists by now, and is left as it is.')

  def progress(self, total: float = 1.0, label: str = '') -> progress.Bar:
    """A line of progress, see progress.Bar; a context manager.

    Lines of a log would come between those of JSON where both go to one place.
    """
    on_terminal = progress.is_terminal(sys.stderr)
    hidden = self._quiet or (self._as_json and not on_terminal)
    return progress.Bar(total, label, hidden)

  def each(
    self,
    jobs: Sequence[Job],
    work: Callable[[Job], tuple[str, dict]],
    size: Callable[[Job], float] = lambda job: 1.0,
  ) -> int:
    """Does the work for every job; one that fails does not stop the rest.

    Args:
      jobs: what to do.
      work: returns what `result` takes.
      size: how much work a job is, against others; for the time left.

    Returns:
      The exit status: 1 if one failed, or could not even be begun, else 0.
    """
    failed, total = self._unread, self._unread + len(jobs)
    sizes = [size(job) if len(jobs) > 1 else 1.0 for job in jobs]
    with self.progress(sum(sizes)) as bar:
      for i, job in enumerate(jobs):
        name = pathlib.PurePath(job.source_name).name
        bar.label = paths.printable(name) if len(jobs) == 1 else (
          f'{i + 1} of {len(jobs)} files'
        )
        bar.begin(sizes[i])
        try:
          if self._skip_existing and job.target.exists():
            raise outputs.ExistsError
          text, record = work(job)
        except BrokenPipeError:
          raise
        except outputs.ExistsError as e:
          if self._skip_existing:
            self._skipped(job)
          else:
            self.error(e, job.source_name)
            failed += 1
        except Exception as e:
          self.error(e, job.source_name)
          failed += 1
        else:
          self.result(text, record)
      if failed and total > 1:
        self.notice(f'{failed} of {total} failed.')
    return int(failed > 0)


def _message(error: BaseException, name: str | None) -> str:
  """What an exception says, on one line."""
  notes = ' '.join(getattr(error, '__notes__', []))
  text = '' if notes and not str(error) else paths.words(error)
  if not isinstance(error, ERRORS):
    kind = type(error).__name__
    text = (kind if text == kind else f'{kind}: {text}') + (
      f', which is a fault of gdc; with {TRACEBACK}=1 it says where.'
    )
  if name:
    text = text.replace(name, paths.printable(name))
  return ' '.join(f'{text} {notes}'.split())


def _print(text: str, file):
  if file is None:
    return  # closed before the command began
  # A file name may hold bytes that are no text.
  encoding = file.encoding or 'utf-8'
  text = text.encode(encoding, 'backslashreplace').decode(encoding)
  with progress.aside():
    if file is sys.stderr:
      with contextlib.suppress(OSError):  # there is nowhere to say it
        print(text, file=file, flush=True)
    else:
      with outputs.naming('standard output'):
        print(text, file=file, flush=True)
