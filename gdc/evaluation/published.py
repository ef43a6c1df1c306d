"""Published rate-distortion curves in CompressAI's format.

A file is a JSON object whose `results` holds lists of equal length: `bpp`, and
metrics under the keys of our own results (`psnr-rgb`, `ms-ssim-rgb`, linear;
`ms-ssim-db-rgb`, -10 log10(1 - x), is converted). The name of the file's folder
says which images the curve is of, see results/published.
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
    name: codec with its variant; the stem of the file's name.
    source: name of the file's folder, such as 'kodak'.
    results: key -> values by rising bpp; None where there is none.
    ours: whether `gdc eval` wrote the file.
  """

  name: str
  source: str
  results: Mapping[str, Sequence[float | None]]
  ours: bool = False

  @property
  def label(self) -> str:
    """The legend's entry, which says whose curve it is."""
    whose = self.source if self.ours else f'published, {self.source}'
    return f'{self.name} ({whose})'


def read(path) -> Curve:
  """Reads one file.

  Raises:
    ValueError: it cannot be read or has another format.
  """
  path = pathlib.Path(paths.expand(str(path)))
  try:
    content = json.loads(path.read_text())
    results = content['results']
    rates = results['bpp']
    order = sorted(range(len(rates)), key=rates.__getitem__)
    curves = {
      key: [None if values[i] is None else float(values[i]) for i in order]
      for key, values in results.items()
      if isinstance(values, list) and len(values) == len(rates)
    }
    bpp = curves['bpp']
    numbers = [x for values in curves.values() for x in values if x is not None]
    if not bpp or bpp[0] <= 0 or not all(map(math.isfinite, numbers)):
      raise ValueError(
        f'rates are {bpp}: one or more, above 0, and finite values are expected'
      )
  except OSError as error:
    raise ValueError(f'{path}: {paths.words(error)}') from error
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    why = error if isinstance(error, ValueError) else repr(error)
    raise ValueError(
      f"{path} is not a results file in CompressAI's format: {why}"
    ) from error
  decibels = curves.pop('ms-ssim-db-rgb', None)
  if decibels is not None:
    curves.setdefault('ms-ssim-rgb', [
      None if x is None else 1 - 10 ** (-x / 10) for x in decibels
    ])
  ours = 'codec' in content.get('meta', {})
  return Curve(path.stem, path.resolve().parent.name, curves, ours)


def read_all(path) -> list[Curve]:
  """Reads a file, or all curves in a folder, sorted by name.

  Raises:
    ValueError: see `read`; or the folder has no curve.
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
