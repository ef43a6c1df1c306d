"""The page of an evaluation, read without a browser."""
import base64
import hashlib
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from gdc.evaluation import page, tables

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
        'jpeg', decoded, {'bytes': '1,234', 'PSNR': '31.22 dB'},
        'smallest file: 1.3 x the bytes',
      ),
    ],
  )
  return exhibit._replace(**changes)


def _contents(text):
  """A page in which every text is the given one, where that is possible."""
  original, decoded = _images()
  return {
    'title': text,
    'summary': [text, text],
    'tables': [tables.Table(text, text, [text, 'b'], [[text, text]])],
    'charts': [page.Chart(text, text, SVG.format(4, 3))],
    'curves': [page.Curve(text, '#000')],
    'names': {text: text},
    'opening': (text, 'b'),
    'exhibits_note': text,
    'exhibits': [_exhibit(text, [
      page.Version(text, original, note=text),
      page.Version('b', decoded, {text: text}, text, text),
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
  table = tables.Table('All of it', 'A note', ['a'], [['1'], ['2']])
  plain = Reader(page.render(title='', tables=[table, table]))
  folded = Reader(
    page.render(title='', tables=[table, table._replace(folded=True)])
  )
  assert folded.text.split() == plain.text.split()
  assert len(folded.all('details')) == len(plain.all('details')) + 1


def test_a_page_without_parts():
  read = Reader(page.render(title='Empty'))
  assert not read.all('table') and not read.all('img')
  assert 'Charts' not in read.text and 'How this was made' not in read.text
  images, = read.all('section')
  assert images['id'] == 'images' and 'hidden' in images
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
  images = [photo, photo[::-1], np.full_like(photo, 77)]
  if not webp:
    monkeypatch.setattr(page.features, 'check', lambda feature: False)
  exhibit = page.Exhibit('a', 40, 50, (0, 0, 50, 40), [
    page.Version(str(i), image) for i, image in enumerate(images)
  ])
  read = Reader(page.render(title='', exhibits=[exhibit]))
  assert len(read.all('img')) == len(images)
  for attrs, image in zip(read.all('img'), images, strict=True):
    kind, data = _embedded(attrs)
    assert kind == 'png' or webp
    with Image.open(io.BytesIO(data)) as stored:
      assert stored.format.lower() == kind
      np.testing.assert_array_equal(np.asarray(stored.convert('RGB')), image)
    assert (attrs['height'], attrs['width']) == ('40', '50')


def test_a_image_too_long_for_webp():
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
  assert 'bytes1,234PSNR31.22 dB' in text
  assert 'smallest file: 1.3 x the bytes' in text
  assert '80 × 60 pixels, showing 9 × 6 at (10, 20)' in text
  exhibit = _exhibit(height=6, width=9, box=(0, 0, 9, 6))
  text = Reader(page.render(title='', exhibits=[exhibit])).text
  assert '9 × 6 pixels' in text and 'showing' not in text


@pytest.mark.parametrize('column,is_number', [
  (['1', '2.5', '-3'], True),
  (['1,234', '–', '∞'], True),
  (['-52.3 % (90%)', '+3.1 % (40%)'], True),
  (['jpeg', 'webp'], False),
  (['1', 'none'], False),
  (['gdc:flow@1'], False),
])
def test_columns_of_numbers_are_flush_right(column, is_number):
  table = tables.Table('t', '', ['codec', 'x'], [['a', c] for c in column])
  read = Reader(page.render(title='', tables=[table]))
  for tag, count in (('th', 1), ('td', len(column))):
    cells = read.all(tag)
    assert [c.get('class') for c in cells[::2]] == [None] * count
    expected = 'number' if is_number else None
    assert [c.get('class') for c in cells[1::2]] == [expected] * count


def test_a_table_without_rows():
  table = tables.Table('t', '', ['a', 'b'], [])
  assert len(Reader(page.render(title='', tables=[table])).all('th')) == 2


def test_curves_that_are_not_drawn_at_first_are_hidden_in_every_chart():
  curves = [
    page.Curve('jpeg', '#123456'),
    page.Curve('vtm', '#fff', '5 3', False, True),
  ]
  drawn = [page.Chart(str(i), '', SVG.format(4, 3)) for i in range(2)]
  read = Reader(page.render(title='', charts=drawn, curves=curves))
  assert [(a['value'], 'checked' in a) for a in read.all('input')] == [
    ('curve-0', True), ('curve-1', False)
  ]
  assert '1 of 2 curves are hidden at first' in read.text
  for attrs in read.all('img'):
    assert _embedded(attrs)[1].decode().endswith(
      '<path id="a"/><style>#curve-1{display:none}</style></svg>'
    )


def test_an_image_at_several_rates():
  original, decoded = _images()
  versions = [
    page.Version('original', original),
    *(page.Version('jpeg', decoded, rate=rate) for rate in ('q 1', 'q 3')),
  ]
  read = Reader(page.render(title='', exhibits=[_exhibit(versions=versions)]))
  assert [f['data-rate'] for f in read.all('figure')] == ['', 'q 1', 'q 3']


def test_charts_are_images_of_their_own():
  drawn = page.Chart('c', '', SVG.format(400, 300))
  text = page.render(title='', charts=[drawn])
  read = Reader(text)
  assert 'id="a"' not in text and not read.all('svg')
  image, = read.all('img')
  assert (image['width'], image['height']) == ('400', '300')
  kind, data = _embedded(image)
  assert kind == 'svg+xml' and data.decode() == drawn.svg


def test_a_row_as_long_as_the_header_is_expected():
  table = tables.Table('t', '', ['a', 'b'], [['1']])
  with pytest.raises(ValueError):
    page.render(title='', tables=[table])


def test_file(tmp_path):
  path = tmp_path / 'out' / 'page.html'
  page.write(path, title='Über \udcff')  # a name that was not UTF-8
  text = path.read_bytes().decode('utf-8')
  assert Reader(text).text.count('Über ?') == 2
  page.write(path, title='again')
  assert path.read_text('utf-8') == page.render(title='again')
  assert [p.name for p in path.parent.iterdir()] == ['page.html']
