"""Earlier name of image_files, kept for scripts that import it."""
from gdc.data.image_files import (
  ImageData,
  ImageError,
  encode,
  fit,
  read,
  read_rgb,
)

PictureError = ImageError

__all__ = [
  'ImageData', 'PictureError', 'encode', 'fit', 'read', 'read_rgb',
]
