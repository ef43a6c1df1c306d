"""What the names on a page mean, and which two codecs it opens on."""
from collections.abc import Mapping, Sequence
from typing import Any

from gdc import decoders, metrics
from gdc.evaluation import codecs as codecs_lib
from gdc.evaluation import tables

Results = Mapping[str, Mapping[str, Any]]
SLACK = 1.05
_DECODERS = {
  'mse': 'the autoencoder alone, closest in PSNR',
  'one_step': 'the flow decoder trained on to end after one step',
  'flow': 'the flow decoder in {steps} steps',
  'diffusion': 'the diffusion decoder in {steps} steps',
}


def names(coders: Sequence, results: Results) -> dict[str, str]:
  """Codecs, measures and signs: name -> what it means.

  Args:
    coders: see codecs.build.
    results: label -> result, of those that could be measured.
  """
  found = {}
  for coder in coders:
    if coder.label not in results or tables.is_matched(coder.label):
      continue
    found[coder.label] = coder.description
    if (name := codecs_lib.parse(coder.label)).decoder:
      found[coder.label] = _own(name, coder.record)
  if any(map(tables.is_matched, results)):
    found['NAME=gdc'] = (
      'in files beside this page: that codec held to the bytes of gdc, image '
      'by image.'
    )
  found['bpp'] = 'Bits of the whole file per pixel of the image.'
  first = next(iter(results.values()))
  for key in tables.columns(first):
    metric = metrics.BY_KEY[key]
    direction = 'higher' if metric.higher_is_better else 'lower'
    found[metric.label] = (
      f'{metric.arrow} {direction} is better. {metric.description}'
    )
  own = [k for k in results if k.startswith('gdc:') and '+' not in k]
  if len(own) > 1:
    found['equal bits'] = (
      f'In charts: joins what {", ".join(own)} make of the same files.'
    )
  found['quality'] = "On each codec's own scale; scales do not compare."
  found['BD-rate'] = (
    'Difference of bits at an equal measure, in per cent; negative: fewer bits.'
  )
  return found


def _own(name, record) -> str:
  if name.noise is not None:
    return (
      f'a control: the image of mse with white noise of {name.noise:g} times '
      'its expected error. A decoder that measures no better adds noise, not '
      'detail.'
    )
  words = _DECODERS[record['entry']].format(steps=record['steps'])
  return f'gdc, {words}.'


def opening(
  coders: Sequence, results: Results, quality: float
) -> tuple[tuple[str, str], str]:
  """The two codecs that a page opens on, and a sentence that says why.

  Our default decoder is on the left. On the right is the best of the others at
  its bytes: the one of the lowest LPIPS or, where that was not measured, of the
  highest PSNR, in the mean over the images. A codec that takes more than SLACK
  times our bits in the mean is chosen only where all do.

  Args:
    coders: see codecs.build.
    results: label -> result, of those that could be measured.
    quality: of gdc, at which images are shown first.
  """
  entries = {
    coder.label: coder.record['entry'] for coder in coders
    if 'entry' in coder.record and 'noise' not in coder.record
    and coder.label in results
  }
  if not entries:
    return ('', ''), ''
  best = decoders.default(tuple({*entries.values(), 'mse'}))
  own = next(
    (label for label, entry in entries.items() if entry == best),
    next(iter(entries)),
  )
  others = [
    label for label, result in results.items()
    if tables.is_matched(label) and quality in result['results']['quality']
  ]

  def value(label, key):
    curve = results[label]['results']
    found = curve.get(key) or [None] * len(curve['quality'])
    return found[curve['quality'].index(quality)]

  fair = [
    label for label in others
    if value(label, 'bpp') <= SLACK * value(own, 'bpp')
  ]

  for key, sign, words in (
    ('lpips-alex', 1, 'the lowest LPIPS'), ('psnr-rgb', -1, 'the highest PSNR')
  ):
    known = [
      label for label in fair or others if value(label, key) is not None
    ]
    if known:
      other = min(known, key=lambda label: sign * value(label, key))
      right = other.removesuffix('=gdc')
      return (own, right), (
        f'They open on {own} beside {right}, which has {words} of the other '
        'codecs at the bytes of gdc. Choose others, and the rate, below.'
      )
  return ('original', own), f'They open on the original beside {own}.'
