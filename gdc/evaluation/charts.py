"""Charts of a page, and one legend for all, in which curves are chosen."""
import re
from collections.abc import Sequence
from typing import NamedTuple

from gdc.evaluation import markup

WIDE_CHART = 1.6  # width over height from which a chart takes a whole row


class Chart(NamedTuple):
  """svg: the text of an SVG file, as figures.svg makes it."""

  title: str
  note: str
  svg: str


class Curve(NamedTuple):
  """A line of the legend, which is one for all charts.

  The curve that is number i of the legend is the group `curve_id(i)` in charts.

  Attributes:
    label: as in the charts.
    colour: as CSS has it.
    dashes: stroke-dasharray of CSS; '' for none.
    drawn: whether it is shown at first.
    thin: whether it stands back.
  """

  label: str
  colour: str
  dashes: str = ''
  drawn: bool = True
  thin: bool = False


def curve_id(index: int) -> str:
  """Of a curve in the SVG of a chart."""
  return f'curve-{index}'


def legend(curves: Sequence[Curve]) -> list[str]:
  """One legend for all charts; with a script, of what they draw."""
  if not curves:
    return []
  hidden = sum(not curve.drawn for curve in curves)
  note = (
    f'{hidden} of {len(curves)} curves are not drawn at first: choose here.'
    if hidden else 'Choose what is drawn.'
  )
  return [
    f'<fieldset class="legend"><legend>Curves</legend>{markup.note(note)}\n'
    '<div class="entries">' + markup.join(
      f'<label><input type="checkbox" value="{curve_id(i)}"'
      f'{" checked" if curve.drawn else ""}>'
      '<svg width="28" height="10" aria-hidden="true"><line x1="1" y1="5" '
      f'x2="27" y2="5" stroke="{markup.text(curve.colour)}" '
      f'stroke-width="{1.5 if curve.thin else 3}" '
      f'stroke-dasharray="{markup.text(curve.dashes)}"/></svg>'
      f'<bdi>{markup.text(curve.label)}</bdi></label>'
      for i, curve in enumerate(curves)
    ) + '</div></fieldset>'
  ]


def _hiding(svg: str, curves) -> str:
  """An SVG without the curves that are not drawn at first."""
  hidden = ','.join(
    f'#{curve_id(i)}' for i, curve in enumerate(curves) if not curve.drawn
  )
  style = f'<style>{hidden}{{display:none}}</style></svg>'
  return svg.replace('</svg>', style) if hidden else svg


def render(chart: Chart, curves: Sequence[Curve]) -> str:
  """A figure; ValueError where the chart is no SVG."""
  if '<svg' not in chart.svg:
    raise ValueError(
      f'the chart {chart.title!r} is {chart.svg[:40]!r}: the text of an SVG '
      'file is expected'
    )
  name = size = ''
  box = re.search(r'<svg\b[^>]*\bviewBox="([^"]+)"', chart.svg)
  if box:
    _, _, width, height = map(float, box[1].replace(',', ' ').split())
    name = ' class="wide"' if width > WIDE_CHART * height else ''
    # Known at once, so that what follows keeps its place.
    size = f' width="{width:.0f}" height="{height:.0f}"'
  return (
    f'<figure{name}><figcaption><h3>{markup.text(chart.title)}</h3>'
    f'{markup.note(chart.note)}</figcaption><div class="card"><img{size} '
    f'alt="Chart: {markup.text(chart.title)}" '
    f'src="{markup.data_uri("svg+xml", _hiding(chart.svg, curves).encode())}">'
    '</div></figure>'
  )
