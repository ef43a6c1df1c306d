"""The table of metrics against the functions that it names."""
import numpy as np
import pytest

from gdc import metrics
from gdc.metrics import distortion, dists, frechet, lpips


def test_every_metric_has_a_key_of_its_own_and_a_function():
  assert len(metrics.BY_KEY) == len(metrics.TABLE)
  assert all(callable(metric.compute) for metric in metrics.TABLE)


@pytest.mark.parametrize('name', metrics.OF_IMAGES)
def test_directions_and_smallest_sides_hold(name):
  metric = metrics.OF_IMAGES[name]
  rng = np.random.default_rng(0)
  shape = metric.smallest, metric.smallest + 3, 3
  image, other = rng.integers(0, 256, (2, *shape), np.uint8)
  against = metric.against(image)
  assert (against(image ^ np.uint8(1)) > against(other)) == (
    metric.higher_is_better
  )
  if metric.smallest > 1:
    small = image[:-1]
    assert metric.against(small) is None
    with pytest.raises(ValueError, match=f'needs.* {metric.smallest} pixels'):
      metric.compute(*(small,) * (1 if metric.per_reference else 2))


@pytest.mark.parametrize('features', ['vgg16', 'inception'])
def test_sets_are_compared_by_the_features_of_one_network(features):
  distance, kid = metrics.of_sets(features)
  assert (distance.compute, kid.compute) == (frechet.distance, frechet.kid)
  assert distance.name == kid.name == 'fd'


def test_unknown_names():
  metrics.check(['psnr', 'fd'])
  with pytest.raises(ValueError, match="'ssim'.*'psnr', .*'ms-ssim'"):
    metrics.check(['psnr', 'ssim'])
  with pytest.raises(ValueError, match="'fd'"):
    metrics.check(['fd'], metrics.OF_IMAGES)


@pytest.mark.parametrize('name, smallest', [
  ('psnr', 1), ('ms-ssim', distortion.MS_SSIM_SMALLEST),
  ('lpips', lpips.NETWORKS['alex'].smallest),
  ('lpips-vgg', lpips.NETWORKS['vgg'].smallest), ('dists', dists.SMALLEST),
])
def test_floors_are_those_of_the_definitions(name, smallest):
  assert metrics.OF_IMAGES[name].smallest == smallest
