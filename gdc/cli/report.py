"""What a command says: to people as lines, or to programs as JSON Lines."""
import contextlib
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Callable

from gdc import paths, progress
from gdc.cli import files

TRACEBACK = 'GDC_TRACEBACK'  # environment variable: print tracebacks, too
# What users can cause; anything else is a bug. The codec's own errors are
# ValueErrors, and JAX raises RuntimeError when memory runs out.
_EXPECTED = (
  files.CliError, OSError, ValueError, RuntimeError, ImportError, MemoryError
)


class Report:
  """Prints results to standard output, notices and errors to standard error.

  With `as_json`, standard output gets one object per input, whether it
  succeeded or not. With `data_on_stdout`, everything goes to standard error.
  """

  def __init__(
    self, as_json: bool = False, data_on_stdout: bool = False,
    quiet: bool = False,
  ):
    self._as_json = as_json
    self._quiet = quiet
    self._out = sys.stderr if data_on_stdout else sys.stdout

  def result(self, text: str, record: dict):
    """Prints a result, and for people the `notices` of its record."""
    if self._as_json:
      self._print(json.dumps(record))
      return
    for name in (record.get('input'), record.get('output')):
      if name:
        text = text.replace(name, paths.printable(name))
    for notice in record.get('notices', ()):
      self.notice(f'{paths.printable(record["input"])}: {notice}.')
    if not self._quiet:
      self._print(text)

  def notice(self, text: str):
    """Prints a line for people on standard error."""
    if not self._quiet:
      _to_stderr(text)

  def error(self, error: BaseException, name: str | None = None):
    """Prints what went wrong with an input, or without a name, with all."""
    if os.environ.get(TRACEBACK):
      traceback.print_exception(error)
    message = _message(error, name)
    if self._as_json:
      with contextlib.suppress(OSError):  # disk full: say it on stderr
        self._print(json.dumps({'input': name, 'error': message}))
        return
    shown = paths.printable(name)
    if name and not message.startswith((f'{shown}:', f'{shown} ')):
      message = f'{shown}: {message}'
    _to_stderr(message)

  def progress(self, total: float = 1.0, label: str = '') -> progress.Bar:
    """Returns a progress bar, hidden where it would mix with JSON in a log."""
    hidden = self._quiet or (self._as_json and not sys.stderr.isatty())
    return progress.Bar(total, label, hidden)

  def begin(self, plan: files.Plan):
    """Says what a plan leaves out, and which inputs cannot be read."""
    if plan.others:
      count = f'{len(plan.others)} file{"s" * (len(plan.others) > 1)}'
      self.notice(
        f'{count} skipped, of other types: {paths.listed(plan.others)}.'
      )
    if plan.existing and not self._as_json:
      self.notice(
        f'{len(plan.existing)} of {len(plan.existing) + len(plan.jobs)} '
        'outputs exist and are left as they are.'
      )
    elif plan.existing:
      for job in plan.existing:
        self._skipped(job)
    for path, problem in plan.problems:
      self.error(files.CliError(f'{path}: {problem}.'), str(path))

  def each(
    self, plan: files.Plan, work: Callable[[files.Job], tuple[str, dict]],
    size: Callable[[files.Job], float] = lambda job: 1.0,
  ) -> int:
    """Does every job of a plan; one that fails does not stop the others.

    Args:
      plan: the jobs.
      work: does one, and returns the arguments of `result`.
      size: the work a job is, relative to others, for the time left.

    Returns:
      Exit status: 1 if an input failed or could not be read, else 0.
    """
    failed, total = len(plan.problems), len(plan.problems) + len(plan.jobs)
    several = len(plan.jobs) > 1
    sizes = [size(job) if several else 1.0 for job in plan.jobs]
    with self.progress(sum(sizes)) as bar:
      for i, job in enumerate(plan.jobs):
        bar.label = f'{i + 1} of {len(plan.jobs)} files' if several else (
          paths.printable(pathlib.PurePath(job.source_name).name)
        )
        bar.begin(sizes[i])
        try:
          if plan.skip_existing and job.target.exists():
            raise files.ExistsError
          result = work(job)
        except BrokenPipeError:
          raise
        except Exception as e:
          if plan.skip_existing and isinstance(e, files.ExistsError):
            self._skipped(job)
            continue
          self.error(e, job.source_name)
          failed += 1
        else:
          self.result(*result)
      if failed and total > 1:
        self.notice(f'{failed} of {total} failed.')
    return int(failed > 0)

  def _skipped(self, job: files.Job):
    if self._as_json:
      self._print(json.dumps({
        'input': job.source_name, 'output': job.target_name, 'skipped': True,
      }))
    else:
      self.notice(f'{job.target} exists by now, and is left as it is.')

  def _print(self, text: str):
    with progress.aside(), files.naming_stdout():
      print(text, file=self._out, flush=True)


def _to_stderr(text: str):
  with progress.aside(), contextlib.suppress(OSError):
    print(f'gdc: {text}', file=sys.stderr, flush=True)


def _message(error: BaseException, name: str | None) -> str:
  """Returns the message of an exception, on one line."""
  text = paths.words(error)
  if not isinstance(error, _EXPECTED):
    kind = type(error).__name__
    text = (kind if text == kind else f'{kind}: {text}') + (
      f', which is a bug in gdc; {TRACEBACK}=1 prints the traceback.'
    )
  if name:
    text = text.replace(name, paths.printable(name))
  return ' '.join(' '.join([text, *getattr(error, '__notes__', ())]).split())
