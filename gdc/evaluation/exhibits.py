"""The images on an evaluation's page, decoded by every codec."""
import collections
from collections.abc import Sequence

import numpy as np

from gdc import decoders, metrics, progress
from gdc.data import image_files
from gdc.evaluation import baselines, page, showcase, tables
from gdc.evaluation import study as study_lib
from gdc.metrics import rate

MAX_RATES = 3  # at which images are shown
SLACK = 1.05


def make(
  study: study_lib.Study, results: tables.Results, count: int, crop: int
) -> list[page.Exhibit]:
  """Returns images as decoded by every codec, at the bytes of gdc if known.

  Args:
    study: what was evaluated.
    results: its results.
    count: number of images, evenly spaced among all.
    crop: longest side of what is shown, around the strongest detail, in pixels.
  """
  paths = study.plan.paths
  count = min(count, len(paths))
  comparable = _comparable(study, results)
  if not count or not comparable:
    return []
  shown_at = rates(study, results)
  part = 1 / (count * len(shown_at) * len(comparable))  # of the work
  made = []
  for name, path in _evenly(
    list(zip(study.names, paths, strict=True)), count
  ):
    image, _ = image_files.read_rgb(path)
    height, width, _ = image.shape
    box = left, top, right, bottom = showcase.busiest(image, crop)
    shown = np.s_[top:bottom, left:right]
    versions = [page.Version('original', image[shown])]
    for quality in shown_at:
      versions += _versions(
        study, results, comparable, name, image, shown, quality, part
      )
    made.append(page.Exhibit(name, height, width, box, versions))
  return made


def rates(study: study_lib.Study, results: tables.Results) -> list[float]:
  """Qualities of gdc at which images are shown: those that most codecs share.

  At most MAX_RATES, evenly spaced.
  """
  found = collections.Counter(
    quality for coder in _comparable(study, results)
    for quality in coder.qualities
  )
  most = sorted(q for q in found if found[q] == max(found.values()))
  return _evenly(most, min(len(most), MAX_RATES))


def opening(
  coders: Sequence, results: tables.Results, quality: float
) -> tuple[tuple[str, str], str]:
  """The codecs shown left and right at first, and a sentence that says why.

  Our default decoder is on the left. On the right is the codec with the lowest
  mean LPIPS at its bytes or, where that was not measured, the highest PSNR. A
  codec that needs more than SLACK times our bits is chosen only if all do.

  Args:
    coders: see codecs.build.
    results: label -> result; a codec that failed has none.
    quality: quality of gdc at which images are shown first.
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

  def value(label, key):
    curve = results[label]['results']
    found = curve.get(key) or [None] * len(curve['quality'])
    return found[curve['quality'].index(quality)]

  others = [
    label for label, result in results.items()
    if tables.is_matched(label) and quality in result['results']['quality']
  ]
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
        f'At first: {own}, and {right}, which has {words} of the other codecs '
        'at the bytes of gdc. Choose other codecs and rates below.'
      )
  return ('original', own), f'At first: the original, and {own}.'


def _evenly(items, count):
  """`count` of the items, the first and the last among them."""
  chosen = np.linspace(0, len(items) - 1, count).round().astype(int)
  return [items[i] for i in chosen]


def _comparable(study, results):
  """Codecs whose qualities are those of gdc."""
  return [
    coder for coder in study.coders
    if coder.label not in baselines.BASELINES and coder.label in results
  ]


def _versions(
  study, results, comparable, name, image, shown, quality, part
):
  """One image as decoded by the codecs, at one quality of gdc."""
  rows = [
    (coder, row) for coder in comparable
    for row in results[coder.label]['images']
    if (row['name'], row['quality']) == (name, quality)
  ]
  files = {}
  for coder, _ in rows:
    if coder.writer not in files:
      progress.part(0.0, f'{name}, {coder.writer}')
      files[coder.writer] = coder.encode(image, quality)
  made = []
  for coder, row in rows:
    progress.part(part, f'{name}, {coder.label}')
    data = files[coder.writer]
    bpp = rate.bits_per_pixel(len(data), *image.shape[:2])
    facts = {'bytes': f'{len(data):,}', 'bpp': f'{bpp:.3f}'}
    for metric in map(metrics.OF_IMAGES.get, study.plan.metrics):
      if row[metric.name] is not None:
        heading = f'{metric.label} {metric.arrow}'
        value = tables.cell(metric, row[metric.name])
        facts[heading] = f'{value} {metric.unit}'.strip()
    note = ''
    if len(data) > len(files.get('gdc', data)):
      excess = len(data) / len(files['gdc'])
      note = f'smallest file: {excess:.2f} x the bytes'
    made.append(page.Version(
      coder.label.removesuffix('=gdc'), coder.decode(data)[shown], facts, note,
      f'gdc quality {quality:g}',
    ))
  return made
