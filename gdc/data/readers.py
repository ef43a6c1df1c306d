"""Picture files through Pillow: within our limits, and with one kind of error.

What is here knows files; what the decoded samples become is said in `pictures`.
"""
import contextlib
import dataclasses
import io
import os
import threading
import warnings

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from gdc.data import formats

# What a gdc file holds: MAX_PIXELS and MAX_ICC_BYTES of gdc.codec.bitstream.
MAX_PIXELS = 2**28
MAX_ICC_BYTES = 4 << 20

FORMATS = tuple(dict.fromkeys(formats.READ.values()))


class PictureError(ValueError):
  """A file that is not a picture, or of a kind that is not supported."""


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The first frame of a file, as it is stored."""

  picture: Image.Image  # of 8 bits per channel, or grey of up to 16
  # Per channel in the file; Pillow narrows most of what is wider than 8
  # without a word.
  bits: int
  frames: int
  orientation: int  # EXIF's, 1 to 8, still to be applied


def decode(source) -> Decoded:
  """Decodes a picture file.

  Args:
    source: a path, or a binary file object.

  Raises:
    PictureError: not a picture of a kind that is read, a damaged one, of
      floating-point or 32-bit pixels, or of more than MAX_PIXELS.
    OSError: the file cannot be read.
  """
  with _opened(source) as (file, name), _our_limits():
    try:
      picture = Image.open(file, formats=FORMATS)
      frames = getattr(picture, 'n_frames', 1)
      bits = _bits_per_channel(picture, file)
      # Pillow has no LA of 16 bits, and makes it RGBA.
      is_grey = picture.format == 'PNG' and picture.tile[0].args == 'LA;16B'
      picture.load()
      orientation = _orientation(picture)
    except Image.DecompressionBombError as e:
      raise PictureError(
        f'{name} has more than {MAX_PIXELS:,} pixels, the most that are read.'
      ) from e
    except UnidentifiedImageError as e:
      raise PictureError(
        f'{name} is not a picture of a kind that is read: PNG, JPEG, WebP, '
        'AVIF, TIFF, GIF, BMP or PPM.'
      ) from e
    except Exception as e:  # Pillow's readers raise whatever they stumble over
      if isinstance(e, MemoryError) or getattr(e, 'errno', None) is not None:
        raise  # of the machine or the file, not of the picture in it
      raise PictureError(f'{name} is a damaged picture: {e}') from e
  if picture.mode == 'I' and picture.format == 'PPM':
    bits = 16  # whatever the file has, Pillow scales it to 65535
  elif picture.mode[0] in 'IF' and not picture.mode.startswith('I;16'):
    raise PictureError(
      f'{name} has {picture.mode} pixels (32 bits); save it with 8 or 16 bits '
      'per channel first.'
    )
  if is_grey:
    picture = picture.convert('LA')
  return Decoded(picture, bits, frames, orientation)


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
    yield _seekable(source), getattr(source, 'name', 'the input')


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
        # A profile counts as text.
        (PngImagePlugin, 'MAX_TEXT_CHUNK', MAX_ICC_BYTES),
      ):
        _limits.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)
      _limits.enter_context(warnings.catch_warnings())
      warnings.simplefilter('ignore')
  try:
    yield
  finally:
    with _limits_lock:
      _limits_users -= 1
      if not _limits_users:
        _limits.close()


def _bits_per_channel(picture, file) -> int:
  if picture.format == 'TIFF':
    return max(picture.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
  if picture.format == 'PPM':
    arguments = picture.tile[0].args
    if isinstance(arguments, tuple):
      return max(8, arguments[-1].bit_length())
    return 16 if arguments == 'I;16B' else 8
  if picture.format not in ('PNG', 'AVIF'):
    return 8
  position = file.tell()
  file.seek(0)
  head = file.read(1 << 16)
  file.seek(position)
  if picture.format == 'PNG':
    return head[24]
  # In the third byte of an AV1 configuration: 0x40, high_bitdepth (10 bits),
  # and, with it, 0x20, twelve_bit.
  start = head.find(b'av1C') + 4
  flags = head[start + 2] & 0x60 if 3 < start < len(head) - 2 else 0
  return {0x40: 10, 0x60: 12}.get(flags, 8)
