"""Published rate-distortion curves, in CompressAI's format: others' figures.

A file is a JSON object with `name`, `description` and `results`, which holds
lists of equal length: `bpp`, and measures under the keys of metrics.TABLE
(`psnr-rgb`, `ms-ssim-rgb`, linear; some files have `ms-ssim-db-rgb` in its
place, -10 log10(1 - x), which is converted). Which pictures they are of, no
file says: where one lies does, see results/published.
"""
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gdc import paths
from gdc.evaluation import records


class Curve(NamedTuple):
  """A published curve.

  Attributes:
    name: of the codec, and its variant where the file's name has one.
    source: the name of the folder that the file lies in, such as 'kodak'.
    ours: whether it was made by this project's `gdc eval`.
    results: key -> values, by rising bpp; None where there is none.
  """

  name: str
  source: str
  results: Mapping[str, Sequence[float | None]]
  ours: bool = False

  @property
  def label(self) -> str:
    """For a legend, which says whose it is."""
    whose = self.source if self.ours else f'published, {self.source}'
    return f'{self.name} ({whose})'


def read(path) -> Curve:
  """Reads one file.

  Raises:
    ValueError: it can not be read, or is not of the format.
  """
  path = pathlib.Path(paths.expand(str(path)))
  try:
    content = json.loads(path.read_text())
    results = content['results']
    rates = results['bpp']
    order = sorted(range(len(rates)), key=lambda i: rates[i])
    curves = {
      key: [None if values[i] is None else float(values[i]) for i in order]
      for key, values in results.items()
      if isinstance(values, list) and len(values) == len(rates)
    }
    numbers = [x for values in curves.values() for x in values if x is not None]
    wrong = not rates or None in curves['bpp'] or not all(
      map(math.isfinite, numbers)
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    said = paths.words(error)
    if not isinstance(error, OSError | ValueError):  # a missing key, or so
      said = repr(error)
    raise ValueError(
      f"{path} is not a file of results in CompressAI's format: {said}"
    ) from error
  if wrong or curves['bpp'][0] <= 0:
    raise ValueError(
      f'{path} has rates {curves["bpp"]}: one or more above 0, and finite '
      'numbers everywhere, are expected'
    )
  decibels = curves.pop('ms-ssim-db-rgb', None)
  if decibels is not None:
    curves.setdefault('ms-ssim-rgb', [
      None if x is None else 1 - 10 ** (-x / 10) for x in decibels
    ])
  ours = 'codec' in content.get('meta', {})
  return Curve(path.stem, path.resolve().parent.name, curves, ours)


def read_all(path) -> list[Curve]:
  """Reads a file, or all in a folder, by name.

  In a folder that `gdc eval` wrote, the files that are no curves are passed
  over.

  Raises:
    ValueError: as read; or there is nothing.
  """
  path = pathlib.Path(paths.expand(str(path)))
  if not path.is_dir():
    return [read(path)]
  found = [
    read(file) for file in sorted(path.glob('*.json'))
    if file.name not in (records.INDEX, records.DIFFERENCES)
  ]
  if not found:
    raise ValueError(f'{path} has no .json file of a curve')
  return found
