"""The step from a bundle and a source of images to a bundle with contexts."""
import dataclasses

import numpy as np
import pytest
from PIL import Image

from gdc.codec import bundle, codec
from gdc.training import contexts_step


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Three images: a small one, one of a crop's size, a large one."""
  path = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for name, size in (('a', (40, 20)), ('b', (64, 64)), ('c', (210, 130))):
    noise = rng.integers(0, 256, (size[1] // 5, size[0] // 5, 3), np.uint8)
    Image.fromarray(noise).resize(size).save(path / f'{name}.png')
  return path


@pytest.fixture(scope='module')
def settings(folder):
  return contexts_step.Settings(f'folder:{folder}', 4, 64, seed=3)


@pytest.fixture(scope='module')
def fitted(tiny_bundle, settings):
  return contexts_step.add(tiny_bundle, settings)


def _source(*sizes):
  rng = np.random.default_rng(0)
  return [{'image': rng.integers(0, 256, (*s, 3), np.uint8)} for s in sizes]


def test_large_images_give_several_crops():
  # One, one, and 2 x 3 side by side.
  source = _source((10, 200), (50, 50), (120, 170))
  crops = contexts_step.draw(source, 100, 50, seed=0)
  assert sorted(c.shape for c in crops) == [(10, 50, 3)] + 7 * [(50, 50, 3)]
  assert len({c.tobytes() for c in crops}) == 8
  # One of each image at first.
  first = contexts_step.draw(source, 3, 50, seed=0)
  assert sorted(c.shape for c in first) == [(10, 50, 3)] + 2 * [(50, 50, 3)]
  for a, b in zip(first, crops[:3], strict=True):
    np.testing.assert_array_equal(a, b)


def test_crops_depend_on_the_seed_alone():
  source = _source(*[(60, 70)] * 5)
  a, b, c = (
    contexts_step.digest(contexts_step.draw(source, 3, 32, seed))
    for seed in (0, 0, 1)
  )
  assert a == b != c


def test_files_become_smaller_and_say_the_same(fitted, tiny_bundle, settings):
  """Weights are random: the contexts are measured where they were fitted."""
  before, after = codec.Codec(tiny_bundle), codec.Codec(fitted)
  source = contexts_step.sources.build(settings.source)
  for crop in contexts_step.draw(source, 4, 64, settings.seed):
    old, new = (
      c.compress(crop, 2, lossless='never') for c in (before, after)
    )
    assert len(new) < len(old)
    np.testing.assert_array_equal(
      after.read(new)[0], before.encode(crop, 2)
    )


def test_the_rest_of_the_bundle_is_kept(fitted, tiny_bundle):
  assert fitted.decoders == tiny_bundle.decoders
  assert fitted.name == tiny_bundle.name
  bare = dataclasses.replace(fitted, contexts=None)
  assert bare.digest == tiny_bundle.digest != fitted.digest


def test_the_same_again(fitted, tiny_bundle, settings):
  assert contexts_step.add(tiny_bundle, settings).digest == fitted.digest
  # Contexts that are replaced do not matter.
  assert contexts_step.add(fitted, settings).digest == fitted.digest


def test_it_says_what_it_was_fitted_on(fitted, settings, folder, tmp_path):
  bundle.save(fitted, tmp_path / 'bundle')
  record = bundle.load(tmp_path / 'bundle').fitted_on
  source = contexts_step.sources.build(settings.source)
  images = contexts_step.draw(source, 4, 64, settings.seed)
  assert record == {
    'source': f'folder:{folder.name}', 'max_crops': 4, 'crop': 64, 'seed': 3,
    'crops': 4, 'qualities': [1, 2, 3, 4, 5, 6],
    'sha256': contexts_step.digest(images),
  }


def test_contexts_of_a_workdir_are_kept(fitted, tiny_bundle, tmp_path):
  assert contexts_step.kept(tiny_bundle, tmp_path) is None
  bundle.save(tiny_bundle, tmp_path / 'bundle')
  assert contexts_step.kept(tiny_bundle, tmp_path) is None
  bundle.save(fitted, tmp_path / 'bundle')
  assert contexts_step.kept(tiny_bundle, tmp_path).digest == fitted.digest
  # Not those of other weights.
  params = {**tiny_bundle.autoencoder_params}
  params['log_gain'] = params['log_gain'] + np.float32(0.25)
  other = dataclasses.replace(tiny_bundle, autoencoder_params=params)
  assert contexts_step.kept(other, tmp_path) is None
  (tmp_path / 'bundle' / 'autoencoder.safetensors').write_bytes(b'?')
  assert contexts_step.kept(tiny_bundle, tmp_path) is None


@pytest.mark.parametrize('source, message', [
  ('folder:{empty}', 'No images below'),
  ('folder:{empty}/none', 'is not a folder'),
  ('box:a', 'A data source is'),
])
def test_no_images(source, message, tiny_bundle, tmp_path):
  settings = contexts_step.Settings(source.format(empty=tmp_path), 4, 64, 0)
  with pytest.raises(ValueError, match=message):
    contexts_step.add(tiny_bundle, settings)
