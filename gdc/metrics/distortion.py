"""Distortion of 8-bit pictures: how far the decoded pixels are off.

Everything here compares pictures as a viewer gets them, after rounding to
8 bits, and computes in float64.
"""

import numpy as np
from scipy import ndimage

PEAK = 255.0

# MS-SSIM's constants, those of its authors.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
WINDOW /= WINDOW.sum()
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
# Of the coarsest scale one window is left.
MS_SSIM_SMALLEST = (len(WINDOW) - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1


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


def ms_ssim(reference: np.ndarray, decoded: np.ndarray) -> float:
  """Multi-scale structural similarity in RGB.

  Wang, Simoncelli, Bovik 2003, 'Multiscale structural similarity for image
  quality assessment': five scales, a Gaussian window of 11 pixels and sigma
  1.5 without padding, a channel at a time, then the mean of the three.
  The paper leaves open what to do with odd sizes and with negative contrast;
  both as in PyPI's pytorch-msssim, so that this is CompressAI's `ms-ssim-rgb`
  on rounded pictures, but for that package's float32 (4e-5 and less on
  photographs).

  Two traps: it is of RGB, where many papers have that of luma; and it is the
  linear figure, where many plot -10 log10(1 - x) and write dB beside it.

  Args:
    reference: uint8 [height, width, 3], both sides >= 161 pixels.
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    MS-SSIM in [0, 1], higher is better; 1 up to rounding (1e-12) for equal
    pictures.

  Raises:
    ValueError: a picture is not uint8 [height, width, 3], sizes differ, or a
      side is too short.
  """
  check_pair(reference, decoded)
  height, width, channels = reference.shape
  if min(height, width) < MS_SSIM_SMALLEST:
    raise ValueError(
      f'the picture is {height} x {width} pixels: MS-SSIM needs '
      f'{MS_SSIM_SMALLEST} pixels or more on both sides'
    )
  return float(np.mean([
    _ms_ssim(
      reference[..., c].astype(np.float64), decoded[..., c].astype(np.float64)
    )
    for c in range(channels)
  ]))


def _ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
  """MS-SSIM of two planes, [height, width]."""
  product = 1.0
  last = len(SCALE_WEIGHTS) - 1
  for scale, weight in enumerate(SCALE_WEIGHTS):
    # The two variances are only ever added: one map does for both.
    x_mean, y_mean, squares, products = (
      _smooth(plane) for plane in (x, y, x * x + y * y, x * y)
    )
    mean_products = x_mean * y_mean
    mean_squares = x_mean**2 + y_mean**2
    similarity = (2 * (products - mean_products) + C2) / (
      squares - mean_squares + C2
    )
    if scale == last:
      similarity *= (2 * mean_products + C1) / (mean_squares + C1)
    product *= max(float(similarity.mean()), 0.0) ** weight
    if scale < last:
      x, y = _halve(x), _halve(y)
  return product


def _smooth(plane: np.ndarray) -> np.ndarray:
  """The window's mean wherever the whole window lies in the plane."""
  margin = slice(len(WINDOW) // 2, -(len(WINDOW) // 2))
  plane = ndimage.correlate1d(plane, WINDOW, axis=0)[margin]
  return ndimage.correlate1d(plane, WINDOW, axis=1)[:, margin]


def _halve(plane: np.ndarray) -> np.ndarray:
  """Means of 2 x 2 pixels; an odd side begins with a line of zeros."""
  plane = np.pad(plane, [(size % 2, 0) for size in plane.shape])
  rows = plane[::2] + plane[1::2]
  return (rows[:, ::2] + rows[:, 1::2]) / 4
