"""How far an evaluation is."""
import types

import pytest

from gdc import progress
from gdc.evaluation import pace


def test_the_time_left_is_steady(monkeypatch):
  """Codecs of very different speeds, images of very different sizes."""
  now = 0.0
  clock = types.SimpleNamespace(monotonic=lambda: now)
  monkeypatch.setattr(pace, 'time', clock)
  monkeypatch.setattr(progress, 'time', clock)
  monkeypatch.setattr(progress.Bar, '_show', lambda self: None)
  seconds = {('mse', 1.0): 0.1, ('avif', 1.0): 5.0, ('webp', 2.0): 0.5}
  sizes = {'a': 1.0, 'b': 20.0, 'c': 4.0}
  left = sum(seconds.values()) * sum(sizes.values())
  with progress.Bar(sum(sizes.values()), 'eval', tiles=False) as bar:
    made = pace.Pace(bar, sizes, list(seconds))
    for name, size in sizes.items():
      for codec, quality in seconds:
        now += size * seconds[codec, quality]
        left -= size * seconds[codec, quality]
        progress.tile('analyse', 1, 1)  # counts for nothing
        made.row({'name': name, 'codec': codec, 'quality': quality})
        if name != 'a':  # by which the codecs' shares are known
          assert (1 - bar.fraction()) / bar.rate() == pytest.approx(left)
    assert bar.fraction() == pytest.approx(1) and bar.label == 'c, webp'


def test_rows_that_were_there_or_cannot_be_made(monkeypatch):
  monkeypatch.setattr(progress.Bar, '_show', lambda self: None)
  rows = [('x', 1.0), ('y', 1.0)]
  with progress.Bar(4.0, tiles=False) as bar:
    made = pace.Pace(bar, {'a': 1.0, 'b': 3.0}, rows)
    for codec, quality in rows:
      row = {'name': 'a', 'codec': codec, 'quality': quality}
      made.row(row, skipped=True)
    assert bar.fraction() == 0.25 and bar.rate() is None
  with progress.Bar(4.0, tiles=False) as bar:
    made = pace.Pace(bar, {'a': 1.0, 'b': 3.0}, rows)
    made.row({'name': 'a', 'codec': 'x', 'quality': 1.0})
    made.row({'name': 'b', 'codec': 'x', 'quality': 1.0})
    assert bar.fraction() > 0.25
  with progress.Bar(4.0, tiles=False) as bar:
    made = pace.Pace(bar, {'a': 1.0, 'b': 3.0}, rows)
    for _ in range(4):  # another process made them
      made.row(None)
    assert bar.fraction() == 1
