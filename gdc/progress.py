"""Progress of long work: how far it is, the time left, what is being done.

Workers tell whoever listens in their thread (`part`, `plan`, `tile`,
`compiling`), which costs nothing where nobody does, as in programs that use
gdc. A command listens with a Bar. On a terminal that is one line on standard
error, drawn anew; a log file gets a line now and then instead. What takes less
than two seconds leaves neither.
"""
import contextlib
import contextvars
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator

DELAY = 2.0  # seconds before anything is shown
REDRAW = 0.25  # seconds between two drawings on a terminal
FIRST_LINE, LINES = 10.0, 30.0  # seconds before and between lines in a log
ENOUGH = 0.01  # of the work, from which on the time left is told
# Cost of a pass over an image, that of the autoencoder being 1; and of all that
# is no pass: reading, entropy coding, writing.
_COSTS = {'analyse': 1.0, 'synthesise': 1.0, 'pixels': 1.0}
_SCORE_COST = 4.0
_REST = 0.4
_TITLES = {
  'analyse': 'analysis', 'synthesise': 'synthesis', 'pixels': 'synthesis',
}

_listener = contextvars.ContextVar('listener', default=None)


# --- For workers ------------------------------------------------------------


def plan(**passes: int) -> None:
  """Says how many passes over the image each network will make at least."""
  if (bar := _listener.get()) is not None:
    bar.plan(passes)


def tile(
  name: str, done: int, total: int, first: bool | None = None
) -> None:
  """Says that `done` of `total` tiles of a network's pass are finished.

  Args:
    name: of the network.
    done: tiles.
    total: tiles.
    first: whether the pass began with these; None: where one is done.
  """
  if (bar := _listener.get()) is not None:
    bar.tile(name, done, total, done == 1 if first is None else first)


def part(work: float, what: str) -> None:
  """Says that a part of so much work begins, of the bar's total."""
  if (bar := _listener.get()) is not None:
    bar.begin(work, what)


@contextlib.contextmanager
def aside() -> Iterator[None]:
  """Within it others may print: a line of progress is taken away meanwhile."""
  bar = _listener.get()
  with contextlib.nullcontext() if bar is None else bar.aside():
    yield


@contextlib.contextmanager
def compiling(name: str, kept: bool = False) -> Iterator[None]:
  """Says that a program is compiled meanwhile.

  Args:
    name: of the program.
    kept: whether it is stored for later processes.
  """
  what = _TITLES.get(name, name)
  with during(
    f'compiling {what} (first use{", kept for later" if kept else ""})'
  ):
    yield


@contextlib.contextmanager
def during(what: str) -> Iterator[None]:
  """Says what is done meanwhile, which does not count for the time left."""
  bar = _listener.get()
  with contextlib.nullcontext() if bar is None else bar.pause(what):
    yield


# --- For commands -----------------------------------------------------------


def pixels(path) -> float:
  """The work that an image file is: its pixels, or if need be its bytes."""
  # What is wrong with a file is said when it is read.
  with contextlib.suppress(Exception), warnings.catch_warnings():
    from PIL import Image
    warnings.simplefilter('ignore')
    if os.path.isfile(path):  # a pipe would be waited for
      with Image.open(path) as image:
        return float(image.width * image.height)
  return num_bytes(path)


def num_bytes(path) -> float:
  """The work that another file is: its bytes; 1 where there are none."""
  with contextlib.suppress(OSError, TypeError):
    return float(os.path.getsize(path)) or 1.0
  return 1.0


class Bar:
  """A line of progress; a context manager, and the listener within it.

  The time left is that of the mean rate so far, without the time spent on
  compiling, which does not come again. So it is steady where items are of very
  different sizes, if `total` and `begin` count work and not items.

  Attributes:
    label: what the line begins with.
    done: the work that is finished, in the units of total.
    note: what the line ends with.
  """

  def __init__(
    self, total: float, label: str = '', hidden: bool = False,
    tiles: bool = True,
  ):
    """Takes the work to do; nothing is shown yet.

    Args:
      total: the work in any unit, such as pixels or steps.
      label: what the line begins with.
      hidden: show nothing at all.
      tiles: whether the passes of networks count, as for a single image.
    """
    self.label, self.done = label, 0.0
    self.note = ''
    self._total, self._by_tiles = total, tiles
    self._item = 0.0  # the work of the item that is being done
    self._left = {}  # network -> passes that are planned and not begun
    self._passes, self._planned = 0.0, 0.0  # costs: finished, in all
    self._tiles = 0.0  # cost of the finished tiles of a pass
    self._paused, self._skipped = 0.0, 0.0  # seconds; work done before
    self._pause_began, self._skips_start = None, False
    self._file = None if hidden else sys.stderr
    self._on_terminal = is_terminal(self._file)
    self._width = 0  # of the line on the terminal
    self._lines = []  # when lines were written to a log
    self._lock = threading.RLock()
    self._end, self._thread, self._token = threading.Event(), None, None

  def __enter__(self):
    self._began = time.monotonic()
    self._token = _listener.set(self)
    if self._file is not None:
      # Shown from a thread of its own: a tile, a file that is read and a
      # program that is compiled would otherwise stop it.
      self._thread = threading.Thread(target=self._show, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *error):
    _listener.reset(self._token)
    self._end.set()
    if self._thread is not None:
      self._thread.join()
    with self._lock:
      self._clear()
      if self._lines and error[0] is None:
        self._write(f'gdc: {self._title()}done in {_clock(self._elapsed())}\n')

  def begin(self, work: float, what: str = '') -> None:
    """An item of so much work begins; the one before it is finished."""
    self.done += self._item
    self._item = work
    self._left, self.note = {}, what
    self._passes = self._planned = self._tiles = 0.0

  def advance(self, work: float = 1.0, skipped: bool = False) -> None:
    """So much more is finished, outside of items.

    Args:
      work: in the units of total.
      skipped: whether it was there before, and says nothing about the rate.
    """
    self.done += work
    self._skipped += work * skipped

  def plan(self, passes) -> None:
    """See the function `plan`."""
    if not self._by_tiles:
      return
    if not self._skips_start:  # imports, weights and a file to read
      self._skips_start = True
      self._paused = self._elapsed()
    for name, count in passes.items():
      self._left[name] = self._left.get(name, 0) + count
      self._planned += count * _cost(name)

  def tile(self, name: str, done: int, total: int, first: bool) -> None:
    """See the function `tile`."""
    if not self._by_tiles:
      return
    cost = _cost(name)
    if first:
      if self._left.get(name, 0) > 0:
        self._left[name] -= 1
      else:
        self._planned += cost
    if done < total:
      self._tiles = cost * done / total
    else:
      self._passes += cost
      self._tiles = 0.0
    self.note = f'{_TITLES.get(name, name)}, tile {done} of {total}'

  @contextlib.contextmanager
  def pause(self, what: str) -> Iterator[None]:
    """Does not count the time within for the rate, and says why."""
    before, self.note = self.note, what
    self._pause_began = time.monotonic()
    try:
      yield
    finally:
      self._paused += time.monotonic() - self._pause_began
      self._pause_began, self.note = None, before

  @contextlib.contextmanager
  def aside(self) -> Iterator[None]:
    """Within it others may print: the line is taken away, and comes back."""
    with self._lock:
      self._clear()
      yield

  # --- What is shown --------------------------------------------------------

  def fraction(self) -> float:
    """How much of the work is done, 0 to 1."""
    within = 0.0
    if self._planned:
      finished = min(self._passes + self._tiles, self._planned)
      within = self._item * finished / (self._planned + _REST)
    return min((self.done + within) / self._total, 1.0) if self._total else 1.0

  def rate(self) -> float | None:
    """Fractions per second; None before enough is done to tell."""
    pause = self._pause_began
    seconds = self._elapsed() - self._paused - (
      0 if pause is None else time.monotonic() - pause
    )
    made = self.fraction() - (
      self._skipped / self._total if self._total else 0
    )
    return made / seconds if made > ENOUGH and seconds > 0 else None

  def _elapsed(self) -> float:
    return time.monotonic() - self._began

  def _title(self) -> str:
    return f'{self.label}: ' if self.label else ''

  def _show(self):
    while not self._end.wait(REDRAW):
      if self._elapsed() < DELAY:
        continue
      with self._lock:
        if self._end.is_set():
          return
        if self._on_terminal:
          self._draw()
        elif self._is_due():
          self._log()

  def _is_due(self) -> bool:
    """Whether a log gets a line now: also once for each program compiled."""
    now = self._elapsed()
    if self._lines:
      return now - self._lines[-1] >= LINES
    return now >= FIRST_LINE or self._pause_began is not None

  def _draw(self):
    from tqdm import tqdm
    line = tqdm.format_meter(
      self.fraction(), 1.0, self._elapsed(), ncols=_columns(self._file) - 1,
      prefix=self.label, rate=self.rate(),
      ascii='utf' not in (getattr(self._file, 'encoding', '') or '').lower(),
      bar_format='{l_bar}{bar:10}| {elapsed}<{remaining}{postfix}',
      postfix=self.note,
    )
    self._write('\r' + _plain(line, self._file) + '\x1b[K')
    self._width = 1

  def _log(self):
    rate, fraction = self.rate(), self.fraction()
    left = f', about {_clock((1 - fraction) / rate)} left' if rate else ''
    self._write(
      f'gdc: {self._title()}{100 * fraction:.0f} %, '
      f'{_clock(self._elapsed())} so far{left}'
      + (f'; {self.note}' if self.note else '') + '\n'
    )
    self._lines.append(self._elapsed())

  def _clear(self):
    if self._width:
      self._write('\r\x1b[K')
      self._width = 0

  def _write(self, text):
    # Whoever read it may have gone; that is no reason to stop the work.
    with contextlib.suppress(OSError, ValueError):
      self._file.write(_plain(text, self._file))
      self._file.flush()


def _cost(name: str) -> float:
  return _COSTS.get(name, _SCORE_COST)


def is_terminal(file) -> bool:
  """Whether a stream, or None, is shown to a person."""
  try:
    return file is not None and file.isatty()
  except ValueError:  # it is closed
    return False


def _columns(file) -> int:
  with contextlib.suppress(OSError, ValueError, AttributeError):
    return os.get_terminal_size(file.fileno()).columns or 80
  return 80


def _plain(text: str, file) -> str:
  """What the file's encoding has; a name need not be text."""
  encoding = getattr(file, 'encoding', None) or 'utf-8'
  return text.encode(encoding, 'backslashreplace').decode(encoding)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else (
    f'{minutes:02}:{seconds:02}'
  )
