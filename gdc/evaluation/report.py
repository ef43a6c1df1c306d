"""Pictures and tables to look at: panels side by side, text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gdc.metrics import distortion

MARGIN = 8  # pixels around and between panels
MIN_COLUMN = 160  # pixels, so that a caption fits under a small picture
MIN_FONT = 9  # pixels; a caption that does not fit at that is cut
LINE_SPACING = 1.3
PAPER = (255, 255, 255)
INK = (24, 24, 24)

# Filters that magnify a detail.
RESAMPLING = {
  'nearest': Image.Resampling.NEAREST,  # shows pixels as they are
  'lanczos': Image.Resampling.LANCZOS,  # shows what a viewer would see
}

# Decimals of a column in a table; others get 4 significant digits.
DECIMALS = {
  'bpp': 3,
  'psnr': 2,
  'lpips': 4,
  'encode_seconds': 3,
  'decode_seconds': 3,
}


def side_by_side(
  panels: Sequence[tuple[np.ndarray, Sequence[str]]],
  caption_height: int = 16,
  crop: tuple[int, int, int, int] | None = None,
  magnify: int = 2,
  resampling: str = 'nearest',
) -> Image.Image:
  """Pictures of one size next to each other, each above its caption.

  Args:
    panels: pairs of a picture, uint8 [height, width, 3], and its lines of
      caption.
    caption_height: of a line's letters, in pixels; shrinks for all alike where
      a line would be wider than its panel.
    crop: (left, top, right, bottom) in pixels: a row of details under the
      captions shows that box of every picture, magnified.
    magnify: how many times the details are enlarged, 1 or more.
    resampling: 'nearest' or 'lanczos', for the details.

  Returns:
    An RGB picture.

  Raises:
    ValueError: no panels, sizes that differ, a crop that is empty or leaves
      the picture, a magnify below 1, an unknown filter.
  """
  if not panels:
    raise ValueError('panels is empty: at least one picture is expected')
  images = [image for image, _ in panels]
  captions = [list(lines) for _, lines in panels]
  for index, image in enumerate(images):
    distortion.check_image(image, f'panel {index}')
    if image.shape != images[0].shape:
      raise ValueError(
        f'panel {index} has shape {image.shape}: {images[0].shape}, that of '
        'the first, is expected'
      )
  height, width, _ = images[0].shape
  rows = [[Image.fromarray(image) for image in images]]
  if crop is not None:
    rows.append(_details(rows[0], crop, magnify, resampling))

  column = max([MIN_COLUMN] + [row[0].width for row in rows])
  font = _font(captions, caption_height, column)
  line_height = round(LINE_SPACING * font.size)
  caption_box = line_height * max(map(len, captions))
  canvas = Image.new(
    'RGB',
    (
      MARGIN + len(panels) * (column + MARGIN),
      sum(row[0].height + MARGIN for row in rows) + caption_box + 2 * MARGIN,
    ),
    PAPER,
  )
  draw = ImageDraw.Draw(canvas)

  for index, lines in enumerate(captions):
    left = MARGIN + index * (column + MARGIN)
    top = MARGIN
    for row_index, row in enumerate(rows):
      picture = row[index]
      canvas.paste(picture, (left + (column - picture.width) // 2, top))
      top += picture.height + MARGIN
      if row_index == 0:
        for line in lines:
          draw.text((left, top), _fit(line, font, column), INK, font)
          top += line_height
        top += (max(map(len, captions)) - len(lines)) * line_height + MARGIN
  return canvas


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Rows as plain text in columns, for a terminal.

  Args:
    rows: dicts, such as a sweep's rows; the columns are the keys, in order of
      first appearance. Missing values and None are shown as '-'.

  Returns:
    A header, a rule and one line per row, numbers flush right; '' for no
    rows.
  """
  if not rows:
    return ''
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [[_cell(name, row.get(name)) for name in names] for row in rows]
  widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
  is_text = [
    any(isinstance(row.get(name), str) for row in rows) for name in names
  ]

  def line(values):
    return '  '.join(
      value.ljust(width) if text else value.rjust(width)
      for value, width, text in zip(values, widths, is_text, strict=True)
    ).rstrip()

  rule = '  '.join('-' * width for width in widths)
  return '\n'.join([line(names), rule, *map(line, cells)])


def _details(pictures, crop, magnify, resampling):
  """The crop box of every picture, enlarged."""
  if resampling not in RESAMPLING:
    raise ValueError(
      f'resampling is {resampling!r}: one of '
      f'{", ".join(map(repr, RESAMPLING))} is expected'
    )
  if magnify < 1:
    raise ValueError(f'magnify is {magnify}: 1 or more is expected')
  left, top, right, bottom = crop
  width, height = pictures[0].size
  if not (0 <= left < right <= width and 0 <= top < bottom <= height):
    raise ValueError(
      f'crop is {crop}: (left, top, right, bottom) inside the picture of '
      f'{width} x {height} (width x height) is expected'
    )
  size = round(magnify * (right - left)), round(magnify * (bottom - top))
  return [
    picture.crop(crop).resize(size, RESAMPLING[resampling])
    for picture in pictures
  ]


def _font(captions, size, width):
  """Pillow's own font, at most size, at which every line fits the width."""
  lines = [line for caption in captions for line in caption]
  while True:
    font = ImageFont.load_default(size)
    if size <= MIN_FONT or all(font.getlength(line) <= width for line in lines):
      return font
    size -= 1


def _fit(line, font, width):
  """The line, cut with an ellipsis where it is wider than width."""
  if font.getlength(line) <= width:
    return line
  while line and font.getlength(line + '...') > width:
    line = line[:-1]
  return line + '...'


def _cell(name, value):
  if value is None:
    return '-'
  if isinstance(value, float | np.floating):
    return f'{value:.{DECIMALS[name]}f}' if name in DECIMALS else f'{value:.4g}'
  return str(value)
