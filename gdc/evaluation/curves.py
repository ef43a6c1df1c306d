"""The plots of an evaluation: rate against every measure, and the plane."""
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdc.evaluation import charts as charts_lib
from gdc.evaluation import published, tables

Results = Mapping[str, Mapping[str, Any]]
GREY = 7  # of matplotlib's ten colours; ours have the others
REFERENCES = 10  # the first colour of published curves
COLOURS = (0, 1, 2, 3, 4, 5, 6, 8, 9)
COLUMNS = 3
FEW = 4  # published curves that are drawn at first
EQUAL_BITS = 'equal bits'
RATE = 'bits per pixel'


def write(
  folder, results: Results, references: Sequence[published.Curve] = ()
) -> list[pathlib.Path]:
  """Draws curves.svg, and plane.svg where two decoders share their bits.

  Args:
    folder: of the files.
    results: label -> result, see records.result.
    references: published curves, drawn thin beside ours; of many, those that
      `drawn` has.

  Returns:
    The paths; the same data gives the same bytes.
  """
  from gdc.evaluation import figures
  folder = pathlib.Path(folder)
  chosen = drawn(results, references)
  references = [
    reference for reference in references if reference.label in chosen
  ]
  written = []
  for name, panels in (
    ('curves', rate_panels(results, references)),
    ('plane', plane_panels(results)),
  ):
    path = folder / f'{name}.svg'
    if panels:
      figures.draw(path, panels, min(COLUMNS, len(panels)), beside=True)
      written.append(path)
    else:
      path.unlink(missing_ok=True)
  return written


def charts(
  results: Results, references: Sequence[published.Curve] = ()
) -> tuple[list[charts_lib.Chart], list[charts_lib.Curve]]:
  """Panels for a page, one by one, and the legend of all of them.

  Every published curve is in them; those that `drawn` has not are hidden until
  a visitor asks for them.
  """
  from gdc.evaluation import figures
  chosen = drawn(results, references) | set(results)
  references = sorted(
    references, key=lambda reference: reference.label not in chosen
  )
  legend, made = {}, []
  for panel in (*rate_panels(results, references), *plane_panels(results)):
    lines = []
    for line in panel['lines']:
      label = line['label']
      if label not in legend:
        colour, dashes = figures.look(line)
        legend[label] = charts_lib.Curve(
          label, colour, dashes, label in chosen or label == EQUAL_BITS,
          line['kind'] == 'published',
        )
      index = list(legend).index(label)
      lines.append({**line, 'identifier': charts_lib.curve_id(index)})
    made.append(charts_lib.Chart(
      *_title(panel),
      figures.svg([{**panel, 'lines': lines}], 1).decode(),
    ))
  return made, list(legend.values())


def _title(panel) -> tuple[str, str]:
  """Title and note of a panel on a page."""
  name = panel['y_label'].partition(',')[0]
  if panel['x_label'] == RATE:
    return f'Rate and {name}', ''
  return f'PSNR and {name}', (
    'Crosses: decoders of gdc, at each of its qualities; a thin line joins '
    'those that read the same files.'
  )


def drawn(
  results: Results, references: Sequence[published.Curve]
) -> set[str]:
  """Labels of the published curves that are drawn at first.

  All, if they are few; else the FEW with the highest PSNR at the middle of our
  rates.
  """
  if len(references) <= FEW:
    return {reference.label for reference in references}
  rates = [x for result in results.values() for x in result['results']['bpp']]
  at = math.sqrt(min(rates) * max(rates))

  def psnr(reference):
    x, y = reference.results['bpp'], reference.results.get('psnr-rgb')
    if y is None or None in y or not x[0] <= at <= x[-1]:
      return -math.inf
    return float(np.interp(at, x, y))

  best = sorted(references, key=psnr, reverse=True)[:FEW]
  return {reference.label for reference in best}


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
      _line(label, result['results'], key, column, colour)
      | {'style': style, 'kind': 'curve'}
      for (colour, style), (label, result) in _coloured(results)
    ]
    for i, reference in enumerate(references):
      if key in reference.results:
        lines.append({
          **_line(reference.label, reference.results, key, column,
                  REFERENCES + i % 20, highest),
          'kind': 'published', 'style': i // 20,
        })
    title = column.heading
    if key == tables.MS_SSIM:
      title = f'MS-SSIM {column.arrow}, -10 log10(1 - x), dB'
    panels.append({
      'x_label': RATE, 'y_label': title, 'lines': lines,
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
        'label': EQUAL_BITS, 'x': [x for x, _ in at],
        'y': [y for _, y in at], 'colour': GREY, 'kind': 'published',
      })
    panels.append({
      'x_label': shown['psnr-rgb'].heading, 'y_label': column.heading,
      'lines': lines,
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
