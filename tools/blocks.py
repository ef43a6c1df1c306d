"""The tables and figures of the docs, made from the files in results/."""
import hashlib
import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gdc import metrics
from gdc.codec import bundle
from gdc.evaluation import figures, records, tables
from tools import comparisons, points

EVALUATIONS = {'cid22_val': 'CID22', 'clic25_val': 'CLIC25'}  # and titles
DISTANCES = 'clic25_distances'  # all measures, at equal bytes only
LPIPS, PSNR = metrics.OF_IMAGES['lpips'], metrics.OF_IMAGES['psnr']
SHOWN = LPIPS, PSNR  # for the sweeps
GREY = 7  # colour of the autoencoder
_GUIDANCE = (
  'On: the last image, or the prediction at every step of the sampler. Cells: '
  'allowed width around the integers for latents; 1 is everything that rounds '
  'to the integer. Steps: how often latents are moved there. Strength: how far '
  'they are moved; for mix, `--realism`. Numbers in the figure are the width '
  'of the cells, or the strength of mix. Re-encoded alike: share of the '
  'nonzero latents that come out the same.'
)


class Block(NamedTuple):
  """What stands between a pair of markers.

  Attributes:
    text: in Markdown; None keeps what the page has.
    panels: of the figure above the text.
    columns: panels in a row.
    wrong: what is stale in the files that the text was made from.
  """

  text: str | None
  panels: Sequence[figures.Panel] = ()
  columns: int = 1
  wrong: Sequence[str] = ()


def build(folder) -> dict[str, Block | None]:
  """Returns all blocks by name; None where nothing is measured.

  Args:
    folder: results/.

  Raises:
    ValueError: results that cannot be read or compared.
  """
  folder = pathlib.Path(folder)
  found = {name: records.read(folder / name) for name in EVALUATIONS}
  sweeps = {
    name: points.read(folder / 'sweeps' / name, layout)
    for name, layout in points.SWEEPS.items()
  }
  return {
    **{name: _evaluation(found[name], folder / name) for name in EVALUATIONS},
    DISTANCES: _distances(folder / DISTANCES),
    'example': _example(
      folder / 'example.json', folder.parent / 'docs' / 'example.jpg'
    ),
    'same_quality': _same_quality(found),
    'levels': _levels(found['cid22_val']),
    **{
      name: _sweep(sweeps[name], layout)
      for name, layout in points.SWEEPS.items()
    },
    'plane': _plane(sweeps['steps']),
    'plain_noise': _plain_noise(folder / 'plain_noise.json'),
    'guidance': _guidance(folder / 'guidance.json'),
  }


def _table(header, rows) -> str:
  """A table in Markdown."""
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _titled(table: tables.Table) -> list[str]:
  """Paragraphs: title and note, and the table."""
  return [f'**{table.title}.** {table.note}', _table(table.header, table.rows)]


# --- Sweeps -----------------------------------------------------------------


def _sweep(found, layout) -> Block | None:
  """A table and a figure of a sweep."""
  if not found:
    return None
  reference = found[0].reference['results']
  qualities = reference['quality']
  several = len(_series(found)) > 1

  def row(series, value, results):
    return [series] * several + [value] + [
      tables.cell(metric, x) for metric in SHOWN for x in results[metric.key]
    ]

  header = ['curve'] * several + [layout.label] + [
    f'{metric.title}, quality {quality:g}'
    for metric in SHOWN for quality in qualities
  ]
  rows = [
    row('autoencoder', '', reference) if several
    else row('', 'autoencoder', reference)
  ] + [row(p.series, f'{p.value:g}', p.curve['results']) for p in found]
  panels = [
    figures.Panel(
      layout.label, metric.title,
      [
        figures.Line(
          label, [p.value for p in chosen],
          [p.curve['results'][metric.key][i] for p in chosen], colour,
        ) for colour, (label, chosen) in enumerate(_series(found).items())
      ] + [figures.Line(
        'autoencoder', (), (reference[metric.key][i],), GREY, 'level'
      )],
      f'quality {quality:g}', layout.log_x,
    )
    for metric in SHOWN for i, quality in enumerate(qualities)
  ]
  text = f'{_table(header, rows)}\n\n{points.conditions(found, layout)}'
  return Block(text, panels, len(qualities))


def _plane(found) -> Block | None:
  """The distortion-perception plane of the sweep of steps."""
  if not found:
    return None
  reference = found[0].reference['results']

  def line(label, curves, i, *more):
    x, y = ([c[metric.key][i] for c in curves] for metric in (PSNR, LPIPS))
    return figures.Line(label, x, y, *more)

  panels = [
    figures.Panel(
      PSNR.title, LPIPS.title,
      [
        line(
          label, [p.curve['results'] for p in chosen], i, colour, 'curve',
          [f'{p.value:g}' for p in chosen],
        ) for colour, (label, chosen) in enumerate(_series(found).items())
      ] + [line('autoencoder', [reference], i, GREY, 'mark')],
      f'quality {quality:g}',
    )
    for i, quality in enumerate(reference['quality'])
  ]
  return Block(
    'The points of the table above, each with its number of function '
    'evaluations. Better is to the right and below.',
    panels, len(panels),
  )


def _series(found) -> dict[str, list[points.Point]]:
  """The points of each curve."""
  return {
    label: [p for p in found if p.series == label]
    for label in dict.fromkeys(p.series for p in found)
  }


# --- Evaluations ------------------------------------------------------------


def _evaluation(results: Mapping, folder) -> Block | None:
  """An evaluation by `gdc eval`: its plots, and gdc beside other codecs."""
  if not results:
    return None
  index = records.index(folder)
  result = next(iter(results.values()))
  parts = [
    f'![{plot.removesuffix(".svg")}](../results/{folder.name}/{plot})'
    for plot in index['plots']
  ]
  if table := comparisons.decoders(results):
    parts += _titled(table)
  same, missing = comparisons.same_quality(results)
  if same:
    parts += [*_titled(same), missing]
  elif missing:
    parts.append(f'**Bytes for the same quality: not measured.** {missing}')
  if table := comparisons.equal_bytes(results):
    parts += _titled(table)
  if table := tables.equal_bytes(results):
    parts += [
      f'<details><summary>{table.title}: all codecs and decoders</summary>',
      table.note, _table(table.header, table.rows), '</details>',
    ]
  parts.append(_made(result, folder, index))
  if index['references']:
    parts.append(
      'Thin lines in the plots are published by others, not measured here: '
      f'{", ".join(index["references"])}.'
    )
  return Block('\n\n'.join(filter(None, parts)))


def _distances(folder) -> Block | None:
  """An evaluation at a few qualities: all codecs at equal bytes."""
  results = records.read(folder)
  if not results:
    return None
  table = tables.equal_bytes(results)
  return Block('\n\n'.join([
    table.note, _table(table.header, table.rows),
    _made(next(iter(results.values())), folder, records.index(folder)),
  ]))


def _made(result, folder, index) -> str:
  """Says how an evaluation was made."""
  meta = result['meta']
  said = f'{meta["num_images"]} images'
  if 'features' in meta:
    said += (
      f', {meta["num_patches"]} patches of 256 pixels for {meta["features"]} '
      'and KID'
    )
  if meta.get('kid_of_equal_sets') is not None:
    said += f' ({1000 * meta["kid_of_equal_sets"]:.2f} for equal images)'
  if meta['digest']:
    said += f'. Model `{meta["model"]}` (`{meta["digest"][:8]}`)'
  return (
    f'Ours, made by `{index["command"]}`: {said}. Evaluated on '
    f'{points.machine(meta)}, {meta["date"][:10]}. All rows and means: '
    f'[results/{folder.name}](../results/{folder.name}).'
  )


def _same_quality(evaluations: Mapping[str, Mapping]) -> Block | None:
  """The README's table of bytes for the same quality."""
  table, missing = comparisons.same_quality_in_short({
    EVALUATIONS[name]: results
    for name, results in evaluations.items() if results
  })
  parts = [_table(table.header, table.rows)] if table else []
  if table and any(tables.NOTHING in row for row in table.rows):
    missing = f'A dash: [why](docs/results.md). {missing}'.strip()
  if missing:
    parts.append(missing)
  return Block('\n\n'.join(parts)) if parts else None


def _example(path: pathlib.Path, image: pathlib.Path) -> Block:
  """The README's image and its caption, see tools.example."""
  if not path.exists():
    return Block(None)
  record = json.loads(path.read_text())
  own, *others = record['files']
  sizes = ', '.join(
    f'{file["bytes"]:,} with {file["name"]}'
    + ' (its smallest file)' * (file['bytes'] > own['bytes'])
    for file in others
  )

  def values(metric):
    cells = (tables.cell(metric, f[metric.key]) for f in record['files'])
    return f'{metric.label} {", ".join(cells)} {metric.unit}'.rstrip()

  said = (
    'The first by name of the bundled photographs that no training saw, so not '
    f'chosen for its outcome, at quality {record["quality"]:g}: '
    f'{own["bytes"]:,} bytes with {own["name"]}, {sizes}, in each case the '
    'best file that is no larger. In the same order: '
    f'{"; ".join(map(values, tables.shown({"results": own})))}. LPIPS and '
    'DISTS are perceptual distances: lower is better.'
  )
  if record['decoder'] == 'one_step':
    said += ' DISTS uses VGG16, on whose LPIPS this decoder was trained.'
  wrong = []
  if not image.exists() or record['image_sha256'] != hashlib.sha256(
    image.read_bytes()
  ).hexdigest():
    wrong.append(f'{image}: not the image that {path} describes')
  now = json.loads(
    (bundle.PRETRAINED / record['model'] / 'bundle.json').read_text()
  )
  if (record['digest'], record['decoder_digest']) != (
    now['digest'], now['decoder_digests'].get(record['decoder'])
  ):
    wrong.append(f'{path}: made with other weights than the bundled ones')
  names = ', '.join(file['name'] for file in others)
  title = f'![original, {names}, gdc](docs/{image.name})'
  return Block(f'{title}\n\n{textwrap.fill(said, 100)}', wrong=wrong)


def _levels(results: Mapping) -> Block | None:
  """Every decoder of gdc at every quality, with a column for each metric."""
  results = {
    label.removeprefix('gdc:'): result
    for label, result in results.items() if label.startswith('gdc:')
  }
  if not results:
    return None
  first = next(iter(results.values()))
  header = ['quality', 'bpp', *(
    f'{metric.title} {name}' if i == 0 else name
    for metric in tables.shown(first) for i, name in enumerate(results)
  )]
  rows = []
  for i, quality in enumerate(first['results']['quality']):
    (bpp, *_), *columns = zip(
      *(tables.cells(result, i) for result in results.values()), strict=True
    )
    rows.append([f'{quality:g}', bpp, *(c for cells in columns for c in cells)])
  return Block(_table(header, rows))


# --- Benchmarks -------------------------------------------------------------


def _guidance(path) -> Block | None:
  """The results of benchmarks/guidance.py."""
  if not path.exists():
    return None
  measured = json.loads(path.read_text())['rows']
  series = list(dict.fromkeys((r['method'], r['where']) for r in measured))
  measured.sort(key=lambda row: (
    row['quality'], series.index((row['method'], row['where'])), -row['width'],
    row['steps'], row['strength'],
  ))
  header = [
    'quality', 'method', 'on', 'strength', 'cells', 'steps', LPIPS.title,
    PSNR.title, 're-encoded alike',
  ]
  rows = [
    [
      f'{row["quality"]:g}', row['method'], row['where'],
      f'{row["strength"]:g}', f'{row["width"]:g}', str(row['steps']),
      tables.cell(LPIPS, row['lpips']), tables.cell(PSNR, row['psnr']),
      f'{row["reencoded_nonzero"]:.1%}',
    ]
    for row in measured
  ]
  panels = []
  for quality in dict.fromkeys(row['quality'] for row in measured):
    lines = []
    for colour, (method, where) in enumerate(series):
      chosen = [
        row for row in measured
        if (row['quality'], row['method'], row['where'])
        == (quality, method, where)
      ]
      kind, note = (
        ('curve', 'strength') if method == 'mix' else ('mark', 'width')
      )
      lines.append(figures.Line(
        f'{method}, {where}', [row['psnr'] for row in chosen],
        [row['lpips'] for row in chosen], colour, kind,
        [f'{row[note]:g}' for row in chosen],
      ))
    panels.append(figures.Panel(
      PSNR.title, LPIPS.title, lines, f'quality {quality:g}'
    ))
  return Block(
    f'{_table(header, rows)}\n\n{_GUIDANCE}', panels, min(2, len(panels))
  )


def _plain_noise(path) -> Block | None:
  """The results of benchmarks/plain_noise.py."""
  if not path.exists():
    return None
  vgg = metrics.OF_IMAGES['lpips-vgg']
  rows = [
    [
      f'{row["quality"]:g}', row['decoder'], tables.cell(PSNR, row['psnr']),
      tables.cell(LPIPS, row['lpips']), tables.cell(vgg, row['lpips_vgg']),
    ] for row in json.loads(path.read_text())['rows']
  ]
  header = ['quality', 'decoder', PSNR.title, LPIPS.title, vgg.title]
  return Block(_table(header, rows))
