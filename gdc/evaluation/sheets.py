"""Sheets of images side by side."""
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 8  # pixels around and between panels
MIN_COLUMN = 160  # pixels, so that a caption fits below a small image
FONT, MIN_FONT = 16, 9  # pixels; a caption that does not fit at 9 is cut
LINE_SPACING = 1.3
PAPER = (255, 255, 255)
INK = (24, 24, 24)


def side_by_side(
  panels: Sequence[tuple[np.ndarray, Sequence[str]]],
  columns: int | None = None,
  font_size: int = FONT,
) -> Image.Image:
  """Draws images in rows, each above its caption.

  Args:
    panels: pairs of an image, uint8 [height, width, 3], and the lines of its
      caption. All images have the same shape.
    columns: panels in a row; None puts all in one.
    font_size: in pixels; captions that are too wide get a smaller one.
  """
  columns = columns or len(panels)
  height, width, _ = panels[0][0].shape
  column = max(MIN_COLUMN, width)
  rows = [panels[i:i + columns] for i in range(0, len(panels), columns)]
  fonts = [
    _font([line for _, lines in row for line in lines], column, font_size)
    for row in rows
  ]
  heights = [
    height + 3 * MARGIN
    + round(LINE_SPACING * font.size) * max(len(lines) for _, lines in row)
    for row, font in zip(rows, fonts, strict=True)
  ]
  sheet = Image.new(
    'RGB', (MARGIN + columns * (column + MARGIN), sum(heights)), PAPER
  )
  draw = ImageDraw.Draw(sheet)
  top = MARGIN
  for row, font, row_height in zip(rows, fonts, heights, strict=True):
    for i, (image, lines) in enumerate(row):
      left = MARGIN + i * (column + MARGIN)
      sheet.paste(
        Image.fromarray(image), (left + (column - width) // 2, top)
      )
      for j, line in enumerate(lines):
        y = top + height + MARGIN + j * round(LINE_SPACING * font.size)
        draw.text((left, y), _cut(line, font, column), INK, font)
    top += row_height
  return sheet


def with_detail(
  image: np.ndarray,
  crop: tuple[int, int, int, int],
  magnify: float,
  scale: float = 1.0,
  resampling: Image.Resampling = Image.Resampling.NEAREST,
) -> np.ndarray:
  """Returns an image above an enlarged part of it.

  Args:
    image: uint8 [height, width, 3].
    crop: (left, top, right, bottom) of the part, in pixels.
    magnify: factor for the part, which is cut from the image at full size.
    scale: factor for the image.
    resampling: filter for the part, where it is enlarged.
  """
  whole = Image.fromarray(image)
  smooth = Image.Resampling.LANCZOS
  detail = _resized(
    whole.crop(crop), magnify, resampling if magnify >= 1 else smooth
  )
  whole = _resized(whole, scale, smooth)
  width = max(whole.width, detail.width)
  panel = Image.new(
    'RGB', (width, whole.height + MARGIN + detail.height), PAPER
  )
  panel.paste(whole, ((width - whole.width) // 2, 0))
  panel.paste(detail, ((width - detail.width) // 2, whole.height + MARGIN))
  return np.asarray(panel)


def _resized(image, factor, resampling):
  size = [max(1, round(factor * n)) for n in image.size]
  return image.resize(size, resampling)


def _font(lines, width, largest):
  """The largest font in which every line fits the width."""
  for size in range(largest, MIN_FONT, -1):
    font = ImageFont.load_default(size)
    if all(font.getlength(line) <= width for line in lines):
      return font
  return ImageFont.load_default(MIN_FONT)


def _cut(line, font, width):
  """The line, cut with an ellipsis if it is wider than `width`."""
  if font.getlength(line) <= width:
    return line
  while line and font.getlength(line + '...') > width:
    line = line[:-1]
  return line + '...'
