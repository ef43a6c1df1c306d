"""Distortion of 8-bit pictures: how far the decoded pixels are off.

Everything here compares pictures as a viewer gets them, after rounding to
8 bits, and computes in float64.
"""

import numpy as np

PEAK = 255.0


def check_image(image: np.ndarray, name: str = 'image') -> None:
  """Raises ValueError unless image is uint8 [height, width, 3], not empty."""
  dtype = getattr(image, 'dtype', type(image).__name__)
  shape = getattr(image, 'shape', None)
  if dtype != np.uint8:
    raise ValueError(f'{name} has dtype {dtype}: uint8 is expected')
  if len(shape) != 3 or shape[2] != 3 or 0 in shape:
    raise ValueError(
      f'{name} has shape {shape}: [height, width, 3] is expected'
    )


def check_pair(reference: np.ndarray, decoded: np.ndarray) -> None:
  """Raises ValueError unless both are uint8 [height, width, 3], one size."""
  check_image(reference, 'reference')
  check_image(decoded, 'decoded')
  if reference.shape != decoded.shape:
    raise ValueError(
      f'decoded has shape {decoded.shape}: {reference.shape}, that of the '
      'reference, is expected'
    )


def psnr(reference: np.ndarray, decoded: np.ndarray) -> float:
  """Peak signal-to-noise ratio in RGB.

  10 log10(255^2 / MSE), the mean over pixels and the three channels at once.
  This is CompressAI's `psnr-rgb` on rounded pictures, and not the PSNR of
  luma alone nor a mean of three per-channel PSNRs. A figure for a set of
  pictures is the mean of their PSNRs, not the PSNR of their mean MSE.

  Args:
    reference: uint8 [height, width, 3].
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    PSNR in dB, higher is better; inf for equal pictures.

  Raises:
    ValueError: a picture is not uint8 [height, width, 3], or sizes differ.
  """
  check_pair(reference, decoded)
  error = reference.astype(np.float64) - decoded.astype(np.float64)
  mse = float(np.mean(error**2))
  if mse == 0.0:
    return float('inf')
  return float(10.0 * np.log10(PEAK**2 / mse))
