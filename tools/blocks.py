"""What the docs show of results/: tables, and panels of figures."""
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gdc import metrics
from gdc.evaluation import baselines, records, tables
from tools import points

LPIPS, PSNR = (metrics.OF_IMAGES[name].key for name in ('lpips', 'psnr'))
EVALUATIONS = ('cid22_val', 'clic25_val')
COLUMNS = {LPIPS: ('LPIPS', '.4f'), PSNR: ('PSNR, dB', '.2f')}


class Block(NamedTuple):
  """What one pair of markers encloses, and the panels of its figure.

  The panels are the arguments of figures.Panel and figures.Line, so that
  checking a page needs no matplotlib.
  """

  text: str
  panels: Sequence[Mapping[str, Any]]
  columns: int


# --- Sweeps -----------------------------------------------------------------


def _sweep_block(name: str, folder) -> Block | None:
  layout = points.SWEEPS[name]
  found = points.read(folder / 'sweeps' / name, layout)
  if not found:
    return None
  reference = found[0].reference['results']
  qualities = reference['quality']
  series = list(dict.fromkeys(p.series for p in found))
  header = [
    layout.label,
    *(
      f'{title}, quality {quality:g}'
      for title, _ in COLUMNS.values() for quality in qualities
    ),
  ]
  rows = [['autoencoder', *_cells(reference)]] + [
    [f'{p.value:g}', *_cells(p.curve['results'])] for p in found
  ]
  if len(series) > 1:
    header = ['curve', *header]
    rows = [['autoencoder', '', *rows[0][1:]]] + [
      [p.series, *row] for p, row in zip(found, rows[1:], strict=True)
    ]

  panels = []
  for key, (title, _) in COLUMNS.items():
    for i, quality in enumerate(qualities):
      lines = []
      for colour, label in enumerate(series):
        chosen = [p for p in found if p.series == label]
        lines.append({
          'label': label, 'colour': colour, 'x': [p.value for p in chosen],
          'y': [p.curve['results'][key][i] for p in chosen],
        })
      lines.append({
        'label': 'autoencoder', 'x': (), 'y': (reference[key][i],),
        'colour': 7, 'kind': 'level',
      })
      panels.append({
        'x_label': layout.label, 'y_label': title, 'log_x': layout.log_x,
        'lines': lines, 'title': f'quality {quality:g}',
      })
  text = f'{_table(header, rows)}\n\n{points.conditions(found, layout)}'
  return Block(text, panels, len(qualities))


def _plane_block(folder) -> Block | None:
  """The distortion-perception plane of the sweep of steps."""
  found = points.read(folder / 'sweeps' / 'steps', points.SWEEPS['steps'])
  if not found:
    return None
  reference = found[0].reference['results']
  panels = []
  for i, quality in enumerate(reference['quality']):
    lines = []
    for colour, label in enumerate(dict.fromkeys(p.series for p in found)):
      chosen = [p for p in found if p.series == label]
      lines.append({
        'label': label, 'colour': colour,
        'x': [p.curve['results'][PSNR][i] for p in chosen],
        'y': [p.curve['results'][LPIPS][i] for p in chosen],
        'notes': [f'{p.value:g}' for p in chosen],
      })
    lines.append({
      'label': 'autoencoder', 'x': [reference[PSNR][i]],
      'y': [reference[LPIPS][i]], 'colour': 7, 'kind': 'mark',
    })
    panels.append({
      'x_label': 'PSNR, dB', 'y_label': 'LPIPS', 'lines': lines,
      'title': f'quality {quality:g}',
    })
  text = (
    'The points of the table above; the number beside each is that of its '
    'evaluations. Better is to the right and below.'
  )
  return Block(text, panels, len(panels))


# --- Evaluations ------------------------------------------------------------


def _evaluation_block(name, folder) -> Block | None:
  """An evaluation of `gdc eval`: equal bytes, BD-rates, its plots."""
  index = records.index(folder / name)
  results = records.read(folder / name)
  if not results:
    return None
  swept = {k: v for k, v in results.items() if not tables.is_matched(k)}
  result = next(iter(results.values()))
  meta, anchor = result['meta'], index['anchor']
  shown = [
    tables.equal_bytes(results),
    tables.bjontegaard(tables.differences(swept, anchor), anchor, result),
  ]
  parts = [
    f'![{plot.removesuffix(".svg")}](../results/{name}/{plot})'
    for plot in index['plots']
  ]
  for table in filter(None, shown):
    parts += [f'{table.title}. {table.note}', _table(table.header, table.rows)]
  patches = (
    f', {meta["num_patches"]} patches of 256 pixels for {meta["features"]} and '
    'KID' if 'features' in meta else ''
  )
  if meta.get('kid_of_equal_sets') is not None:
    patches += f' ({1000 * meta["kid_of_equal_sets"]:.2f} for equal pictures)'
  model = (
    f' Model `{meta["model"]}` (`{meta["digest"][:8]}`).' if meta['digest']
    else ''
  )
  parts.append(
    f'Ours, made by `{index["command"]}`: {meta["num_images"]} '
    f'pictures{patches}.{model} Evaluated on {points.machine(meta)}, '
    f'{meta["date"][:10]}. Every row and every mean: '
    f'[results/{name}](../results/{name}).'
  )
  if index['references']:
    parts.append(
      'Thin lines in the plots are others\' figures, not measured here: '
      f'{", ".join(index["references"])}.'
    )
  return Block('\n\n'.join(parts), [], 1)


def _brief_block(folder) -> Block | None:
  """Codecs at the same bytes, in a table with a part for each quality."""
  results = records.read(folder)
  own = [label for label in results if label.startswith('gdc:')]
  others = [label for label in results if tables.is_matched(label)]
  if not own or not others:
    return None
  shown = tables.columns(results[own[0]])
  qualities = results[others[0]]['results']['quality']
  header = ['', 'bpp', *(column.title for column in shown.values())]
  rows = []
  for label in (*own, *others):
    name = _name(label.removesuffix('=gdc'), results[label]['meta'])
    curve = results[label]['results']
    row = []
    for quality in qualities:
      i = curve['quality'].index(quality)
      row += [
        f'**gdc, quality {quality:g}**: {name}' if label == own[0]
        else name + tables.larger(results, label, quality),
        f'{curve["bpp"][i]:.3f}', *tables.cells(results[label], i, shown),
      ]
    rows.append(row)
  return Block(_table(header * len(qualities), rows), [], 1)


def _name(label, meta) -> str:
  """What the README calls a codec."""
  if meta.get('noise'):
    return f'{meta["decoder"]} and white noise'
  if meta.get('decoder') == 'one_step':
    return 'one_step'
  if meta.get('steps'):
    steps = 'step' if meta['steps'] == 1 else 'steps'
    return f'{meta["decoder"]}, {meta["steps"]} {steps}'
  return meta.get('decoder') or baselines.BASELINES[label].title


def _levels_block(folder) -> Block | None:
  """Every decoder of gdc at every quality, with a column for each measure."""
  results = {
    label.removeprefix('gdc:'): result
    for label, result in records.read(folder).items()
    if label.startswith('gdc:')
  }
  if not results:
    return None
  first = next(iter(results.values()))
  shown = tables.columns(first)
  header = ['quality', 'bpp', *(
    f'{column.title} {name}' if i == 0 else name
    for column in shown.values() for i, name in enumerate(results)
  )]
  rows = []
  for i, quality in enumerate(first['results']['quality']):
    cells = [tables.cells(result, i, shown) for result in results.values()]
    rows.append([
      f'{quality:g}', f'{first["results"]["bpp"][i]:.3f}',
      *(cell for measure in zip(*cells, strict=True) for cell in measure),
    ])
  return Block(_table(header, rows), [], 1)


# --- Experiments ------------------------------------------------------------


def _guidance_block(folder) -> Block | None:
  """The experiment of benchmarks/guidance.py."""
  path = folder / 'guidance.json'
  if not path.exists():
    return None
  measured = json.loads(path.read_text())['rows']
  series = list(dict.fromkeys((r['method'], r['where']) for r in measured))
  order = sorted(measured, key=lambda row: (
    row['quality'], series.index((row['method'], row['where'])), -row['width'],
    row['steps'], row['strength'],
  ))
  header = [
    'quality', 'method', 'on', 'strength', 'cells', 'steps',
    *(t for t, _ in COLUMNS.values()), 're-encoded alike',
  ]
  rows = [
    [
      f'{row["quality"]:g}', row['method'], row['where'],
      f'{row["strength"]:g}', f'{row["width"]:g}', str(row['steps']),
      _cell(row['lpips'], COLUMNS[LPIPS][1]),
      _cell(row['psnr'], COLUMNS[PSNR][1]), f'{row["reencoded_nonzero"]:.1%}',
    ]
    for row in order
  ]
  panels = []
  for quality in dict.fromkeys(row['quality'] for row in order):
    lines = []
    for colour, (method, where) in enumerate(series):
      chosen = [
        row for row in order
        if (row['quality'], row['method'], row['where'])
        == (quality, method, where)
      ]
      straight = method == 'mix'
      lines.append({
        'label': f'{method}, {where}', 'colour': colour,
        'x': [row['psnr'] for row in chosen],
        'y': [row['lpips'] for row in chosen],
        'kind': 'curve' if straight else 'mark',
        'notes': [
          f'{row["strength"] if straight else row["width"]:g}'
          for row in chosen
        ],
      })
    panels.append({
      'x_label': 'PSNR, dB', 'y_label': 'LPIPS', 'lines': lines,
      'title': f'quality {quality:g}',
    })
  return Block(
    f'{_table(header, rows)}\n\nOn: the last picture, or the prediction of '
    'every step of the sampler. Cells: how wide around the integers latents '
    'may be, 1 being all that rounds to one. Steps: how often they are moved '
    'there. Strength: how much of the way; of mix, what `--realism` is. '
    'Numbers in the figure are the width of the cells, of mix its strength. '
    'Re-encoded alike: the share of the latents other than 0 that come out the '
    'same.',
    panels, min(2, len(panels)),
  )


def _noise_block(folder) -> Block | None:
  """The baseline of benchmarks/plain_noise.py."""
  path = folder / 'plain_noise.json'
  if not path.exists():
    return None
  measured = json.loads(path.read_text())
  header = ['quality', 'decoder', 'PSNR, dB', 'LPIPS', 'LPIPS, VGG16']
  return Block(_table(header, [
    [
      f'{row["quality"]:g}', row['decoder'], f'{row["psnr"]:.2f}',
      f'{row["lpips"]:.4f}', f'{row["lpips_vgg"]:.4f}',
    ] for row in measured['rows']
  ]), [], 1)


# --- All of them ------------------------------------------------------------


def _table(header, rows) -> str:
  """Markdown."""
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value, style) -> str:
  return '-' if value is None else f'{value:{style}}'


def _cells(results) -> list[str]:
  """Every measure at every quality."""
  return [
    _cell(value, style)
    for key, (_, style) in COLUMNS.items() for value in results[key]
  ]


def build(folder) -> dict[str, Block | None]:
  """Everything that is generated, by name; None where nothing is measured.

  Args:
    folder: results/.

  Raises:
    ValueError: results that can not be read, or do not compare.
  """
  folder = pathlib.Path(folder)
  return {
    **{name: _evaluation_block(name, folder) for name in EVALUATIONS},
    'brief': _brief_block(folder / EVALUATIONS[0]),
    'levels': _levels_block(folder / EVALUATIONS[0]),
    **{name: _sweep_block(name, folder) for name in points.SWEEPS},
    'plane': _plane_block(folder),
    'plain_noise': _noise_block(folder),
    'guidance': _guidance_block(folder),
  }
