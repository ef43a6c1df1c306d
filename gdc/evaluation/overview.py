"""What an evaluation leaves behind: results files, tables, plots and a page.

  CODEC.json     a result each, in CompressAI's format (see records)
  rows.csv       every picture, codec and quality
  bd.json        Bjontegaard differences against one codec, by every method
  index.json     which results these are, and how they were made
  curves.svg, plane.svg   see curves
  page.html      all of it to look at, with pictures (see page)
"""
import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdc import metrics, progress
from gdc.data import image_files
from gdc.evaluation import (
  baselines,
  curves,
  legend,
  page,
  published,
  records,
  showcase,
  tables,
)
from gdc.evaluation import study as study_lib
from gdc.metrics import rate

# Below so many patches, a Fréchet distance is more bias than distance.
MANY_PATCHES = 10_000
MOST_RATES = 3  # at which images are shown
Results = Mapping[str, Mapping[str, Any]]


def write(
  study: study_lib.Study,
  results: Results,
  *,
  command: str,
  title: str,
  note: str = '',
  anchor: str | None = None,
  references: Sequence[published.Curve] = (),
  num_pictures: int = 4,
  crop: int = 384,
) -> None:
  """Writes everything into the plan's folder.

  Args:
    study: what was evaluated.
    results: of study.results().
    command: the command line, for the record.
    title: of the page.
    note: for the page, such as the pictures' licence.
    anchor: the codec that Bjontegaard differences are against; None takes the
      first that is not gdc, or else the first.
    references: published curves to draw beside ours.
    num_pictures: how many are shown on the page.
    crop: the longest side of what is shown of a picture, in pixels.

  Raises:
    ValueError: the anchor is not among the codecs.
  """
  out = pathlib.Path(study.plan.out)
  swept = {
    label: result for label, result in results.items()
    if not tables.is_matched(label)
  } or results
  anchor = anchor or tables.anchor_of(list(swept))
  bjontegaard = tables.differences(swept, anchor)
  # What takes long, or may fail, comes before the first file is replaced.
  shown = exhibits(study, results, num_pictures, crop)
  charts, entries = curves.charts(swept, references)
  plots = curves.write(out, swept, references)
  coders = [coder for coder in study.coders if coder.label in results]
  for coder in coders:
    result = dict(results[coder.label])
    result['meta'] = {**result['meta'], 'command': command}
    records.save(result, out / f'{coder.file}.json')
  records.save_rows(
    [row for result in results.values() for row in result['images']],
    out / 'rows.csv',
  )
  records.save(
    {'anchor': anchor, 'methods': list(rate.METHODS), 'codecs': bjontegaard},
    out / records.DIFFERENCES,
  )
  records.save({
    'command': command,
    'files': [f'{coder.file}.json' for coder in coders],
    'plots': [path.name for path in plots],
    'anchor': anchor,
    'references': [reference.label for reference in references],
  }, out / records.INDEX)
  first = next(iter(results.values()))
  made = [
    tables.bjontegaard(bjontegaard, anchor, first),
    tables.equal_bytes(results),
    tables.means(swept),
  ]
  shown_first = rates(study, results)[:1] if shown else []
  opening, why = ('', ''), ''
  if shown_first:
    opening, why = legend.opening(study.coders, results, shown_first[0])
  page.write(
    out / 'page.html',
    title=title,
    opening=opening,
    exhibits_note=why,
    names=legend.names(study.coders, results),
    summary=[
      *_summary(study, first['meta']), *notices(results, study.failed_codecs),
    ],
    tables=[table for table in made if table is not None],
    charts=charts,
    curves=entries,
    exhibits=shown,
    details=_details(study, first['meta'], command, note),
  )


def notices(
  results: Results, failed_codecs: Mapping[str, str] | None = None
) -> list[str]:
  """What is not as a reader would expect, a sentence each.

  Args:
    results: label -> result.
    failed_codecs: label -> why, of codecs that could code no image.
  """
  meta = next(iter(results.values()))['meta']
  said = [
    f'{metrics.OF_IMAGES[name].label} is not given: of '
    f'{meta["num_images"]} pictures {len(small)} are too small for it, such as '
    f'{small[0]}.'
    for name, small in meta['too_small'].items()
  ]
  said += [
    f'{label} is left out: it could code none of the images ({why}).'
    for label, why in (failed_codecs or {}).items()
  ]
  for label, result in results.items():
    if failed := result['meta'].get('failed'):
      name, why = next(iter(failed.items()))
      said.append(
        f'{label} could not code {len(failed)} of '
        f'{len(failed) + result["meta"]["num_images"]} images, such as {name} '
        f'({why}): its means are of the others.'
      )
  if any('others' in result['meta'] for result in results.values()):
    said.append(
      'Not all was made on the same machine and by the same versions, so times '
      'do not compare; each result has the others in its meta.'
    )
  return said


# --- Words ------------------------------------------------------------------


def _summary(study, meta) -> list[str]:
  codecs = sum(not tables.is_matched(coder.label) for coder in study.coders)
  said = [
    f'{len(study.names)} images through {codecs} codecs. Every '
    'figure is of whole files as written and of decoded 8-bit images; '
    'decoders of gdc read the same files.'
  ]
  if 'features' in meta:
    said.append(
      f'{meta["features"]} compares {meta["num_patches"]:,} patches of 256 '
      'pixels of the originals with as many of the decoded pictures.' + (
        '' if meta['num_patches'] >= MANY_PATCHES else
        ' With so few of them a Fréchet distance is biased upwards: compare it '
        'only within this page. KID, of the same patches, is much less so; '
        'since originals and decoded pictures come in pairs it can be below 0.'
      )
    )
  return said


def _details(study, meta, command, note) -> dict[str, str]:
  encoders = [
    coder.description for coder in study.coders
    if coder.label in baselines.BASELINES
  ]
  machine = meta['machine']
  return {
    'Command': command,
    **_models(study),
    **({'Other encoders': '; '.join(encoders)} if encoders else {}),
    'Versions': ', '.join(f'{k} {v}' for k, v in meta['versions'].items()),
    'Machine': f'{machine["platform"]}, {machine["processor"]}, '
    f'{machine["cpus"]} CPU cores, {", ".join(machine["devices"])}; '
    f'{meta["processes"]} of our processes side by side',
    'Date': meta['date'],
    **({'Pictures': note} if note else {}),
  }


def _models(study) -> dict[str, str]:
  if study.codec is None:
    return {}
  digests = {'autoencoder': study.codec.digest, **study.codec.decoder_digests}
  return {'Model': f'{study.codec.name}: ' + ', '.join(
    f'{name} {digest[:8]}' for name, digest in digests.items()
  )}


# --- Pictures ---------------------------------------------------------------


def rates(study: study_lib.Study, results: Results) -> list[float]:
  """Qualities of gdc at which images are shown: those of most codecs.

  At most MOST_RATES of them, evenly spaced.
  """
  found = collections.Counter(
    quality for coder in _comparable(study, results)
    for quality in coder.qualities
  )
  most = sorted(q for q in found if found[q] == max(found.values()))
  count = min(len(most), MOST_RATES)
  chosen = np.linspace(0, len(most) - 1, count).round().astype(int)
  return [most[i] for i in chosen]


def _comparable(study, results):
  """Codecs whose qualities are those of gdc."""
  return [
    coder for coder in study.coders
    if coder.label not in baselines.BASELINES and coder.label in results
  ]


def exhibits(
  study: study_lib.Study, results: Results, count: int, crop: int
) -> list[page.Exhibit]:
  """Pictures through every codec, at the bytes of gdc where that was measured.

  Args:
    study: what was evaluated.
    results: its results.
    count: how many pictures, evenly spaced among all.
    crop: longest side of what is shown, around the strongest detail.
  """
  paths = study.plan.paths
  count = min(count, len(paths))
  comparable = _comparable(study, results)
  if not count or not comparable:
    return []
  shown_at = rates(study, results)
  part = 1 / (count * len(shown_at) * len(comparable))  # of the work
  made = []
  for index in np.linspace(0, len(paths) - 1, count).round().astype(int):
    image, _ = image_files.read_rgb(paths[index])
    left, top, right, bottom = box = showcase.busiest(image, crop)
    shown = np.s_[top:bottom, left:right]
    versions = [page.Version('original', image[shown])]
    for quality in shown_at:
      versions += _versions(
        study, results, comparable, study.names[index], image, shown, quality,
        part,
      )
    height, width, _ = image.shape
    made.append(
      page.Exhibit(study.names[index], height, width, box, versions)
    )
  return made


def _versions(
  study, results, comparable, name, image, shown, quality, part
):
  """What codecs make of one image at one quality of gdc."""
  rows = [
    (coder, row) for coder in comparable
    for row in results[coder.label]['images']
    if (row['name'], row['quality']) == (name, quality)
  ]
  writers = {coder.writer: coder for coder, _ in rows}
  files = {}
  for writer, coder in writers.items():
    progress.part(0.0, f'{name}, {writer}')
    files[writer] = coder.encode(image, quality)
  made = []
  for coder, row in rows:
    progress.part(part, f'{name}, {coder.label}')
    data = files[coder.writer]
    made.append(page.Version(
      coder.label.removesuffix('=gdc'), coder.decode(data)[shown], len(data),
      _size_note(len(data), files),
      {
        tables.heading(metric.title, metric.arrow): row[metric.name]
        for metric in map(metrics.OF_IMAGES.get, study.plan.metrics)
        if row[metric.name] is not None
      },
      f'gdc quality {quality:g}',
    ))
  return made


def _size_note(num_bytes, files) -> str:
  """Whether a file is larger than that of gdc."""
  if 'gdc' not in files or num_bytes <= len(files['gdc']):
    return ''
  return f'smallest file: {num_bytes / len(files["gdc"]):.2f} x the bytes'
