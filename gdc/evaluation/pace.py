"""Progress of an evaluation, weighted so that the time left is steady.

Images differ in size, and codecs in speed by a hundred: a row counts as the
pixels of its image, times the share of an image's time that rows of its codec
and quality have taken so far.
"""
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gdc import progress


class Pace:
  """Advances a bar as rows are made."""

  def __init__(
    self, bar: progress.Bar, sizes: Mapping[str, float],
    rows: Sequence[tuple[str, float]],
  ):
    """Takes a bar whose total is the sum of the sizes.

    Args:
      bar: to advance.
      sizes: pixels of each image, by name.
      rows: (codec, quality) of all rows of an image.
    """
    self._bar, self._sizes = bar, sizes
    self._seconds = {row: [] for row in rows}  # per pixel
    self._mean = sum(sizes.values()) / max(len(sizes) * len(rows), 1)
    self._image, self._done, self._counted = None, set(), 0.0
    self._last = time.monotonic()

  def row(self, row: Mapping[str, Any] | None, skipped: bool = False) -> None:
    """Counts a row.

    Args:
      row: see study.Study.work; None for one of an unknown image.
      skipped: whether it was there before.
    """
    now = time.monotonic()
    if row is None:
      self._bar.advance(self._mean)
      return
    key, size = (row['codec'], row['quality']), self._sizes[row['name']]
    if row['name'] != self._image:
      if self._image is not None:  # its other rows could not be made
        self._bar.advance(self._sizes[self._image] - self._counted)
      self._image, self._done, self._counted = row['name'], set(), 0.0
    if not skipped:
      self._seconds[key].append((now - self._last) / size)
    self._last = now
    self._done.add(key)
    self._bar.label = f'{row["name"]}, {row["codec"]}'
    counted = size * self._share()
    self._bar.advance(max(counted - self._counted, 0.0), skipped)
    self._counted = max(counted, self._counted)

  def _share(self) -> float:
    """Estimates the share of the image's time that its finished rows took."""
    means = {
      key: statistics.fmean(found)
      for key, found in self._seconds.items() if found
    }
    typical = statistics.fmean(means.values()) if means else 1.0
    weights = {key: means.get(key, typical) for key in self._seconds}
    return sum(weights[key] for key in self._done) / sum(weights.values())
