"""Tables of an evaluation's results, for a page, a terminal and docs.

Results are those of records.result, by codec label; a label with '=gdc' is of a
codec held to the bytes of gdc (see codecs).
"""
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gdc import metrics
from gdc.evaluation import baselines, page
from gdc.metrics import rate

Results = Mapping[str, Mapping[str, Any]]
MS_SSIM = metrics.OF_IMAGES['ms-ssim'].key
NOTHING = '\u2013'  # a cell without a figure


DASH = (
  'A dash: no figure, as an image is too small for the measure or was '
  'decoded without error.'
)


class Column(NamedTuple):
  """How a measure is shown."""

  title: str
  style: str  # of a format string
  factor: float
  arrow: str  # the direction that is better

  @property
  def heading(self) -> str:
    """The title with its arrow: 'PSNR \u2191, dB'."""
    return heading(self.title, self.arrow)


def columns(result: Mapping[str, Any]) -> dict[str, Column]:
  """Key in results -> column, of every measure that a result has."""
  return {
    key: Column(m.title, f'.{m.decimals}f', m.factor, m.arrow)
    for key in result['results'] if (m := metrics.BY_KEY.get(key))
  }


def heading(title: str, arrow: str) -> str:
  """A measure's title with an arrow behind its name, before its unit."""
  name, comma, unit = title.partition(',')
  return f'{name} {arrow}{comma}{unit}'


def scaled(key: str, values: Sequence[float | None]) -> list[float | None]:
  """A measure on the scale that it is plotted and interpolated on.

  That of MS-SSIM is -10 log10(1 - x), in dB, as in the literature: near 1,
  where all codecs end up, its own tells them apart no more. Others stay.
  """
  if key != MS_SSIM:
    return list(values)
  return [
    None if x is None or x >= 1 else -10 * math.log10(1 - x) for x in values
  ]


def is_matched(label: str) -> bool:
  """Whether a codec was held to the bytes of gdc."""
  return label.endswith('=gdc')


def summary(results: Results) -> list[dict[str, Any]]:
  """The means of every codec and quality, for report.format_table."""
  return [
    {
      'codec': label, 'quality': quality, 'bpp': result['results']['bpp'][i],
      **{key: result['results'][key][i] for key in columns(result)},
    }
    for label, result in results.items()
    for i, quality in enumerate(result['results']['quality'])
  ]


def means(results: Results) -> page.Table:
  """Every codec at every quality."""
  shown = columns(next(iter(results.values())))
  rows = []
  for label, result in results.items():
    curve = result['results']
    for i, quality in enumerate(curve['quality']):
      rows.append([
        label, f'{quality:g}', f'{curve["bpp"][i]:.3f}',
        *cells(result, i, shown),
        _seconds(curve['encoding_time'][i]),
        _seconds(curve['decoding_time'][i]),
      ])
  return page.Table(
    'All means',
    'Means over the images, one row per codec and quality; each codec has its '
    'own scale of quality. Times are medians, in seconds per image, on this '
    'machine. ' + DASH,
    ['codec', 'quality', 'bpp', *(column.heading for column in shown.values()),
     'encode, s', 'decode, s'],
    rows,
    folded=True,
  )


def equal_bytes(results: Results) -> page.Table | None:
  """Codecs at the same bytes, picture by picture; None without gdc."""
  own = [label for label in results if label.startswith('gdc:')]
  if not own:
    return None
  shown = columns(results[own[0]])
  others = [label for label in results if is_matched(label)]
  rows = []
  for quality in results[own[0]]['results']['quality']:
    for label in (*own, *others):
      result = results[label]
      curve = result['results']
      if quality not in curve['quality']:
        continue
      i = curve['quality'].index(quality)
      sizes = _sizes(result, quality)
      rows.append([
        f'{quality:g}',
        label.removesuffix('=gdc') + larger(results, label, quality),
        f'{sum(sizes.values()) / len(sizes):,.0f}', f'{curve["bpp"][i]:.3f}',
        *cells(result, i, shown),
      ])
  return page.Table(
    'At equal bytes, image by image',
    'Means over the images. All decoders of gdc read the same files, so their '
    'bytes are equal. Of every other codec, each image is the best file that '
    'is no larger than the one of gdc at this quality. Where a codec cannot '
    'make so small a file, its smallest is taken: (3 larger) says that this '
    'was so for 3 images, and its figures are flattered by these bytes. '
    'Qualities at which only gdc is listed have no such files, see '
    '--equal-bytes. ' + DASH,
    ['quality of gdc', 'codec', 'bytes', 'bpp',
     *(column.heading for column in shown.values())],
    rows,
  )


def larger(results: Results, label: str, quality: float) -> str:
  """' (N larger)', of how many pictures a codec's file is larger than gdc's.

  '' where none is.
  """
  own = next(name for name in results if name.startswith('gdc:'))
  limits = _sizes(results[own], quality)
  sizes = _sizes(results[label], quality)
  count = sum(
    sizes[name] > limit for name, limit in limits.items() if name in sizes
  )
  return f' ({count} larger)' if count else ''


def _sizes(result, quality) -> dict[str, int]:
  """Picture -> bytes."""
  return {
    row['name']: row['bytes'] for row in result['images']
    if row['quality'] == quality
  }


def cells(
  result: Mapping[str, Any], i: int, shown: Mapping[str, Column]
) -> list[str]:
  """What a row shows of a result's measures, of its quality number i."""
  curve = result['results']
  return [
    NOTHING if curve[key][i] is None
    else f'{column.factor * curve[key][i]:{column.style}}'
    for key, column in shown.items()
  ]


def _seconds(value) -> str:
  return f'{value:.2g}' if value < 10 else f'{value:.0f}'


# --- Bjontegaard ------------------------------------------------------------


def anchor_of(labels: Sequence[str]) -> str:
  """The codec to hold others against: the first that is not gdc."""
  return next(
    (label for label in labels if label in baselines.BASELINES), labels[0]
  )


def differences(results: Results, anchor: str) -> list[dict[str, Any]]:
  """Bjontegaard differences of curves against one of them, for every measure.

  Args:
    results: label -> result.
    anchor: a label.

  Returns:
    Rows, one per codec and measure: codec, measure, and per method
    bd_rate_percent, from, to (the interval of the measure that both cover),
    overlap (of that interval in the span of both), bd_quality (in the units of
    the measure, of MS-SSIM dB, see `scaled`), from_bpp, to_bpp, bpp_overlap.
    Where the rate can not be had,
    `why_not` says why, and `why_no_quality` where the quality can't.

  Raises:
    ValueError: no such anchor.
  """
  if anchor not in results:
    raise ValueError(
      f'the anchor is {anchor!r}: one of {", ".join(results)} is expected'
    )
  rows = []
  base = results[anchor]['results']
  for label, result in results.items():
    curve = result['results']
    for key in columns(result) if label != anchor else ():
      rows.append({
        'codec': label, 'measure': key,
        **{
          method: _difference(base, curve, key, method)
          for method in rate.METHODS
        },
      })
  return rows


def _difference(base, curve, key, method) -> dict[str, Any]:
  anchors, tests = scaled(key, base[key]), scaled(key, curve[key])
  if None in anchors or None in tests:
    why = 'there is no finite mean at every quality'
    return {'why_not': why, 'why_no_quality': why}
  pair = base['bpp'], anchors, curve['bpp'], tests
  found = {}
  try:
    r = rate.bd_rate(*pair, method)
    found |= {
      'bd_rate_percent': r.percent, 'from': r.quality_low,
      'to': r.quality_high, 'overlap': r.overlap,
    }
  except ValueError as error:
    found['why_not'] = str(error)
  try:
    q = rate.bd_quality(*pair, method)
    found |= {
      'bd_quality': q.difference, 'from_bpp': q.rate_low, 'to_bpp': q.rate_high,
      'bpp_overlap': q.overlap,
    }
  except ValueError as error:
    found['why_no_quality'] = str(error)
  return found


def bjontegaard(
  rows: Sequence[Mapping[str, Any]], anchor: str, result: Mapping[str, Any]
) -> page.Table | None:
  """BD-rates, and how far the curves overlap; None where there are none.

  Args:
    rows: of `differences`.
    anchor: that they are against.
    result: one of the results, for the titles of measures.
  """
  if not any('overlap' in row['pchip'] for row in rows):
    return None
  shown = columns(result)
  keys = [key for key in shown if any(row['measure'] == key for row in rows)]
  cells = {}
  for row in rows:
    found = row['pchip']
    cells.setdefault(row['codec'], {})[row['measure']] = (
      f'{found["bd_rate_percent"]:+.1f} % ({found["overlap"]:.0%})'
      if 'overlap' in found else NOTHING
    )
  return page.Table(
    f'BD-rate against {anchor}',
    f'How many per cent of bits more (+) or fewer (-) than {anchor} a codec '
    'needs for an equal measure: the mean over the values that both reach '
    '(Bjontegaard, PCHIP; MS-SSIM in dB). Negative is better. In brackets how '
    'much of the span of both curves both cover: of a small part, a figure '
    'says little. A dash: no figure, as the curves have no value in common, '
    'one turns back, or there are too few points. bd.json has other methods '
    'and BD-PSNR.',
    ['codec', *(shown[key].title.partition(',')[0] for key in keys)],
    [
      [codec, *(found.get(key, NOTHING) for key in keys)]
      for codec, found in cells.items()
    ],
  )
