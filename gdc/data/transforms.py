"""What happens to pictures on the device before a network sees them."""
import numpy as np


def to_float(image):
  """uint8 in [0, 255] -> float in [-1, 1]; numpy or jax arrays."""
  return image.astype(np.float32) / 127.5 - 1
