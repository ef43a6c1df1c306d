"""Picture files through Pillow: within our limits, and with one kind of error.

What is here knows files; what the decoded samples become is said in `pictures`.
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

from gdc.data import formats, layouts, losses

# What a gdc file holds: MAX_PIXELS and MAX_ICC_BYTES of gdc.codec.bitstream.
MAX_PIXELS = 2**28
MAX_ICC_BYTES = 4 << 20

FORMATS = tuple(dict.fromkeys(formats.READ.values()))


class PictureError(ValueError):
  """A file that is not a picture, or of a kind that is not supported."""


# Within the samples of a JPEG, 0xff is followed by zero or a restart marker.
_SEGMENT = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The first frame of a file, as it is stored."""

  picture: Image.Image  # of 8 bits per channel, or grey of up to 16
  # Per channel in the file; Pillow narrows most of what is wider than 8
  # without a word.
  bits: int
  orientation: int  # EXIF's, 1 to 8, still to be applied
  notices: list[str]  # on what of the file is lost


def decode(source, incomplete: bool = True) -> Decoded:
  """Decodes an image file.

  Args:
    source: a path, or a binary file object.
    incomplete: whether a JPEG that is cut off is taken as far as it goes, with
      a notice; otherwise that is an error.

  Raises:
    PictureError: not an image of a kind that is read, a damaged one, of
      floating-point or 32-bit samples, or of more than MAX_PIXELS.
    OSError: the file cannot be read.
  """
  with _opened(source) as (file, name), _our_limits():
    file.seek(0)
    head = file.read(1 << 16)
    if not head:
      raise PictureError(f'{name} is empty.')
    kind = layouts.kind(head)
    samples = None
    try:
      if kind == 'TIFF':
        samples, is_read = layouts.tiff(file)
        if not is_read:
          raise _refusal(name, kind, samples)
      picture = Image.open(file, formats=FORMATS)
      if picture.format in ('JPEG', 'MPO'):
        problem = layouts.jpeg_problem(picture)
        if problem:
          raise _refusal(name, kind, problem)
      frames = getattr(picture, 'n_frames', 1)
      # Pillow has no LA of 16 bits, and makes it RGBA.
      is_grey = picture.format == 'PNG' and picture.tile[0].args == 'LA;16B'
      picture, notices = _load(picture, file, incomplete)
      if picture.format == 'PNG':
        problem = layouts.png_problem(picture, file)
        if problem:
          raise ValueError(problem)
      orientation = _orientation(picture)
      notices += losses.find(picture, file, frames)
      bits = _bits_per_channel(picture, head)
    except PictureError:
      raise
    except Image.DecompressionBombError as e:
      raise PictureError(
        f'{name} has more than {MAX_PIXELS:,} pixels, the most that are read.'
      ) from e
    except UnidentifiedImageError as e:
      raise _refusal(name, kind, samples) from e
    except Exception as e:  # Pillow's readers raise whatever they stumble over
      if isinstance(e, MemoryError) or getattr(e, 'errno', None) is not None:
        raise  # of the machine or the file, not of the picture in it
      if samples and 'raw mode' in str(e):
        raise _refusal(name, kind, samples) from e
      raise PictureError(
        f'{name} is a damaged {kind or "image"} file: {e}'
      ) from e
  if picture.mode[0] in 'IF' and not picture.mode.startswith('I;16') and (
    picture.format != 'PPM' or picture.mode == 'F'
  ):
    raise _refusal(name, kind, f'{picture.mode} pixels (32 bits)')
  if bits > 8:
    notices.append(f'{bits} bits per channel become 8')
  if picture.format == 'TIFF':
    notices += layouts.tiff_notices(picture.tag_v2)
  # Pillow leaves the transparent grey of a PNG in the file's own scale.
  key = picture.info.get('transparency')
  if picture.format == 'PNG' and picture.mode == 'L' and bits in (2, 4) and (
    isinstance(key, int) and key < 2**bits
  ):
    picture.info['transparency'] = key * 255 // (2**bits - 1)
  if is_grey:
    picture = picture.convert('LA')
  return Decoded(picture, bits, orientation, notices)


def _load(picture, file, incomplete):
  """Loads an opened image: (it or another of the same, notices)."""
  try:
    picture.load()
  except OSError as e:
    if e.errno is not None or picture.format not in ('JPEG', 'MPO'):
      raise
    try:
      picture, row = _load_cut_jpeg(file)
    except OSError:
      raise e from None
    if row is None:
      notice = 'its end marker is missing'
      if 'progressive' in picture.info:
        notice += ', perhaps with some of its detail'
      return picture, [notice]
    if not incomplete:
      raise
    return picture, [f'it is cut off: its rows from {row} on are missing']
  return picture, []


def _load_cut_jpeg(file):
  """Loads a JPEG that has no end marker, as other viewers do.

  Returns:
    (image, the first row that depends on what is missing); None in place of the
    row if the samples are complete.

  Raises:
    OSError: it ends before its samples.
  """
  file.seek(0)
  data = file.read().rstrip(b'\xff')
  try:
    whole = _jpeg(data)
  except OSError:
    # Cut within a marker segment; the scans before it are whole.
    data = data[:[m.start() for m in _SEGMENT.finditer(data)][-1]]
    whole = _jpeg(data)
  # The decoder makes something of whatever follows the last sample that is
  # there, and nothing of what follows the last sample of all.
  box = ImageChops.difference(
    whole, _jpeg(data + b'\x5a\x35\x91' * 1000)
  ).getbbox()
  return whole, box and box[1]


def _jpeg(data):
  """Loads a JPEG, its end marker added."""
  picture = Image.open(io.BytesIO(data + b'\xff\xd9'), formats=('JPEG',))
  picture.load()
  return picture


def _refusal(name, kind, problem=None) -> PictureError:
  """The error for a file of a kind that is not read."""
  if problem:
    return PictureError(
      f'{name} is a {kind} of {problem}, which is not read; save it as PNG, or '
      'with interleaved unsigned 8 or 16 bits per channel, first.'
    )
  if kind in formats.NAMES_READ.replace(',', '').split():
    return PictureError(
      f'{name} is a damaged {kind}, or one of a kind that is not read; save it '
      'as an 8-bit PNG first.'
    )
  return PictureError(
    f'{name} is {f"a {kind} file, not" if kind else "not"} an image of a kind '
    f'that is read: {formats.NAMES_READ}.'
  )


def _orientation(picture: Image.Image) -> int:
  """1, upright, where it is not said or cannot be read."""
  try:
    value = picture.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # damaged metadata do not spoil a picture
    return 1
  return value if value in range(1, 9) else 1


@contextlib.contextmanager
def _opened(source):
  """A binary file that can seek, and its name."""
  if isinstance(source, str | os.PathLike):
    with open(source, 'rb') as file:
      yield _seekable(file), os.fspath(source)
  else:
    name = getattr(source, 'name', 'the input')
    if name == '<stdin>':
      name = 'standard input'
    yield _seekable(source), name


def _seekable(file):
  return file if file.seekable() else io.BytesIO(file.read())


_limits = contextlib.ExitStack()
_limits_lock = threading.Lock()
_limits_users = 0


@contextlib.contextmanager
def _our_limits():
  """Meanwhile Pillow has our limits and does not warn, in every thread."""
  global _limits_users
  with _limits_lock:
    _limits_users += 1
    if _limits_users == 1:
      for module, name, value in (
        # Pillow refuses what is above twice this.
        (Image, 'MAX_IMAGE_PIXELS', MAX_PIXELS // 2),
        # A profile counts as text; one that is too long is still converted.
        (PngImagePlugin, 'MAX_TEXT_CHUNK', 4 * MAX_ICC_BYTES),
        (ImageFile, 'LOAD_TRUNCATED_IMAGES', False),
      ):
        _limits.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)
      _silence_libtiff()
      _limits.enter_context(warnings.catch_warnings())
      warnings.simplefilter('ignore')
  try:
    yield
  finally:
    with _limits_lock:
      _limits_users -= 1
      if not _limits_users:
        _limits.close()


def _silence_libtiff():
  """Until the limits are lifted, libtiff prints nothing on standard error.

  What it would print is in the exceptions of Pillow, too.
  """
  try:
    # It is looked up in what this library is linked with.
    switch = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
  except (AttributeError, OSError):  # linked otherwise on this system
    return
  switch.argtypes, switch.restype = [ctypes.c_void_p], ctypes.c_void_p
  _limits.callback(switch, switch(None))


def _bits_per_channel(picture, head: bytes) -> int:
  if picture.format == 'TIFF':
    return max(picture.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
  if picture.format == 'PPM':
    return layouts.pnm_depth(head)
  if picture.format == 'PNG':
    return layouts.png_depth(head)
  if picture.format == 'AVIF':
    return layouts.avif_depth(head)
  return 8
