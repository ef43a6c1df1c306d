"""An evaluation as one HTML file: tables, charts, pictures to compare.

The file stands alone. It opens from a disk, asks for nothing from anywhere
(its Content-Security-Policy forbids that to the browser, too) and needs no
script to be read: without one, as on paper, every version of every picture is
laid out with its caption. With one, two versions lie on top of each other
under a divider.

Pictures are embedded without loss, so each pixel is what the decoder gave.
That takes about as many bytes as PNG and a third more for base64: crop large
pictures before.
"""

import base64
import hashlib
import io
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from gdc.evaluation import charts as charts_lib
from gdc.evaluation import markup, records
from gdc.metrics import distortion, rate

TEMPLATE = pathlib.Path(__file__).with_name('page.html')

_WEBP_MAX_SIDE = 16383  # pixels; the format's limit
_NUMBER = re.compile(
  r'[-+\u2212\u00b1<>~]?\s?\d[\d\s.,:;()\[\]+\u2212\u00b1\u00d7%-]*'
  r'[^\W\d]{0,5}'  # a short unit
)
_NOTHING = {'', '-', '\u2013', '\u2014'}


class Version(NamedTuple):
  """A picture as one codec gives it back.

  Attributes:
    codec: label, as 'gdc:flow@1', 'jpeg' or 'original'.
    image: uint8 [height, width, 3], the exhibit's crop.
    num_bytes: of the file of the whole picture; None for the original.
    note: for the caption, as 'smallest file: 1.3 x the bytes'; or ''.
    measures: of the whole picture, {'PSNR, dB': 31.2}: a name and, behind a
      comma, its unit.
    rate: of several rates the one that this is of, as 'quality 1'; '' for the
      original, which is shown beside all.
  """

  codec: str
  image: np.ndarray
  num_bytes: int | None = None
  note: str = ''
  measures: Mapping[str, float] = {}
  rate: str = ''


class Exhibit(NamedTuple):
  """One picture, in two or more versions.

  Attributes:
    name: of the picture, such as its file's; any text.
    height: of the whole picture, in pixels.
    width: of the whole picture, in pixels.
    box: (left, top, right, bottom) of the crop, in pixels of the picture.
    versions: the original first, then by rate.
  """

  name: str
  height: int
  width: int
  box: tuple[int, int, int, int]
  versions: Sequence[Version]


class Table(NamedTuple):
  """Cells are texts; columns of numbers are set flush right.

  A folded one shows its title, and all of itself when that is chosen.
  """

  title: str
  note: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  folded: bool = False


def render(
  *,
  title: str,
  summary: Sequence[str] = (),
  tables: Sequence[Table] = (),
  charts: Sequence[charts_lib.Chart] = (),
  curves: Sequence[charts_lib.Curve] = (),
  exhibits: Sequence[Exhibit] = (),
  opening: tuple[str, str] = ('', ''),
  exhibits_note: str = '',
  names: Mapping[str, str] | None = None,
  details: Mapping[str, str] | None = None,
) -> str:
  """The page's text. Every text given is shown as it is, markup included.

  Args:
    title: of the page.
    summary: paragraphs.
    tables: the first below the pictures, others below the charts.
    charts: each is an image of its own, so that identifiers of several SVG
      files do not clash and nothing in them runs.
    curves: the legend of the charts, of which a visitor chooses what is drawn.
    exhibits: with different names; the page's address keeps the one that is
      shown, its two codecs and the detail that is enlarged, so that a view
      can be linked.
    opening: the codecs on the left and on the right, until the visitor chooses
      others; where an exhibit has them not, its first and its last.
    exhibits_note: below the heading of the pictures.
    names: what codecs, measures and signs on the page mean.
    details: how the page came about: command, model, machine, licences.

  Returns:
    HTML, to be stored as UTF-8.

  Raises:
    ValueError: a row as long as its table's header is not, a chart that is no
      SVG, two exhibits of one name, fewer than two versions in an exhibit or
      two of one label, a crop that leaves its picture or is not of its box's
      size, or a wrong image.
  """
  _check_different('exhibits', [exhibit.name for exhibit in exhibits])
  template = TEMPLATE.read_text('utf-8')
  script = re.search(r'<script>(.*?)</script>', template, re.DOTALL)[1]
  script_hash = hashlib.sha256(script.encode()).digest()
  parts = {
    'script_hash': base64.b64encode(script_hash).decode(),
    'title': markup.text(title),
    'summary': markup.join(f'<p>{markup.text(p)}</p>' for p in summary),
    'opening': ' '.join(
      f'data-{side}="{markup.text(codec)}"'
      for side, codec in zip(('left', 'right'), opening, strict=True)
    ),
    'exhibits_note': markup.note(exhibits_note),
    'names': markup.section('What the names mean', 'details names', [
      f'<dt>{markup.text(name)}</dt><dd>{markup.text(value)}</dd>'
      for name, value in (names or {}).items()
    ], tag='dl'),
    'first_table': markup.join(_table(table) for table in tables[:1]),
    'other_tables': markup.join(_table(table) for table in tables[1:]),
    'charts': markup.section('Charts', 'charts', charts and [
      *charts_lib.legend(curves), '<div class="panels">',
      *(charts_lib.render(chart, curves) for chart in charts), '</div>',
    ]),
    'exhibits': markup.join(_exhibit(exhibit) for exhibit in exhibits),
    'no_exhibits': '' if exhibits else 'hidden',
    'details': markup.section('How this was made', 'details', [
      f'<dt>{markup.text(name)}</dt><dd>{markup.text(value)}</dd>'
      for name, value in (details or {}).items()
    ], tag='dl'),
  }
  # One pass, or braces in a text that is put in would be filled in turn.
  return re.sub(
    r'\{\{(\w+)\}\}', lambda match: parts[match[1]], template
  )


def write(path, **contents) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: of the file; its folder is made if need be.
    **contents: see render.
  """
  records.write(path, render(**contents))


def _check_different(what, names):
  for name in names:
    if names.count(name) > 1:
      raise ValueError(
        f'{what} has {name!r} more than once: a name of its own for each is '
        'expected'
      )


# --- Tables ------------------------------------------------------


def _table(table: Table) -> str:
  for row in table.rows:
    if len(row) != len(table.header):
      raise ValueError(
        f'the table {table.title!r} has the row {list(row)} of {len(row)} '
        f'cells: {len(table.header)}, as in its header, are expected'
      )
  classes = [
    ' class="number"' if _is_number(column) else ''
    for column in zip(*table.rows, strict=True)
  ] or [''] * len(table.header)

  def line(tag, cells):
    return '<tr>' + ''.join(
      f'<{tag}{name}>{markup.text(cell)}</{tag}>'
      for name, cell in zip(classes, cells, strict=True)
    ) + '</tr>'

  title = markup.text(table.title)
  opening, closing = f'<section><h2>{title}</h2>', '</section>'
  if table.folded:
    opening = f'<section><details><summary><h2>{title}</h2></summary>'
    closing = '</details></section>'
  return (
    f'{opening}{markup.note(table.note)}\n'
    # It scrolls sideways on a phone; by keys, too, as it takes the focus.
    f'<div class="table" tabindex="0" role="region" aria-label="{title}">'
    f'<table>\n<thead>{line("th", table.header)}</thead>\n<tbody>\n'
    + markup.join(line('td', row) for row in table.rows)
    + f'\n</tbody></table></div>{closing}'
  )


def _is_number(column) -> bool:
  """Whether a column's cells are numbers, perhaps with units or intervals."""
  cells = [str(cell).strip() for cell in column]
  known = [cell for cell in cells if cell not in _NOTHING]
  return bool(known) and all(_NUMBER.fullmatch(cell) for cell in known)


# --- Pictures ---------------------------------------------------------------


def _exhibit(exhibit: Exhibit) -> str:
  _check_exhibit(exhibit)
  left, top, right, bottom = exhibit.box
  crop = ''
  if (right - left, bottom - top) != (exhibit.width, exhibit.height):
    crop = (
      f', of which {right - left} \u00d7 {bottom - top} at ({left}, {top}) are '
      'shown; bytes and measures are of the whole'
    )
  return (
    f'<details class="exhibit" open data-name="{markup.text(exhibit.name)}">\n'
    f'<summary><span class="all">All versions of </span>'
    f'<bdi>{markup.text(exhibit.name)}</bdi>\n<span class="size">\u00b7 '
    f'{exhibit.width} \u00d7 {exhibit.height} pixels{crop}'
    + '</span></summary>\n<div class="versions">\n'
    + markup.join(_version(exhibit, version) for version in exhibit.versions)
    + '\n</div></details>'
  )


def _check_exhibit(exhibit):
  where = f'the exhibit {exhibit.name!r}'
  left, top, right, bottom = exhibit.box
  if not (0 <= left < right <= exhibit.width
          and 0 <= top < bottom <= exhibit.height):
    raise ValueError(
      f'{where} has the box {tuple(exhibit.box)}: (left, top, right, bottom) '
      f'inside its {exhibit.width} x {exhibit.height} (width x height) is '
      'expected'
    )
  if len(exhibit.versions) < 2:
    raise ValueError(
      f'{where} has {len(exhibit.versions)} versions: 2 or more are expected'
    )
  _check_different(where, [
    f'{version.codec}, {version.rate}' if version.rate else version.codec
    for version in exhibit.versions
  ])
  shape = (bottom - top, right - left, 3)
  for version in exhibit.versions:
    distortion.check_image(version.image, f'{where}, {version.codec!r},')
    if version.image.shape != shape:
      raise ValueError(
        f'{where} shows {version.codec!r} in shape {version.image.shape}: '
        f'{shape}, that of its box, is expected'
      )


def _version(exhibit, version) -> str:
  facts = []
  if version.num_bytes is not None:
    bpp = rate.bits_per_pixel(version.num_bytes, exhibit.height, exhibit.width)
    facts += [('bytes', f'{version.num_bytes:,}'), ('bpp', f'{bpp:.3f}')]
  for name, value in version.measures.items():
    name, _, unit = name.partition(', ')
    facts.append((name, f'{_number(value)} {unit}'.strip()))
  height, width, _ = version.image.shape
  codec, rate_name = markup.text(version.codec), markup.text(version.rate)
  shown = f' <span class="size">at {rate_name}</span>' if rate_name else ''
  return (
    f'<figure data-codec="{codec}" data-rate="{rate_name}">'
    f'<img width="{width}" height="{height}" '
    f'alt="{markup.text(exhibit.name)}, {codec}" '
    f'src="{_picture(version.image)}">\n'
    f'<figcaption><p><b><bdi>{codec}</bdi></b>{shown}</p>{markup.note(version.note)}'
    '<dl class="facts">'
    + ''.join(
      f'<div><dt>{markup.text(name)}</dt><dd>{markup.text(value)}</dd></div>'
      for name, value in facts
    )
    + '</dl></figcaption></figure>'
  )


def _number(value: float) -> str:
  """Two decimals from 10 up, as for dB, or else four, as for LPIPS."""
  if math.isnan(value):
    return '\u2013'
  if math.isinf(value):
    return '\u221e' if value > 0 else '-\u221e'
  return f'{value:.{2 if abs(value) >= 10 else 4}f}'


def _picture(image: np.ndarray) -> str:
  """The smaller of PNG and lossless WebP, as a data URI."""
  picture = Image.fromarray(image)
  files = {'png': {}}
  if features.check('webp') and max(image.shape) <= _WEBP_MAX_SIDE:
    # More effort is 40 times slower for 2 % of the bytes.
    files['webp'] = {'lossless': True, 'quality': 50, 'method': 4}
  for name, options in files.items():
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    files[name] = buffer.getvalue()
  name = min(files, key=lambda name: len(files[name]))
  return markup.data_uri(name, files[name])
