"""The line of progress: what it counts, and what it leaves where."""
import io
import re
import sys
import threading

import pytest

from gdc import progress


class _Terminal(io.StringIO):
  encoding = 'utf-8'

  def isatty(self):
    return True


class _Clock:
  """Seconds that pass only when they are told to."""

  def __init__(self):
    self.now = 100.0

  def monotonic(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  made = _Clock()
  monkeypatch.setattr(progress, 'time', made)
  return made


@pytest.fixture
def bar(clock, monkeypatch):
  """A bar whose thread draws nothing: tests draw themselves."""
  monkeypatch.setattr(progress.Bar, '_show', lambda self: None)
  return lambda *arguments, **how: progress.Bar(*arguments, **how)


def test_nobody_listens():
  progress.plan(analyse=1)
  progress.tile('analyse', 1, 2)
  progress.part(1.0, 'x')
  with progress.compiling('analyse'):
    pass


def test_passes_and_tiles_are_weighted_by_their_cost(bar):
  with bar(1.0) as made:
    made.begin(1.0)
    progress.plan(synthesise=1, flow=4)
    whole = 1 + 4 * progress._SCORE_COST + progress._REST
    progress.tile('synthesise', 1, 2)
    assert made.fraction() == pytest.approx(0.5 / whole)
    progress.tile('synthesise', 2, 2)
    assert made.fraction() == pytest.approx(1 / whole)
    for i in range(4):
      for tile in (1, 2):
        progress.tile('flow', tile, 2)
        assert made.fraction() == pytest.approx(
          (1 + progress._SCORE_COST * (i + tile / 2)) / whole
        )
    assert made.fraction() < 1  # it is not written yet
    made.begin(0.0)
    assert made.fraction() == 1


def test_a_pass_that_was_not_planned_is_work_more(bar):
  with bar(1.0) as made:
    made.begin(1.0)
    progress.plan(analyse=1)
    progress.tile('analyse', 1, 1)
    progress.tile('analyse', 2, 2, first=True)  # two devices at once
    assert made.fraction() == pytest.approx(2 / (2 + progress._REST))


def test_the_time_left_goes_by_work_and_not_by_items(bar, clock):
  """A large image between small ones, at one speed: no jump in the estimate."""
  sizes = [1, 1, 24, 1, 1]
  with bar(sum(sizes)) as made:
    for size in sizes:
      made.begin(size)
      progress.plan(analyse=1)
      for tile in range(1, 11):
        clock.now += 0.1 * size
        progress.tile('analyse', tile, 10)
        if made.fraction() < progress.ENOUGH:
          assert made.rate() is None
          continue
        left = (1 - made.fraction()) / made.rate()
        true = 100 + (1 + progress._REST) * sum(sizes) - clock.now
        assert left == pytest.approx(true, rel=0.5, abs=0.5)
      clock.now += progress._REST * size  # written


def test_the_start_does_not_count_for_the_rate(bar, clock):
  with bar(1.0) as made:
    clock.now += 50  # imports, weights, a file to read
    made.begin(1.0)
    progress.plan(analyse=1)
    clock.now += 1
    progress.tile('analyse', 1, 2)
    assert made.rate() == pytest.approx(0.5 / (1 + progress._REST))


def test_compiling_and_what_was_there_do_not_count_for_the_rate(bar, clock):
  with bar(10.0) as made:
    made.advance(5.0, skipped=True)
    assert made.rate() is None
    with progress.compiling('analyse', kept=True):
      assert made.note == 'compiling analysis (first use, kept for later)'
      clock.now += 60
      assert made.rate() is None
    clock.now += 2
    made.advance()
    assert made.rate() == pytest.approx(0.1 / 2)
    with progress.compiling('flow'):
      assert made.note == 'compiling flow (first use)'
      clock.now += 60
      assert made.rate() == pytest.approx(0.1 / 2)


def test_a_terminal_has_one_line_that_goes_away(bar, clock, monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  with bar(4.0, 'a\udcff.png') as made:
    made.advance()
    progress.part(1.0, 'JPEG')
    clock.now += 10
    made._draw()
    with made.aside():
      print('above', file=sys.stderr)
    made._draw()
  written = terminal.getvalue()
  first = written.split('\x1b[K')[0]
  assert re.fullmatch(
    r'\ra\\udcff\.png: +25%\|.{10}\| 00:10<00:30, JPEG', first
  )
  assert written.split(first)[1] == '\x1b[K\r\x1b[Kabove\n'
  assert written.endswith('\r\x1b[K') and written.count('\n') == 1


def test_a_log_gets_a_line_now_and_then(bar, clock, monkeypatch):
  log = io.StringIO()
  monkeypatch.setattr(sys, 'stderr', log)
  with bar(100.0, 'eval') as made:
    for _ in range(100):
      clock.now += 1
      made.advance()
      if made._is_due():
        made._log()
  assert log.getvalue().splitlines() == [
    'gdc: eval: 10 %, 00:10 so far, about 01:30 left',
    'gdc: eval: 40 %, 00:40 so far, about 01:00 left',
    'gdc: eval: 70 %, 01:10 so far, about 00:30 left',
    'gdc: eval: 100 %, 01:40 so far, about 00:00 left',
    'gdc: eval: done in 01:40',
  ]


def test_short_work_leaves_nothing(monkeypatch):
  for file in (_Terminal(), io.StringIO()):
    monkeypatch.setattr(sys, 'stderr', file)
    with progress.Bar(1.0, 'x') as made:
      made.advance()
    assert file.getvalue() == ''


def test_the_thread_draws_and_ends(monkeypatch):
  drawn = threading.Event()
  terminal = _Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  monkeypatch.setattr(progress, 'DELAY', 0.0)
  monkeypatch.setattr(progress, 'REDRAW', 0.001)
  draw = progress.Bar._draw
  monkeypatch.setattr(
    progress.Bar, '_draw', lambda self: (draw(self), drawn.set())
  )
  with progress.Bar(1.0, 'x') as made:
    assert drawn.wait(60)
    thread = made._thread
  assert not thread.is_alive() and 'x' in terminal.getvalue()
  with progress.Bar(1.0, hidden=True) as made:
    assert made._thread is None


def test_a_closed_stream_is_no_reason_to_stop(bar, clock, monkeypatch):
  closed = _Terminal()
  closed.close()
  for file in (closed, None):
    monkeypatch.setattr(sys, 'stderr', file)
    with bar(1.0) as made:
      clock.now += 60
      if file is not None:
        made._log()
