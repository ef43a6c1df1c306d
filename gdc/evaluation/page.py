"""The HTML page of an evaluation: tables, charts, and images to compare.

The page is one file that needs no network; its Content-Security-Policy even
forbids it. Without scripts, as on paper, all versions of every image are laid
out with their captions. With scripts, two versions are compared under a
divider.

Images are embedded losslessly, at about the size of a PNG file plus a third
for base64: crop large ones.
"""
import base64
import hashlib
import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jinja2
import numpy as np
from PIL import Image, features

from gdc.evaluation import records
from gdc.evaluation import tables as tables_lib

TEMPLATES = pathlib.Path(__file__).with_name('templates')
_WEBP_MAX_SIDE = 16383  # pixels; the format's limit


class Version(NamedTuple):
  """An image as decoded by one codec.

  Attributes:
    codec: label, such as 'gdc:flow@1', 'jpeg' or 'original'.
    image: uint8 [height, width, 3], the exhibit's crop.
    facts: captions of the whole image: {'bytes': '1,234', 'PSNR': '31.20 dB'}.
    note: more text for the caption, or ''.
    rate: which of several rates this is, such as 'quality 1'; '' for the
      original, which is shown at all of them.
  """

  codec: str
  image: np.ndarray
  facts: Mapping[str, str] = {}
  note: str = ''
  rate: str = ''


class Exhibit(NamedTuple):
  """One image in two or more versions.

  Attributes:
    name: image name; no two exhibits of a page share one.
    height: height of the whole image, in pixels.
    width: width of the whole image, in pixels.
    box: (left, top, right, bottom) of the crop, in pixels of the whole image.
    versions: the original first, then by rate.
  """

  name: str
  height: int
  width: int
  box: tuple[int, int, int, int]
  versions: Sequence[Version]


class Chart(NamedTuple):
  """A chart; `svg` is the text of an SVG file, see figures.svg."""

  title: str
  note: str
  svg: str

  @property
  def size(self) -> dict[str, str]:
    """Attributes that reserve its space before the image is decoded."""
    box = re.search(r'<svg\b[^>]*\bviewBox="([^"]+)"', self.svg)
    _, _, width, height = map(float, box[1].split())
    return {'width': f'{width:.0f}', 'height': f'{height:.0f}'}


class Curve(NamedTuple):
  """An entry of the legend that all charts share.

  Attributes:
    label: as in the charts.
    colour: CSS colour.
    dashes: CSS stroke-dasharray; '' for a solid line.
    drawn: whether it is shown at first.
    thin: whether it is drawn thin.
  """

  label: str
  colour: str
  dashes: str = ''
  drawn: bool = True
  thin: bool = False


def curve_id(index: int) -> str:
  """Identifier of the SVG group that draws the legend's entry `index`."""
  return f'curve-{index}'


def render(
  *,
  title: str,
  summary: Sequence[str] = (),
  tables: Sequence[tables_lib.Table] = (),
  charts: Sequence[Chart] = (),
  curves: Sequence[Curve] = (),
  exhibits: Sequence[Exhibit] = (),
  opening: tuple[str, str] = ('', ''),
  exhibits_note: str = '',
  names: Mapping[str, str] | None = None,
  details: Mapping[str, str] | None = None,
) -> str:
  """Returns the page's HTML; all texts are escaped.

  Args:
    title: page title.
    summary: paragraphs.
    tables: the first stands below the images, the others below the charts.
    charts: each is embedded as an image, so that identifiers do not clash and
      no script in it runs.
    curves: the legend of the charts.
    exhibits: the images.
    opening: codecs shown left and right at first; where an exhibit lacks them,
      its first and its last version.
    exhibits_note: shown above the images.
    names: codec, metric or term -> what it means.
    details: how the page was made: command, model, machine, licences.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True,
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
  )
  script = (TEMPLATES / 'page.js').read_text('utf-8')
  # The hash is of everything between the tags, the first line break included.
  digest = hashlib.sha256(f'\n{script}'.encode()).digest()
  text = environment.get_template('page.html').render(
    title=title, summary=summary, tables=tables, charts=charts, curves=curves,
    exhibits=exhibits, opening=opening, exhibits_note=exhibits_note,
    names=names, details=details, script=script,
    script_hash=base64.b64encode(digest).decode(),
    curve_id=curve_id, lossless=_lossless, svg_uri=_svg_uri,
  )
  # File names that are not UTF-8 hold lone surrogates: shown as '?'.
  return text.strip().encode('utf-8', 'replace').decode() + '\n'


def write(path, **contents) -> None:
  """Writes the page atomically; see `render` for its contents."""
  records.write(path, render(**contents))


def _data_uri(kind: str, data: bytes) -> str:
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _svg_uri(svg: str, curves: Sequence[Curve]) -> str:
  """An SVG with a style sheet that hides what is not drawn at first."""
  hidden = ','.join(
    f'#{curve_id(i)}' for i, curve in enumerate(curves) if not curve.drawn
  )
  if hidden:
    style = f'<style>{hidden}{{display:none}}</style></svg>'
    svg = svg.replace('</svg>', style)
  return _data_uri('svg+xml', svg.encode())


def _lossless(image: np.ndarray) -> str:
  """A data URI of the image, as WebP where that is possible."""
  kind, options = 'png', {}
  if features.check('webp') and max(image.shape) <= _WEBP_MAX_SIDE:
    # More effort is 40 times slower for 2 % of the bytes.
    kind, options = 'webp', {'lossless': True, 'quality': 50, 'method': 4}
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, kind, **options)
  return _data_uri(kind, buffer.getvalue())
