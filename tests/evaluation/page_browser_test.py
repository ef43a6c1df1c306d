"""The page of an evaluation in a browser: what a visitor sees and does.

Images are flat, each with a square of its own colour in the middle, so that
screenshots tell which image is where and how large.
"""
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from gdc.evaluation import page, tables

sync_api = pytest.importorskip(
  'playwright.sync_api', reason='playwright is not installed'
)

HEIGHT, WIDTH = 200, 320  # of the crops; shown twice as large at first
SQUARE = (slice(80, 120), slice(140, 180))
COLOURS = {  # codec: its ground and its square
  'original': ((200, 30, 30), (30, 220, 30)),
  'jpeg': ((30, 30, 200), (230, 220, 30)),
  'gdc:flow@1': ((90, 90, 90), (240, 90, 240)),
}
HOSTILE = '<b onclick="x()">&amp;\'"</b><script>window.hurt=1</script>ß日本.png'
SVG = (
  '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" '
  '"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n<svg width="400pt" '
  'height="200pt" viewBox="0 0 400 200" xmlns="http://www.w3.org/2000/svg">'
  '<rect id="a" width="400" height="200" style="fill: #808080"/></svg>'
)
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='module')
def browser():
  path = next(filter(None, map(shutil.which, BROWSERS)), None)
  if path is None:
    pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is installed')
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=path, args=['--no-sandbox', '--force-color-profile=srgb']
    )
    yield browser
    browser.close()


def _exhibit(name, codecs, height=HEIGHT, width=WIDTH):
  versions = []
  for codec in codecs:
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:], image[SQUARE] = COLOURS[codec]
    facts = {} if codec == 'original' else {
      'bytes': f'{1 + len(versions)},000', 'PSNR': f'3{len(versions)}.00 dB',
    }
    versions.append(page.Version(codec, image, facts))
  return page.Exhibit(name, height, width, (0, 0, WIDTH, HEIGHT), versions)


@pytest.fixture(scope='module')
def url(tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'a page.html'
  page.write(
    path,
    title='Codecs', summary=['A summary.'],
    tables=[tables.Table('Rates', '', ['codec', 'bpp'], [['jpeg', '0.5']] * 3)],
    charts=[page.Chart(title, '', SVG) for title in ('One', 'Two')],
    exhibits=[
      _exhibit('first.png', COLOURS, 400, 640),
      _exhibit(HOSTILE, ['original', 'gdc:flow@1']),
    ],
    details={'command': 'gdc'},
  )
  return path.as_uri()


@pytest.fixture
def visit(browser, url):
  """Opens the page; nothing may be logged or requested meanwhile."""
  contexts, noise = [], []

  def listen(tab):
    tab.on('console', lambda message: noise.append(message.text))
    tab.on('pageerror', lambda error: noise.append(str(error)))
    tab.on('request', lambda request: noise.append(request.url))

  def visit(fragment='', **options):
    context = browser.new_context(
      **{'viewport': {'width': 1280, 'height': 720}, **options}
    )
    contexts.append(context)
    tab = context.new_page()
    tab.set_default_timeout(5000)
    listen(tab)
    tab.goto(url + fragment)
    return tab

  yield visit
  for context in contexts:
    context.close()
  asked = [n for n in noise if not n.startswith((url, 'data:'))]
  assert not asked


@pytest.fixture
def tab(visit):
  return visit()


def _stage(tab):
  """The stage as it is seen, uint8 [height, width, 3]."""
  stage = tab.locator('.stage')
  stage.scroll_into_view_if_needed()
  # It may lie between pixels of the window; browsers draw it on whole ones.
  clip = {name: int(n + .5) for name, n in stage.bounding_box().items()}
  shot = Image.open(io.BytesIO(tab.screenshot(clip=clip)))
  return np.asarray(shot.convert('RGB'))


def _extent(shot, colour):
  """(left, top, right, bottom) of a colour, or None where it is not seen."""
  rows, columns = np.nonzero((shot == colour).all(-1))
  if not len(rows):
    return None
  return tuple(
    int(n) for n in
    (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
  )


def _codecs(tab):
  """The codecs left and right of the divider, by their colours."""
  shot = _stage(tab)
  middle = shot.shape[1] // 2
  seen = (tuple(shot[-9, x].tolist()) for x in (middle - 290, middle + 290))
  grounds = {ground: codec for codec, (ground, _) in COLOURS.items()}
  return [grounds[colour] for colour in seen]


def _point(tab, x, y):
  """A point of the stage in the window's pixels."""
  box = tab.locator('.stage').bounding_box()
  return box['x'] + x, box['y'] + y


def _drag(tab, start, end):
  tab.locator('.stage').scroll_into_view_if_needed()
  tab.mouse.move(*_point(tab, *start))
  tab.mouse.down()
  tab.mouse.move(*_point(tab, *end), steps=3)
  tab.mouse.up()


def _split(tab):
  return int(tab.get_by_role('slider').get_attribute('aria-valuenow'))


def _await_hash(tab, text):
  tab.wait_for_function('text => location.hash.includes(text)', arg=text)


def test_first_view(tab):
  sizes = tab.evaluate('''async () => {
    await Promise.all([...document.images].map((image) => image.decode()));
    return [...document.images].map((i) => [i.naturalWidth, i.naturalHeight]);
  }''')
  # Two charts, five versions, two thumbnails, two sides.
  assert len(sizes) == 11 and sizes.count([WIDTH, HEIGHT]) == 9
  assert all(width > 0 for width, _ in sizes)
  assert tab.evaluate('document.documentElement.scrollWidth') <= 1280
  shot = _stage(tab)
  assert shot.shape[0] == 2 * HEIGHT
  left, right = COLOURS['original'], COLOURS['gdc:flow@1']
  middle = shot.shape[1] // 2
  assert _extent(shot, left[0])[:2] == (middle - WIDTH, 0)
  assert _extent(shot, right[0])[2:] == (middle + WIDTH, 2 * HEIGHT)
  assert tab.locator('#left-caption').inner_text() == 'original'
  assert tab.locator('#right-caption').inner_text().split() == [
    'gdc:flow@1', 'bytes', '3,000', 'PSNR', '32.00', 'dB',
  ]


@pytest.mark.parametrize('start,end', [(6, -154), (100, -160)])
def test_the_divider_is_dragged(tab, start, end):
  """By itself, and by the image while all of it is visible."""
  middle = _stage(tab).shape[1] // 2
  _drag(tab, (middle + start, 300), (middle + end, 100))
  assert _split(tab) == 25
  assert tab.locator('#left-side').evaluate(
    'side => getComputedStyle(side).clipPath'
  ) == f'inset(0px {middle + 160}px 0px 0px)'
  row = _stage(tab)[-9]
  original, flow = (COLOURS[c][0] for c in ('original', 'gdc:flow@1'))
  assert (row[middle - WIDTH:middle - 162] == original).all()
  assert (row[middle - 158:middle + WIDTH] == flow).all()
  _drag(tab, (middle - 160, 300), (-90, 300))
  assert _split(tab) == 0
  assert _extent(_stage(tab), original) is None


def test_keys(tab):
  slider = tab.get_by_role('slider')
  slider.focus()
  for key, percent in {
    'ArrowRight': 51, 'ArrowLeft': 50, 'ArrowUp': 51, 'ArrowDown': 50,
    'Home': 0, 'End': 100,
  }.items():
    tab.keyboard.press(key)
    assert _split(tab) == percent, key
  assert slider.get_attribute('aria-valuetext').startswith('100 % original')
  tab.keyboard.press('Home')
  for _ in range(50):
    tab.keyboard.press('ArrowRight')
  for key, codecs in {
    'f': ['gdc:flow@1', 'original'], '2': ['gdc:flow@1', 'jpeg'],
    'Shift+1': ['original', 'jpeg'], '9': ['original', 'jpeg'],
  }.items():
    tab.keyboard.press(key)
    assert _codecs(tab) == codecs, key
  tab.keyboard.press('n')  # the next image has no jpeg
  assert tab.locator('.exhibit.current bdi').first.inner_text() == HOSTILE
  assert _codecs(tab) == ['original', 'gdc:flow@1']


def test_another_codec(tab):
  tab.select_option('#left', label='jpeg')
  assert _codecs(tab) == ['jpeg', 'gdc:flow@1']
  assert tab.locator('#left-caption').inner_text().split()[:3] == [
    'jpeg', 'bytes', '2,000'
  ]
  assert tab.locator('#left-side span').inner_text() == 'jpeg'
  tab.click('#flip')
  assert _codecs(tab) == ['gdc:flow@1', 'jpeg']
  assert tab.locator('#right').input_value() == '1'
  assert tab.locator('#right-caption b').inner_text() == 'jpeg'


def _square(tab):
  """Position of the square, seen half on each side."""
  shot = _stage(tab)
  left, right = (
    _extent(shot, COLOURS[c][1]) for c in ('original', 'gdc:flow@1')
  )
  return left[0], left[1], right[2], right[3]


def test_zoom(tab):
  middle = _stage(tab).shape[1] // 2
  for scale in (1, 4, 8, 2):
    tab.click(f'.zoom button[value="{scale}"]')
    half = 20 * scale
    assert _square(tab) == (
      middle - half, 200 - half, middle + half, 200 + half
    )
    pressed = tab.locator('.zoom [aria-pressed=true]')
    assert pressed.all_inner_texts() == [f'{scale}×']
  # The point under the pointer stays there.
  x, y = middle + 40, 240  # the square's lower right corner
  tab.mouse.dblclick(*_point(tab, x, y))
  assert _square(tab)[2:] == (x, y)
  assert _square(tab)[3] - _square(tab)[1] == 160
  tab.keyboard.press('Escape')
  tab.evaluate('''addEventListener('wheel', (event) => {
    window.taken = event.defaultPrevented;
  })''')
  tab.keyboard.down('Control')
  tab.mouse.wheel(0, -100)
  tab.keyboard.up('Control')
  tab.wait_for_selector('.zoom [value="4"][aria-pressed=true]')
  assert _square(tab)[2:] == (x, y)
  assert tab.evaluate('window.taken')  # or the browser zooms the page, too
  tab.mouse.wheel(0, -100)
  tab.wait_for_function('!window.taken')  # the page scrolls
  assert tab.locator('.zoom [aria-pressed=true]').all_inner_texts() == ['4×']


def test_panning_moves_both_sides(tab):
  tab.click('.zoom button[value="4"]')
  left, top, right, bottom = _square(tab)
  _drag(tab, (100, 100), (130, 80))
  assert _square(tab) == (left + 30, top - 20, right + 30, bottom - 20)
  assert _split(tab) == 50
  _drag(tab, (100, 100), (900, 390))
  _drag(tab, (100, 100), (900, 390))
  square = COLOURS['gdc:flow@1'][1]
  corner = (4 * SQUARE[1].start, 4 * SQUARE[0].start)
  shot = _stage(tab)  # the image's corner stays in the stage's
  assert _extent(shot, COLOURS['original'][0])[0] == 0
  assert _extent(shot, square)[:2] == corner
  tab.keyboard.press('Shift+ArrowDown')
  assert _extent(_stage(tab), square)[:2] == (corner[0], corner[1] - 64)


def _touch(tab, *frames):
  """Fingers, a list of their points per frame; lifted after the last."""
  session = tab.context.new_cdp_session(tab)
  kind = 'touchStart'
  for points in frames:
    session.send('Input.dispatchTouchEvent', {
      'type': kind, 'touchPoints': [
        dict(zip('xy', _point(tab, *point), strict=True), id=i)
        for i, point in enumerate(points)
      ],
    })
    kind = 'touchMove'
  session.send(
    'Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []}
  )


def test_touch(visit):
  tab = visit(
    viewport={'width': 400, 'height': 800}, has_touch=True, is_mobile=True
  )
  assert tab.evaluate('document.documentElement.scrollWidth') == 400
  tab.locator('.stage').scroll_into_view_if_needed()
  shot = _stage(tab)
  height, width, _ = shot.shape
  assert height == HEIGHT  # one pixel each
  _touch(tab, [(width / 2, 60)], [(width / 2 - 40, 60)], [(width / 2 - 80, 60)])
  assert _split(tab) == 25
  _touch(tab, [(30, 150)], [(60, 150)], [(width / 2 + 80, 150)])
  assert _split(tab) == 75
  _touch(
    tab, [(100, 60), (140, 60)], [(90, 60), (170, 60)], [(70, 60), (190, 60)]
  )
  assert tab.locator('.zoom [aria-pressed=true]').all_inner_texts() == ['4×']
  assert _split(tab) == 75
  scrolled = tab.evaluate('window.scrollY')
  square = tab.locator('#left-side img').bounding_box()
  _touch(tab, [(200, 100)], [(190, 90)], [(170, 60)])
  moved = tab.locator('#left-side img').bounding_box()
  assert (moved['x'] - square['x'], moved['y'] - square['y']) == (-30, -40)
  assert tab.locator('#right-side img').bounding_box() == moved
  for _ in range(2):
    _touch(tab, [(100, 100)])
  tab.wait_for_selector('.zoom [value="8"][aria-pressed=true]')
  _touch(
    tab, [(100, 20), (140, 180)], [(100, 40), (140, 160)],
    [(110, 80), (120, 85)],
  )
  tab.wait_for_selector('.zoom [value="1"][aria-pressed=true]')
  _touch(
    tab, [(100, 120), (140, 160)], [(100, 100), (140, 140)],
    [(100, 20), (140, 60)],
  )
  assert tab.evaluate('window.scrollY') == scrolled
  _touch(tab, [(100, 160)], [(100, 130)], [(100, 90)])  # the page's
  tab.wait_for_function('y => window.scrollY > y', arg=scrolled)
  assert _split(tab) == 75


def test_the_address_keeps_the_view(tab, visit, url):
  tab.select_option('#left', label='jpeg')
  tab.click('.zoom button[value="4"]')
  _drag(tab, (100, 100), (140, 60))
  _await_hash(tab, 'at=150')
  before = _stage(tab)
  tab.reload()
  assert _codecs(tab) == ['jpeg', 'gdc:flow@1']
  np.testing.assert_array_equal(_stage(tab), before)
  fragment = tab.evaluate('location.hash')
  other = visit(fragment)
  assert other.evaluate('window.scrollY') > 0  # to what was linked to
  np.testing.assert_array_equal(_stage(other), before)

  tab.locator('.chooser button').nth(1).click()
  _await_hash(tab, '%E6%97%A5')
  tab.reload()
  assert tab.locator('.chooser [aria-pressed=true]').inner_text() == HOSTILE
  assert _codecs(tab) == ['original', 'gdc:flow@1']


def test_an_address_of_nothing(visit):
  tab = visit('#picture=gone&left=gone&zoom=3&at=x')
  assert _codecs(tab) == ['original', 'gdc:flow@1']
  assert tab.locator('.zoom [aria-pressed=true]').all_inner_texts() == ['2×']
  tab.evaluate("location.hash = 'picture=first.png&right=jpeg&zoom=1'")
  tab.wait_for_selector('.zoom [value="1"][aria-pressed=true]')
  assert tab.locator('#right-caption b').inner_text() == 'jpeg'


def test_hostile_names_are_text(tab):
  button = tab.locator('.chooser button').nth(1)
  assert button.inner_text() == HOSTILE
  assert button.get_attribute('title') == HOSTILE
  button.click()
  summary = tab.locator('.exhibit.current summary')
  assert summary.locator('bdi').inner_text() == HOSTILE
  assert tab.locator('main script, bdi *, .chooser b').count() == 0
  assert tab.evaluate('window.hurt') is None


def test_without_scripts_and_on_paper(visit):
  plain = visit(java_script_enabled=False)
  assert plain.locator('.versions figure:visible').count() == 5
  assert not plain.locator('.viewer').is_visible()
  tab = visit()
  assert tab.locator('.versions figure:visible').count() == 0
  tab.locator('.exhibit.current summary').click()
  assert tab.locator('.versions figure:visible').count() == 3
  tab.emulate_media(media='print')
  tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
  assert tab.locator('.versions figure:visible').count() == 5
  assert not tab.locator('.viewer').is_visible()


def test_light_and_dark(visit):
  papers = {}
  for scheme in ('light', 'dark'):
    tab = visit(color_scheme=scheme)
    colour = tab.evaluate('getComputedStyle(document.body).backgroundColor')
    papers[scheme] = sum(map(int, re.findall(r'\d+', colour)))
    assert tab.locator('.card').first.evaluate(
      'card => getComputedStyle(card).backgroundColor'
    ) == 'rgb(255, 255, 255)'
  assert papers['light'] > 700 and papers['dark'] < 100


def test_the_browser_refuses_the_network(browser, url):
  """The policy is in force; it speaks on the console, hence no `visit`."""
  with browser.new_context() as context:
    tab = context.new_page()
    tab.goto(url)
    refused = tab.evaluate('''() => new Promise((resolve) => {
      document.addEventListener('securitypolicyviolation', (event) =>
        resolve(event.effectiveDirective));
      new Image().src = 'http://127.0.0.1:9/x.png';
    })''')
    assert refused == 'img-src'
    assert tab.evaluate(
      "fetch('http://127.0.0.1:9/').then(() => 0, (error) => error.name)"
    ) == 'TypeError'


def test_a_window_that_changes(tab):
  tab.get_by_role('slider').focus()
  for _ in range(25):
    tab.keyboard.press('ArrowLeft')
  tab.set_viewport_size({'width': 300, 'height': 700})
  tab.wait_for_selector('.zoom button:has-text("Fit")')
  shot = _stage(tab)
  width = shot.shape[1]
  assert width < WIDTH and shot.shape[0] == round(HEIGHT * width / WIDTH)
  assert _extent(shot, COLOURS['original'][0])[2] == pytest.approx(
    width / 4, abs=2
  )


def test_rates_and_curves_on_a_phone(browser, tmp_path):
  """One page of the kind that an evaluation with many curves writes."""
  first = _exhibit('a', COLOURS)
  original, jpeg, flow = first.versions
  curves = [
    page.Curve(f'codec-{i}_of_a_rather_long_name (published, kodak)', '#f00',
               drawn=i < 2)
    for i in range(60)
  ]
  lines = ''.join(
    f'<g id="curve-{i}"><rect x="{5 * i}" width="5" height="300" '
    f'style="fill: #f00"/></g>' for i in range(60)
  )
  path = tmp_path / 'page.html'
  page.write(
    path, title='A', opening=('gdc:flow@1', 'jpeg'),
    tables=[tables.Table('T', 'note', ['codec', *'abcdefgh'], [['jpeg'] * 9])],
    charts=[page.Chart('C', '', SVG.replace('</svg>', f'{lines}</svg>'))] * 3,
    curves=curves, names={'a_long_name_of_a_codec': 'words ' * 30},
    exhibits=[first._replace(versions=[
      original, *(
        version._replace(rate=rate, facts={'bytes': size})
        for rate, size in (('quality 1', '111'), ('quality 3', '333'))
        for version in (jpeg, flow)
      )
    ])],
  )
  with browser.new_context(
    viewport={'width': 390, 'height': 844}, has_touch=True, is_mobile=True
  ) as context:
    tab = context.new_page()
    tab.set_default_timeout(5000)
    tab.goto(path.as_uri())
    assert tab.evaluate('document.documentElement.scrollWidth') == 390
    assert [
      tab.locator(f'#{side}-caption b').inner_text()
      for side in ('left', 'right')
    ] == ['gdc:flow@1', 'jpeg']
    assert '111' in tab.locator('#left-caption').inner_text()
    assert tab.locator('#left option').count() == 3
    tab.click('.rates button:has-text("quality 3")')
    for side in ('left', 'right'):
      assert '333' in tab.locator(f'#{side}-caption').inner_text()
    _await_hash(tab, 'rate=quality+3')
    tab.reload()
    assert tab.locator('.rates [aria-pressed=true]').inner_text() == 'quality 3'
    assert '333' in tab.locator('#left-caption').inner_text()

    def shows(count):
      image = tab.locator('.charts img').first
      image.scroll_into_view_if_needed()
      for _ in range(20):  # until the last of the changes is drawn
        image.evaluate('image => image.decode()')
        shot = np.asarray(Image.open(io.BytesIO(image.screenshot())))[..., :3]
        row = shot[shot.shape[0] // 2].astype(int)
        red = (row[:, 0] - row[:, 1] > 100).mean()
        if red == pytest.approx(count * 5 / 400, abs=0.01):
          return True
      return False

    assert shows(2)
    for box in tab.locator('.legend input').all()[2:12]:
      box.check()
    assert shows(12)
    tab.locator('.legend input').first.uncheck()
    assert shows(11)
    legend = tab.locator('.legend').bounding_box()
    chart = tab.locator('.charts .card').first.bounding_box()
    assert legend['y'] + legend['height'] <= chart['y'] or (
      legend['x'] + legend['width'] <= chart['x']
    )
    tab.set_viewport_size({'width': 1400, 'height': 900})
    legend = tab.locator('.legend').bounding_box()
    chart = tab.locator('.charts .card').first.bounding_box()
    assert legend['x'] + legend['width'] <= chart['x']
    assert tab.evaluate('document.documentElement.scrollWidth') <= 1400
