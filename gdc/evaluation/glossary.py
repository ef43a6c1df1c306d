"""What the names on an evaluation's page mean."""
from collections.abc import Sequence

from gdc import decoders
from gdc.evaluation import codecs as codecs_lib
from gdc.evaluation import tables


def names(coders: Sequence, results: tables.Results) -> dict[str, str]:
  """Returns codec, metric or term -> what it means.

  Args:
    coders: see codecs.build.
    results: label -> result; a codec that failed has none.
  """
  found = {}
  for coder in coders:
    if coder.label not in results or tables.is_matched(coder.label):
      continue
    name = codecs_lib.parse(coder.label)
    if name.noise is not None:
      found[coder.label] = (
        f'A control: the image of mse plus white noise of {name.noise:g} times '
        'its expected error. A decoder whose figures are no better adds noise, '
        'not detail.'
      )
    elif name.decoder == 'mse':
      found[coder.label] = 'gdc, the autoencoder alone: highest PSNR.'
    elif name.decoder:
      description = decoders.DECODERS[name.decoder].description
      steps = coder.record['steps']
      found[coder.label] = (
        f'gdc, {description}, in {steps} step{"s" * (steps > 1)}.'
      )
    else:
      found[coder.label] = coder.description
  if any(map(tables.is_matched, results)):
    found['NAME=gdc'] = (
      'In the files beside this page: that codec held to the bytes of gdc, '
      'image by image.'
    )
  found['bpp'] = 'Bits per pixel: of the whole file, over all pixels.'
  for metric in tables.shown(next(iter(results.values()))):
    better = 'Higher' if metric.higher_is_better else 'Lower'
    found[metric.label] = (
      f'{metric.arrow} {better} is better. {metric.description}'
    )
  own = [k for k in results if k.startswith('gdc:') and '+' not in k]
  if len(own) > 1:
    found['equal bits'] = (
      f'In charts: joins what {", ".join(own)} decode from the same files.'
    )
  found['quality'] = (
    'Each codec has its own scale; the scales cannot be compared.'
  )
  found['BD-rate'] = (
    'Difference in bits at an equal metric, in per cent; negative means fewer '
    'bits.'
  )
  return found
