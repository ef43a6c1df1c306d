"""The files of an evaluation.

  CODEC.json     one result each, in CompressAI's format (see records)
  rows.csv       every image, codec and quality
  bd.json        Bjontegaard differences against one codec, by every method
  index.json     which results these are, and how they were made
  curves.svg, plane.svg   see curves
  page.html      all of it in one page, with images (see page)
"""
import pathlib
from collections.abc import Mapping, Sequence

from gdc import metrics
from gdc.evaluation import (
  baselines,
  bjontegaard,
  curves,
  exhibits,
  glossary,
  page,
  published,
  records,
  tables,
)
from gdc.evaluation import study as study_lib
from gdc.metrics import rate

# A Fréchet distance of fewer patches is mostly bias.
MANY_PATCHES = 10_000


def write(
  study: study_lib.Study,
  results: tables.Results,
  *,
  command: str,
  title: str,
  note: str = '',
  anchor: str | None = None,
  references: Sequence[published.Curve] = (),
  num_images: int = 4,
  crop: int = 384,
) -> None:
  """Writes all files into the plan's folder.

  Args:
    study: what was evaluated.
    results: see study.Study.results.
    command: the command line, for the record.
    title: page title.
    note: note on the page, such as the licence of the images.
    anchor: the codec that Bjontegaard differences are relative to; None: see
      bjontegaard.anchor_of.
    references: published curves to draw beside ours.
    num_images: number of images on the page.
    crop: longest side of what is shown of an image, in pixels.

  Raises:
    ValueError: the anchor is not among the codecs.
  """
  out = pathlib.Path(study.plan.out)
  swept = tables.swept(results) or results
  anchor = anchor or bjontegaard.anchor_of(list(swept))
  differences = bjontegaard.differences(swept, anchor)
  # What takes long, or may fail, comes before the first file is replaced.
  shown = exhibits.make(study, results, num_images, crop)
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
    {'anchor': anchor, 'methods': list(rate.METHODS), 'codecs': differences},
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
  made = (
    bjontegaard.table(differences, anchor, first),
    tables.equal_bytes(results),
    tables.means(swept),
  )
  opening, why = ('', ''), ''
  if shown:
    quality = exhibits.rates(study, results)[0]
    opening, why = exhibits.opening(study.coders, results, quality)
  page.write(
    out / 'page.html',
    title=title,
    opening=opening,
    exhibits_note=why,
    names=glossary.names(study.coders, results),
    summary=[
      *_summary(study, first['meta']), *notices(results, study.failed_codecs),
    ],
    tables=list(filter(None, made)),
    charts=charts,
    curves=entries,
    exhibits=shown,
    details=_details(study, first['meta'], command, note),
  )


def notices(
  results: tables.Results, failed_codecs: Mapping[str, str] | None = None
) -> list[str]:
  """Sentences about what is missing or cannot be compared.

  Args:
    results: label -> result.
    failed_codecs: label -> reason, of codecs that could not code any image.
  """
  meta = next(iter(results.values()))['meta']
  said = [
    f'{metrics.OF_IMAGES[name].label} is left out: {len(small)} of '
    f'{meta["num_images"]} images are too small for it, such as {small[0]}.'
    for name, small in meta['too_small'].items()
  ]
  said += [
    f'{label} is left out: it could not code any of the images ({why}).'
    for label, why in (failed_codecs or {}).items()
  ]
  for label, result in results.items():
    if failed := result['meta'].get('failed'):
      name, why = next(iter(failed.items()))
      said.append(
        f'{label} could not code {len(failed)} of '
        f'{len(failed) + result["meta"]["num_images"]} images, such as {name} '
        f'({why}). Its means are over the others.'
      )
  if any('others' in result['meta'] for result in results.values()):
    said.append(
      'Several machines or versions were used, so times cannot be compared; '
      'the meta of each result lists them.'
    )
  return said


def _summary(study, meta) -> list[str]:
  codecs = sum(not tables.is_matched(coder.label) for coder in study.coders)
  said = [
    f'{len(study.names)} images, {codecs} codecs. All figures are of whole '
    'files and of decoded 8-bit images. All decoders of gdc read the same '
    'files.'
  ]
  if 'features' in meta:
    said.append(
      f'{meta["features"]} compares {meta["num_patches"]:,} patches of 256 '
      'pixels of the originals with as many of the decoded images.'
    )
    if meta['num_patches'] < MANY_PATCHES:
      said[-1] += (
        ' With so few patches, a Fr\u00e9chet distance is biased upwards: '
        'compare it only within this page. KID is biased much less. It can '
        'fall below 0, because originals and decoded images come in pairs.'
      )
  return said


def _details(study, meta, command, note) -> dict[str, str]:
  machine, model = meta['machine'], ''
  if study.codec is not None:
    digests = {'autoencoder': study.codec.digest, **study.codec.decoder_digests}
    model = f'{study.codec.name}: ' + ', '.join(
      f'{name} {digest[:8]}' for name, digest in digests.items()
    )
  details = {
    'Command': command,
    'Model': model,
    'Other encoders': '; '.join(
      coder.description for coder in study.coders
      if coder.label in baselines.BASELINES
    ),
    'Versions': ', '.join(f'{k} {v}' for k, v in meta['versions'].items()),
    'Machine': f'{machine["platform"]}, {machine["processor"]}, '
    f'{machine["cpus"]} CPU cores, {", ".join(machine["devices"])}; '
    f'{meta["processes"]} processes at work',
    'Date': meta['date'],
    'Images': note,
  }
  return {name: text for name, text in details.items() if text}
