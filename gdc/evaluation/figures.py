"""Line figures as SVG files; the only module that imports matplotlib.

The same data gives the same bytes, with the same matplotlib: no date, no
random identifiers. Text stays text, so that files are small and differences
can be read.
"""
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib import colors, figure, ticker

from gdc.evaluation import records

SIZE = (3.6, 2.8)  # of a panel, inches
_LEGEND_ROWS = 14  # that fit beside a row of panels
_SETTINGS = {
  'svg.hashsalt': 'gdc',
  'svg.fonttype': 'none',
  'font.size': 9,
  'axes.grid': True,
  'grid.color': '0.9',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'legend.fontsize': 8,
  'legend.frameon': False,
}
_STYLES = {
  'curve': {'marker': 'o', 'markersize': 4},
  'level': {'linestyle': '--', 'linewidth': 1},
  'published': {'linewidth': 1.1, 'zorder': 1},
  'mark': {'marker': 'X', 'markersize': 6, 'linestyle': ''},
}
_DASHES = ('-', '--', ':', '-.', (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_DASH_ARRAYS = ('', '5 3', '1 2', '6 2 1 2', '5 1 1 1 1 1', '1 4')  # of CSS
_MARKERS = ('o', 's', '^', 'D', 'v', 'P')
_TEN = 10  # colours of matplotlib's cycle; those above are of tab20b


class Line(NamedTuple):
  """One line, or points, of a panel.

  Attributes:
    label: in the legend, which is one for all panels.
    x: positions; a 'level' has none.
    y: as many values; of a 'level' the one value. A point with None on either
      axis is left out.
    colour: index into matplotlib's cycle of ten, and from 10 on into tab20b.
    kind: curve (points joined), level (a dashed line across the panel), mark
      (points alone), or published (others' curves, and what is to stand back:
      thin).
    notes: a word at each point, or none.
    style: index of a dash pattern, and of a marker where there are any.
    identifier: of the line in the file, so that it can be hidden.
  """

  label: str
  x: Sequence[float | None]
  y: Sequence[float | None]
  colour: int
  kind: str = 'curve'
  notes: Sequence[str] = ()
  style: int = 0
  identifier: str | None = None


class Panel(NamedTuple):
  """One pair of axes."""

  x_label: str
  y_label: str
  lines: Sequence[Line]
  title: str = ''
  log_x: bool = False


def draw(
  path, panels: Sequence[Mapping[str, Any]], columns: int,
  identifier: str | None = None, beside: bool = False,
) -> None:
  """Writes panels in rows of `columns` as an SVG file, whole or not at all.

  Args:
    path: of the file; its folder is made if need be.
    panels: row by row, the arguments of Panel, lines as those of Line: what
      makes them need not import this module.
    columns: 1 or more.
    identifier: to be kept in the file, as of the Dublin Core.
    beside: whether the legend is on the right of the panels; else below.
  """
  legend = 'outside right upper' if beside else 'outside lower center'
  records.write(path, svg(panels, columns, identifier, legend))


def svg(
  panels: Sequence[Mapping[str, Any]], columns: int,
  identifier: str | None = None, legend: str | None = None,
) -> bytes:
  """Draws panels as `draw` does.

  Args:
    panels: see draw.
    columns: see draw.
    identifier: see draw.
    legend: its place in matplotlib's words; None draws none.
  """
  panels = [
    Panel(**{**panel, 'lines': [Line(**line) for line in panel['lines']]})
    for panel in panels
  ]
  rows = -(-len(panels) // columns)
  with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
    canvas = figure.Figure(
      figsize=(columns * SIZE[0], rows * SIZE[1]), layout='constrained'
    )
    entries = {}  # of one legend for all panels
    for i, panel in enumerate(panels):
      axes = canvas.add_subplot(rows, columns, i + 1)
      _draw_panel(axes, panel)
      handles, labels = axes.get_legend_handles_labels()
      entries = dict(zip(labels, handles, strict=True)) | entries
    if legend:
      wide = 'lower' in legend
      placed = canvas.legend(
        entries.values(), entries.keys(), loc=legend,
        ncols=min(len(entries), 2 * columns) if wide
        else -(-len(entries) // (_LEGEND_ROWS * rows)),
      )
      if not wide:  # or a long name would leave the panels no room
        width = placed.get_window_extent().width / canvas.dpi
        canvas.set_figwidth(columns * SIZE[0] + width)
    drawn = io.BytesIO()
    canvas.savefig(
      drawn, format='svg',
      metadata={'Date': None, 'Creator': None, 'Identifier': identifier},
    )
  return drawn.getvalue()


def look(line: Mapping[str, Any]) -> tuple[str, str]:
  """A line's colour, '#1f77b4', and its dashes as CSS has them."""
  line = Line(**line)
  dashes = _DASH_ARRAYS[line.style % len(_DASH_ARRAYS)]
  if not line.style and line.kind == 'level':
    dashes = _DASH_ARRAYS[1]
  return colors.to_hex(_colour(line.colour)), dashes


def _colour(index: int):
  if index < _TEN:
    return f'C{index}'
  # Five hues of four shades: neighbours get another hue.
  shade, hue = divmod((index - _TEN) % 20, 5)
  return matplotlib.colormaps['tab20b'](4 * hue + shade)


def _draw_panel(axes, panel):
  for line in panel.lines:
    style = {
      **_STYLES[line.kind], 'color': _colour(line.colour), 'label': line.label,
      'gid': line.identifier,
    }
    if line.style:
      style['linestyle'] = _DASHES[line.style % len(_DASHES)]
      if 'marker' in style:
        style['marker'] = _MARKERS[line.style % len(_MARKERS)]
    if line.kind == 'level':
      axes.axhline(line.y[0], **style)
      continue
    known = [
      None not in point for point in zip(line.x, line.y, strict=True)
    ]
    x, y, notes = (
      list(itertools.compress(values, known))
      for values in (line.x, line.y, line.notes)
    )
    axes.plot(x, y, **style)
    for at, note in zip(zip(x, y, strict=True), notes, strict=False):
      axes.annotate(
        note, at, xytext=(3, 3), textcoords='offset points', fontsize=7,
        color=_colour(line.colour),
      )
  if panel.log_x:
    positions = sorted({
      x for line in panel.lines if line.kind == 'curve' for x in line.x
    })
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(ticker.FixedLocator(positions))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:g}'))
  else:
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
  axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
