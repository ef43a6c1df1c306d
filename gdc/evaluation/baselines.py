"""Conventional codecs to compare with: JPEG, WebP and AVIF through Pillow.

Each is run as its library ships it, with chroma at half resolution (4:2:0,
the default of all three encoders, fixed here so that it can't drift) and with
the settings that cost only time: optimised Huffman tables and progressive
scans for JPEG (libjpeg-turbo), method 6 for WebP (libwebp). AVIF keeps
Pillow's speed 6 and its choice of encoder (libaom in Pillow's wheels).
No metadata is written. Sizes are those of whole files.
"""

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from gdc.evaluation import distortion


class Baseline(NamedTuple):
  """An encoder of Pillow's and the integer qualities it takes."""

  format: str  # Pillow's name
  feature: str  # what Pillow must have been built with
  lowest: int  # quality
  highest: int  # quality
  options: dict[str, Any]


BASELINES = {
  # Above 95 libjpeg only grows the file, says Pillow's documentation.
  'jpeg': Baseline(
    'JPEG',
    'jpg',
    0,
    95,
    {'subsampling': '4:2:0', 'optimize': True, 'progressive': True},
  ),
  # Lossy WebP knows no other subsampling than 4:2:0.
  'webp': Baseline('WEBP', 'webp', 0, 100, {'method': 6}),
  'avif': Baseline(
    'AVIF', 'avif', 0, 100, {'subsampling': '4:2:0', 'speed': 6}
  ),
}


def encode(name: str, image: np.ndarray, quality: int) -> bytes:
  """Encodes a picture.

  Args:
    name: 'jpeg', 'webp' or 'avif'.
    image: uint8 [height, width, 3].
    quality: an integer on the encoder's own scale: 0 to 95 for jpeg, 0 to 100
      for webp and avif. The scales do not compare.

  Returns:
    The file's bytes.

  Raises:
    ValueError: unknown name, a quality out of range, a wrong picture.
    RuntimeError: this Pillow was built without the encoder.
  """
  baseline = _baseline(name)
  distortion.check_image(image)
  if int(quality) != quality or not (
    baseline.lowest <= quality <= baseline.highest
  ):
    raise ValueError(
      f'quality is {quality}: an integer from {baseline.lowest} to '
      f'{baseline.highest} is expected for {name}'
    )
  buffer = io.BytesIO()
  Image.fromarray(image).save(
    buffer, baseline.format, quality=int(quality), **baseline.options
  )
  return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
  """Decodes any file that Pillow reads: uint8 [height, width, 3]."""
  with Image.open(io.BytesIO(data)) as picture:
    return np.array(picture.convert('RGB'))


def at_most_bytes(
  name: str, image: np.ndarray, max_bytes: int
) -> tuple[bytes, int]:
  """The best file of at most max_bytes, by bisection over the quality.

  Sizes grow with quality but for rare dents, at which a quality next to the
  best may be returned; the limit always holds.

  Args:
    name: 'jpeg', 'webp' or 'avif'.
    image: uint8 [height, width, 3].
    max_bytes: the limit, in bytes of the whole file.

  Returns:
    The file's bytes and its quality.

  Raises:
    ValueError: even the lowest quality needs more, or as in encode.
  """
  baseline = _baseline(name)
  low, high = baseline.lowest, baseline.highest
  data = encode(name, image, low)
  if len(data) > max_bytes:
    raise ValueError(
      f'max_bytes is {max_bytes}: at its lowest quality {name} needs '
      f'{len(data)} bytes for this picture'
    )
  while low < high:
    middle = (low + high + 1) // 2
    candidate = encode(name, image, middle)
    if len(candidate) <= max_bytes:
      low, data = middle, candidate
    else:
      high = middle - 1
  return data, low


def _baseline(name: str) -> Baseline:
  if name not in BASELINES:
    raise ValueError(
      f'the codec is {name!r}: one of {", ".join(map(repr, BASELINES))} is '
      'expected'
    )
  baseline = BASELINES[name]
  if not features.check(baseline.feature):
    raise RuntimeError(
      f'this Pillow was built without {name}: a wheel of Pillow 11.3 or later '
      'has it'
    )
  return baseline
