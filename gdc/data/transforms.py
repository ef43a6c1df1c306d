"""What happens to an image between a data set and a network."""
import numpy as np
from PIL import Image


def random_crop(
  element, rng: np.random.Generator, *, size: int, min_scale: float = 1.0,
  transpose: float = 0.0,
):
  """Draws a square window, scaled down to `size` pixels, perhaps mirrored.

  The scale is uniform between min_scale and 1: the window's side is from size
  to size / min_scale, small ones being more likely. Images that are too small
  are first scaled up. Half of the crops are flipped left to right.

  Args:
    element: {'image': uint8 [height, width, 3]}.
    rng: source of all randomness.
    size: side of the crop, pixels.
    min_scale: in (0, 1]; 1 never scales down.
    transpose: share of crops whose rows become columns, in [0, 1].

  Returns:
    {'image': uint8 [size, size, 3]}.
  """
  image = Image.fromarray(element['image'])
  if min(image.size) < size:
    factor = size / min(image.size)
    image = image.resize(
      [max(size, round(s * factor)) for s in image.size],
      Image.Resampling.BICUBIC,
    )
  width, height = image.size
  side = min(round(size / rng.uniform(min_scale, 1)), width, height)
  left = int(rng.integers(width - side + 1))
  top = int(rng.integers(height - side + 1))
  crop = image.crop((left, top, left + side, top + side))
  if side != size:
    crop = crop.resize(
      (size, size), Image.Resampling.LANCZOS, reducing_gap=2.0
    )
  crop = np.asarray(crop)
  if rng.random() < 0.5:
    crop = crop[:, ::-1]
  if rng.random() < transpose:  # last: the other draws do not depend on it
    crop = crop.swapaxes(0, 1)
  return {'image': np.ascontiguousarray(crop)}


def to_float(image):
  """uint8 in [0, 255] -> float32 in [-1, 1]; numpy or jax arrays."""
  return image.astype(np.float32) / 127.5 - 1
