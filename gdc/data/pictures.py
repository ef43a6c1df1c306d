"""Picture files, as people have them, to and from uint8 RGB. No jax."""
import io

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

# How each format is written; a decoded picture should not lose more.
_OPTIONS = {
  'JPEG': {'quality': 95, 'subsampling': 0},
  'WEBP': {'lossless': True},
  'AVIF': {'quality': 95, 'subsampling': '4:4:4'},
}


class PictureError(ValueError):
  """A file that is not a picture, or of a kind that is not supported."""


def read(path) -> tuple[np.ndarray, list[str]]:
  """Reads a picture as it is meant to be seen.

  The EXIF orientation is applied; colours of another profile become sRGB;
  transparency is laid on white; 16 bits become 8; grey, palette and CMYK
  become RGB; of several frames the first is taken. What is lost is said,
  except for RGB of 16 bits, which Pillow itself narrows without a word.

  Args:
    path: of a file that Pillow reads.

  Returns:
    uint8 [height, width, 3], and a list of notices for the user.

  Raises:
    PictureError: not a picture, or of floating-point or 32-bit pixels.
  """
  notices = []
  try:
    with Image.open(path) as opened:
      if getattr(opened, 'n_frames', 1) > 1:
        notices.append(f'only the first of {opened.n_frames} frames is taken')
      picture = ImageOps.exif_transpose(opened)
  except (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError
  ) as e:
    if isinstance(e, OSError) and e.errno is not None:
      raise  # the file, not the picture in it
    raise PictureError(f'{path} is not a picture that Pillow reads: {e}') from e
  if picture.mode.startswith('I;16'):
    notices.append('16 bits per channel become 8')
    wide = np.asarray(picture, np.uint32)
    picture = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
  elif picture.mode[0] in 'IF':
    raise PictureError(
      f'{path} has {picture.mode} pixels (32 bits); save it with 8 or 16 bits '
      'per channel first.'
    )
  if 'A' in picture.getbands() or 'transparency' in picture.info:
    notices.append('transparency is not kept; it is laid on white')
    white = Image.new('RGBA', picture.size, 'white')
    picture = Image.alpha_composite(white, picture.convert('RGBA'))
  return np.asarray(_to_srgb(picture, notices)), notices


def _to_srgb(picture, notices: list[str]) -> Image.Image:
  """RGB in sRGB; a profile that cannot be used is left out, and that said."""
  profile = picture.info.get('icc_profile')
  if profile and picture.mode in ('RGB', 'CMYK', 'L'):
    try:
      return ImageCms.profileToProfile(
        picture,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile('sRGB'),
        outputMode='RGB',
      )
    except (ImageCms.PyCMSError, OSError) as e:
      notices.append(f'its colour profile is not used: {e}')
  return picture.convert('RGB')


def suffixes() -> tuple[str, ...]:
  """File name endings that `encode` takes."""
  Image.init()
  return tuple(
    suffix for suffix, name in Image.registered_extensions().items()
    if name in ('PNG', 'JPEG', 'WEBP', 'AVIF', 'TIFF', 'BMP', 'PPM')
  )


def encode(image: np.ndarray, suffix: str) -> bytes:
  """A picture file's bytes, in the format of a file name ending.

  Args:
    image: uint8 [height, width, 3].
    suffix: such as '.png'. PNG, TIFF, BMP, PPM and WebP are lossless here;
      JPEG and AVIF are of quality 95 without colour subsampling.

  Raises:
    PictureError: an unknown ending.
  """
  if suffix.lower() not in suffixes():
    raise PictureError(
      f'No picture format ends in {suffix!r}; one of '
      '.png .jpg .webp .avif .tif .bmp .ppm is expected.'
    )
  name = Image.registered_extensions()[suffix.lower()]
  out = io.BytesIO()
  Image.fromarray(image).save(out, format=name, **_OPTIONS.get(name, {}))
  return out.getvalue()
