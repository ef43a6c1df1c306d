"""Checks and converts the arguments of a codec.

Arrays and numbers of other libraries are accepted where nothing is lost. Every
error is a ValueError that names the value and the right form in one sentence.
"""
import numbers
import operator
import os

import jax
import numpy as np

from gdc import decoders, metadata
from gdc import icc as icc_lib
from gdc.codec import bitstream, tiles
from gdc.models import receptive_field

DEFAULT_QUALITY = 3.0
LOSSLESS = ('auto', 'never', 'always')
_EXPECTED = (
  'An image is a numpy array of uint8 [height, width, 1 to 4 channels]'
)


# --- Images -----------------------------------------------------------------


def as_image(given) -> np.ndarray:
  """Returns an image as a numpy array, uint8 [height, width, 1 to 4 channels].

  Args:
    given: such an array, or anything with __array__: arrays of jax, tensors of
      torch on a CPU. Pillow images are refused: their samples need not be
      colours.

  Raises:
    ValueError: it is not such an array, or too large.
  """
  if any(c.__module__.startswith('PIL.') for c in type(given).__mro__):
    raise ValueError(
      f'{_EXPECTED}, not a Pillow image of mode {given.mode}: give '
      "numpy.asarray(image.convert('RGB')) (or 'RGBA', 'LA'), or import "
      "gdc.pillow and use image.save('NAME.gdc')."
    )
  if not hasattr(given, '__array__'):
    hint = {
      str: ': read the file first', bytes: ': decode the file first',
      list: ': give numpy.asarray(image, numpy.uint8)',
      tuple: ': give numpy.asarray(image, numpy.uint8)',
    }.get(type(given), '')
    raise ValueError(f'{_EXPECTED}, not {_name(given)}{hint}.')
  if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
    raise ValueError(
      f'{_EXPECTED}, not a masked array with '
      f'{np.ma.count_masked(given)} masked values: give image.filled(0).'
    )
  try:
    array = np.asarray(given)
  except Exception as e:  # errors differ between libraries
    raise ValueError(
      f'{_EXPECTED}, and {_name(given)} does not become one: {e}'
    ) from e
  if array.dtype != np.uint8 or array.ndim != 3 or (
    not 1 <= array.shape[2] <= 4
  ):
    hint = _hint(array)
    raise ValueError(
      f'{_EXPECTED}, not {_name(given)} of {array.dtype} '
      f'{list(array.shape)}{hint and ": give "}{hint}.'
    )
  _check_size(*array.shape[:2])
  return array


def _hint(array: np.ndarray) -> str:
  """Says how to make an image of an array."""
  found, kind = [], array.dtype.kind
  if kind == 'f':
    found.append(
      '(255 * image).round().astype(numpy.uint8) if its values are 0 to 1'
    )
  elif kind == 'b':
    found.append('255 * image.astype(numpy.uint8)')
  elif kind == 'u' and array.dtype.itemsize == 2:
    found.append('(image // 257).astype(numpy.uint8) if it has 16 bits')
  elif kind in 'iu' and array.dtype != np.uint8:
    found.append('image.astype(numpy.uint8) if its values are 0 to 255')
  if array.ndim == 2:
    found.append('image[:, :, None] if it is grey')
  elif array.ndim == 4:
    found.append('one image at a time')
  elif array.ndim == 3 and array.shape[0] in (1, 3, 4) and (
    min(array.shape[1:]) > 4
  ):
    found.append('numpy.moveaxis(image, 0, -1) if its channels come first')
  return ' and '.join(found)


def _check_size(height: int, width: int):
  """Raises ValueError unless a file can hold an image of this size."""
  if not height or not width:
    raise ValueError(
      f'An image needs at least one pixel, not {width} x {height}.'
    )
  if height * width > bitstream.MAX_PIXELS:
    raise ValueError(
      f'An image has at most {bitstream.MAX_PIXELS} pixels, not '
      f'{width} x {height}.'
    )
  rows, columns = bitstream.grid(height, width)
  if rows * columns > bitstream.MAX_POSITIONS:
    raise ValueError(
      f'An image of {width} x {height} is too thin; its sides count as '
      f'multiples of {receptive_field.STRIDE}.'
    )


def to_channels(
  rgb: np.ndarray, header: bitstream.Header, window: tiles.Window | None = None
) -> np.ndarray:
  """Turns decoded colours into the channels that were compressed.

  Args:
    rgb: uint8 [height, width, 3].
    header: the file's; grey becomes the mean of the colours, and alpha is
      added.
    window: of the image, that rgb is; None: all.

  Returns:
    uint8 [height, width, 1 to 4].
  """
  planes = [rgb]
  if header.grey:
    total = rgb.sum(axis=2, dtype=np.uint16, keepdims=True)
    planes = [((total + 1) // 3).astype(np.uint8)]
  if header.alpha is not None:
    plane = np.frombuffer(header.alpha, np.uint8)
    plane = plane.reshape(header.height, header.width, 1)
    planes.append(plane[window.slices] if window else plane)
  if len(planes) == 1:
    return np.ascontiguousarray(planes[0])
  return np.concatenate(planes, axis=2)


def as_icc(given, image: np.ndarray) -> bytes:
  """Returns a profile to be stored with an image; b'' for None.

  Raises:
    ValueError: it is not a profile of the image's samples.
  """
  icc = _as_field('icc', given, 'an ICC profile')
  problem = icc and icc_lib.problem(icc, bitstream.MODES[image.shape[2] - 1])
  if problem:
    raise ValueError(f'icc does not fit the image: {problem}.')
  return icc


def as_exif(given) -> bytes:
  """Returns EXIF to be stored, without a prefix; b'' for None.

  Raises:
    ValueError: it is not EXIF.
  """
  exif = metadata.trim(_as_field('exif', given, 'EXIF'))
  problem = exif and metadata.problem(exif)
  if problem:
    raise ValueError(f'exif cannot be read: {problem}.')
  return exif


def as_xmp(given) -> bytes:
  """Returns XMP to be stored; b'' for None; ValueError if it is not bytes."""
  return _as_field('xmp', given, 'an XMP packet')


def _as_field(name: str, given, content: str) -> bytes:
  if given is None:
    return b''
  if not isinstance(given, bytes | bytearray | memoryview):
    raise ValueError(
      f'{name} must be the bytes of {content}, or None, not '
      f'{type(given).__name__}.'
    )
  return bytes(given)


# --- Files ------------------------------------------------------------------


def as_bytes(given):
  """Returns the bytes of a file: bytes, bytearray, memoryview or the like.

  Raises:
    ValueError: it is none of them.
  """
  try:
    view = memoryview(given)
  except TypeError:
    view = None
  if view is not None and view.ndim == 1 and view.itemsize == 1:
    return given
  hint = ''
  if isinstance(given, str | os.PathLike):
    hint = f': give pathlib.Path({os.fspath(given)!r}).read_bytes()'
  elif hasattr(given, 'read'):
    hint = ': give what its read() returns'
  elif isinstance(given, np.ndarray):
    hint = f' of {given.dtype} {list(given.shape)}'
  raise ValueError(
    f'data are the bytes of a .gdc file, not {_name(given)}{hint}.'
  )


# --- Options ----------------------------------------------------------------


def as_target(**targets) -> tuple[str, float]:
  """Returns the (name, number) of the one target given.

  Args:
    **targets: quality, target_bytes, target_bpp and min_psnr; all None stands
      for DEFAULT_QUALITY.

  Raises:
    ValueError: several are given, or a target is not above 0.
  """
  given = {
    name: number(name, value) for name, value in targets.items()
    if value is not None
  } or {'quality': DEFAULT_QUALITY}
  if len(given) > 1:
    raise ValueError(
      f'Only one of {" and ".join(given)} can be met: leave out all but one.'
    )
  [(name, value)] = given.items()
  if name != 'quality' and not 0 < value < float('inf'):
    raise ValueError(f'{name} must be above 0, not {value}.')
  return name, value


def check_lossless(lossless, quality):
  """Raises ValueError unless `lossless` is one of LOSSLESS and fits quality."""
  if not isinstance(lossless, str) or lossless not in LOSSLESS:
    raise ValueError(
      f'lossless must be one of {", ".join(LOSSLESS)}, not {lossless!r}.'
    )
  if lossless == 'always' and quality is not None:
    raise ValueError(
      f"quality has no meaning with lossless='always': leave out {quality}, "
      "or take lossless='auto'."
    )


def as_seed(given) -> int | None:
  """Returns a seed of the score decoders' noise; None stays."""
  return None if given is None else _whole('seed', given, 0, 2**32 - 1)


def check_sampling(decoder: str, steps, seed, realism):
  """Checks a decoder's settings; each is None where it is not given.

  Raises:
    ValueError: a value is out of range, or of no use to the decoder.
  """
  as_seed(seed)
  if realism is not None and not 0 <= number('realism', realism) <= 1:
    raise ValueError(f'realism must be from 0 to 1, not {realism}.')
  if decoder == 'mse':
    for name, value in (('steps', steps), ('realism', realism or None)):
      if value is not None:
        raise ValueError(
          f'{name} is of the score decoders, and mse is none: leave {name} '
          'out, or take another decoder.'
        )
  elif steps is not None:
    _whole(f'steps of {decoder}', steps, 1, decoders.max_steps(decoder))


def as_window(given, header: bitstream.Header) -> tiles.Window:
  """Returns the window of a region (x, y, width, height); of all for None.

  Raises:
    ValueError: it is not four integers, or is empty, or leaves the image.
  """
  if given is None:
    return tiles.Window(0, 0, header.height, header.width)
  try:
    x, y, width, height = (operator.index(_item(n)) for n in given)
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'region must be (x, y, width, height), in whole pixels, not {given!r}.'
    ) from e
  if not (
    0 <= x < x + width <= header.width and 0 <= y < y + height <= header.height
  ):
    raise ValueError(
      f'region must lie within the image of {header.width} x {header.height}, '
      f'not begin at {x}, {y} with {width} x {height}.'
    )
  return tiles.Window(y, x, y + height, x + width)


def number(name: str, given) -> float:
  """Returns a number of Python, numpy, jax or torch; bool is refused."""
  value = _item(given)
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise ValueError(f'{name} must be a number, not {_name(given)}.')
  if isinstance(value, int) and abs(value) < 2**62:
    return value
  try:
    return float(value)
  except OverflowError as e:
    raise ValueError(f'{name} is too large: more than a float holds.') from e


def _whole(name: str, given, least: int, most: int) -> int:
  value = _item(given)
  if (
    isinstance(value, bool) or not isinstance(value, numbers.Integral)
    or not least <= value <= most
  ):
    shown = value if isinstance(value, numbers.Real) else _name(given)
    allowed = f'{most}' if least == most else (
      f'a whole number from {least} to {most}'
    )
    raise ValueError(f'{name} must be {allowed}, not {shown}.')
  return int(value)


def _item(given):
  """Returns the Python number in a scalar of a library; others unchanged."""
  if getattr(given, 'ndim', None) == 0 and hasattr(given, 'item'):
    return given.item()
  return given


def _name(given) -> str:
  """Describes a value: its type, with an article, or a short value itself."""
  if given is None or isinstance(given, bool | np.bool_):
    return str(given)
  if isinstance(given, str | os.PathLike):
    return f'the {type(given).__name__} {os.fspath(given)!r:.60}'
  if isinstance(given, jax.Array):
    return 'a jax.Array'
  kind = type(given)
  module = '' if kind.__module__ == 'builtins' else f'{kind.__module__}.'
  name = f'{module}{kind.__qualname__}'
  return f'an {name}' if name.strip('_')[0] in 'aeiouAEIOU' else f'a {name}'
