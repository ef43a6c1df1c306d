"""ICC profiles: whether one fits an image's samples, and conversion to sRGB.

`problem` reads the header and the tag table alone. Conversion runs in LittleCMS
(Pillow's ImageCms), with the perceptual intent.
"""
import functools
import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

_LEAST_BYTES = 132  # a header and the number of tags
# Profiles of input, display, output and colour space. The others (links,
# abstract profiles, named colours) do not describe an image.
_CLASSES = (b'scnr', b'mntr', b'prtr', b'spac')
# Colour space of a profile by the mode of the image.
_SPACES = {
  'L': 'GRAY', 'LA': 'GRAY', 'RGB': 'RGB', 'RGBA': 'RGB', 'CMYK': 'CMYK',
}
# A profile needs all tags of one of these sets.
_TAGS = {
  'GRAY': ({'kTRC'}, {'A2B0'}),
  'RGB': (
    {'rXYZ', 'gXYZ', 'bXYZ', 'rTRC', 'gTRC', 'bTRC'}, {'A2B0'}, {'D2B0'},
  ),
  'CMYK': ({'A2B0'}, {'D2B0'}),
}
_ERRORS = (ImageCms.PyCMSError, OSError, ValueError)


class ProfileError(ValueError):
  """A damaged profile, or one that does not fit its image."""


def problem(icc: bytes, mode: str) -> str | None:
  """Says why a profile does not fit an image; None if it does.

  Args:
    icc: the profile.
    mode: Pillow's mode of the image: L, LA, RGB, RGBA or CMYK.
  """
  expected = _SPACES[mode]
  if len(icc) < _LEAST_BYTES or icc[36:40] != b'acsp':
    return f'these {len(icc)} bytes are not an ICC profile'
  size, kind, space, connection = struct.unpack('>I8x4s4s4s', icc[:24])
  if size != len(icc):
    return f'it is damaged: {size} bytes by its header, {len(icc)} in fact'
  if kind not in _CLASSES:
    kind = kind.decode('ascii', 'replace')
    return f'it is of class {kind!r}, which describes no image'
  found = space.decode('ascii', 'replace').strip()
  if found != expected:
    return f'it is of {found} colours, the image is {expected}'
  if connection not in (b'XYZ ', b'Lab '):
    return 'it is damaged: it leads to no known colour space'
  count, = struct.unpack_from('>I', icc, 128)
  table = icc[_LEAST_BYTES:_LEAST_BYTES + 12 * count]
  if len(table) < 12 * count or any(
    start < _LEAST_BYTES or start + length > len(icc)
    for _, start, length in struct.iter_unpack('>4sII', table)
  ):
    return 'it is damaged: its tags lie outside of it'
  tags = {table[i:i + 4].decode('ascii', 'replace')
          for i in range(0, len(table), 12)}
  if not any(needed <= tags for needed in _TAGS[expected]):
    return 'it is incomplete: tags that give its colours are missing'
  return None


def trim(icc: bytes | None) -> bytes:
  """Returns a profile without the bytes beyond the size in its header."""
  icc = icc or b''
  size = int.from_bytes(icc[:4], 'big')
  return icc[:size] if _LEAST_BYTES <= size < len(icc) else icc


def to_srgb(icc: bytes, mode: str) -> Callable[[Image.Image], Image.Image]:
  """Returns a function that converts images from a profile to sRGB.

  Args:
    icc: an ICC profile.
    mode: mode of the images: L, RGB, RGBA or CMYK. RGBA stays RGBA, all others
      become RGB.

  Raises:
    ProfileError: the profile is damaged or of other colours.
  """
  found = problem(icc, mode)
  if found:
    raise ProfileError(found)
  try:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
  except _ERRORS as e:
    raise ProfileError('it cannot be read') from e
  srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
  out = 'RGBA' if mode == 'RGBA' else 'RGB'
  try:
    return ImageCms.ImageCmsTransform(profile, srgb, mode, out).apply
  except _ERRORS as e:
    raise ProfileError(f'no way from it to sRGB: {e}') from e


def grey_to_srgb(icc: bytes) -> np.ndarray:
  """Returns the sRGB grey of each grey of a profile, uint8 [256].

  It is the identity if no grey differs by more than one step.

  Raises:
    ProfileError: see to_srgb.
  """
  steps = np.arange(256, dtype=np.uint8)
  convert = to_srgb(icc, 'L')
  try:
    colours = np.asarray(convert(Image.fromarray(steps[None])))[0]
  except _ERRORS as e:
    raise ProfileError(f'no way from it to sRGB: {e}') from e
  greys = np.round(colours.mean(-1)).astype(np.uint8)
  close = np.abs(greys.astype(int) - steps).max() <= 1
  return steps if close else greys


@functools.lru_cache(maxsize=16)
def is_srgb(icc: bytes) -> bool:
  """Whether an RGB profile is sRGB to within one step of 8 bits.

  It is tested on a grid of 18^3 colours and on all 256 greys.

  Raises:
    ProfileError: see to_srgb.
  """
  steps = np.arange(0, 256, 15, dtype=np.uint8)
  grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
  greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
  colours = np.concatenate([grid, greys])[None]
  found = np.asarray(to_srgb(icc, 'RGB')(Image.fromarray(colours)))
  return int(np.abs(found.astype(int) - colours).max()) <= 1
