"""A sweep: pictures x codecs x qualities -> rows of figures.

Rates are those of the bytes that the codec wrote, container and all. A
picture is compressed once per quality, and every decoder reads those same
bytes. Pictures are measured as a viewer gets them, in 8 bits.
"""
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gdc.evaluation import codecs, measures, records
from gdc.metrics import rate

Row = dict[str, Any]


def evaluate(
  coders: Sequence[codecs.Coder],
  images: Iterable[tuple[str, np.ndarray]],
  names: Sequence[str] = ('psnr', 'lpips'),
  on_row: Callable[[Row], None] | None = None,
) -> dict[str, dict[str, Any]]:
  """Sweeps codecs over pictures, in this process.

  Args:
    coders: see codecs.build.
    images: pairs of a name and uint8 [height, width, 3]; read once, so a
      generator will do.
    names: of measures, keys of measures.MEASURES.
    on_row: called with each row as it is made, for progress.

  Returns:
    One result per codec, by label; see records.result.

  Raises:
    ValueError: no pictures, an unknown measure; and what a codec or a measure
      raises for a picture, with a note that names it.
  """
  measures.check(names)
  rows = {coder.label: [] for coder in coders}
  seen = set()
  for name, image in images:
    with naming(name):
      compare = measures.against(image, names)
      made = picture(
        coders, name, image, compare, on_row, warm_up=image.shape not in seen
      )
    seen.add(image.shape)
    for label, new in made.items():
      rows[label] += new
  if not seen:
    raise ValueError('images is empty: at least one picture is expected')
  return {
    coder.label: records.result(coder, rows[coder.label], names)
    for coder in coders
  }


def picture(
  coders: Sequence[codecs.Coder],
  name: str,
  image: np.ndarray,
  compare: Mapping[str, measures.Compare | None],
  on_row: Callable[[Row], None] | None = None,
  on_decoded: Callable[[Row, bytes, np.ndarray], None] | None = None,
  warm_up: bool = True,
  failures: dict[str, str] | None = None,
) -> dict[str, list[Row]]:
  """One picture through codecs, at every quality of each.

  Args:
    coders: see codecs.build.
    name: of the picture.
    image: uint8 [height, width, 3].
    compare: of measures.against, for this picture.
    on_row: called with each row as it is made.
    on_decoded: called with each row, its file and its decoded picture.
    warm_up: let codecs that compile do so before they are timed: for the first
      picture of a size.
    failures: gets label -> what went wrong, for codecs that cannot code the
      image; None: their errors are raised.

  Returns:
    label -> rows, one per quality, none of a codec that failed: name, height,
    width, codec, quality, bytes, bpp, one column per measure (None where the
    picture is too small for it), encode_seconds, decode_seconds.
  """
  rows = {coder.label: [] for coder in coders}
  failed = {}

  def call(readers, function, *args):
    """Times a call; readers whose call fails are not asked again."""
    start = time.perf_counter()
    try:  # what it returns is on the host already
      value = function(*args)
    # Whatever an encoder's library raises.
    except Exception as error:
      if failures is None:
        raise
      why = ' '.join(f'{type(error).__name__}: {error}'.split())
      failed.update((coder.label, why) for coder in readers)
      return None, 0.0
    return value, time.perf_counter() - start

  for writer in dict.fromkeys(coder.writer for coder in coders):
    readers = [coder for coder in coders if coder.writer == writer]
    encode, qualities = readers[0].encode, readers[0].qualities
    if warm_up and readers[0].compiles:
      data, _ = call(readers, encode, image, qualities[0])
      for coder in readers if data is not None else ():
        call([coder], coder.decode, data)
    for quality in qualities:
      if all(coder.label in failed for coder in readers):
        break
      data, encode_seconds = call(readers, encode, image, quality)
      for coder in readers:
        if coder.label in failed:
          continue
        decoded, decode_seconds = call([coder], coder.decode, data)
        if coder.label in failed:
          continue
        row = _row(coder, name, image.shape, quality, data)
        row |= _measured(compare, decoded)
        row['encode_seconds'] = encode_seconds
        row['decode_seconds'] = decode_seconds
        rows[coder.label].append(row)
        if on_decoded is not None:
          on_decoded(row, data, decoded)
        if on_row is not None:
          on_row(row)
  for label in failed:
    rows[label] = []
  if failures is not None:
    failures |= failed
  return rows


@contextlib.contextmanager
def naming(name: str):
  """Adds to an error which picture it was."""
  try:
    yield
  except Exception as error:
    error.add_note(f'(image {name!r})')
    raise


def _row(coder, name, shape, quality, data) -> Row:
  height, width, _ = shape
  return {
    'name': name,
    'height': height,
    'width': width,
    'codec': coder.name,
    'quality': quality,
    'bytes': len(data),
    'bpp': rate.bits_per_pixel(len(data), height, width),
  }


def _measured(compare: Mapping, decoded) -> Row:
  return {
    name: None if measure is None else measure(decoded)
    for name, measure in compare.items()
  }
