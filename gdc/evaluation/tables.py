"""Tables of an evaluation's results, for the page, the terminal and docs.

Results map a codec's label to its results file (see records.result). A label
that ends in '=gdc' is a codec held to the bytes of gdc (see codecs).
"""
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gdc import metrics

Results = Mapping[str, Mapping[str, Any]]
MS_SSIM = metrics.OF_IMAGES['ms-ssim'].key
NOTHING = '\u2013'  # a cell without a figure
_NUMBER = re.compile(rf'[-+]?[\d\u221e]|{NOTHING}')
_DASH = (
  'A dash: an image is too small for the metric, or was decoded without error.'
)


class Table(NamedTuple):
  """A table of texts; columns of numbers are aligned to the right.

  A folded table shows its title alone until a visitor opens it.
  """

  title: str
  note: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  folded: bool = False

  @property
  def numeric(self) -> list[bool]:
    """Whether each column holds numbers only."""
    columns = zip(self.header, *self.rows, strict=True)
    return [
      bool(cells) and all(map(_NUMBER.match, cells)) for _, *cells in columns
    ]

  @property
  def text(self) -> str:
    """Header, rule and rows for a terminal, without title and note."""
    columns = []
    for is_number, cells in zip(
      self.numeric, zip(self.header, *self.rows, strict=True), strict=True
    ):
      width = max(map(len, cells))
      align = str.rjust if is_number else str.ljust
      header, *cells = (align(cell, width) for cell in cells)
      columns.append([header, '-' * width, *cells])
    lines = ('  '.join(line).rstrip() for line in zip(*columns, strict=True))
    return '\n'.join(lines).replace(NOTHING, '-')


def shown(result: Mapping[str, Any]) -> list[metrics.Metric]:
  """The metrics that a result has."""
  return [
    metrics.BY_KEY[key] for key in result['results'] if key in metrics.BY_KEY
  ]


def heading(metric: metrics.Metric) -> str:
  """'PSNR \u2191, dB'; the arrow points to better values."""
  return metric._replace(label=f'{metric.label} {metric.arrow}').title


def cell(metric: metrics.Metric, value: float | None) -> str:
  """A value as text, without its unit."""
  if value is None:
    return NOTHING
  if math.isinf(value):
    return '\u221e'
  return f'{metric.factor * value:.{metric.decimals}f}'


def scaled(key: str, values: Sequence[float | None]) -> list[float | None]:
  """A metric on the scale on which it is plotted and interpolated.

  MS-SSIM becomes -10 log10(1 - x), in dB, as in the literature: linear values
  crowd together below 1. Other metrics stay as they are.
  """
  if key != MS_SSIM:
    return list(values)
  return [
    None if x is None or x >= 1 else -10 * math.log10(1 - x) for x in values
  ]


def is_matched(label: str) -> bool:
  """Whether a codec was held to the bytes of gdc."""
  return label.endswith('=gdc')


def swept(results: Results) -> Results:
  """The codecs with qualities of their own."""
  return {k: v for k, v in results.items() if not is_matched(k)}


def cells(result: Mapping[str, Any], i: int) -> list[str]:
  """The bpp and the metrics of a result at its i-th quality."""
  curve = result['results']
  return [f'{curve["bpp"][i]:.3f}'] + [
    cell(metric, curve[metric.key][i]) for metric in shown(result)
  ]


def summary(results: Results) -> Table:
  """Rates and metrics of every codec at every quality, for a terminal."""
  first = next(iter(results.values()))
  return Table(
    'Means', '',
    ['codec', 'quality', 'bpp', *(metric.title for metric in shown(first))],
    [
      [label, f'{quality:g}', *cells(result, i)]
      for label, result in results.items()
      for i, quality in enumerate(result['results']['quality'])
    ],
  )


def means(results: Results) -> Table:
  """Every codec at every quality."""
  first = next(iter(results.values()))
  rows = [
    [
      label, f'{quality:g}', *cells(result, i),
      *(
        f'{seconds:.2g}' if seconds < 10 else f'{seconds:.0f}'
        for seconds in (curve['encoding_time'][i], curve['decoding_time'][i])
      ),
    ]
    for label, result in results.items() for curve in [result['results']]
    for i, quality in enumerate(curve['quality'])
  ]
  return Table(
    'All means',
    'Means over the images, one row per codec and quality. Each codec has its '
    'own scale of quality. Times are medians on this machine, in seconds per '
    'image. ' + _DASH,
    ['codec', 'quality', 'bpp', *map(heading, shown(first)), 'encode, s',
     'decode, s'],
    rows,
    folded=True,
  )


def equal_bytes(results: Results) -> Table | None:
  """Codecs at the same bytes, image by image; None without gdc."""
  own = [label for label in results if label.startswith('gdc:')]
  if not own:
    return None
  rows = []
  for quality in results[own[0]]['results']['quality']:
    for label in (*own, *filter(is_matched, results)):
      qualities = results[label]['results']['quality']
      if quality in qualities:
        sizes = _sizes(results[label], quality).values()
        rows.append([
          f'{quality:g}',
          label.removesuffix('=gdc') + larger(results, label, quality),
          f'{sum(sizes) / len(sizes):,.0f}',
          *cells(results[label], qualities.index(quality)),
        ])
  return Table(
    'At equal bytes, image by image',
    'Means over the images. All decoders of gdc read the same files. Every '
    'other codec encodes each image at its best quality that needs no more '
    'bytes than gdc. If it cannot go that low, its smallest file counts: '
    '"(3 larger)" means that this was so for 3 images, in favour of that '
    'codec. Only the qualities of --equal-bytes have other codecs. ' + _DASH,
    ['quality of gdc', 'codec', 'bytes', 'bpp',
     *map(heading, shown(results[own[0]]))],
    rows,
  )


def larger(results: Results, label: str, quality: float) -> str:
  """' (N larger)' if N files of a codec are larger than gdc's, or else ''."""
  own = next(name for name in results if name.startswith('gdc:'))
  limits = _sizes(results[own], quality)
  sizes = _sizes(results[label], quality)
  count = sum(
    sizes[name] > limit for name, limit in limits.items() if name in sizes
  )
  return f' ({count} larger)' if count else ''


def _sizes(result, quality) -> dict[str, int]:
  """Image -> bytes."""
  return {
    row['name']: row['bytes'] for row in result['images']
    if row['quality'] == quality
  }
