"""Decodes image files with Pillow: within gdc's limits, with one kind of error.

What the decoded samples become is in image_files.
"""
import contextlib
import ctypes
import dataclasses
import io
import os
import re
import threading
import warnings

from PIL import (
  ExifTags,
  Image,
  ImageChops,
  ImageFile,
  PngImagePlugin,
  UnidentifiedImageError,
)

from gdc import metadata
from gdc.codec import bitstream
from gdc.data import formats, layouts
from gdc.data import notices as notices_lib

_FORMATS = tuple(dict.fromkeys(formats.READ.values()))
# Within the samples of a JPEG, 0xff is followed by zero or a restart marker.
_SEGMENT = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')


class ImageError(ValueError):
  """A file that is not an image, or of a kind that is not supported."""


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The first frame of a file, as it is stored."""

  image: Image.Image  # 8 bits per channel, or grey of up to 16
  bits: int  # per channel in the file, where Pillow may narrow silently
  orientation: int  # EXIF's, 1 to 8, still to be applied
  exif: bytes  # upright and without prefix; b'': none
  xmp: bytes  # upright; b'': none
  notices: list[str]  # on losses


def decode(source, incomplete: bool = True) -> Decoded:
  """Decodes an image file.

  Args:
    source: a path, or a binary file object.
    incomplete: whether a JPEG that is cut off is decoded as far as it goes,
      with a notice; otherwise it is an error.

  Raises:
    ImageError: the file is not an image of a supported kind, is damaged, has
      floating-point or 32-bit samples, or more than bitstream.MAX_PIXELS.
    OSError: the file cannot be read.
  """
  with _opened(source) as (file, name), _limits():
    file.seek(0)
    head = file.read(1 << 16)
    if not head:
      raise ImageError(f'{name} is empty.')
    kind = layouts.kind(head)
    try:
      return _decode(file, head, kind, incomplete)
    except _UnsupportedError as e:
      raise _refusal(name, kind, *e.args) from e
    except Image.DecompressionBombError as e:
      raise ImageError(
        f'{name} has more than {bitstream.MAX_PIXELS:,} pixels, the most that '
        'are read.'
      ) from e
    except Exception as e:  # Pillow raises errors of many kinds
      if isinstance(e, MemoryError) or getattr(e, 'errno', None) is not None:
        raise  # of the machine or the file, not of the image
      raise ImageError(
        f'{name} is a damaged {kind or "image"} file: {e}'
      ) from e


class _UnsupportedError(Exception):
  """A kind of image that is not read; its argument says which, or is None."""


def _decode(file, head, kind, incomplete) -> Decoded:
  image, samples, frames, is_grey = _open(file, kind)
  try:
    image, notices = _load(image, file, incomplete)
  except ValueError as e:
    if samples and 'raw mode' in str(e):
      raise _UnsupportedError(samples) from e
    raise
  if image.format == 'PNG':
    problem = layouts.png_problem(image, file)
    if problem:
      raise ValueError(problem)
  orientation = metadata.orientation_of(image)
  exif, xmp, lost = metadata.find(
    image, bitstream.MAX_EXIF_BYTES, bitstream.MAX_XMP_BYTES
  )
  notices += notices_lib.find(image, file, frames) + lost
  if image.mode == 'F' or image.mode == 'I' and image.format != 'PPM':
    raise _UnsupportedError(f'{image.mode} pixels (32 bits)')
  if image.format == 'TIFF':
    bits = max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
  else:
    bits = layouts.depth(image.format, head)
  if bits > 8:
    notices.append(f'{bits} bits per channel become 8')
  if image.format == 'TIFF':
    notices += notices_lib.tiff_channels(image.tag_v2)
  # Pillow leaves the transparent grey of a PNG in the file's own scale.
  key = image.info.get('transparency')
  if image.format == 'PNG' and image.mode == 'L' and bits in (2, 4) and (
    isinstance(key, int) and key < 2**bits
  ):
    image.info['transparency'] = key * 255 // (2**bits - 1)
  if is_grey:
    image = image.convert('LA')
  return Decoded(image, bits, orientation, exif, xmp, notices)


def _open(file, kind):
  """Opens a file: (image, a TIFF's samples, frames, whether it is grey)."""
  samples = None
  if kind == 'TIFF':
    samples, is_read = layouts.tiff(file)
    if not is_read:
      raise _UnsupportedError(samples)
  try:
    image = Image.open(file, formats=_FORMATS)
  except UnidentifiedImageError as e:
    raise _UnsupportedError(samples) from e
  if image.mode == 'CMYK' and 'adobe' not in image.info and (
    image.format in ('JPEG', 'MPO')
  ):
    raise _UnsupportedError(
      'CMYK colours without an Adobe marker (they may be inverted)'
    )
  # Pillow has no LA of 16 bits, and makes it RGBA.
  is_grey = image.format == 'PNG' and image.tile[0].args == 'LA;16B'
  return image, samples, getattr(image, 'n_frames', 1), is_grey


def _load(image, file, incomplete):
  """Loads an opened image, as far as a JPEG goes: (image, notices)."""
  try:
    image.load()
    return image, []
  except OSError as e:
    if e.errno is not None or image.format not in ('JPEG', 'MPO'):
      raise
    try:
      image, row = _load_cut_jpeg(file)
    except OSError:
      raise e from None
    if row is None:
      notice = 'its end marker is missing'
      if 'progressive' in image.info:
        notice += ', perhaps with some of its detail'
      return image, [notice]
    if not incomplete:
      raise
    return image, [f'it is cut off: its rows from {row} on are missing']


def _load_cut_jpeg(file):
  """Loads a JPEG that has no end marker.

  Returns:
    (image, first row that depends on missing data), the row None if the
    samples are complete.

  Raises:
    OSError: the file ends before its samples.
  """
  file.seek(0)
  data = file.read().rstrip(b'\xff')
  try:
    whole = _jpeg(data)
  except OSError:
    # Cut within a marker segment; the scans before it are whole.
    data = data[:[m.start() for m in _SEGMENT.finditer(data)][-1]]
    whole = _jpeg(data)
  # Bytes after the end change the rows that the decoder makes up, but not
  # those of a complete image.
  box = ImageChops.difference(
    whole, _jpeg(data + b'\x5a\x35\x91' * 1000)
  ).getbbox()
  return whole, box and box[1]


def _jpeg(data):
  """Loads a JPEG whose end marker is missing."""
  image = Image.open(io.BytesIO(data + b'\xff\xd9'), formats=('JPEG',))
  image.load()
  return image


def _refusal(name, kind, problem=None) -> ImageError:
  """Returns the error for a file of a kind that is not read."""
  if problem:
    return ImageError(
      f'{name} is a {kind} of {problem}, which is not read; save it as PNG, or '
      'with interleaved unsigned 8 or 16 bits per channel, first.'
    )
  if kind in formats.NAMES_READ.replace(',', '').split():
    return ImageError(
      f'{name} is a damaged {kind}, or one of a kind that is not read; save it '
      'as an 8-bit PNG first.'
    )
  return ImageError(
    f'{name} is {f"a {kind} file, not" if kind else "not"} an image of a kind '
    f'that is read: {formats.NAMES_READ}.'
  )


@contextlib.contextmanager
def _opened(source):
  """Yields a binary file that can seek, and its name."""
  with contextlib.ExitStack() as stack:
    if isinstance(source, str | os.PathLike):
      name = os.fspath(source)
      source = stack.enter_context(open(source, 'rb'))
    else:
      name = getattr(source, 'name', 'the input')
      name = 'standard input' if name == '<stdin>' else name
    yield source if source.seekable() else io.BytesIO(source.read()), name


_restore = contextlib.ExitStack()
_limits_lock = threading.Lock()
_limits_users = 0


@contextlib.contextmanager
def _limits():
  """Gives Pillow gdc's limits and silences its warnings, in every thread."""
  global _limits_users
  with _limits_lock:
    _limits_users += 1
    if _limits_users == 1:
      for module, name, value in (
        # Pillow refuses images of more than twice this.
        (Image, 'MAX_IMAGE_PIXELS', bitstream.MAX_PIXELS // 2),
        # A profile counts as text; one that is too long is still converted.
        (PngImagePlugin, 'MAX_TEXT_CHUNK', 4 * bitstream.MAX_ICC_BYTES),
        (ImageFile, 'LOAD_TRUNCATED_IMAGES', False),
      ):
        _restore.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)
      _silence_libtiff()
      _restore.enter_context(warnings.catch_warnings())
      warnings.simplefilter('ignore')
  try:
    yield
  finally:
    with _limits_lock:
      _limits_users -= 1
      if not _limits_users:
        _restore.close()


def _silence_libtiff():
  """Keeps libtiff from printing errors, which Pillow's exceptions repeat."""
  try:
    # Looks the symbol up in the libraries that Pillow is linked with.
    switch = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
  except (AttributeError, OSError):  # linked otherwise on this system
    return
  switch.argtypes, switch.restype = [ctypes.c_void_p], ctypes.c_void_p
  _restore.callback(switch, switch(None))
