"""Decoded images that stay in memory, for sources that are read many times."""
import logging
import pathlib
import threading

import numpy as np

from gdc import paths

_LOG = logging.getLogger(__name__)


class Cache:
  """Decoded pictures by path, as many as fit; for readers in many threads."""

  def __init__(self, num_bytes: int = 1 << 30):
    self._left = num_bytes
    self._images = {}
    self._damaged = set()
    self._lock = threading.Lock()

  def read(self, path: pathlib.Path) -> np.ndarray:
    """A picture, uint8 [height, width, 3]."""
    if path in self._images:
      return self._images[path]
    from gdc.data import image_files
    image, _ = image_files.read_rgb(path)
    with self._lock:
      if path not in self._images and image.nbytes <= self._left:
        self._left -= image.nbytes
        self._images[path] = image
    return image

  def try_read(self, path: pathlib.Path) -> np.ndarray | None:
    """The same; None, with a warning the first time, if it cannot be read."""
    if path in self._damaged:
      return None
    try:
      return self.read(path)
    except (OSError, ValueError) as e:
      with self._lock:
        if path not in self._damaged:
          self._damaged.add(path)
          _LOG.warning(
            'Left out, with %d before: %s', len(self._damaged) - 1,
            paths.about(path, e),
          )
      return None
