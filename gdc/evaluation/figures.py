"""Line figures as SVG files; the only module that imports matplotlib.

The same data gives the same bytes with the same matplotlib: no dates, no random
identifiers. Text stays text, so that files are small and diffs are readable.
"""
import io
import itertools
from collections.abc import Sequence
from typing import NamedTuple

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
_KINDS = {
  'curve': {'marker': 'o', 'markersize': 4},
  'level': {'linestyle': '--', 'linewidth': 1},
  'published': {'linewidth': 1.1, 'zorder': 1},
  'mark': {'marker': 'X', 'markersize': 6, 'linestyle': ''},
}
# By `style`: dashes for matplotlib and for CSS, and a marker.
_STYLES = (
  ('-', '', 'o'), ('--', '5 3', 's'), (':', '1 2', '^'), ('-.', '6 2 1 2', 'D'),
  ((0, (5, 1, 1, 1, 1, 1)), '5 1 1 1 1 1', 'v'), ((0, (1, 3)), '1 4', 'P'),
)


class Line(NamedTuple):
  """One line, or points, of a panel.

  Attributes:
    label: in the legend, which all panels share.
    x: positions; () for a level.
    y: as many values; one for a level. A point with None on either axis is
      left out.
    colour: index into matplotlib's cycle of ten, and from 10 on into tab20b.
    kind: 'curve' (joined points), 'level' (a dashed line across the panel),
      'mark' (points alone), or 'published' (thin, for others' curves).
    notes: a word at each point, or ().
    style: index of a dash pattern and, where there are markers, of a marker.
    identifier: identifier of the line's group in the SVG.
  """

  label: str
  x: Sequence[float | None]
  y: Sequence[float | None]
  colour: int
  kind: str = 'curve'
  notes: Sequence[str] = ()
  style: int = 0
  identifier: str | None = None

  def css(self) -> tuple[str, str]:
    """The colour, such as '#1f77b4', and the stroke-dasharray."""
    return colors.to_hex(_colour(self.colour)), self._style()[1]

  def _style(self):
    return _STYLES[self.style % len(_STYLES)]


class Panel(NamedTuple):
  """One pair of axes."""

  x_label: str
  y_label: str
  lines: Sequence[Line]
  title: str = ''
  log_x: bool = False


def draw(
  path, panels: Sequence[Panel], columns: int,
  identifier: str | None = None, beside: bool = False,
) -> None:
  """Writes an SVG file atomically.

  Args:
    path: file to write; its folder is created.
    panels: row by row.
    columns: panels per row.
    identifier: Dublin Core identifier in the file's metadata.
    beside: put the legend to the right of the panels, not below.
  """
  legend = 'outside right upper' if beside else 'outside lower center'
  records.write(path, svg(panels, columns, identifier, legend))


def svg(
  panels: Sequence[Panel], columns: int,
  identifier: str | None = None, legend: str | None = None,
) -> bytes:
  """Returns an SVG file; see `draw`.

  Args:
    panels: see draw.
    columns: see draw.
    identifier: see draw.
    legend: its location in matplotlib's terms; None draws none.
  """
  rows = -(-len(panels) // columns)
  with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
    canvas = figure.Figure(
      figsize=(columns * SIZE[0], rows * SIZE[1]), layout='constrained'
    )
    entries = {}
    for i, panel in enumerate(panels):
      axes = canvas.add_subplot(rows, columns, i + 1)
      _draw_panel(axes, panel)
      handles, labels = axes.get_legend_handles_labels()
      entries = dict(zip(labels, handles, strict=True)) | entries
    if legend:
      below = 'lower' in legend
      placed = canvas.legend(
        entries.values(), entries.keys(), loc=legend,
        ncols=min(len(entries), 2 * columns) if below
        else -(-len(entries) // (_LEGEND_ROWS * rows)),
      )
      if not below:  # a legend of long names would squeeze the panels
        width = placed.get_window_extent().width / canvas.dpi
        canvas.set_figwidth(columns * SIZE[0] + width)
    drawn = io.BytesIO()
    canvas.savefig(
      drawn, format='svg',
      metadata={'Date': None, 'Creator': None, 'Identifier': identifier},
    )
  return drawn.getvalue()


def _colour(index: int):
  if index < 10:
    return f'C{index}'
  # Five hues of four shades; neighbours differ in hue.
  shade, hue = divmod((index - 10) % 20, 5)
  return matplotlib.colormaps['tab20b'](4 * hue + shade)


def _draw_panel(axes, panel):
  for line in panel.lines:
    style = {
      **_KINDS[line.kind], 'color': _colour(line.colour), 'label': line.label,
      'gid': line.identifier,
    }
    if line.style:
      style['linestyle'], _, marker = line._style()
      if 'marker' in style:
        style['marker'] = marker
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
