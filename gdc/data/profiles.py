"""ICC colour profiles: which are sRGB, and the way from the others to it.

Through LittleCMS, with the perceptual intent. No jax.
"""
import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from gdc import icc as icc_lib

# What a profile describes, by the mode of the image that carries it.
_SPACES = {'L': 'GRAY', 'RGB': 'RGB', 'RGBA': 'RGB', 'CMYK': 'CMYK'}


class ProfileError(ValueError):
  """A profile that is damaged, or not of the picture that carries it."""


def to_srgb(icc: bytes, mode: str) -> Callable[[Image.Image], Image.Image]:
  """The transform of a profile's colours to sRGB.

  Args:
    icc: an ICC profile.
    mode: of the pictures that the transform takes: RGB, RGBA or CMYK.

  Returns:
    A function of a picture; what it returns is RGB, or RGBA if that went in.

  Raises:
    ProfileError: see above.
  """
  profile = _open(icc, mode)
  out = 'RGBA' if mode == 'RGBA' else 'RGB'
  try:
    return ImageCms.ImageCmsTransform(profile, _srgb(), mode, out).apply
  except (ImageCms.PyCMSError, OSError, ValueError) as e:
    raise ProfileError(f'no way from it to sRGB: {e}') from e


def grey_to_srgb(icc: bytes) -> np.ndarray:
  """The grey of sRGB for each grey of a profile.

  Args:
    icc: a profile of grey.

  Returns:
    uint8 [256]; the identity where it is that within one step.

  Raises:
    ProfileError: see to_srgb.
  """
  profile = _open(icc, 'L')
  steps = np.arange(256, dtype=np.uint8)
  ramp = Image.fromarray(steps[None])
  try:
    transform = ImageCms.ImageCmsTransform(profile, _srgb(), 'L', 'RGB')
    colours = np.asarray(transform.apply(ramp))[0]
  except (ImageCms.PyCMSError, OSError, ValueError) as e:
    raise ProfileError(f'no way from it to sRGB: {e}') from e
  greys = np.round(colours.mean(-1)).astype(np.uint8)
  close = np.abs(greys.astype(int) - steps).max() <= 1
  return steps if close else greys


@functools.lru_cache(maxsize=16)
def is_srgb(icc: bytes) -> bool:
  """Whether an RGB profile is sRGB, within one step of 8 bits.

  Measured on a grid of 18^3 colours and on all 256 greys.

  Raises:
    ProfileError: see to_srgb.
  """
  steps = np.arange(0, 256, 15, dtype=np.uint8)
  grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
  greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
  colours = np.concatenate([grid, greys])[None]
  found = np.asarray(to_srgb(icc, 'RGB')(Image.fromarray(colours)))
  return int(np.abs(found.astype(int) - colours).max()) <= 1


def _open(icc: bytes, mode: str) -> ImageCms.ImageCmsProfile:
  problem = icc_lib.problem(icc, _SPACES[mode])
  if problem:
    raise ProfileError(problem)
  try:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))
  except (ImageCms.PyCMSError, OSError, ValueError) as e:
    raise ProfileError('it cannot be read') from e


def _srgb() -> ImageCms.ImageCmsProfile:
  return ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
