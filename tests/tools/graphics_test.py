"""Drawn training images: what they are, and that training can read them."""
import numpy as np
import pytest
from PIL import Image

from gdc.data import sources
from tools import graphics


@pytest.mark.parametrize('seed', range(7))
def test_every_kind_is_drawn_again_alike_with_sharp_edges(seed):
  image = graphics.draw(seed, 128)
  assert image.shape == (128, 128, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(image, graphics.draw(seed, 128))
  assert np.any(image != graphics.draw(seed + 7, 128))
  steps = np.abs(np.diff(image.astype(int), axis=1)).max(axis=-1)
  assert steps.max() > 60  # an edge from one pixel to the next
  assert np.median(steps) <= 12  # on ground that is flat or nearly so


@pytest.mark.parametrize('manifest', [False, True])
def test_below_photographs_they_are_a_group_of_their_own(tmp_path, manifest):
  for name in ('a', 'b'):
    Image.new('RGB', (64, 64)).save(tmp_path / f'{name}.png')
  if manifest:
    (tmp_path / sources.MANIFEST).write_text('file,source\na.png,x\nb.png,x\n')
  graphics.write(tmp_path / 'graphics', 2, 128)
  found = sources.folder(tmp_path)
  names = [p.name for p in found.split_by_group()[0 if manifest else 1].paths]
  assert names == ['graphics_0000.png', 'graphics_0001.png']
  assert len(found) == 4 and len(set(found.groups)) == 2


def test_a_written_folder_is_a_group_of_its_own(tmp_path):
  graphics.write(tmp_path / 'set' / 'graphics', 2, 128)
  found = sources.folder(tmp_path / 'set' / 'graphics')
  assert len(found) == 2 and set(found.groups) == {'graphics'}
  np.testing.assert_array_equal(found[1]['image'], graphics.draw(1, 128))
