"""What happens to a photograph before it is a training crop (numpy, host)."""
import dataclasses

import grain.python as grain
import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class RandomCrop(grain.RandomMapTransform):
  """A random square window, scaled down to `size` pixels, perhaps flipped.

  The scale is uniform between min_scale and 1, so that the window's side is
  from size to size / min_scale, and small ones are drawn more often: scaling
  down is the one change of sharpness that photographs survive. Pictures that
  are too small are first scaled up to `size`. Colours are never touched.

  Attributes:
    size: side of the crop, pixels.
    min_scale: in (0, 1]; 1 never scales.
  """

  size: int
  min_scale: float = 1.0

  def random_map(self, element, rng: np.random.Generator):
    image = Image.fromarray(element['image'])
    if min(image.size) < self.size:
      factor = self.size / min(image.size)
      image = image.resize(
        [max(self.size, round(s * factor)) for s in image.size],
        Image.Resampling.BICUBIC,
      )
    width, height = image.size
    side = round(self.size / rng.uniform(self.min_scale, 1))
    side = min(side, width, height)
    left = int(rng.integers(width - side + 1))
    top = int(rng.integers(height - side + 1))
    crop = image.crop((left, top, left + side, top + side))
    if side != self.size:
      crop = crop.resize(
        (self.size, self.size), Image.Resampling.LANCZOS, reducing_gap=2.0
      )
    crop = np.asarray(crop)
    if rng.random() < 0.5:
      crop = crop[:, ::-1]
    return {'image': np.ascontiguousarray(crop)}
