"""The plots of an evaluation: rate against every measure, and the plane."""
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gdc.evaluation import published, tables

Results = Mapping[str, Mapping[str, Any]]
GREY = 7  # of matplotlib's ten colours; ours have the others
COLOURS = (0, 1, 2, 3, 4, 5, 6, 8, 9)
COLUMNS = 3


def write(
  folder, results: Results, references: Sequence[published.Curve] = ()
) -> list[pathlib.Path]:
  """Draws curves.svg, and plane.svg where two decoders share their bits.

  Args:
    folder: of the files.
    results: label -> result, see records.result.
    references: published curves, drawn thin and grey beside ours.

  Returns:
    The paths; the same data gives the same bytes.
  """
  from gdc.evaluation import figures
  folder = pathlib.Path(folder)
  written = []
  for name, panels in (
    ('curves', rate_panels(results, references)),
    ('plane', plane_panels(results)),
  ):
    path = folder / f'{name}.svg'
    if panels:
      figures.draw(path, panels, min(COLUMNS, len(panels)))
      written.append(path)
    else:
      path.unlink(missing_ok=True)
  return written


def rate_panels(
  results: Results, references: Sequence[published.Curve] = ()
) -> list[dict[str, Any]]:
  """Bits per pixel against each measure that the results have."""
  shown = tables.columns(next(iter(results.values())))
  highest = max(
    bpp for result in results.values() for bpp in result['results']['bpp']
  )
  panels = []
  for key, column in shown.items():
    lines = [
      _line(label, result['results'], key, column, colour) | {'style': style}
      for (colour, style), (label, result) in _coloured(results)
    ]
    for i, reference in enumerate(references):
      if key in reference.results:
        lines.append({
          **_line(reference.label, reference.results, key, column, GREY,
                  highest),
          'kind': 'published', 'style': i,
        })
    title = column.title
    if key == tables.MS_SSIM:
      title = 'MS-SSIM, -10 log10(1 - x), dB'
    panels.append({
      'x_label': 'bits per pixel', 'y_label': title, 'lines': lines,
    })
  return panels


def plane_panels(results: Results) -> list[dict[str, Any]]:
  """PSNR against the perceptual measures, for decoders of the same bits.

  A line for each quality joins gdc:mse with the others, in order of PSNR, but
  not with controls (gdc:mse+NOISE); the points of other codecs are theirs at
  their own qualities.
  """
  own = {k: v for k, v in results.items() if k.startswith('gdc:')}
  shown = tables.columns(next(iter(results.values())))
  keys = [k for k in shown if k not in ('psnr-rgb', tables.MS_SSIM)]
  if len(own) < 2 or 'psnr-rgb' not in shown:
    return []
  panels = []
  for key in keys:
    column = shown[key]
    lines = []
    for (colour, style), (label, result) in _coloured(results):
      curve = result['results']
      lines.append({
        'label': label, 'x': curve['psnr-rgb'],
        'y': _values(curve, key, column), 'colour': colour, 'style': style,
        'kind': 'mark' if label in own else 'curve',
      })
    qualities = next(iter(own.values()))['results']['quality']
    for i in range(len(qualities)):
      at = [
        (r['results']['psnr-rgb'][i], _values(r['results'], key, column)[i])
        for label, r in own.items() if '+' not in label
      ]
      at = sorted(point for point in at if None not in point)
      lines.append({
        'label': 'equal bits', 'x': [x for x, _ in at],
        'y': [y for _, y in at], 'colour': GREY, 'kind': 'published',
      })
    panels.append({
      'x_label': 'PSNR, dB', 'y_label': column.title, 'lines': lines,
    })
  return panels


def _coloured(results):
  """((colour, style), (label, result)), no two alike in both."""
  return [
    ((COLOURS[i % len(COLOURS)], i // len(COLOURS)), item)
    for i, item in enumerate(results.items())
  ]


def _line(label, curve, key, column, colour, most=math.inf) -> dict[str, Any]:
  """A curve as far as `most` bits per pixel."""
  points = [
    (x, y) for x, y in zip(
      curve['bpp'], _values(curve, key, column), strict=True
    ) if x <= most
  ]
  return {
    'label': label, 'x': [x for x, _ in points], 'y': [y for _, y in points],
    'colour': colour,
  }


def _values(curve, key, column) -> list[float | None]:
  return [
    None if x is None else column.factor * x
    for x in tables.scaled(key, curve[key])
  ]
