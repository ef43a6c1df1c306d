"""The progress line: what it counts, and what it prints."""
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


def test_workers_may_report_without_a_bar():
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


def test_unplanned_passes_add_to_the_work(bar):
  with bar(1.0) as made:
    made.begin(1.0)
    progress.plan(analyse=1)
    progress.tile('analyse', 1, 1)
    for _ in range(2):
      progress.tile('analyse', 2, 4)  # two devices at once
      progress.tile('analyse', 4, 4)
    assert made.fraction() == pytest.approx(3 / (3 + progress._REST))


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


def test_compiling_and_earlier_work_do_not_count_for_the_rate(bar, clock):
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
  with bar(4.0, 'a.png') as made:
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
    r'\ra\.png: +25%\|.{10}\| 00:10<00:30, JPEG', first
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
        made._draw()
  lines = log.getvalue().splitlines()
  assert [re.sub(r'\|.*\|', '|', line) for line in lines] == [
    'eval:  10%| 00:10<01:30', 'eval:  40%| 00:40<01:00',
    'eval:  70%| 01:10<00:30', 'eval: 100%| 01:40<00:00',
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
    assert not made._thread.is_alive()
