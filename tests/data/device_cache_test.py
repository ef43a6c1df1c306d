"""Crops that are drawn on the device."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdc.data import device_cache
from gdc.training import sharding


class _Source:
  """Images in memory, as a source."""

  def __init__(self, images, groups=None):
    self.images = images
    if groups:
      self.groups = groups

  def __len__(self):
    return len(self.images)

  def __getitem__(self, index):
    return {'image': self.images[index]}


def _batches(images, groups=None, first=0, **changes):
  mesh = sharding.create_mesh()
  fields = {
    'batch_size': 8, 'crop': 16, 'min_scale': 1.0, 'seed': 0, 'balance': False,
    'whole': sharding.replicated(mesh), 'split': sharding.batch(mesh),
  }
  return device_cache.batches(
    images, groups or [''] * len(images), **{**fields, **changes}
  )(first)


def _take(iterator, count):
  return np.concatenate([
    np.asarray(b['image']) for b in itertools.islice(iterator, count)
  ])


def test_squares_are_cut_around_the_centre(gradient):
  wide = np.arange(20 * 50 * 3, dtype=np.uint8).reshape(20, 50, 3)
  exact = gradient(16, 16)
  images, groups = device_cache.squares(_Source([wide, exact], ['a', 'b']), 16)
  assert groups == ['a'] * 3 + ['b']
  np.testing.assert_array_equal(images[0], wide[2:18, 1:17])
  np.testing.assert_array_equal(images[2], wide[2:18, 33:49])
  np.testing.assert_array_equal(images[3], exact)
  assert device_cache.squares(_Source([wide]), 16)[1] == [''] * 3
  with pytest.raises(ValueError, match='balance needs'):
    device_cache.squares(_Source([wide]), 16, balance=True)
  with pytest.raises(ValueError, match='24 is larger than image 0 .* 50 x 20'):
    device_cache.squares(_Source([wide]), 24)


def test_without_scaling_a_crop_is_a_window_perhaps_flipped(
  gradient, windows
):
  image = gradient(40, 40)
  seen = windows(_take(_batches(image[None]), 6), image)
  assert len(seen) > 40
  assert {flip for _, _, flip in seen} == {True, False}
  tops, lefts, _ = map(set, zip(*seen, strict=True))
  assert min(tops | lefts) == 0 and max(tops | lefts) == 24  # both borders


@pytest.mark.parametrize('top, left, window', [
  (0, 0, 48), (16, 16, 48), (16, 0, 40), (5, 11, 33), (40, 40, 24),
])
def test_a_window_is_scaled_as_pillow_scales_it(top, left, window):
  rng = np.random.default_rng(0)
  coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
  photo = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))
  found = device_cache._scaled(
    photo[None], 0, jnp.array([top, left]), jnp.array(window), 24, 48
  )
  expected = Image.fromarray(photo).crop(
    (left, top, left + window, top + window)
  ).resize((24, 24), Image.Resampling.LANCZOS)
  difference = np.abs(np.int32(found) - np.int32(expected))
  assert difference[3:-3, 3:-3].max() <= 1
  assert difference.max() <= 12  # Pillow does not see beyond the window


def test_windows_of_every_size_lie_inside(gradient):
  image = np.full((1, 40, 40, 3), 7, np.uint8)
  # A line of zeros would come in from outside.
  for crop in _take(_batches(image, crop=16, min_scale=0.4), 4):
    assert crop.min() == crop.max() == 7
  # The rows of a crop tell how large its window was.
  crops = _take(_batches(4 * gradient(40, 40)[None], min_scale=0.4), 8)
  rows = crops[:, :, 0, 0].astype(float)
  windows = (rows[:, 12] - rows[:, 4]) / 8 / 4 * 16
  assert windows.min() < 19 and windows.max() > 36


def test_the_seed_and_the_step_decide_everything(gradient):
  images = np.stack([gradient(32, 32, i) for i in range(20)])
  whole = _take(_batches(images, min_scale=0.5), 5)
  np.testing.assert_array_equal(
    whole[3 * 8:], _take(_batches(images, min_scale=0.5, first=3), 2)
  )
  assert not np.array_equal(whole, _take(_batches(images, seed=1), 5))
  assert len({crop.tobytes() for crop in whole}) > len(whole) - 5


@pytest.mark.parametrize('share', [0.25, 1.0])
def test_a_share_of_the_crops_is_transposed_and_else_the_same(share, gradient):
  images = np.stack([gradient(32, 32, i) for i in range(5)])
  plain = _take(_batches(images, min_scale=0.5), 50)
  crops = _take(_batches(images, min_scale=0.5, transpose=share), 50)
  turned = np.any(crops != plain, axis=(1, 2, 3))
  np.testing.assert_array_equal(
    crops, np.where(
      turned[:, None, None, None], plain.swapaxes(1, 2), plain
    )
  )
  # 400 draws: three standard deviations are 0.065.
  assert np.mean(turned) == pytest.approx(share, abs=0.065 * (share < 1))


def test_groups_are_balanced_by_the_root_of_their_sizes(gradient):
  images = np.stack([gradient(16, 16, i) for i in range(20)])
  groups = ['many'] * 16 + ['few'] * 4

  def share(**changes):
    crops = _take(_batches(images, groups, **changes), 100)
    return np.mean(crops[:, 0, 0, 2] >= 16)

  # 800 draws: three standard deviations are 0.05.
  assert share() == pytest.approx(4 / 20, abs=0.05)
  assert share(balance=True) == pytest.approx(2 / 6, abs=0.05)


def test_a_batch_is_the_same_on_one_device_and_is_split_over_all(gradient):
  images = np.stack([gradient(32, 32, i) for i in range(5)])
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  fields = {'min_scale': 0.5, 'transpose': 0.5}
  alone = _take(_batches(images, whole=one, split=one, **fields), 2)
  np.testing.assert_array_equal(alone, _take(_batches(images, **fields), 2))
  batch = next(_batches(images))['image']
  assert batch.shape == (8, 16, 16, 3) and batch.dtype == np.uint8
  assert len(batch.sharding.device_set) == 8
  assert batch.addressable_shards[0].data.shape[0] == 1


def test_draws_are_a_stream_of_their_own(gradient):
  """Training splits and folds the key of the same seed for other things."""
  made = []
  images = np.stack([gradient(32, 32, i) for i in range(20)])
  draw = jax.random.choice

  def spy(key, *args, **kwargs):
    made.append(key)
    return draw(key, *args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax.random, 'choice', spy)
    patch.setattr(  # which would take seconds
      device_cache, '_crop',
      lambda crop, scale, transpose, images, index, key: index,
    )
    for step in range(3):
      device_cache._draw(
        0, 2, 16, 1.0, 0.0, jnp.asarray(images), jnp.ones(20) / 20,
        np.uint32(step),
      )
  used = {tuple(jax.random.key_data(key).tolist()) for key in made}
  assert len(used) == 3
  root = jax.random.key(0)
  others = [root, *jax.random.split(root)]
  others += [jax.random.fold_in(k, i) for k in others for i in range(4)]
  others += [k for other in others for k in jax.random.split(other, 3)]
  assert not used & {tuple(jax.random.key_data(k).tolist()) for k in others}
