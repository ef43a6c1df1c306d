"""Bjontegaard differences between the curves of an evaluation, as a table."""
from collections.abc import Mapping, Sequence
from typing import Any

from gdc.evaluation import baselines, tables
from gdc.metrics import rate


def anchor_of(labels: Sequence[str]) -> str:
  """The default anchor: the first codec that is not gdc, or else the first."""
  return next(
    (label for label in labels if label in baselines.BASELINES), labels[0]
  )


def differences(results: tables.Results, anchor: str) -> list[dict[str, Any]]:
  """Bjontegaard differences between an anchor and every other codec.

  Args:
    results: label -> result.
    anchor: a label.

  Returns:
    One row per codec and metric: codec, measure, and for each method:
    bd_rate_percent; from, to (the values of the metric that both curves
    reach) and overlap (their share of the span of both); bd_quality in the
    units of the metric (see tables.scaled), from_bpp, to_bpp and bpp_overlap.
    `why_not` and `why_no_quality` give the reason where there is no figure.

  Raises:
    ValueError: unknown anchor.
  """
  if anchor not in results:
    raise ValueError(
      f'the anchor is {anchor!r}: one of {", ".join(results)} is expected'
    )
  base = results[anchor]['results']
  return [
    {
      'codec': label, 'measure': metric.key,
      **{
        method: _difference(base, result['results'], metric.key, method)
        for method in rate.METHODS
      },
    }
    for label, result in results.items() if label != anchor
    for metric in tables.shown(result)
  ]


def _difference(base, curve, key, method) -> dict[str, Any]:
  anchors, tests = tables.scaled(key, base[key]), tables.scaled(key, curve[key])
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


def table(
  rows: Sequence[Mapping[str, Any]], anchor: str, result: Mapping[str, Any]
) -> tables.Table | None:
  """BD-rates and the overlap of the curves; None where there are none.

  Args:
    rows: from `differences`.
    anchor: the codec they are relative to.
    result: any of the results, for the names of metrics.
  """
  if not any('overlap' in row['pchip'] for row in rows):
    return None
  measured = {row['measure'] for row in rows}
  labels = {m.key: m.label for m in tables.shown(result) if m.key in measured}
  found = {}
  for row in rows:
    bd = row['pchip']
    found.setdefault(row['codec'], {})[row['measure']] = (
      f'{bd["bd_rate_percent"]:+.1f} % ({bd["overlap"]:.0%})'
      if 'overlap' in bd else tables.NOTHING
    )
  return tables.Table(
    f'BD-rate against {anchor}',
    f'Bits that a codec needs more (+) or fewer (-) than {anchor} for an equal '
    'metric, in per cent, averaged over the values that both reach '
    '(Bjontegaard, PCHIP; MS-SSIM in dB). Negative is better. In brackets: the '
    'share of the span of both curves that this covers; a figure with a small '
    'share says little. A dash: the curves have no value in common, one of '
    'them turns back, or there are too few points. bd.json has more methods, '
    'and BD-PSNR.',
    ['codec', *labels.values()],
    [
      [codec, *(values.get(key, tables.NOTHING) for key in labels)]
      for codec, values in found.items()
    ],
  )
