"""The plots of an evaluation: rate-metric curves, and PSNR against realism."""
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from gdc import metrics
from gdc.evaluation import figures, page, published, tables

GREY = 7  # of matplotlib's ten colours; codecs get the others
COLOURS = (0, 1, 2, 3, 4, 5, 6, 8, 9)
REFERENCES = 10  # the first colour of published curves
COLUMNS = 3
FEW = 4  # published curves that are drawn at first
EQUAL_BITS = 'equal bits'
RATE = 'bits per pixel'


def write(
  folder, results: tables.Results, references: Sequence[published.Curve] = ()
) -> list[pathlib.Path]:
  """Draws curves.svg, and plane.svg if two decoders share their bits.

  Args:
    folder: folder to write to.
    results: label -> result, see records.result.
    references: published curves; those in `drawn` stand beside ours, thin.

  Returns:
    The paths; the same data gives the same bytes.
  """
  chosen = drawn(results, references)
  references = [
    reference for reference in references if reference.label in chosen
  ]
  written = []
  for name, panels in (
    ('curves', rate_panels(results, references)),
    ('plane', plane_panels(results)),
  ):
    path = pathlib.Path(folder) / f'{name}.svg'
    if panels:
      figures.draw(path, panels, min(COLUMNS, len(panels)), beside=True)
      written.append(path)
    else:
      path.unlink(missing_ok=True)
  return written


def charts(
  results: tables.Results, references: Sequence[published.Curve] = ()
) -> tuple[list[page.Chart], list[page.Curve]]:
  """Returns a chart per panel for the page, and the legend they share.

  All published curves are in them; those not in `drawn` are hidden at first.
  """
  chosen = {*drawn(results, references), *results, EQUAL_BITS}
  references = sorted(
    references, key=lambda reference: reference.label not in chosen
  )
  legend, made = {}, []
  for panel in (*rate_panels(results, references), *plane_panels(results)):
    lines = []
    for line in panel.lines:
      if line.label not in legend:
        legend[line.label] = page.Curve(
          line.label, *line.css(), line.label in chosen,
          line.kind == 'published',
        )
      index = list(legend).index(line.label)
      lines.append(line._replace(identifier=page.curve_id(index)))
    name, title, note = panel.y_label.partition(',')[0], 'Rate', ''
    if panel.x_label != RATE:
      title, note = 'PSNR', (
        'Crosses: decoders of gdc, at each of its qualities. A thin line joins '
        'decoders of the same files.'
      )
    svg = figures.svg([panel._replace(lines=lines)], 1).decode()
    made.append(page.Chart(f'{title} and {name}', note, svg))
  return made, list(legend.values())


def drawn(
  results: tables.Results, references: Sequence[published.Curve]
) -> set[str]:
  """Labels of the published curves that are drawn at first.

  All if there are few, or else the FEW with the highest PSNR at the middle of
  our rates.
  """
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
  results: tables.Results, references: Sequence[published.Curve] = ()
) -> list[figures.Panel]:
  """A panel per metric of the results, over bits per pixel."""
  highest = max(
    bpp for result in results.values() for bpp in result['results']['bpp']
  )
  panels = []
  for metric in tables.shown(next(iter(results.values()))):
    lines = [
      figures.Line(
        label, curve['bpp'], _values(curve, metric), colour, style=style
      ) for colour, style, label, curve in _coloured(results)
    ]
    for i, reference in enumerate(references):
      curve = reference.results
      if metric.key in curve:
        # By rising rate, and as far as our rates go.
        count = sum(bpp <= highest for bpp in curve['bpp'])
        lines.append(figures.Line(
          reference.label, curve['bpp'][:count],
          _values(curve, metric)[:count], REFERENCES + i % 20,
          'published', style=i // 20,
        ))
    title = tables.heading(metric)
    if metric.key == tables.MS_SSIM:
      title = f'{title}, -10 log10(1 - x), dB'
    panels.append(figures.Panel(RATE, title, lines))
  return panels


def plane_panels(results: tables.Results) -> list[figures.Panel]:
  """A panel per perceptual metric, over PSNR: the price of realism.

  For each quality, a thin line joins the decoders of gdc in order of PSNR,
  except controls (gdc:mse+NOISE). Other codecs are shown at their own
  qualities.
  """
  own = {k: v for k, v in results.items() if k.startswith('gdc:')}
  shown = tables.shown(next(iter(results.values())))
  psnr = metrics.OF_IMAGES['psnr']
  if len(own) < 2 or psnr not in shown:
    return []
  panels = []
  for metric in shown:
    if metric.key in (psnr.key, tables.MS_SSIM):
      continue
    lines = [
      figures.Line(
        label, curve[psnr.key], _values(curve, metric), colour,
        'mark' if label in own else 'curve', style=style,
      ) for colour, style, label, curve in _coloured(results)
    ]
    decoders = [line for line in lines if line.label in own
                and '+' not in line.label]
    for i in range(len(next(iter(own.values()))['results']['quality'])):
      at = [(line.x[i], line.y[i]) for line in decoders]
      at = sorted(point for point in at if None not in point)
      lines.append(figures.Line(
        EQUAL_BITS, [x for x, _ in at], [y for _, y in at], GREY, 'published',
      ))
    panels.append(
      figures.Panel(tables.heading(psnr), tables.heading(metric), lines)
    )
  return panels


def _coloured(results):
  """(colour, style, label, curve); no two codecs share colour and style."""
  for i, (label, result) in enumerate(results.items()):
    style, colour = divmod(i, len(COLOURS))
    yield COLOURS[colour], style, label, result['results']


def _values(curve, metric) -> list[float | None]:
  return [
    None if x is None else metric.factor * x
    for x in tables.scaled(metric.key, curve[metric.key])
  ]
