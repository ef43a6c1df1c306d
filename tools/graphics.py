"""Draws images that are not photographs: text, screenshots, charts, line art.

  python -m tools.graphics FOLDER [--count 80]

Photographs alone teach an autoencoder little about sharp edges on a flat
background. A few per cent of such drawings among the training images do: draw
them into a subfolder of the photographs. docs/training.md tells how many.
Texts come from Python's own documentation and the font from Pillow.
"""
import argparse
import csv
import math
import pathlib
from pydoc_data import topics

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gdc.data import sources

_TEXT = ' '.join(' '.join(topics.topics.values()).split())
_LINES = [
  line.rstrip() for text in topics.topics.values()
  for line in text.splitlines() if line.startswith('       ')
]


def draw(seed: int, side: int = 512) -> np.ndarray:
  """Draws one image.

  Args:
    seed: decides everything.
    side: height and width in pixels, at least 128.

  Returns:
    uint8 [side, side, 3].
  """
  rng = np.random.default_rng(seed)
  kind = [_page, _editor, _window, _chart, _line_art, _scan, _flat][seed % 7]
  return np.asarray(kind(rng, side).convert('RGB'))


def _font(rng, low: float, high: float):
  size = np.exp(rng.uniform(np.log(low), np.log(high)))
  return ImageFont.load_default(float(size))


def _words(rng, count: int) -> str:
  start = int(rng.integers(len(_TEXT) - 20 * count))
  return ' '.join(_TEXT[start:start + 12 * count].split()[1:count + 1])


def _colour(rng, light: bool):
  """A random colour, near white or near black about half the time."""
  if rng.random() < 0.5:
    level = int(rng.integers(0, 30))
    return (255 - level,) * 3 if light else (level,) * 3
  low, high = (150, 256) if light else (0, 110)
  return tuple(int(v) for v in rng.integers(low, high, 3))


def _ground(rng):
  """Colours of background and foreground, in light mode or dark mode."""
  light = rng.random() < 0.75
  return _colour(rng, light), _colour(rng, not light)


def _paragraph(draw, rng, box, font, fill, spacing=1.35):
  """Fills a box with lines of text of the box's width."""
  left, top, right, bottom = box
  step = spacing * font.size
  words = _words(rng, 900).split()
  while top + step < bottom and words:
    line = ''
    while words and draw.textlength(line + words[0], font) < right - left:
      line += words.pop(0) + ' '
    if not line:
      return
    draw.text((left, top), line, fill, font)
    top += step
    if rng.random() < 0.08:
      top += step


def _page(rng, side):
  """A page of text with a heading, in one or two columns."""
  ground, ink = _ground(rng)
  image = Image.new('RGB', (side, side), ground)
  draw = ImageDraw.Draw(image)
  margin = int(rng.integers(8, side // 8))
  top = margin
  if rng.random() < 0.6:
    font = _font(rng, 22, 60)
    draw.text((margin, top), _words(rng, 4), _colour(rng, False), font)
    top += int(1.5 * font.size)
  font, columns = _font(rng, 9, 30), int(rng.integers(1, 3))
  width = (side - margin * (columns + 1)) // columns
  for column in range(columns):
    left = margin + column * (width + margin)
    _paragraph(draw, rng, (left, top, left + width, side - margin), font, ink)
  return image


def _editor(rng, side):
  """Source code with line numbers and coloured words."""
  ground, ink = _ground(rng)
  image = Image.new('RGB', (side, side), ground)
  draw, font = ImageDraw.Draw(image), _font(rng, 10, 20)
  light = sum(ground) > 380
  palette = [_colour(rng, not light) for _ in range(4)] + [ink]
  first = int(rng.integers(len(_LINES) - 200))
  for i in range(int(side / (1.4 * font.size)) + 1):
    line = _LINES[first + i]
    y = 1.4 * font.size * i
    draw.text((4, y), f'{first + i:5d}', palette[0], font)
    x = 4 * font.size + 2 * (len(line) - len(line.lstrip()))
    for word in line.split():
      draw.text((x, y), word, palette[len(word) % 5], font)
      x += draw.textlength(word + ' ', font)
  return image


def _window(rng, side):
  """A desktop with windows, buttons, icons, lists and tables."""
  image = _gradient(rng, side)
  draw = ImageDraw.Draw(image)
  for _ in range(int(rng.integers(2, 5))):
    ground, ink = _ground(rng)
    left, top = (int(v) for v in rng.integers(-40, side // 2, 2))
    width, height = (int(v) for v in rng.integers(side // 3, side, 2))
    draw.rounded_rectangle(
      (left, top, left + width, top + height), int(rng.integers(0, 14)),
      ground, outline=ink, width=int(rng.integers(0, 3)),
    )
    font, accent = _font(rng, 10, 18), _colour(rng, rng.random() < 0.5)
    bar = int(2 * font.size)
    draw.rectangle((left + 2, top + 2, left + width - 2, top + bar), accent)
    draw.text((left + 10, top + 6), _words(rng, 3), ink, font)
    if rng.random() < 0.5:
      _paragraph(
        draw, rng, (left + 10, top + bar + 8, left + width - 10, top + height),
        font, ink,
      )
      continue
    for y in range(top + bar, top + height - bar, bar):
      draw.line((left, y, left + width, y), accent)
      for x in range(left + 10, left + width - 60, 90):
        draw.text((x, y + 5), f'{rng.normal(0, 999):.2f}', ink, font)
    for i in range(3):
      box = (left + 10 + 80 * i, top + height - 30)
      draw.rounded_rectangle((*box, box[0] + 70, box[1] + 22), 5, accent)
      draw.text((box[0] + 8, box[1] + 3), _words(rng, 1)[:8], ink, font)
  return image


def _chart(rng, side):
  """Axes with curves, bars or a scatter."""
  ground, ink = _ground(rng)
  large = 2 * side  # twice the size, so that lines are smooth
  image = Image.new('RGB', (large, large), ground)
  draw, font = ImageDraw.Draw(image), _font(rng, 20, 36)
  box = (120, 60, large - 40, large - 120)
  for i in range(7):
    y = box[1] + (box[3] - box[1]) * i / 6
    x = box[0] + (box[2] - box[0]) * i / 6
    draw.line((box[0], y, box[2], y), ink, 1 if i < 6 else 3)
    draw.text((30, y - 14), f'{60 - 10 * i}', ink, font)
    draw.text((x - 10, box[3] + 10), f'{i / 2:.1f}', ink, font)
  draw.text((large // 3, 10), _words(rng, 4), ink, font)
  kind = int(rng.integers(3))
  for _ in range(int(rng.integers(1, 6))):
    colour = _colour(rng, rng.random() < 0.5)
    x = np.linspace(box[0], box[2], 60)
    y = np.clip(
      large / 2 + np.cumsum(rng.normal(0, 40, 60)), box[1], box[3]
    )
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    if kind == 0:
      draw.line(points, colour, int(rng.integers(2, 7)), joint='curve')
    for px, py in points[:: 1 if kind == 1 else 4]:
      if kind == 1:
        draw.ellipse((px - 6, py - 6, px + 6, py + 6), colour)
      elif kind == 2:
        draw.rectangle((px, py, px + 30, box[3]), colour)
  return image.resize((side, side), Image.LANCZOS)


def _line_art(rng, side):
  """Curves, polygons and hatching."""
  ground, ink = _ground(rng)
  large = 3 * side
  image = Image.new('RGB', (large, large), ground)
  draw = ImageDraw.Draw(image)
  for _ in range(int(rng.integers(8, 40))):
    angle = np.linspace(0, 2 * np.pi, 50)
    radius = rng.uniform(50, large / 3) * (
      1 + 0.3 * np.sin(angle * rng.integers(1, 6) + rng.uniform(0, 6))
    )
    centre = rng.uniform(0, large, 2)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    points = [tuple(p) for p in (points + centre).tolist()]
    if rng.random() < 0.3:
      draw.polygon(points, _colour(rng, rng.random() < 0.5))
    draw.line(points, ink, int(rng.integers(2, 14)), joint='curve')
  for x in range(0, large, int(rng.integers(12, 60))):
    if rng.random() < 0.15:
      draw.line((x, 0, x + large // 4, large), ink, int(rng.integers(2, 8)))
  return image.resize((side, side), Image.LANCZOS)


def _scan(rng, side):
  """A page, a little turned, in black and white or grey with dust."""
  image = _page(rng, side).convert('L')
  ground = image.getpixel((1, 1))
  image = image.rotate(rng.uniform(-3, 3), Image.BICUBIC, fillcolor=ground)
  if rng.random() < 0.5:
    return image.point(lambda v: 255 * (v > 128))
  image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
  noisy = np.asarray(image, np.float32) + rng.normal(0, 4, (side, side))
  return Image.fromarray(np.uint8(np.clip(noisy, 0, 255)))


def _gradient(rng, side):
  """A smooth ground of two colours."""
  ends = rng.uniform(0, 255, (2, 3))
  angle = rng.uniform(0, 2 * math.pi)
  y, x = np.mgrid[-1:1:side * 1j, -1:1:side * 1j]
  share = np.clip(0.5 + 0.4 * (x * np.cos(angle) + y * np.sin(angle)), 0, 1)
  plane = ends[0] + share[..., None] * (ends[1] - ends[0])
  return Image.fromarray(np.uint8(np.round(plane)))


def _flat(rng, side):
  """A poster: flat shapes on a gradient, with large letters."""
  image = _gradient(rng, side)
  draw = ImageDraw.Draw(image)
  for _ in range(int(rng.integers(4, 25))):
    x, y, r = rng.uniform(0, side, 3)
    box = (x - r / 3, y - r / 4, x + r / 3, y + r / 4)
    shape = [draw.ellipse, draw.rectangle, draw.pieslice][rng.integers(3)]
    extra = (30, 300) if shape == draw.pieslice else ()
    shape(box, *extra, fill=_colour(rng, rng.random() < 0.5))
  for _ in range(int(rng.integers(1, 5))):
    draw.text(
      tuple(rng.uniform(0, side * 0.7, 2)), _words(rng, 3),
      _colour(rng, rng.random() < 0.5), _font(rng, 24, 120),
    )
  return image


def write(folder, count: int, side: int = 512) -> None:
  """Draws images into a folder, with the manifest that training reads.

  Args:
    folder: made if it is missing.
    count: images 0 to count - 1, see `draw`.
    side: height and width in pixels.
  """
  folder = pathlib.Path(folder).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / sources.MANIFEST, 'w', newline='') as file:
    rows = csv.writer(file)
    rows.writerow(['file', 'source', 'original', 'licence'])
    for i in range(count):
      name = f'graphics_{i:04d}.png'
      Image.fromarray(draw(i, side)).save(folder / name)
      rows.writerow([name, 'graphics', name, 'CC0-1.0'])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder')
  parser.add_argument('--count', type=int, default=80)
  arguments = parser.parse_args()
  write(arguments.folder, arguments.count)
