"""The pages that show results, from small made-up results files."""
import copy
import hashlib
import json
import pathlib
import re
import shutil

import pytest

from gdc.codec import bundle
from tools import blocks, example, points, results

ROOT = pathlib.Path(__file__).parents[2]
META = {
  'model': 'lean', 'digest': 'a' * 64, 'num_images': 2,
  'machine': {'platform': 'Linux x86_64', 'cpus': 2, 'devices': ['cpu']},
  'versions': {'jax': '0.10.2'},
}
QUALITY = [1.0, 3.0]
ALL = [
  *blocks.EVALUATIONS, blocks.DISTANCES, 'example', 'same_quality', 'levels',
  *points.SWEEPS, 'plane', 'plain_noise', 'guidance',
]
PAGE = '# By hand\n\n' + '\n'.join(
  f'About {name}.\n\n<!-- begin {name} -->\nold\n<!-- end {name} -->\n\nAfter.'
  for name in ALL
)


def _config(stage='diffusion', **fields):
  """A config as results carry it; fields with a dot go into a section."""
  config = {
    'stage': stage, 'steps': 1000, 'seed': 0, 'log_every': 20,
    'flow': {'source_noise': 0.5}, 'diffusion': {'noise_shift': 0.5},
    'score_net': {'widths': [48, 96]},
    'sampling': {
      'sampler': 'ddpm', 'steps': 32, 'gamma': 0.0, 'grid': 'time',
    },
    'data': {'source': 'bundled:train', 'batch_size': 8, 'crop': 96},
    'evaluation': {'source': 'bundled:heldout'},
  }
  for name, value in fields.items():
    section, _, field = name.rpartition('.')
    (config[section] if section else config)[field] = value
  return config


def _curve(psnr, lpips, **meta):
  return {
    'meta': {**META, **meta},
    'results': {
      'quality': QUALITY, 'bpp': [0.2, 0.5], 'psnr-rgb': psnr,
      'lpips-alex': lpips,
    },
    'images': [{'name': n} for n in ('a', 'b', 'a', 'b')],
  }


def _write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))


def _point(folder, name, config, psnr=(27.0, 30.0), lpips=(0.2, 0.1), **meta):
  sweep, _, _ = name.partition('/')
  _write(folder / 'sweeps' / f'{name}.json', {
    'mse': _curve([28.0, 31.0], [0.25, 0.15]),
    config['stage']: _curve(list(psnr), list(lpips), config=config, **meta),
  })
  return sweep


@pytest.fixture
def folder(tmp_path):
  """Results of every kind."""
  made = tmp_path / 'results'
  for i, shift in enumerate((4.0, 0.25, 1.0)):
    # File names say nothing: the config does.
    _point(
      made, f'noise_shift/{i}', _config(**{'diffusion.noise_shift': shift}),
      lpips=(0.1 * shift, 0.05 * shift),
    )
  for sampler, steps in (('euler', 4), ('euler', 1), ('heun', 2)):
    _point(made, f'steps/{sampler}-{steps}', _config(
      'flow', **{'sampling.sampler': sampler, 'sampling.steps': steps}
    ), psnr=(None, 30.125 + steps))
  _point(made, 'steps/other', _config(**{
    'sampling.sampler': 'ddim', 'sampling.steps': 8, 'steps': 2000,
    'init_from': 'pretrained:lean',
  }))
  # Half the bits of JPEG at equal PSNR; flow's curve turns back.
  for codec, digest, bpp, psnr in (
    ('gdc:flow', 'a' * 64, [0.2, 0.4, 0.8, 1.6], [27.0, 30.0, 29.0, 36.0]),
    ('gdc:mse', 'a' * 64, [0.2, 0.4, 0.8, 1.6], [28.0, 31.0, 34.0, 37.0]),
    ('jpeg', None, [0.4, 0.8, 1.6, 3.2], [28.0, 31.0, 34.0, 37.0]),
    ('jpeg=gdc', None, [0.19, 0.79], [21.0, 23.0]),
  ):
    count = len(bpp)
    curve = _curve(psnr, [0.3, 0.2, 0.1, 0.05][:count], codec=codec,
                   command='gdc eval photos', date='2026-01-02T03:04:05+00:00')
    curve['meta']['digest'] = digest
    if digest:
      curve['meta'] |= {
        'decoder': codec.removeprefix('gdc:'),
        'steps': 4 if codec == 'gdc:flow' else None,
      }
    qualities = [1.0, 2.0, 3.0, 4.0] if count == 4 else QUALITY
    curve['results'] |= {
      'quality': qualities, 'bpp': bpp, 'encoding_time': [1] * count,
      'decoding_time': [1] * count,
    }
    curve['images'] = [
      {'name': name, 'quality': quality, 'bytes': int(1000 * quality),
       'lpips': 0.1}
      for quality in qualities for name in 'ab'
    ]
    _write(made / 'cid22_val' / f'{codec}.json', curve)
  _write(made / 'cid22_val' / 'index.json', {
    'files': [f'{c}.json' for c in ('gdc:mse', 'gdc:flow', 'jpeg', 'jpeg=gdc')],
    'command': 'gdc eval photos', 'plots': ['plane.svg'], 'anchor': 'jpeg',
    'references': ['vtm (published, kodak)'],
  })
  _write(made / 'cid22_val' / 'stale.json', {'meta': {'codec': 'webp'}})
  _write(made / 'guidance.json', {'rows': [
    {'method': method, 'where': 'picture', 'strength': strength, 'width': width,
     'steps': 1, 'quality': 1.0, 'psnr': 27.5, 'lpips': 0.2, 'reencoded': 1.0,
     'reencoded_nonzero': 0.915}
    for method, strength, width in (
      ('mix', 1.0, 1.0), ('mix', 0.0, 1.0), ('gradient', 1.0, 0.5),
      ('gradient', 1.0, 1.0),
    )
  ]})
  return made


def _table(block):
  """Cells of the table, by row."""
  return [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in block.text.splitlines() if line.startswith('|')
  ]


# --- Blocks -----------------------------------------------------------------


def test_a_sweep_is_laid_out_by_its_configs(folder):
  block = blocks.build(folder)['noise_shift']
  header, _, reference, *rows = _table(block)
  assert header == [
    'noise_shift', 'LPIPS, quality 1', 'LPIPS, quality 3',
    'PSNR, dB, quality 1', 'PSNR, dB, quality 3',
  ]
  assert reference == ['autoencoder', '0.2500', '0.1500', '28.00', '31.00']
  assert [row[0] for row in rows] == ['0.25', '1', '4']
  assert rows[2] == ['4', '0.4000', '0.2000', '27.00', '30.00']
  assert [(p.y_label, p.title) for p in block.panels] == [
    (measure, quality) for measure in ('LPIPS', 'PSNR, dB')
    for quality in ('quality 1', 'quality 3')
  ]
  line, reference = block.panels[1].lines
  assert (line.x, line.y) == ([0.25, 1.0, 4.0], [0.0125, 0.05, 0.2])
  assert (reference.kind, reference.y) == ('level', (0.15,))
  for words in (
    'the 2 images of `bundled:heldout`, crops of 2 photographs, at 0.200 and '
    '0.500 bits per pixel',
    '(48, 96 channels) was trained for 1,000 steps of 8 crops of 96 pixels',
    '`bundled:train`, seed 0; ddpm, 32 steps', 'Linux x86_64, 2 CPU cores',
  ):
    assert words in block.text


def test_steps_are_counted_as_evaluations(folder):
  made = blocks.build(folder)
  rows = _table(made['steps'])[3:]
  assert [row[:2] for row in rows] == [
    ['diffusion, ddim', '8'], ['flow, euler', '1'], ['flow, euler', '4'],
    ['flow, heun', '4'],
  ]
  assert rows[1][4:] == ['–', '31.12']  # an infinite PSNR is null in JSON
  assert len(made['steps'].panels) == 4  # two metrics, two qualities
  plane = made['plane'].panels[1].lines
  euler = next(line for line in plane if line.label == 'flow, euler')
  assert (euler.x, euler.notes) == ([31.125, 34.125], ['1', '4'])
  # Each process is said to be trained as it was.
  assert 'trained from `pretrained:lean` for 2,000' in made['steps'].text
  assert '1,000 steps' in made['steps'].text


def test_distances_are_shown_at_equal_bytes_alone(folder):
  assert blocks.build(folder)[blocks.DISTANCES] is None
  shutil.copytree(folder / 'cid22_val', folder / blocks.DISTANCES)
  made = blocks.build(folder)
  whole, block = made['cid22_val'], made[blocks.DISTANCES]
  start = whole.text.index('<details><summary>At equal bytes')
  assert _table(block) == _table(blocks.Block(whole.text[start:]))
  assert 'made by `gdc eval photos`' in block.text
  assert f'(../results/{blocks.DISTANCES})' in block.text


def test_an_evaluation_shows_all_at_equal_bytes(folder):
  made = blocks.build(folder)
  assert made['clic25_val'] is None
  block = made['cid22_val']
  folded = block.text.index('<details><summary>At equal bytes')
  header, _, *rows = _table(blocks.Block(block.text[folded:]))
  assert header == [
    'quality of gdc', 'codec', 'bytes', 'bpp', 'PSNR ↑, dB', 'LPIPS ↓',
  ]
  assert rows[:3] == [
    ['1', 'gdc:mse', '1,000', '0.200', '28.00', '0.3000'],
    ['1', 'gdc:flow', '1,000', '0.200', '27.00', '0.3000'],
    ['1', 'jpeg', '1,000', '0.190', '21.00', '0.3000'],
  ]
  for words in (
    '![plane](../results/cid22_val/plane.svg)', 'Ours', '`gdc eval photos`',
    '2 images', '`lean` (`aaaaaaaa`)', '2026-01-02',
    'not measured here: vtm (published, kodak)',
  ):
    assert words in block.text


def test_an_evaluation_shows_bytes_for_the_same_quality(folder):
  text = blocks.build(folder)['cid22_val'].text
  assert '**Bytes for the same quality.** ' in text
  assert (
    '| JPEG | 2.00 (28.0–37.0; 0.20–1.60) | 2.00 (0.050–0.300; 0.20–1.60) |'
  ) in text
  assert 'No figure: PSNR: gdc:flow turns back.' in text


def test_an_evaluation_of_other_images_is_refused(folder):
  path = folder / 'cid22_val' / 'jpeg.json'
  curve = json.loads(path.read_text())
  curve['images'][0]['name'] = 'other'
  _write(path, curve)
  with pytest.raises(ValueError, match='cid22_val: jpeg and gdc:mse'):
    blocks.build(folder)


def test_the_short_table_of_bytes_for_the_same_quality(folder):
  block = blocks.build(folder)['same_quality']
  assert block.text.splitlines() == [
    '| codec | CID22, same PSNR |', '| --- | --- |', '| JPEG | 2.00 × |',
  ]


def test_decoders_beside_each_other_at_all_levels(folder):
  header, _, *rows = _table(blocks.build(folder)['levels'])
  assert header == [
    'quality', 'bpp', 'PSNR, dB mse', 'flow', 'LPIPS mse', 'flow',
  ]
  assert rows[2] == ['3', '0.800', '34.00', '29.00', '0.1000', '0.1000']
  assert len(rows) == 4


def test_the_caption_of_the_example(folder, tmp_path, capsys):
  assert blocks.build(folder)['example'].text is None
  model = json.loads((bundle.find('lean') / 'bundle.json').read_text())
  image = tmp_path / 'docs' / 'example.jpg'
  image.parent.mkdir()
  image.write_bytes(b'an image')
  record = {
    'photograph': 'a', 'quality': 1.0, 'model': 'lean',
    'digest': model['digest'], 'decoder': 'one_step',
    'decoder_digest': model['decoder_digests']['one_step'],
    'image_sha256': hashlib.sha256(b'an image').hexdigest(),
    'files': [
      {'name': name, 'bytes': size, 'psnr-rgb': psnr, 'lpips-alex': lpips}
      for name, size, psnr, lpips in (
        ('gdc (one_step)', 3000, 25.0, 0.2), ('AVIF', 2990, 26.125, 0.3),
        ('HEVC intra', 3010, 24.0, 0.4),
      )
    ],
  }
  _write(folder / 'example.json', record)
  page = tmp_path / 'page.md'
  page.write_text(PAGE)
  assert _main(folder, page) == 0
  drawn = page.read_text()
  assert '![original, AVIF, HEVC intra, gdc](docs/example.jpg)\n' in drawn
  assert (
    '3,000 bytes with gdc (one_step), 2,990 with AVIF, 3,010 with HEVC intra '
    '(its smallest file), in each case'
  ) in ' '.join(drawn.split())
  assert 'PSNR 25.00, 26.12, 24.00 dB; LPIPS 0.2000, 0.3000, 0.4000.' in (
    ' '.join(drawn.split())
  )
  assert 'on whose LPIPS this decoder was trained' in ' '.join(drawn.split())
  assert _main(folder, page, '--check') == 0

  # Another image, or other weights, do not go unnoticed.
  capsys.readouterr()
  image.write_bytes(b'another')
  assert _main(folder, page, '--check') == 1
  assert f'{image}: not the image that' in capsys.readouterr().err
  image.write_bytes(b'an image')
  for changed in ('digest', 'decoder_digest'):
    _write(folder / 'example.json', {**record, changed: 'b' * 64})
    assert _main(folder, page, '--check') == 1
    assert 'other weights than the bundled' in capsys.readouterr().err


def test_guidance(folder):
  block = blocks.build(folder)['guidance']
  end = ['0.2000', '27.50', '91.5%']
  assert _table(block)[2:] == [
    ['1', 'mix', 'picture', '0', '1', '1', *end],
    ['1', 'mix', 'picture', '1', '1', '1', *end],
    ['1', 'gradient', 'picture', '1', '1', '1', *end],
    ['1', 'gradient', 'picture', '1', '0.5', '1', *end],
  ]
  (panel,) = block.panels
  assert [line.kind for line in panel.lines] == ['curve', 'mark']
  assert panel.lines[1].notes == ['1', '0.5']


def test_plain_noise_has_a_table_and_no_figure(folder):
  _write(folder / 'plain_noise.json', {'rows': [{
    'quality': 1.0, 'decoder': 'mse', 'psnr': 27.346, 'lpips': 0.2, 'lpips_vgg':
    0.3,
  }]})
  block = blocks.build(folder)['plain_noise']
  assert _table(block)[2:] == [['1', 'mse', '27.35', '0.2000', '0.3000']]
  assert not block.panels


# --- What does not compare --------------------------------------------------


@pytest.mark.parametrize('change, words', [
  ({'steps': 500}, 'cannot be compared: they differ in steps'),
  ({'data.crop': 128}, 'differ in data.crop'),
  ({'sampling.steps': 8}, 'differ in sampling.steps'),
  ({'diffusion.noise_shift': 4.0}, 'the same point'),
])
def test_points_of_unequal_runs_are_refused(folder, change, words):
  _point(folder, 'noise_shift/9', _config(**{
    'diffusion.noise_shift': 2.0, **change
  }))
  with pytest.raises(ValueError, match=words):
    blocks.build(folder)


def test_points_of_other_bits_or_images_are_refused(folder):
  path = folder / 'sweeps' / 'steps' / 'other.json'
  good = json.loads(path.read_text())
  other = copy.deepcopy(good)
  other['diffusion']['meta']['digest'] = 'b' * 64
  _write(path, other)
  with pytest.raises(ValueError, match='differ in digest'):
    blocks.build(folder)
  other = copy.deepcopy(good)
  other['diffusion']['images'][0]['name'] = 'c'
  _write(path, other)
  with pytest.raises(ValueError, match='differ in the images'):
    blocks.build(folder)


def test_what_decides_no_figure_may_differ(folder):
  config = _config(log_every=5, **{'diffusion.noise_shift': 2.0})
  config['sampling']['later_field'] = 1
  _point(folder, 'noise_shift/9', config)
  assert blocks.build(folder)['noise_shift'].text.count('\n| ') == 6


def test_a_file_without_its_config_is_named(folder):
  path = folder / 'sweeps' / 'warp' / '1.json'
  _write(path, {'mse': _curve([1, 2], [1, 2]), 'flow': _curve([1, 2], [1, 2])})
  with pytest.raises(ValueError, match=r'1\.json does not hold .*config'):
    blocks.build(folder)


# --- The pages --------------------------------------------------------------


def _main(folder, page, *flags):
  return results.main(
    ['--results', str(folder), '--pages', str(page), *flags]
  )


def test_drawn_twice_it_is_the_same_and_checks(folder, tmp_path, capsys):
  page = tmp_path / 'results.md'
  page.write_text(PAGE)
  assert _main(folder, page, '--check') == 1
  assert page.read_text() == PAGE  # only looked at
  assert not (tmp_path / 'figures').exists()

  assert _main(folder, page) == 0
  drawn = page.read_text()
  figures = {p.name: p.read_bytes() for p in (tmp_path / 'figures').iterdir()}
  assert set(figures) == {
    f'{name}.svg'
    for name in ('noise_shift', 'steps', 'plane', 'guidance')
  }
  assert all(len(data) < 200_000 for data in figures.values())
  assert b'quality 3' in figures['noise_shift.svg']  # text is text
  assert _main(folder, page) == 0
  assert page.read_text() == drawn
  assert figures == {
    p.name: p.read_bytes() for p in (tmp_path / 'figures').iterdir()
  }
  capsys.readouterr()
  assert _main(folder, page, '--check') == 0
  assert capsys.readouterr().err.strip() == ''
  # Another figure in its place is found, whatever the table says.
  other = tmp_path / 'figures' / 'plane.svg'
  other.write_bytes(figures['steps.svg'])
  assert _main(folder, page, '--check') == 1
  assert capsys.readouterr().err.strip() == f'{other}: drawn from other data'
  other.write_bytes(figures['plane.svg'])

  # What is written by hand is kept, and what is not measured is said.
  by_hand = re.sub(r'(begin \w+ -->\n).*?(<!-- end)', r'\1\2', drawn,
                   flags=re.DOTALL)
  assert by_hand == PAGE.replace('old\n', '')
  assert (
    '<!-- begin warp -->\nNot measured yet.\n<!-- end warp -->' in drawn
  )

  # A changed number, and a figure that went.
  page.write_text(drawn.replace('0.4000', '0.3000'))
  (tmp_path / 'figures' / 'steps.svg').unlink()
  assert _main(folder, page, '--check') == 1
  said = capsys.readouterr().err
  assert '0.3000' in said and '0.4000' in said and 'steps.svg: missing' in said


def test_nothing_measured_at_all(tmp_path):
  page = tmp_path / 'results.md'
  page.write_text(PAGE)
  for name in ('none', 'figures'):
    (tmp_path / name).mkdir()
  (tmp_path / 'figures' / 'warp.svg').write_text('of results that went')
  assert _main(tmp_path / 'none', page) == 0
  drawn = page.read_text()
  assert drawn.count(results.MISSING) == len(ALL) - 1
  assert '<!-- begin example -->\nold\n<!-- end example -->' in drawn  # kept
  assert not list((tmp_path / 'figures').iterdir())
  assert _main(tmp_path / 'none', page, '--check') == 0


@pytest.mark.parametrize('tool', [results, example])
def test_help(tool, capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', ['tool', '--help'])
  with pytest.raises(SystemExit, match='0'):
    tool.main()
  assert f'usage: python -m {tool.__name__}' in capsys.readouterr().out


@pytest.mark.parametrize('gone', ['results.md', 'data'])
def test_what_is_not_there_is_named_and_no_page_is_emptied(
  tmp_path, capsys, gone
):
  page, data = tmp_path / 'results.md', tmp_path / 'data'
  if gone == 'data':
    page.write_text(PAGE)
  else:
    data.mkdir()
  with pytest.raises(SystemExit, match='2'):
    _main(data, page)
  assert f'{tmp_path / gone} does not exist' in capsys.readouterr().err
  assert gone == 'results.md' or page.read_text() == PAGE


@pytest.mark.parametrize('page', [
  PAGE.replace('begin warp', 'begin wrap').replace('end warp', 'end wrap'),
  PAGE.replace('<!-- end warp -->', ''),
  PAGE + '\n<!-- begin warp -->\n<!-- end warp -->',
])
def test_markers_must_be_right(tmp_path, page):
  path = tmp_path / 'results.md'
  path.write_text(page)
  with pytest.raises(ValueError, match='expected once'):
    results.divide([path], dict.fromkeys(ALL))


def test_several_pages_share_the_blocks(folder, tmp_path, capsys):
  before, after = PAGE.split('About warp.')
  pages = [tmp_path / 'one.md', tmp_path / 'two.md']
  for path, text in zip(pages, (before, after), strict=True):
    path.write_text(text)
  flags = ['--results', str(folder), '--pages', *map(str, pages)]
  assert results.main(flags) == 0
  assert results.main([*flags, '--check']) == 0
  drawn = [page.read_text() for page in pages]
  assert 'plane.svg' in drawn[1] and 'noise_shift.svg' in drawn[0]
  # Each page is named by what is stale on it.
  capsys.readouterr()
  pages[0].write_text(drawn[0].replace('0.4000', '0.3000'))
  assert results.main([*flags, '--check']) == 1
  assert 'one.md' in (said := capsys.readouterr().err) and 'two' not in said


def test_the_pages_of_this_project_are_what_its_data_gives():
  pages = [ROOT / page for page in results.PAGES]
  shared = results.divide(pages, blocks.build(ROOT / 'results'))
  for page, made in zip(pages, shared, strict=True):
    assert results.stale(page, made) == []
