"""A picture's samples: what the codec takes, and what it gives back."""
import numpy as np

from gdc import icc
from gdc.codec import bitstream
from gdc.models import receptive_field

STRIDE = receptive_field.STRIDE
# Sides count as multiples of the stride: a very thin picture takes far more
# than its pixels.
MAX_POSITIONS = 2 * bitstream.MAX_PIXELS // STRIDE**2


def check(image) -> None:
  """Raises ValueError unless a file can hold an image of its size."""
  height, width = image.shape[:2]
  if not height or not width:
    raise ValueError(f'An image needs at least one pixel, not {image.shape}.')
  if height * width > bitstream.MAX_PIXELS:
    raise ValueError(
      f'An image has at most {bitstream.MAX_PIXELS} pixels, not '
      f'{width} x {height}.'
    )
  if -(-height // STRIDE) * -(-width // STRIDE) > MAX_POSITIONS:
    raise ValueError(
      f'An image of {width} x {height} is too thin; its sides count as '
      f'multiples of {STRIDE}.'
    )


def check_icc(profile, image: np.ndarray) -> bytes:
  """A profile to be stored with an image; b'' if it is None.

  Raises:
    ValueError: it is not a profile of the image's samples.
  """
  if profile is None:
    return b''
  if not isinstance(profile, bytes | bytearray | memoryview):
    raise ValueError(
      f'icc must be the bytes of an ICC profile, or None, not '
      f'{type(profile).__name__}.'
    )
  profile = bytes(profile)
  problem = profile and icc.problem(profile, icc.space(image.shape[2]))
  if problem:
    raise ValueError(f'icc does not fit the image: {problem}.')
  return profile


def alpha(image: np.ndarray) -> bytes | None:
  """A picture's alpha plane, row by row; None without one."""
  return image[:, :, -1].tobytes() if image.shape[2] in (2, 4) else None


def finish(picture: np.ndarray, header: bitstream.Header) -> np.ndarray:
  """The channels that a header asks for.

  Args:
    picture: uint8 RGB [height, width, 3].
    header: of the file that it was decoded from.

  Returns:
    uint8 [height, width, 1 to 4].
  """
  planes = [picture]
  if header.grey:
    total = picture.sum(axis=2, dtype=np.uint16, keepdims=True)
    planes = [((total + 1) // 3).astype(np.uint8)]
  if header.alpha is not None:
    plane = np.frombuffer(header.alpha, np.uint8)
    planes.append(plane.reshape(header.height, header.width, 1))
  if len(planes) == 1:
    return np.ascontiguousarray(planes[0])
  return np.concatenate(planes, axis=2)


def grid_size(header: bitstream.Header) -> tuple[int, int]:
  """Rows and columns of an image's latents."""
  return -(-header.height // STRIDE), -(-header.width // STRIDE)


def grid(symbols: np.ndarray, header: bitstream.Header) -> np.ndarray:
  """[channels, positions] -> a view of them, [rows, columns, channels]."""
  return np.moveaxis(symbols.reshape(-1, *grid_size(header)), 0, -1)
