"""Progress of long work: how much is done, and the time left.

Workers report to the Bar that is active in their context, if there is one
(`plan`, `tile`, `part`, `compiling`). On a terminal, a Bar is one line on
standard error, which is removed at the end; a log file gets a line now and
then. Work of less than two seconds shows nothing.
"""
import contextlib
import contextvars
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Iterator

DELAY = 2.0  # seconds before anything is shown
REDRAW = 0.25  # seconds between two drawings on a terminal
FIRST_LINE, LINES = 10.0, 30.0  # seconds before and between lines in a log
ENOUGH = 0.01  # of the work has to be done before the time left is estimated
# Cost of a network's pass over an image, relative to the autoencoder's. The
# rest is reading, entropy coding and writing.
_COSTS = {'analyse': 1.0, 'synthesise': 1.0, 'pixels': 1.0}
_SCORE_COST = 4.0
_REST = 0.4
_TITLES = {
  'analyse': 'analysis', 'synthesise': 'synthesis', 'pixels': 'synthesis',
}

_CLEAR = '\x1b[K'  # clears the terminal's line after the cursor
_active = contextvars.ContextVar('active', default=None)


# --- For workers ------------------------------------------------------------


def plan(**passes: int) -> None:
  """Announces how many passes over the image each network will make."""
  if (bar := _active.get()) is not None:
    bar.plan(passes)


def tile(name: str, done: int, total: int) -> None:
  """Reports that `done` of `total` tiles of a network's pass are finished."""
  if (bar := _active.get()) is not None:
    bar.tile(name, done, total)


def part(work: float, what: str) -> None:
  """Reports that a part of the work begins, in units of the bar's total."""
  if (bar := _active.get()) is not None:
    bar.begin(work, what)


def aside() -> contextlib.AbstractContextManager:
  """Returns a context in which others may print: the line is removed."""
  bar = _active.get()
  return contextlib.nullcontext() if bar is None else bar.aside()


def during(what: str) -> contextlib.AbstractContextManager:
  """Returns a context that shows `what`, and does not count as work."""
  bar = _active.get()
  return contextlib.nullcontext() if bar is None else bar.pause(what)


def compiling(
  name: str, kept: bool = False
) -> contextlib.AbstractContextManager:
  """Returns a context for compiling a network's program.

  Args:
    name: name of the network.
    kept: whether the program is stored for later processes.
  """
  later = ', kept for later' if kept else ''
  return during(f'compiling {_TITLES.get(name, name)} (first use{later})')


# --- For commands -----------------------------------------------------------


def pixels(path) -> float:
  """Returns the number of pixels of an image file, or else its bytes."""
  # What is wrong with a file is reported when it is read.
  with contextlib.suppress(Exception), warnings.catch_warnings():
    from PIL import Image
    warnings.simplefilter('ignore')
    if os.path.isfile(path):  # opening a pipe would wait for its writer
      with Image.open(path) as image:
        return float(image.width * image.height)
  return num_bytes(path)


def num_bytes(path) -> float:
  """Returns the size of a file; 1 if it is empty or not a file."""
  with contextlib.suppress(OSError, TypeError):
    return float(os.path.getsize(path)) or 1.0
  return 1.0


class Bar:
  """A progress line; a context manager within which workers report to it.

  The time left is estimated from the mean rate so far, without the time spent
  on compiling. It is steady if `total` and `begin` are in units of work, such
  as pixels, and not in items of different sizes.

  Attributes:
    label: what the line begins with.
    note: what the line ends with.
    done: finished work, in units of `total`.
  """

  def __init__(
    self, total: float, label: str = '', hidden: bool = False,
    tiles: bool = True,
  ):
    """Initializes a bar; nothing is shown yet.

    Args:
      total: the work in any unit, such as pixels or steps.
      label: what the line begins with.
      hidden: whether to show nothing at all.
      tiles: whether to count the tiles that networks report.
    """
    self.label, self.note, self.done = label, '', 0.0
    self._total, self._item, self._by_tiles = total, 0.0, tiles
    self._skipped = 0.0  # work that was done before
    self._paused, self._pause_began = 0.0, None  # seconds
    self._hidden = hidden
    self._on_terminal = not hidden and sys.stderr.isatty()
    self._shown = None  # time of the line that is shown, or the last in a log
    self._lock = threading.RLock()
    self._end = threading.Event()
    self.begin(0.0)

  def __enter__(self):
    self._began = time.monotonic()
    self._token = _active.set(self)
    # A thread draws, even while a tile is computed or a program compiled.
    self._thread = threading.Thread(target=self._show, daemon=True)
    if not self._hidden:
      self._thread.start()
    return self

  def __exit__(self, *error):
    _active.reset(self._token)
    self._end.set()
    if not self._hidden:
      self._thread.join()
    self._clear()

  def begin(self, work: float, what: str = '') -> None:
    """Begins an item of the work; the one before it is finished."""
    self.done += self._item
    self._item, self.note = work, what
    self._left = {}  # network -> passes that are planned and not begun
    self._planned, self._passes, self._tiles = 0.0, 0.0, 0.0  # costs
    self._pass = None  # network whose tiles are being computed

  def advance(self, work: float = 1.0, skipped: bool = False) -> None:
    """Counts work outside of items; `skipped` was done in an earlier run."""
    self.done += work
    self._skipped += work * skipped

  def plan(self, passes) -> None:
    """See the function `plan`."""
    for name, count in passes.items():
      self._left[name] = self._left.get(name, 0) + count
      self._planned += count * _cost(name)

  def tile(self, name: str, done: int, total: int) -> None:
    """See the function `tile`."""
    if not self._by_tiles:
      return
    if self._pass != name:  # a new one
      if self._left.get(name, 0) > 0:
        self._left[name] -= 1
      else:
        self._planned += _cost(name)
    self._pass, self._tiles = name, _cost(name) * done / total
    if done == total:
      self._passes += self._tiles
      self._pass, self._tiles = None, 0.0
    self.note = f'{_TITLES.get(name, name)}, tile {done} of {total}'

  @contextlib.contextmanager
  def pause(self, what: str) -> Iterator[None]:
    """Shows `what`, and does not count the time within for the rate."""
    before, self.note = self.note, what
    self._pause_began = time.monotonic()
    try:
      yield
    finally:
      self._paused += time.monotonic() - self._pause_began
      self._pause_began, self.note = None, before

  @contextlib.contextmanager
  def aside(self) -> Iterator[None]:
    """Removes the line while others print."""
    with self._lock:
      self._clear()
      yield

  def fraction(self) -> float:
    """Returns how much of the work is done, 0 to 1."""
    if not self._total:
      return 1.0
    finished = min(self._passes + self._tiles, self._planned)
    within = self._item * finished / (self._planned + _REST)
    return min((self.done + within) / self._total, 1.0)

  def rate(self) -> float | None:
    """Returns the fraction done per second; None until enough is done."""
    seconds = self._elapsed() - self._paused
    if self._pause_began is not None:
      seconds -= time.monotonic() - self._pause_began
    made = self.fraction() - self._skipped / (self._total or 1.0)
    return made / seconds if made > ENOUGH and seconds > 0 else None

  # --- What is shown --------------------------------------------------------

  def _show(self):
    while not self._end.wait(REDRAW):
      with self._lock:
        if not self._end.is_set() and self._is_due():
          self._draw()

  def _is_due(self) -> bool:
    """Whether to show the line now; in a log, early if a program compiles."""
    now = self._elapsed()
    if self._on_terminal:
      return now >= DELAY
    if self._shown is None:
      return now >= FIRST_LINE or (
        now >= DELAY and self._pause_began is not None
      )
    return now >= self._shown + LINES

  def _draw(self):
    from tqdm import tqdm
    self._shown = self._elapsed()
    columns = shutil.get_terminal_size().columns - 1
    line = tqdm.format_meter(
      self.fraction(), 1.0, self._shown, rate=self.rate(),
      ncols=columns if self._on_terminal else None, prefix=self.label,
      ascii='utf' not in (sys.stderr.encoding or '').lower(),
      bar_format='{l_bar}{bar:10}| {elapsed}<{remaining}{postfix}',
      postfix=self.note,
    )
    self._write(f'\r{line}{_CLEAR}' if self._on_terminal else f'{line}\n')

  def _clear(self):
    if self._on_terminal and self._shown is not None:
      self._write(f'\r{_CLEAR}')
      self._shown = None

  def _write(self, text):
    # The reader may have gone; that is no reason to stop the work.
    with contextlib.suppress(OSError):
      sys.stderr.write(text)
      sys.stderr.flush()

  def _elapsed(self) -> float:
    return time.monotonic() - self._began


def _cost(name: str) -> float:
  return _COSTS.get(name, _SCORE_COST)
