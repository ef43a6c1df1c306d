"""Tables of decoders and other codecs side by side, from an evaluation."""
from collections.abc import Mapping
from typing import Any

from gdc import metrics
from gdc.evaluation import baselines, bjontegaard, tables
from gdc.metrics import rate

_KID = 'frechet.kid'
_PERCEPTUAL = 'perceptual.lpips', 'perceptual.dists_to', 'frechet.distance'
PLAIN = 'gdc:mse'  # the autoencoder alone
DEFAULT = 'gdc:one_step'  # beside RIVALS at equal bytes
# Decoder -> functions of the metrics that it is compared in.
HELD_TO = {
  PLAIN: ('distortion.psnr', 'distortion.ms_ssim'),
  DEFAULT: _PERCEPTUAL,
  'gdc:flow': _PERCEPTUAL,
}
RIVALS = 'avif', 'heic'
IN_SHORT = ((PLAIN, 'psnr-rgb'), (DEFAULT, 'lpips-alex'))


def decoders(results: tables.Results) -> tables.Table | None:
  """What the other decoders of gdc change, against the autoencoder alone.

  Args:
    results: label -> result, of one evaluation.

  Returns:
    A row per decoder, with all qualities in a cell; None without PLAIN or
    without another decoder.
  """
  others = [k for k in results if k.startswith('gdc:') and k != PLAIN]
  if PLAIN not in results or not others:
    return None
  plain = results[PLAIN]
  qualities = plain['results']['quality']
  shown = [
    m for m in tables.shown(plain) if m.function in (
      'distortion.psnr', *_PERCEPTUAL, _KID
    )
  ]
  header, rows = ['decoder'], [[label] for label in others]
  for metric in shown:
    of_plain = plain['results'][metric.key]
    if metric.function == _KID:  # no ratio: equal images are not at 0
      said = ', '.join(tables.cell(metric, x) for x in of_plain)
      header.append(f'{metric.label} (mse: {said})')
    else:
      header.append(f'{metric.label} lower by, {metric.unit or "%"}')
    if metric.name == 'lpips':
      header.append('images with higher LPIPS')
    for label, row in zip(others, rows, strict=True):
      means = [_means(results[label], q).get(metric.key) for q in qualities]
      row.append(', '.join(
        _lower_by(metric, *pair) for pair in zip(of_plain, means, strict=True)
      ))
      if metric.name == 'lpips':
        counts = [_lower(plain, results[label], q) for q in qualities]
        row.append(', '.join(str(count) for count, _ in counts))
  return tables.Table(
    'Decoders beside the autoencoder alone (mse)',
    'They read the same files. Values are at quality '
    f'{", ".join(f"{quality:g}" for quality in qualities)}; negative: higher.',
    header, rows,
  )


def same_quality(results: tables.Results) -> tuple[tables.Table | None, str]:
  """Bytes that every codec needs, over those of gdc, at equal quality.

  Args:
    results: label -> result, of one evaluation.

  Returns:
    A table of Bjontegaard rates, a row per codec and a column per decoder and
    metric of HELD_TO; None if no other codec can be compared. And sentences on
    what is missing, '' if nothing is.
  """
  curves, columns = tables.swept(results), _columns(results)
  others = [label for label in curves if label in baselines.BASELINES]
  missing, found, reasons = [], {}, []
  if without := _without_curves(results):
    missing.append(
      f'{", ".join(without)}: no curve, only files at the bytes of gdc.'
    )
  for anchor in dict(columns) if others else ():
    found[anchor] = _differences(curves, anchor)
  for anchor, metric in columns if others else ():
    reasons += [
      _reason(bd['why_not'], label, anchor, metric)
      for (label, key), bd in found[anchor].items()
      if key == metric.key and 'why_not' in bd
    ]
  if reasons:
    missing.append(f'No figure: {"; ".join(dict.fromkeys(reasons))}.')
  if not any(
    'overlap' in found[anchor].get((label, metric.key), ())
    for anchor, metric in columns for label in others
  ):
    return None, ' '.join(missing)

  def cell(label, anchor, metric):
    if label == anchor:
      return '1'
    bd = found[anchor].get((label, metric.key), ())
    return _ratio(curves[anchor], metric, bd) if 'overlap' in bd else (
      tables.NOTHING
    )

  return tables.Table(
    'Bytes for the same quality',
    'Bytes that a codec needs for an equal mean, over those of gdc with the '
    'decoder in the header: 1.20 is 20 % more than gdc (BD-rate, PCHIP; '
    'MS-SSIM in dB). In brackets: the values that both reach, which the figure '
    'covers, and the bpp of gdc there.',
    ['codec', *(f'{metric.title}: {anchor}' for anchor, metric in columns)],
    [[_title(label), *(cell(label, *column) for column in columns)]
     for label in curves],
  ), ' '.join(missing)


def same_quality_in_short(
  evaluations: Mapping[str, tables.Results]
) -> tuple[tables.Table | None, str]:
  """Bytes over those of gdc at equal PSNR and LPIPS, for several sets.

  Args:
    evaluations: name of the set -> results.

  Returns:
    A table with a row per codec and two columns per set; None if no set has
    other codecs' curves. And a sentence on the sets without, or ''.
  """
  columns, found, missing = [], {}, []
  for name, results in evaluations.items():
    curves = tables.swept(results)
    shown = [
      (anchor, key) for anchor, key in IN_SHORT
      if anchor in curves and key in curves[anchor]['results']
    ]
    ratios = {
      (name, key, label): f'{_times(bd)} \u00d7'
      for anchor, column in shown
      for (label, key), bd in _differences(curves, anchor).items()
      if key == column and label in baselines.BASELINES and 'overlap' in bd
    }
    if ratios:
      columns += [(name, key) for _, key in shown]
      found |= ratios
    else:
      missing.append(name)
  said = (
    f'{" and ".join(missing)}: no curves that can be compared.'
    if missing else ''
  )
  if not found:
    return None, said
  labels = dict.fromkeys(
    label for name, _ in columns for label in tables.swept(evaluations[name])
    if label in baselines.BASELINES
  )
  return tables.Table(
    'Bytes for the same quality', '',
    ['codec', *(f'{name}, same {metrics.BY_KEY[key].label}'
                for name, key in columns)],
    [
      [_title(label)]
      + [found.get((*column, label), tables.NOTHING) for column in columns]
      for label in labels
    ],
  ), said


def equal_bytes(results: tables.Results) -> tables.Table | None:
  """The default decoder beside RIVALS at every quality they were matched at.

  Args:
    results: label -> result, of one evaluation.

  Returns:
    A row per quality: bpp, perceptual metrics, and the number of images in
    which the LPIPS of gdc is lower. None if a side is missing.
  """
  rivals = [f'{name}=gdc' for name in RIVALS if f'{name}=gdc' in results]
  if DEFAULT not in results or not rivals:
    return None
  own, labels = results[DEFAULT], [DEFAULT, *rivals]
  names = [DEFAULT.removeprefix('gdc:'), *map(_title, rivals)]
  lpips = metrics.OF_IMAGES['lpips']
  shown = [m for m in tables.shown(own) if m.function in _PERCEPTUAL]
  header = ['quality', f'bpp {names[0]}', *names[1:]]
  for metric in shown:
    header += [f'{tables.heading(metric)} {names[0]}', *names[1:]]
    if metric is lpips:
      header += [f'lower than {name}' for name in names[1:]]
  rows = []
  for quality in own['results']['quality']:
    means = {label: _means(results[label], quality) for label in labels}
    if not any(means[label] for label in rivals):
      continue
    row = [f'{quality:g}'] + [
      f'{mean["bpp"]:.3f}{tables.larger(results, label, quality)}' if mean
      else tables.NOTHING for label, mean in means.items()
    ]
    for metric in shown:
      row += [tables.cell(metric, m.get(metric.key)) for m in means.values()]
      if metric is lpips:
        row += [
          '{} of {}'.format(*_lower(own, results[label], quality))
          if means[label] else tables.NOTHING for label in rivals
        ]
    rows.append(row)
  if not rows:
    return None
  said = (
    f' "Lower than": images in which {names[0]} has the lower LPIPS.'
    if lpips in shown else ''
  )
  return tables.Table(
    f'{names[0]} beside {" and ".join(names[1:])} at equal bytes',
    'Every image has at most as many bytes as with gdc. "(3 larger)": 3 images '
    f'have more, because the codec cannot go lower.{said}',
    header, rows,
  )


def _columns(results) -> list[tuple[str, metrics.Metric]]:
  """The decoders and metrics of HELD_TO that were measured."""
  return [
    (anchor, metric) for anchor, functions in HELD_TO.items()
    if anchor in results for metric in tables.shown(results[anchor])
    if metric.function in functions
  ]


def _differences(curves, anchor) -> dict[tuple[str, str], dict[str, Any]]:
  """(codec, key of a metric) -> difference, see bjontegaard.differences."""
  return {
    (row['codec'], row['measure']): row['pchip']
    for row in bjontegaard.differences(curves, anchor)
  }


def _without_curves(results) -> list[str]:
  """Codecs that were only held to the bytes of gdc."""
  return [
    _title(label) for label in results
    if tables.is_matched(label) and label.removesuffix('=gdc') not in results
  ]


def _title(label) -> str:
  """A codec's usual name."""
  label = label.removesuffix('=gdc')
  known = baselines.BASELINES.get(label)
  return known.title if known else label


def _times(bd) -> str:
  return f'{1 + bd["bd_rate_percent"] / 100:.2f}'


def _ratio(own, metric, bd) -> str:
  """'1.23 (27.1-36.4; 0.12-1.04)', with dashes of print."""
  curve, ends = own['results'], (bd['from'], bd['to'])
  values = tables.scaled(metric.key, curve[metric.key])
  low, high = sorted(rate.rate_at(curve['bpp'], values, ends))
  decimals = 1 if metric.key == tables.MS_SSIM else metric.decimals - 1
  span = '\u2013'.join(f'{end:.{decimals}f}' for end in ends)
  return f'{_times(bd)} ({span}; {low:.2f}\u2013{high:.2f})'


def _reason(why_not, label, anchor, metric) -> str:
  """An error of rate.bd_rate up to its colon, with names in it."""
  said = why_not.partition(':')[0]
  if 'the anchor' not in said and 'the test' not in said:
    said = f'{_title(label)}, {said}'
  said = said.replace('the anchor', anchor).replace('the test', _title(label))
  return f'{metric.label}: {said.replace("qualities ", "")}'


def _means(result, quality) -> dict[str, float | None]:
  """The means at a quality of gdc; {} if it was not measured there."""
  curve = result['results']
  if quality not in curve['quality']:
    return {}
  i = curve['quality'].index(quality)
  return {key: values[i] for key, values in curve.items()}


def _lower_by(metric, of_plain, value) -> str:
  """How much lower a mean is: in its unit or in per cent; KID itself."""
  if metric.function == _KID:
    return tables.cell(metric, value)
  if value is None or not of_plain:
    return tables.NOTHING
  if metric.unit:
    return f'{of_plain - value:z.{metric.decimals}f}'
  return f'{100 * (1 - value / of_plain):z.0f}'


def _lower(own, other, quality) -> tuple[int, int]:
  """Images whose LPIPS is lower with `own`, and images compared."""
  ours, theirs = (
    {
      row['name']: row['lpips'] for row in result['images']
      if row['quality'] == quality and row['lpips'] is not None
    } for result in (own, other)
  )
  both = ours.keys() & theirs.keys()
  return sum(ours[name] < theirs[name] for name in both), len(both)
