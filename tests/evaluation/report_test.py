import numpy as np
import pytest

from gdc.evaluation import report


def _panels(height=120, width=200, values=(40, 140, 240)):
  return [
    (
      np.full((height, width, 3), value, np.uint8),
      [f'grey {value}', '0.12 bpp'],
    )
    for value in values
  ]


def test_every_picture_is_shown_untouched():
  rng = np.random.default_rng(3)
  panels = [
    (rng.integers(0, 256, (120, 200, 3), np.uint8), [str(i)]) for i in range(3)
  ]
  canvas = np.asarray(report.side_by_side(panels))
  for index, (image, _) in enumerate(panels):
    left = report.MARGIN + index * (200 + report.MARGIN)
    shown = canvas[report.MARGIN : report.MARGIN + 120, left : left + 200]
    np.testing.assert_array_equal(shown, image)


def test_captions_are_drawn_dark_below_the_pictures():
  with_text = np.asarray(report.side_by_side(_panels()))
  blank = np.asarray(
    report.side_by_side([(image, ['', '']) for image, _ in _panels()])
  )
  assert with_text.shape == blank.shape
  assert (with_text != blank).any((1, 2)).nonzero()[0].min() > 120
  below = with_text[130:]
  assert below.min() < 64 and np.median(below) == 255
  for index in range(3):  # each panel has its own
    column = below[:, 8 + index * 208 :][:, :200]
    assert column.min() < 64


def test_taller_captions_make_taller_letters():
  def ink_rows(caption_height):
    canvas = np.asarray(
      report.side_by_side([(_panels()[0][0], ['H'])], caption_height)
    )
    return (canvas[130:] < 128).any((1, 2)).sum()

  assert 1.7 < ink_rows(32) / ink_rows(16) < 2.3


def test_long_captions_stay_in_their_column():
  # Only the middle panel has a caption: nothing may be drawn beside it.
  panels = [
    (image, ['a very long caption ' * 8] if index == 1 else [])
    for index, (image, _) in enumerate(_panels())
  ]
  canvas = np.asarray(report.side_by_side(panels, caption_height=40))
  text = (canvas[130:] < 200).any((0, 2)).nonzero()[0]
  assert len(text) and text.min() >= 208 and text.max() < 208 + 208


@pytest.mark.parametrize('resampling', ['nearest', 'lanczos'])
def test_a_crop_is_magnified_below(resampling):
  panels = _panels()
  panels[1][0][10:30, 20:60] = [255, 0, 0]
  plain = report.side_by_side(panels)
  canvas = report.side_by_side(
    panels, crop=(20, 10, 60, 30), magnify=3, resampling=resampling
  )
  assert canvas.width == plain.width
  assert canvas.height == plain.height + 60 + report.MARGIN
  red = (np.asarray(canvas) == [255, 0, 0]).all(-1)
  assert red.sum() == 20 * 40 + 60 * 120


def test_a_crop_wider_than_the_panel_widens_the_columns():
  canvas = report.side_by_side(_panels(), crop=(0, 0, 200, 120), magnify=2)
  assert canvas.width == 3 * (400 + report.MARGIN) + report.MARGIN


def test_one_pixel_pictures():
  canvas = report.side_by_side(_panels(1, 1))
  assert canvas.width == 3 * (report.MIN_COLUMN + report.MARGIN) + report.MARGIN


@pytest.mark.parametrize(
  'kwargs, words',
  [
    (dict(crop=(20, 10, 201, 30)), '201.*200 x 120'),
    (dict(crop=(20, 10, 20, 30)), '20, 10, 20, 30'),
    (dict(crop=(0, 0, 9, 9), magnify=0), 'magnify is 0'),
    (dict(crop=(0, 0, 9, 9), resampling='bilinear'), "'nearest', 'lanczos'"),
  ],
)
def test_errors(kwargs, words):
  with pytest.raises(ValueError, match=words):
    report.side_by_side(_panels(), **kwargs)


def test_panels_of_several_sizes_are_refused():
  with pytest.raises(ValueError, match=r'panel 1.*\(60, 200, 3\).*\(120, 200'):
    report.side_by_side([_panels()[0], _panels(60)[0]])
  with pytest.raises(ValueError, match='panels is empty'):
    report.side_by_side([])


def test_table():
  rows = [
    {'name': 'a.png', 'bytes': 12345, 'bpp': 0.12345, 'psnr': 31.5},
    {'name': 'long name.png', 'bytes': 7, 'bpp': 1.5, 'psnr': None, 'x': 1 / 3},
  ]
  assert report.format_table(rows) == '\n'.join(
    [
      'name           bytes    bpp   psnr       x',
      '-------------  -----  -----  -----  ------',
      'a.png          12345  0.123  31.50       -',
      'long name.png      7  1.500      -  0.3333',
    ]
  )
  assert report.format_table([]) == ''
