"""Sheets of images and tables of text."""
import numpy as np

from gdc.evaluation import sheets


def _panels(height=120, width=200, values=(40, 140, 240)):
  return [
    (
      np.full((height, width, 3), value, np.uint8),
      [f'grey {value}', '0.12 bpp'],
    )
    for value in values
  ]


def test_every_image_is_shown_untouched():
  rng = np.random.default_rng(3)
  panels = [
    (rng.integers(0, 256, (120, 200, 3), np.uint8), [str(i)]) for i in range(3)
  ]
  canvas = np.asarray(sheets.side_by_side(panels))
  for index, (image, _) in enumerate(panels):
    left = sheets.MARGIN + index * (200 + sheets.MARGIN)
    shown = canvas[sheets.MARGIN : sheets.MARGIN + 120, left : left + 200]
    np.testing.assert_array_equal(shown, image)


def test_captions_are_drawn_dark_below_the_images():
  with_text = np.asarray(sheets.side_by_side(_panels()))
  blank = np.asarray(
    sheets.side_by_side([(image, ['', '']) for image, _ in _panels()])
  )
  assert with_text.shape == blank.shape
  assert (with_text != blank).any((1, 2)).nonzero()[0].min() > 120
  below = with_text[130:]
  assert below.min() < 64 and np.median(below) == 255
  for index in range(3):  # each panel has its own
    column = below[:, 8 + index * 208 :][:, :200]
    assert column.min() < 64


def test_captions_in_a_larger_font():
  one, two = (
    sheets.side_by_side(_panels(), font_size=size) for size in (16, 32)
  )
  assert two.height - one.height == round(1.3 * 32) * 2 - round(1.3 * 16) * 2
  ink = [
    (np.asarray(sheet)[130:] < 128).all(-1).any(1).sum() for sheet in (one, two)
  ]
  assert ink[1] > 1.5 * ink[0]  # rows of pixels with text
  # One that is too wide for its column is still drawn smaller.
  panels = [(image, ['as wide as a column is']) for image, _ in _panels()]
  height = sheets.side_by_side(panels, font_size=32).height
  assert 120 < height < two.height


def test_long_captions_stay_in_their_column():
  # Only the middle panel has a caption: nothing may be drawn beside it.
  panels = [
    (image, ['a very long caption ' * 8] if index == 1 else [])
    for index, (image, _) in enumerate(_panels())
  ]
  canvas = np.asarray(sheets.side_by_side(panels))
  text = (canvas[130:] < 200).any((0, 2)).nonzero()[0]
  assert len(text) and text.min() >= 208 and text.max() < 208 + 208


def test_rows():
  panels = _panels(values=(40, 140, 240, 90))
  one, two = (np.asarray(sheets.side_by_side(panels, c)) for c in (4, 2))
  assert two.shape == (2 * one.shape[0], 2 * 208 + 8, 3)
  np.testing.assert_array_equal(two[:one.shape[0]], one[:, :424])
  np.testing.assert_array_equal(two[one.shape[0]:, 8:], one[:, 424:])


def test_a_detail_is_enlarged_below():
  image = _panels()[0][0]
  image[10:30, 20:60] = [255, 0, 0]
  panel = sheets.with_detail(image, (20, 10, 60, 30), 3)
  assert panel.shape == (120 + sheets.MARGIN + 60, 200, 3)
  np.testing.assert_array_equal(panel[:120], image)
  red = (panel[120:] == [255, 0, 0]).all(-1)
  assert red.sum() == 60 * 120
  wide = sheets.with_detail(image, (0, 0, 200, 120), 2, scale=0.5)
  assert wide.shape == (60 + sheets.MARGIN + 240, 400, 3)


def test_one_pixel_images():
  canvas = sheets.side_by_side(_panels(1, 1))
  assert canvas.width == 3 * (sheets.MIN_COLUMN + sheets.MARGIN) + sheets.MARGIN
