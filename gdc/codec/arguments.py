"""Arguments of a codec: what is meant is taken, all else named in an error.

Every error is a ValueError of one sentence: what was given, and what would be
right.
"""
import numbers
import os

import jax
import numpy as np

from gdc import decoders
from gdc.codec import samples

DEFAULT_QUALITY = 3.0
_EXPECTED = (
  'An image is a numpy array of uint8 [height, width, 1 to 4 channels]'
)


def as_image(given) -> np.ndarray:
  """The numpy array of an image.

  Args:
    given: a numpy array, or what gives one without loss: arrays of jax, a
      tensor of torch on a CPU, whatever has __array__; uint8 [height, width, 1
      to 4 channels]. Images of Pillow are refused: their samples need not be
      colours.

  Raises:
    ValueError: it is no such array.
  """
  if any(c.__module__.startswith('PIL.') for c in type(given).__mro__):
    raise ValueError(
      f'{_EXPECTED}, not a Pillow image of mode {given.mode}: give '
      "numpy.asarray(image.convert('RGB')) (or 'RGBA', 'LA'), or import "
      "gdc.pillow and use image.save('NAME.gdc')."
    )
  if not hasattr(given, '__array__'):
    hints = {
      str: 'read the file first', bytes: 'decode the file first',
      list: 'give numpy.asarray(image, numpy.uint8)',
      tuple: 'give numpy.asarray(image, numpy.uint8)',
    }
    hint = next((v for k, v in hints.items() if isinstance(given, k)), '')
    raise ValueError(f'{_EXPECTED}, not {_name(given)}{hint and ": "}{hint}.')
  if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
    raise ValueError(
      f'{_EXPECTED}, not a masked array with '
      f'{np.ma.count_masked(given)} masked values: give image.filled(0).'
    )
  try:
    array = np.asarray(given)
  except Exception as e:  # as each library has it
    raise ValueError(
      f'{_EXPECTED}, and {_name(given)} does not become one: {e}'
    ) from e
  hints = _hints(array)
  if hints is not None:
    raise ValueError(
      f'{_EXPECTED}, not {_name(given)} of {array.dtype} '
      f'{list(array.shape)}{hints and ": give "}{hints}.'
    )
  samples.check(array)
  return array


def _hints(array: np.ndarray) -> str | None:
  """How to make an image of an array; None where it is one."""
  found, wrong = [], False
  if array.dtype != np.uint8:
    wrong = True
    if array.dtype.kind == 'f':
      found.append(
        '(255 * image).round().astype(numpy.uint8) if its values are 0 to 1'
      )
    elif array.dtype.kind == 'b':
      found.append('255 * image.astype(numpy.uint8)')
    elif array.dtype.kind == 'u' and array.dtype.itemsize == 2:
      found.append('(image // 257).astype(numpy.uint8) if it has 16 bits')
    elif array.dtype.kind in 'iu':
      found.append('image.astype(numpy.uint8) if its values are 0 to 255')
  if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
    wrong = True
    if array.ndim == 2:
      found.append('image[:, :, None] if it is grey')
    elif array.ndim == 4:
      found.append('one image at a time')
    elif array.ndim == 3 and array.shape[0] in (1, 3, 4) and (
      min(array.shape[1:]) > 4
    ):
      found.append('numpy.moveaxis(image, 0, -1) if its channels come first')
  return ' and '.join(found) if wrong else None


def as_bytes(given):
  """The bytes of a file: bytes, bytearray, memoryview or the like.

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


def as_rate(quality, target_bytes, target_bpp, min_psnr) -> tuple:
  """The four as numbers or None; quality is DEFAULT_QUALITY if all are None.

  Raises:
    ValueError: several are given, or a target that makes no sense.
  """
  given = {
    name: number(name, value) for name, value in (
      ('quality', quality), ('target_bytes', target_bytes),
      ('target_bpp', target_bpp), ('min_psnr', min_psnr),
    ) if value is not None
  }
  if len(given) > 1:
    raise ValueError(
      f'Only one of {" and ".join(given)} can be met: leave out all but one.'
    )
  for name, value in given.items():
    if name != 'quality' and not 0 < value < float('inf'):
      raise ValueError(f'{name} must be above 0, not {value}.')
  given = given or {'quality': DEFAULT_QUALITY}
  return tuple(map(
    given.get, ('quality', 'target_bytes', 'target_bpp', 'min_psnr')
  ))


def as_seed(given) -> int | None:
  """A seed of the score decoders' noise; None stays."""
  return None if given is None else _whole('seed', given, 2**32 - 1, '2^32 - 1')


def check_sampling(decoder: str, steps, seed, realism):
  """Checks a decoder's settings; each is None where it is not given.

  Raises:
    ValueError: a value out of range, or one that the decoder has no use for.
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
    most = decoders.max_steps(decoder)
    _whole(f'steps of {decoder}', steps, most, most, 1)


def number(name: str, given) -> float:
  """A number of Python's, numpy's, jax's or torch's; bool is none."""
  value = _item(given)
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise ValueError(f'{name} must be a number, not {_name(given)}.')
  if isinstance(value, int) and abs(value) < 2**62:
    return value
  try:
    return float(value)  # also of a fraction
  except OverflowError as e:
    raise ValueError(f'{name} is too large: more than a float holds.') from e


def _whole(name: str, given, most: int, most_in_words, least: int = 0) -> int:
  value = _item(given)
  if (
    isinstance(value, bool) or not isinstance(value, numbers.Integral)
    or not least <= value <= most
  ):
    shown = value if isinstance(value, numbers.Real) else _name(given)
    allowed = f'{most}' if least == most else (
      f'a whole number from {least} to {most_in_words}'
    )
    raise ValueError(f'{name} must be {allowed}, not {shown}.')
  return int(value)


def _item(given):
  """The number of Python's in a scalar of a library's; others as they are."""
  if getattr(given, 'ndim', None) == 0 and hasattr(given, 'item'):
    return given.item()
  return given


def _name(given) -> str:
  """A value's type, with an article; short values themselves."""
  if given is None or isinstance(given, bool | np.bool_):
    return str(given)
  if isinstance(given, str | os.PathLike):
    text = repr(os.fspath(given))
    return f'the {type(given).__name__} {text[:60]}'
  if isinstance(given, jax.Array):
    return 'a jax.Array'
  kind = type(given)
  module = '' if kind.__module__ == 'builtins' else f'{kind.__module__}.'
  name = f'{module}{kind.__qualname__}'
  return f'an {name}' if name.strip('_')[0] in 'aeiouAEIOU' else f'a {name}'
