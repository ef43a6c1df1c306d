"""The measures of a decoded picture, in one table.

Each compares one decoded picture with its original. What is measured of sets
of pictures, Frechet distances, is in frechet.py.
"""
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gdc.metrics import distortion, dists, perceptual

Compare = Callable[[np.ndarray], float]


class Measure(NamedTuple):
  """A measure of a decoded picture against its original.

  Attributes:
    key: in results files; CompressAI's name where it has one.
    title: for people, with the unit.
    decimals: that are worth showing.
    higher_is_better: the direction.
    smallest: shortest side in pixels that it is defined for.
    against: original, uint8 [height, width, 3] -> function of a decoded
      picture. What only depends on the original is done once.
  """

  key: str
  title: str
  decimals: int
  higher_is_better: bool
  smallest: int
  against: Callable[[np.ndarray], Compare]


def _lpips(network):
  return lambda reference: functools.partial(
    perceptual.lpips, reference, network=network
  )


MEASURES = {
  'psnr': Measure(
    'psnr-rgb', 'PSNR, dB', 2, True, 1,
    lambda reference: functools.partial(distortion.psnr, reference),
  ),
  'ms-ssim': Measure(
    'ms-ssim-rgb', 'MS-SSIM', 4, True, distortion.MS_SSIM_SMALLEST,
    lambda reference: functools.partial(distortion.ms_ssim, reference),
  ),
  'lpips': Measure(
    'lpips-alex', 'LPIPS', 4, False, perceptual.NETWORKS['alex'][1],
    _lpips('alex'),
  ),
  # One-step decoders are trained on these features: no figure to judge them by.
  'lpips-vgg': Measure(
    'lpips-vgg', 'LPIPS (VGG16)', 4, False, perceptual.NETWORKS['vgg'][1],
    _lpips('vgg'),
  ),
  'dists': Measure(
    'dists', 'DISTS', 4, False, dists.SMALLEST, perceptual.dists_to
  ),
}


def against(
  reference: np.ndarray, names: Sequence[str]
) -> Mapping[str, Compare | None]:
  """The measures of pictures that are decoded versions of one original.

  Args:
    reference: uint8 [height, width, 3].
    names: keys of MEASURES.

  Returns:
    name -> function of a decoded picture; None where the picture is too small.

  Raises:
    ValueError: an unknown name, or no picture.
  """
  check(names)
  distortion.check_image(reference, 'reference')
  side = min(reference.shape[:2])
  return {
    name: MEASURES[name].against(reference)
    if side >= MEASURES[name].smallest else None
    for name in names
  }


def check(names: Sequence[str]) -> None:
  """Raises ValueError unless all are keys of MEASURES."""
  unknown = [name for name in names if name not in MEASURES]
  if unknown:
    raise ValueError(
      f'measures has {unknown}: any of {", ".join(map(repr, MEASURES))} are '
      'expected'
    )
