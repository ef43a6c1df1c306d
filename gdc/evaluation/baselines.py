"""Other codecs to compare with, each run as its library ships it.

  jpeg  JPEG       libjpeg-turbo, Pillow      4:2:0, progressive, optimised
  webp  WebP       libwebp, Pillow            4:2:0, method 6
  avif  AVIF       libavif, Pillow            4:2:0, speed 6 (libaom in wheels)
  jxl   JPEG XL    libjxl, imagecodecs        VarDCT, XYB 4:4:4, effort 7
  jp2   JPEG 2000  OpenJPEG, imagecodecs      9/7 wavelet, 4:4:4, one layer
  heic  HEVC       x265, libheif, pillow-heif 4:2:0, intra, slow, tuned for SSIM

Settings that cost only time are on if the time is bearable, and those that a
library could change from one version to the next are fixed here. Encoders run
in one thread if threads change the bytes (AVIF, HEVC), so that an image gives
the same file on any number of cores. No metadata is written; sizes are those of
whole files, containers included (about 0.4 kB in HEIC).

Chroma at half resolution limits what 4:2:0 can reach: on an image of fine,
saturated colours jpeg, webp, avif and heic stop near 31 dB in RGB at any rate.
libheif repeats chroma samples where the others interpolate them, which lowers
the ceiling of heic by up to 2.5 dB on six photographs.

VVC is missing for want of a packaged encoder: PyAV's wheels only decode it and
Debian 12 has no vvenc. Published curves of VTM stand in for it, see
published.py.
"""

import functools
import importlib
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, features

from gdc.metrics import distortion


class Baseline(NamedTuple):
  """A codec and the qualities it takes.

  Attributes:
    title: its usual name.
    lowest: quality.
    highest: quality.
    sweep: qualities of a rate-distortion curve, by rising rate. Means over the
      photographs of CID22's validation set begin at 0.08 to 0.17 bpp and end
      at 1.3 to 1.7, with Pillow 13.0, imagecodecs 2026.3.6 and pillow-heif
      1.8.1. Scales move: at one quality libavif 1.3 spends a third less than
      1.4.
    settings: in words, for the record.
    write: (uint8 [height, width, 3], quality) -> bytes of the whole file.
    check: returns encoder and package with their versions; raises RuntimeError
      if they are not installed.
    finest: step of qualities. Below 1 for jp2, where a whole dB is a tenth of
      the bytes; fractions for webp and jxl change files by no more than chance.
  """

  title: str
  lowest: int
  highest: int
  sweep: tuple[int, ...]
  settings: str
  write: Callable[[np.ndarray, float], bytes]
  check: Callable[[], str]
  finest: float = 1


def encode(name: str, image: np.ndarray, quality: float) -> bytes:
  """Encodes an image; the same versions give the same bytes.

  Args:
    name: a key of BASELINES.
    image: uint8 [height, width, 3].
    quality: on the encoder's own scale, from the baseline's lowest to its
      highest, a multiple of its finest. The scales do not compare. That of jp2
      is the PSNR in dB that OpenJPEG aims at, so that a hard image takes many
      times the bits of an easy one, which costs jp2 some of its mean PSNR at a
      mean rate.

  Returns:
    The file's bytes.

  Raises:
    ValueError: unknown name, a quality out of range, a wrong image.
    RuntimeError: the encoder is not installed.
  """
  baseline = _baseline(name)
  distortion.check_image(image)
  if quality % baseline.finest or not (
    baseline.lowest <= quality <= baseline.highest
  ):
    raise ValueError(
      f'quality is {quality}: a multiple of {baseline.finest} from '
      f'{baseline.lowest} to {baseline.highest} is expected for {name}'
    )
  quality = int(quality) if quality == int(quality) else float(quality)
  return baseline.write(np.ascontiguousarray(image), quality)


def decode(data: bytes) -> np.ndarray:
  """Decodes a file of `encode`, or any other 8-bit file that Pillow reads.

  Args:
    data: bytes of the whole file, which tell its format.

  Returns:
    uint8 [height, width, 3].

  Raises:
    RuntimeError: the package that reads this format is not installed.
    OSError, ValueError, RuntimeError: a damaged or foreign file, as the
      format's library reports it.
  """
  if data.startswith((b'\xff\x0a', b'\0\0\0\x0cJXL \r\n\x87\n')):
    image = Image.fromarray(_package('imagecodecs').jpegxl_decode(data))
  elif data.startswith((b'\xff\x4f\xff\x51', b'\0\0\0\x0cjP  \r\n\x87\n')):
    image = Image.fromarray(_package('imagecodecs').jpeg2k_decode(data))
  elif _is_hevc(data):
    image = _package('pillow_heif').open_heif(io.BytesIO(data)).to_pillow()
  else:
    image = Image.open(io.BytesIO(data))
  with image:
    return np.array(image.convert('RGB'))


def library(name: str) -> str:
  """Describes a baseline's encoder and settings, for the record.

  Such as 'libjxl 0.11.2 (imagecodecs 2026.3.6), effort 7'.

  Raises:
    ValueError: unknown name.
    RuntimeError: the encoder is not installed.
  """
  baseline = _baseline(name)
  return f'{baseline.check()}, {baseline.settings}'


def at_most_bytes(
  name: str, image: np.ndarray, max_bytes: int
) -> tuple[bytes, float]:
  """Finds the best file of at most max_bytes, or else the smallest.

  By bisection over the quality, as finely as the encoder has it. Sizes grow
  with it but for rare dents, at which a quality next to the best may be
  returned; the limit holds whenever the lowest quality keeps it.

  Args:
    name: a key of BASELINES.
    image: uint8 [height, width, 3].
    max_bytes: the limit, in bytes of the whole file.

  Returns:
    The file's bytes, those of the lowest quality if even they are more than
    max_bytes; and the quality.

  Raises:
    ValueError: as in encode.
    RuntimeError: the encoder is not installed.
  """
  baseline = _baseline(name)
  low, data = 0, encode(name, image, baseline.lowest)
  high = round((baseline.highest - baseline.lowest) / baseline.finest)
  if len(data) > max_bytes:
    return data, baseline.lowest
  while low < high:
    middle = (low + high + 1) // 2
    candidate = encode(
      name, image, baseline.lowest + middle * baseline.finest
    )
    if len(candidate) <= max_bytes:
      low, data = middle, candidate
    else:
      high = middle - 1
  return data, baseline.lowest + low * baseline.finest


def _baseline(name: str) -> Baseline:
  """Looks up a codec that is installed."""
  if name not in BASELINES:
    raise ValueError(
      f'the codec is {name!r}: one of {", ".join(map(repr, BASELINES))} is '
      'expected'
    )
  BASELINES[name].check()
  return BASELINES[name]


# --- Encoders ---------------------------------------------------------------


def _write_pillow(
  format: str, options: Mapping[str, Any], image: np.ndarray, quality: int
) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format, quality=quality, **options)
  return buffer.getvalue()


def _write_jxl(image: np.ndarray, quality: int) -> bytes:
  return bytes(_package('imagecodecs').jpegxl_encode(
    image, distance=jxl_distance(quality), lossless=False, effort=7
  ))


def jxl_distance(quality: int) -> float:
  """Butteraugli distance: JxlEncoderDistanceFromQuality of libjxl."""
  if quality >= 30:
    return 0.1 + 0.09 * (100 - quality)
  return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _write_jp2(image: np.ndarray, quality: float) -> bytes:
  # Six resolutions are five levels of the wavelet, OpenJPEG's own default.
  return bytes(_package('imagecodecs').jpeg2k_encode(
    image, level=quality, codecformat='jp2', reversible=False, mct=True,
    resolutions=6,
  ))


def _write_heic(image: np.ndarray, quality: int) -> bytes:
  height, width, _ = image.shape
  buffer = io.BytesIO()
  _package('pillow_heif').encode(
    'RGB', (width, height), image.tobytes(), buffer, quality=quality,
    chroma=420,
    # Rows of blocks in parallel would cost bits, and come and go with cores.
    enc_params={'preset': 'slow', 'tune': 'ssim', 'x265:wpp': '0'},
  )
  return buffer.getvalue()


# --- Packages ---------------------------------------------------------------


def _check_pillow(name: str, feature: str) -> str:
  if not features.check(feature):
    raise _built_without('Pillow', name)
  encoder, version = {
    'jpg': ('libjpeg-turbo', 'libjpeg_turbo'),
    'webp': ('libwebp', 'webp'),
    'avif': ('libavif', 'avif'),
  }[feature]
  # A Pillow built from source may be linked to another libjpeg.
  version = features.version(version) or 'of unknown version'
  return f'{encoder} {version} (Pillow {PIL.__version__})'


def _check_imagecodecs(codec: str, version: str) -> str:
  package = _package('imagecodecs')
  if not getattr(package, codec).available:
    raise _built_without('imagecodecs', codec)
  encoder = getattr(package, version)()
  return f'{encoder} (imagecodecs {package.__version__})'


def _check_heic() -> str:
  package = _package('pillow_heif')
  encoder = package.libheif_info()['encoders'].get('x265')
  if not encoder:
    raise _built_without('pillow-heif', 'x265')
  return (
    f'{encoder} in libheif {package.libheif_version()} '
    f'(pillow-heif {package.__version__})'
  )


def _built_without(package, encoder) -> RuntimeError:
  return RuntimeError(
    f'this {package} was built without {encoder}: its wheels have it, '
    "pip install 'gdc-codec[eval]'"
  )


def _package(module: str):
  """Imports a package that only some codecs need."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    name = module.replace('_', '-')
    raise RuntimeError(
      f"the package {name} is not installed: pip install 'gdc-codec[eval]' "
      'brings it'
    ) from error


def _is_hevc(data: bytes) -> bool:
  """Whether an ISO media file is an image of HEVC, not of AV1."""
  if data[4:8] != b'ftyp':
    return False
  box = data[8 : int.from_bytes(data[:4], 'big')]
  brands = {box[:4], *(box[i : i + 4] for i in range(8, len(box), 4))}
  return bool(brands & {b'heic', b'heix', b'heim', b'heis'})


# --- The table --------------------------------------------------------------


def _pillow(title, feature, lowest, highest, sweep, settings, options):
  return Baseline(
    title, lowest, highest, sweep, settings,
    functools.partial(_write_pillow, title.upper(), options),
    functools.partial(_check_pillow, title, feature),
  )


BASELINES = {
  # Above 95 libjpeg only grows the file, says Pillow's documentation.
  'jpeg': _pillow(
    'JPEG', 'jpg', 0, 95, (3, 8, 18, 40, 70, 87), '4:2:0, progressive',
    {'subsampling': '4:2:0', 'optimize': True, 'progressive': True},
  ),
  # Lossy WebP is always 4:2:0.
  'webp': _pillow(
    'WebP', 'webp', 0, 100, (0, 5, 22, 58, 80, 90), 'method 6, 4:2:0',
    {'method': 6},
  ),
  'avif': _pillow(
    'AVIF', 'avif', 0, 100, (12, 26, 42, 57, 72, 85), 'speed 6, 4:2:0',
    {'subsampling': '4:2:0', 'speed': 6, 'max_threads': 1},
  ),
  # Below 5 libjxl halves the image first and files grow again; 100 would be
  # lossless.
  'jxl': Baseline(
    'JPEG XL', 5, 99, (5, 13, 30, 60, 79, 89), 'effort 7', _write_jxl,
    functools.partial(_check_imagecodecs, 'JPEGXL', 'jpegxl_version'),
  ),
  'jp2': Baseline(
    'JPEG 2000', 15, 60, (23, 26, 29, 32, 35, 38), '9/7 wavelet, 4:4:4',
    _write_jp2,
    functools.partial(_check_imagecodecs, 'JPEG2K', 'jpeg2k_version'), 0.125,
  ),
  'heic': Baseline(
    'HEVC intra', 0, 100, (12, 22, 34, 45, 55, 62),
    'preset slow, tune ssim, 4:2:0, no wavefronts', _write_heic, _check_heic,
  ),
}
