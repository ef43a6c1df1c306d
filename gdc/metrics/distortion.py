"""Distortion of 8-bit images: PSNR and MS-SSIM in RGB, computed in float64."""

import numpy as np
from scipy import ndimage

PEAK = 255.0

# MS-SSIM's constants, those of its authors.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
WINDOW /= WINDOW.sum()
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
# Leaves one window at the coarsest scale.
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


def check_pair(
  reference: np.ndarray, decoded: np.ndarray, metric: str = '',
  smallest: int = 1,
) -> None:
  """Raises ValueError unless two images can be compared.

  Args:
    reference: uint8 [height, width, 3].
    decoded: uint8 [height, width, 3], the same size.
    metric: its name, for the error.
    smallest: shortest side in pixels that the metric is defined for.
  """
  check_image(reference, 'reference')
  check_image(decoded, 'decoded')
  if reference.shape != decoded.shape:
    raise ValueError(
      f'decoded has shape {decoded.shape}: {reference.shape}, that of the '
      'reference, is expected'
    )
  height, width, _ = reference.shape
  if min(height, width) < smallest:
    raise ValueError(
      f'the image is {height} x {width} pixels: {metric} needs {smallest} '
      'pixels or more on both sides'
    )


def psnr(reference: np.ndarray, decoded: np.ndarray) -> float:
  """Peak signal-to-noise ratio in RGB: 10 log10(255^2 / MSE).

  The MSE is one mean over pixels and channels: CompressAI's `psnr-rgb` on
  rounded images, neither the PSNR of luma nor a mean of three per-channel
  PSNRs.

  Args:
    reference: uint8 [height, width, 3].
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    PSNR in dB, higher is better; inf for equal images.

  Raises:
    ValueError: an image is not uint8 [height, width, 3], or sizes differ.
  """
  check_pair(reference, decoded)
  error = reference.astype(np.float64) - decoded.astype(np.float64)
  mse = float(np.mean(error**2))
  return float(10.0 * np.log10(PEAK**2 / mse)) if mse else float('inf')


def ms_ssim(reference: np.ndarray, decoded: np.ndarray) -> float:
  """Multi-scale structural similarity in RGB.

  Wang, Simoncelli, Bovik 2003, 'Multiscale structural similarity for image
  quality assessment': five scales, a Gaussian window of 11 pixels and sigma
  1.5 without padding, a mean over the three channels. Odd sizes and negative
  contrast are handled as in PyPI's pytorch-msssim, so that this is CompressAI's
  `ms-ssim-rgb` on rounded images, up to that package's float32.

  Many papers report MS-SSIM of luma, or -10 log10(1 - x) in dB: neither
  compares with this.

  Args:
    reference: uint8 [height, width, 3], both sides >= 161 pixels.
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    MS-SSIM in [0, 1], higher is better; 1 up to rounding (1e-12) for equal
    images.

  Raises:
    ValueError: an image is not uint8 [height, width, 3], sizes differ, or a
      side is too short.
  """
  check_pair(reference, decoded, 'MS-SSIM', MS_SSIM_SMALLEST)
  planes = (
    image.astype(np.float64).transpose(2, 0, 1)
    for image in (reference, decoded)
  )
  return float(np.mean([_ms_ssim(x, y) for x, y in zip(*planes, strict=True)]))


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
  """Means of 2 x 2 pixels; an odd side is padded with zeros at its start."""
  plane = np.pad(plane, [(size % 2, 0) for size in plane.shape])
  rows = plane[::2] + plane[1::2]
  return (rows[:, ::2] + rows[:, 1::2]) / 4
