"""The page of an evaluation: what is in the file, read without a browser."""
import base64
import hashlib
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from gdc.evaluation import charts, page

HOSTILE = (
  '</script><img src=x onerror=alert(1)>"\'&amp;{{title}} \u202eß日本.png'
)
SVG = (
  '<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns='
  '"http://www.w3.org/2000/svg" viewBox="0 0 {} {}"><path id="a"/></svg>'
)


class Reader(html.parser.HTMLParser):
  """Collects tags in their order, their attributes, and text."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text, self.inside = [], '', []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data

  def all(self, tag):
    return [attrs for name, attrs in self.tags if name == tag]


def _images(count=2, height=6, width=9):
  rng = np.random.default_rng(0)
  return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


def _exhibit(name='photo.png', versions=None, **changes):
  original, decoded = _images()
  exhibit = page.Exhibit(
    name, 60, 80, (10, 20, 19, 26),
    versions or [
      page.Version('original', original),
      page.Version(
        'jpeg', decoded, 1234, 'smallest file: 1.3 x the bytes',
        {'PSNR, dB': 31.216, 'LPIPS': 0.08},
      ),
    ],
  )
  return exhibit._replace(**changes)


def _two(**changes):
  versions = list(_exhibit().versions)
  versions[1] = versions[1]._replace(**changes)
  return {'exhibits': [_exhibit(versions=versions)]}


def _contents(text):
  """A page in which every text is the given one, where that is possible."""
  original, decoded = _images()
  return {
    'title': text,
    'summary': [text, text],
    'tables': [page.Table(text, text, [text, 'b'], [[text, text]])],
    'charts': [charts.Chart(text, text, SVG.format(4, 3))],
    'curves': [charts.Curve(text, '#000')],
    'names': {text: text},
    'opening': (text, 'b'),
    'exhibits_note': text,
    'exhibits': [_exhibit(text, [
      page.Version(text, original, None, text),
      page.Version('b', decoded, 9, text, {f'{text}, {text}': 1.0}, text),
    ])],
    'details': {text: text},
  }


def test_texts_are_shown_and_are_not_markup():
  harmless = Reader(page.render(**_contents('x')))
  hostile = Reader(page.render(**_contents(HOSTILE)))
  assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
  assert [set(a) for _, a in hostile.tags] == [
    set(a) for _, a in harmless.tags
  ]
  assert hostile.text.count(HOSTILE) == 24
  assert hostile.all('details')[1]['data-name'] == HOSTILE
  assert hostile.all('img')[0]['alt'] == f'{HOSTILE}, {HOSTILE}'


def test_a_folded_table_is_all_there():
  table = page.Table('All of it', 'A note', ['a'], [['1'], ['2']])
  plain = Reader(page.render(title='', tables=[table, table]))
  folded = Reader(
    page.render(title='', tables=[table, table._replace(folded=True)])
  )
  assert folded.text.split() == plain.text.split()
  assert len(folded.all('details')) == len(plain.all('details')) + 1


def test_nothing_is_left_to_fill_in():
  assert not re.search(r'\{\{\w+\}\}', page.render(**_contents('x')))


def test_a_page_without_parts():
  read = Reader(page.render(title='Empty'))
  assert not read.all('table') and not read.all('img')
  assert 'Charts' not in read.text and 'How this was made' not in read.text
  pictures, = read.all('section')
  assert pictures['id'] == 'pictures' and 'hidden' in pictures
  assert 'hidden' not in Reader(
    page.render(title='One', exhibits=[_exhibit()])
  ).all('section')[0]


def test_nothing_comes_from_elsewhere():
  text = page.render(**_contents('x'))
  read = Reader(text)
  links = [
    attrs[name] for _, attrs in read.tags for name in ('src', 'href')
    if name in attrs
  ]
  assert len(links) == 4  # the icon, the chart, two versions
  assert all(link.startswith('data:') for link in links)
  assert not re.search(r'@import|url\(|eval\(|innerHTML|fetch\(', text)
  policy, = [
    attrs['content'] for attrs in read.all('meta')
    if attrs.get('http-equiv') == 'Content-Security-Policy'
  ]
  rules = dict(rule.strip().split(' ', 1) for rule in policy.split(';'))
  script = text.partition('<script>')[2].partition('</script>')[0]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert rules == {
    'default-src': "'none'", 'img-src': 'data:',
    'style-src': "'unsafe-inline'", 'script-src': f"'sha256-{digest}'",
    'base-uri': "'none'", 'form-action': "'none'",
  }


def _embedded(attrs):
  kind, data = attrs['src'].removeprefix('data:image/').split(';base64,')
  return kind, base64.b64decode(data)


@pytest.mark.parametrize('webp', [True, False])
def test_every_pixel_is_kept(webp, monkeypatch):
  y, x = np.mgrid[:40, :50]
  photo = np.stack([4 * y, 3 * x, 2 * y + 2 * x], -1).astype(np.uint8)
  photo ^= np.random.default_rng(0).integers(0, 8, photo.shape, np.uint8)
  pictures = [photo, photo[::-1], np.full_like(photo, 77)]
  if not webp:
    monkeypatch.setattr(page.features, 'check', lambda feature: False)
  exhibit = page.Exhibit('a', 40, 50, (0, 0, 50, 40), [
    page.Version(str(i), picture) for i, picture in enumerate(pictures)
  ])
  read = Reader(page.render(title='', exhibits=[exhibit]))
  assert len(read.all('img')) == len(pictures)
  for attrs, picture in zip(read.all('img'), pictures, strict=True):
    kind, data = _embedded(attrs)
    assert kind == 'png' or webp
    with Image.open(io.BytesIO(data)) as stored:
      assert stored.format.lower() == kind
      np.testing.assert_array_equal(np.asarray(stored.convert('RGB')), picture)
    assert (attrs['height'], attrs['width']) == ('40', '50')


def test_a_picture_too_long_for_webp():
  row = np.arange(3 * 16384, dtype=np.uint32).reshape(1, -1, 3) % 251
  row = row.astype(np.uint8)
  exhibit = page.Exhibit('a', 1, 16384, (0, 0, 16384, 1), [
    page.Version('a', row), page.Version('b', row),
  ])
  read = Reader(page.render(title='', exhibits=[exhibit]))
  kind, data = _embedded(read.all('img')[0])
  assert kind == 'png'
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), row)


def test_captions():
  text = Reader(page.render(title='', exhibits=[_exhibit()])).text
  # 8 * 1234 / (60 * 80), of the whole picture.
  assert 'bytes1,234bpp2.057PSNR31.22 dBLPIPS0.0800' in text
  assert 'jpegsmallest file: 1.3 x the bytes' in text
  assert '80 × 60 pixels, of which 9 × 6 at (10, 20) are shown' in text


def test_a_picture_that_is_shown_whole():
  exhibit = _exhibit(height=6, width=9, box=(0, 0, 9, 6))
  text = Reader(page.render(title='', exhibits=[exhibit])).text
  assert '9 × 6 pixels' in text and 'of which' not in text


@pytest.mark.parametrize('value,shown', [
  (31.216, '31.22'), (10, '10.00'), (9.99996, '10.0000'), (0.08, '0.0800'),
  (-12.5, '-12.50'), (float('inf'), '∞'), (float('-inf'), '-∞'),
  (float('nan'), '–'), (np.float32(0.5), '0.5000'),
])
def test_measures(value, shown):
  read = Reader(page.render(title='', **_two(measures={'M': value})))
  assert f'M{shown}\n' in read.text


@pytest.mark.parametrize('column,is_number', [
  (['1', '2.5', '-3'], True),
  (['1,234', '–', ''], True),
  (['−52.3 % [−54.0, −50.1]', '3.1 %'], True),
  (['31.2 dB', '30.0 dB', '0.1 ± 0.02'], True),
  (['1.3×', '12 kB', '~4 s'], True),
  (['jpeg', 'webp'], False),
  (['1', 'none'], False),
  (['', '–'], False),
  (['3 photographs', '4'], False),
  (['gdc:flow@1'], False),
])
def test_columns_of_numbers_are_flush_right(column, is_number):
  table = page.Table('t', '', ['codec', 'x'], [['a', c] for c in column])
  read = Reader(page.render(title='', tables=[table]))
  for tag, count in (('th', 1), ('td', len(column))):
    cells = read.all(tag)
    assert [c.get('class') for c in cells[::2]] == [None] * count
    expected = 'number' if is_number else None
    assert [c.get('class') for c in cells[1::2]] == [expected] * count


def test_a_table_without_rows():
  table = page.Table('t', '', ['a', 'b'], [])
  assert len(Reader(page.render(title='', tables=[table])).all('th')) == 2


def test_curves_that_are_not_drawn_at_first_are_hidden_in_every_chart():
  curves = [
    charts.Curve('jpeg', '#123456'),
    charts.Curve('vtm', '#fff', '5 3', False, True),
  ]
  drawn = [charts.Chart(str(i), '', SVG.format(4, 3)) for i in range(2)]
  read = Reader(page.render(title='', charts=drawn, curves=curves))
  assert [(a['value'], 'checked' in a) for a in read.all('input')] == [
    ('curve-0', True), ('curve-1', False)
  ]
  assert '1 of 2 curves are not drawn at first' in read.text
  for attrs in read.all('img'):
    assert _embedded(attrs)[1].decode().endswith(
      '<path id="a"/><style>#curve-1{display:none}</style></svg>'
    )


def test_an_image_at_several_rates():
  original, decoded = _images()
  versions = [
    page.Version('original', original),
    *(page.Version('jpeg', decoded, 9, rate=rate) for rate in ('q 1', 'q 3')),
  ]
  read = Reader(page.render(title='', exhibits=[_exhibit(versions=versions)]))
  assert [f['data-rate'] for f in read.all('figure')] == ['', 'q 1', 'q 3']
  with pytest.raises(ValueError, match="'jpeg, q 3' more than once"):
    page.render(title='', exhibits=[
      _exhibit(versions=[*versions, versions[-1]])
    ])


def test_charts_are_images_of_their_own():
  shapes = [(400, 300), (800, 300)]
  drawn = [charts.Chart(str(s), '', SVG.format(*s)) for s in shapes]
  text = page.render(title='', charts=drawn)
  read = Reader(text)
  assert 'id="a"' not in text and not read.all('svg')
  assert [f.get('class') for f in read.all('figure')] == [None, 'wide']
  for chart, attrs in zip(drawn, read.all('img'), strict=True):
    kind, data = _embedded(attrs)
    assert kind == 'svg+xml' and data.decode() == chart.svg


@pytest.mark.parametrize('contents,message', [
  ({'tables': [page.Table('t', '', ['a', 'b'], [['1']])]}, "'t'.*1 cells"),
  ({'charts': [charts.Chart('c', '', 'PNG')]}, "'c' is 'PNG'"),
  ({'exhibits': [_exhibit(), _exhibit()]}, "'photo.png' more than once"),
  (_two(codec='original'), "'original' more than once"),
  ({'exhibits': [_exhibit(versions=_exhibit().versions[:1])]}, '1 versions'),
  (_two(image=np.zeros((9, 6, 3), np.uint8)), r"'jpeg'.*\(9, 6, 3\).*\(6, 9"),
  (_two(image=np.zeros((6, 9, 3))), "'jpeg', has dtype float64"),
  (_two(num_bytes=-1), 'num_bytes is -1'),
  ({'exhibits': [_exhibit(box=(72, 20, 81, 26))]}, r'\(72, 20, 81, 26\)'),
  ({'exhibits': [_exhibit(box=(19, 20, 10, 26))]}, r'80 x 60'),
])
def test_errors(contents, message):
  with pytest.raises(ValueError, match=message):
    page.render(title='', **contents)


def test_file(tmp_path):
  path = tmp_path / 'out' / 'page.html'
  page.write(path, title='Über \udcff')  # a name that was not UTF-8
  text = path.read_bytes().decode('utf-8')
  assert Reader(text).text.count('Über ?') == 2
  page.write(path, title='again')
  assert path.read_text('utf-8') == page.render(title='again')
  assert [p.name for p in path.parent.iterdir()] == ['page.html']
  with pytest.raises(ValueError):
    page.write(path, title='', charts=[charts.Chart('c', '', '')])
  assert path.read_text('utf-8') == page.render(title='again')
