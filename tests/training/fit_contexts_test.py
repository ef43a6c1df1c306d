"""Contexts that are fitted to latents whose scale varies in space."""
import dataclasses

import numpy as np
import pytest

from gdc.codec import contexts, range_coder, tables
from gdc.training import fit_contexts

LEVELS = 2


def _images(seed, channels=14, grids=((24, 30), (17, 16), (32, 32), (24, 25))):
  """Latents of images at each level: all channels share a smooth scale."""
  rng = np.random.default_rng(seed)
  found = [[] for _ in range(LEVELS)]
  for rows, columns in grids:
    y, x = np.mgrid[:rows, :columns] / 6
    a, b = rng.uniform(0, 2 * np.pi, 2)
    scale = np.exp(1.5 * np.sin(x + a) + np.sin(y + b) - 1)
    energy = np.geomspace(8, 0.2, channels)
    values = rng.laplace(size=(channels, rows, columns))
    values *= scale * energy[:, None, None]
    for level in range(LEVELS):
      found[level].append(np.rint(2**level * values).astype(np.int32))
  return found


@pytest.fixture(scope='module')
def images():
  return _images(0)


@pytest.fixture(scope='module')
def fitted(images):
  return fit_contexts.fit(lambda level: images[level], LEVELS)


def _bits(model, images, level):
  return sum(
    model.ideal_bits(k.reshape(len(k), -1), 16 * level, k.shape[1])
    for k in images
  )


def _static(images):
  """One histogram per channel, as static tables; a quality for each level."""
  pmfs = []
  for latents in images:
    flat = np.concatenate([k.reshape(len(k), -1) for k in latents], axis=1)
    counts = np.stack([
      np.bincount(np.clip(k, -200, 200) + 200, minlength=401) for k in flat
    ], axis=1) + 0.01
    pmfs.append(counts / counts.sum(0))
  return tables.from_pmfs(pmfs, [-200] * len(pmfs))


def test_fewer_bits_than_one_table_per_channel(fitted, images):
  static = _static(images)
  for level, others in enumerate(_images(1)):
    before = sum(
      static.ideal_bits(k.reshape(len(k), -1), level) for k in others
    )
    assert _bits(fitted, others, level) < 0.9 * before


def test_the_same_again(fitted, images):
  again = fit_contexts.fit(lambda level: images[level], LEVELS)
  for field in dataclasses.fields(contexts.Contexts):
    if field.name != 'tables':
      np.testing.assert_array_equal(
        getattr(again, field.name), getattr(fitted, field.name)
      )
  np.testing.assert_array_equal(again.tables.counts, fitted.tables.counts)


def test_each_level_is_asked_for_once_and_reported(images):
  asked, shares = [], []

  def latents(level):
    asked.append(level)
    return images[level]

  fit_contexts.fit(latents, LEVELS, shares.append)
  assert sorted(asked) == list(range(LEVELS))
  assert sum(shares) == pytest.approx(LEVELS)


def test_channels_are_ordered_by_energy(fitted, images):
  energy = sum(np.abs(k).sum((1, 2)) for k in images[LEVELS // 2])
  assert np.all(np.diff(energy[fitted.order]) <= 0)
  assert fitted.ends[0] == fit_contexts.FIRST_GROUP


def test_it_knows_what_its_images_took(fitted, images):
  positions = sum(k[0].size for k in images[0])
  for level in range(LEVELS):
    mean = _bits(fitted, images[level], level) / positions
    assert fitted.bits[level] == pytest.approx(mean, rel=1e-5)


def test_outliers_are_left_to_the_escape_code(images):
  changed = [[k.copy() for k in latents] for latents in images]
  changed[1][0][3, 2, 2] = 2**15 - 1
  changed[1][0][5, 2, 2] = -2**15
  fitted = fit_contexts.fit(lambda level: changed[level], LEVELS)
  k = changed[1][0].reshape(len(changed[1][0]), -1)
  data = range_coder.encode(k, fitted, 16, 12)
  np.testing.assert_array_equal(
    range_coder.decode(data, fitted, 16, k.shape[1], 12), k
  )


def test_a_channel_that_is_always_zero_costs_nothing(images):
  changed = [[k.copy() for k in latents] for latents in images]
  for latents in changed:
    for k in latents:
      k[4] = 0
  fitted = fit_contexts.fit(lambda level: changed[level], LEVELS)
  assert fitted.order[-1] == 4
  step = fitted.steps[-1]
  own = fitted.weights[0][step.weights].reshape(step.shape)[-1]
  assert not own[:-1].any()
  assert contexts.classify(own[-1:] * float(contexts.UNIT)) == [0]
  assert fitted.tables.least_bits[0, 0] < 1e-3


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_fewer_channels_than_groups(channels):
  images = _images(2, channels)
  fitted = fit_contexts.fit(lambda level: images[level], LEVELS)
  assert fitted.ends[-1] == channels
  for level in range(LEVELS):
    for k in images[level]:
      flat = k.reshape(channels, -1)
      data = range_coder.encode(flat, fitted, 16 * level, k.shape[1])
      np.testing.assert_array_equal(range_coder.decode(
        data, fitted, 16 * level, flat.shape[1], k.shape[1]
      ), flat)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (8, 8)])
def test_one_image(grid):
  images = _images(3, grids=[grid])
  fitted = fit_contexts.fit(lambda level: images[level], LEVELS)
  k = images[0][0].reshape(14, -1)
  data = range_coder.encode(k, fitted, 0, grid[0])
  np.testing.assert_array_equal(
    range_coder.decode(data, fitted, 0, k.shape[1], grid[0]), k
  )
