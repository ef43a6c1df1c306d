import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gdc.data import image_files, sources


def _save(path, value=0, size=(24, 20), mode='RGB'):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new(mode, size, value if mode == 'L' else (value,) * 3).save(path)


def _write_manifest(folder, rows):
  with open(folder / 'MANIFEST.csv', 'w', newline='') as f:
    writer = csv.DictWriter(f, ['file', 'original', 'source'])
    writer.writeheader()
    writer.writerows(rows)


def _bundled_rows():
  with open(sources.PHOTOS / 'MANIFEST.csv', newline='') as f:
    return list(csv.DictReader(f))


# --- Bundled photographs ----------------------------------------------------


def test_bundled_manifest_lists_the_files_that_are_there():
  listed = [row['file'] for row in _bundled_rows()]
  present = [p.name for p in sources.PHOTOS.glob('*.jpg')]
  assert sorted(listed) == sorted(present)
  assert len(set(listed)) == len(listed)


def test_bundled_original_is_in_one_split_only():
  splits = {}
  for row in _bundled_rows():
    splits.setdefault(row['original'], set()).add(row['split'])
  assert set().union(*splits.values()) == {'train', 'heldout'}
  shared = [name for name, found in splits.items() if len(found) > 1]
  assert not shared


def test_bundled_is_public_domain_and_small():
  assert {row['licence'] for row in _bundled_rows()} == {'CC0-1.0'}
  files = sources.PHOTOS.iterdir()
  assert sum(p.stat().st_size for p in files) < 5_000_000


def test_bundled_images_are_512_squares():
  for path in sources.PHOTOS.glob('*.jpg'):
    with Image.open(path) as image:
      assert (image.size, image.mode) == ((512, 512), 'RGB'), path.name


def test_bundled_splits_are_disjoint_and_whole():
  train, heldout = sources.bundled('train'), sources.bundled('heldout')
  names = {p.name for p in train.paths} | {p.name for p in heldout.paths}
  assert len(train) + len(heldout) == len(names) == len(_bundled_rows())
  assert set(train.groups) == {'budgie', 'elementary'}


def test_bundled_images_come_with_names():
  name, image = next(sources.bundled_images('heldout'))
  assert (sources.PHOTOS / f'{name}.jpg').exists()
  assert image.shape == (512, 512, 3) and image.dtype == np.uint8


# --- Folders ----------------------------------------------------------------


def test_folder_is_read_in_depth_and_in_order(tmp_path):
  _save(tmp_path / 'b' / 'deep' / '1.png', 1)
  _save(tmp_path / 'a' / '2.JPG', 2)
  _save(tmp_path / '3.webp', 3)
  (tmp_path / 'a' / 'notes.txt').write_text('not an image')
  source = sources.folder(tmp_path)
  names = [p.relative_to(tmp_path).as_posix() for p in source.paths]
  assert names == ['3.webp', 'a/2.JPG', 'b/deep/1.png']
  assert source.groups == ['.', 'a', 'b/deep']
  assert source[2]['image'].tolist() == np.ones((20, 24, 3)).tolist()


def test_folder_images_are_rgb_whatever_the_file(tmp_path):
  _save(tmp_path / 'grey.png', 7, mode='L')
  Image.new('RGBA', (24, 20), (1, 2, 3, 4)).save(tmp_path / 'alpha.png')
  Image.new('P', (24, 20)).save(tmp_path / 'palette.png')
  source = sources.folder(tmp_path)
  assert [source[i]['image'].shape for i in range(3)] == [(20, 24, 3)] * 3
  assert source[1]['image'][0, 0].tolist() == [7, 7, 7]


def test_manifests_in_subfolders_count(tmp_path):
  held_out = next(
    r['original'] for r in _bundled_rows() if r['split'] == 'heldout'
  )
  for name in ('a/0.png', 'a/1.png', 'b/0.png', 'b/c/2.png', 'd/3.png'):
    _save(tmp_path / name)
  (tmp_path / 'empty').mkdir()
  _write_manifest(tmp_path / 'empty', [])
  _write_manifest(tmp_path / 'a', [
    {'file': '0.png', 'original': held_out, 'source': 'x'},
    {'file': '1.png', 'original': 'own', 'source': 'y'},
  ])
  _write_manifest(tmp_path / 'b', [
    {'file': 'c/2.png', 'original': held_out, 'source': 'x'},
    {'file': '0.png', 'original': 'own', 'source': 'z'},
  ])
  kept = sources.folder(tmp_path)
  assert [p.relative_to(tmp_path).as_posix() for p in kept.paths] == [
    'a/1.png', 'b/0.png', 'd/3.png'
  ]
  assert kept.groups == ['y', 'z', '']


def test_a_manifest_in_a_subfolder_adds_to_the_one_above(tmp_path):
  held_out = next(
    r['original'] for r in _bundled_rows() if r['split'] == 'heldout'
  )
  for name in ('a/0.png', 'a/1.png'):
    _save(tmp_path / name)
  _write_manifest(tmp_path, [
    {'file': 'a/0.png', 'original': held_out, 'source': 'x'},
    {'file': 'a/1.png', 'original': 'own', 'source': 'x'},
  ])
  _write_manifest(tmp_path / 'a', [
    {'file': '0.png', 'original': '', 'source': 'y'},
    {'file': '1.png', 'original': '', 'source': 'y'},
  ])
  kept = sources.folder(tmp_path)
  assert [p.name for p in kept.paths] == ['1.png'] and kept.groups == ['y']


def test_folder_leaves_out_bundled_held_out_photographs(tmp_path):
  held_out, trained = (
    next(r['original'] for r in _bundled_rows() if r['split'] == split)
    for split in ('heldout', 'train')
  )
  for i in range(4):
    _save(tmp_path / 'crops' / f'{i}.png', i)
  _write_manifest(tmp_path, [
    {'file': '0.png', 'original': held_out, 'source': 'x'},
    {'file': '1.png', 'original': trained, 'source': 'y'},
    {'file': '2.png', 'original': 'another.jpg', 'source': 'x'},
  ])
  source = sources.folder(tmp_path)
  assert [p.name for p in source.paths] == ['1.png', '2.png', '3.png']
  assert source.groups == ['y', 'x', '']


def test_folder_of_the_bundled_photographs_is_their_training_part():
  found = {p.name for p in sources.folder(sources.PHOTOS).paths}
  assert found == {p.name for p in sources.bundled('train').paths}
  # For evaluation, nothing is left out.
  everything = sources.files(f'folder:{sources.PHOTOS}')
  assert len(everything) == len(_bundled_rows()) > len(found)


def test_a_manifest_may_have_paths(tmp_path):
  held_out = next(
    r['original'] for r in _bundled_rows() if r['split'] == 'heldout'
  )
  for name in ('a/0.png', 'b/0.png', '1.png'):
    _save(tmp_path / name)
  rows = [
    {'file': 'a/0.png', 'original': held_out, 'source': 'x'},
    {'file': 'b/0.png', 'original': 'another.jpg', 'source': 'y'},
    {'file': '1.png', 'original': held_out, 'source': 'z'},
  ]
  _write_manifest(tmp_path, rows)
  source = sources.folder(tmp_path)
  assert source.paths == [tmp_path / 'b/0.png'] and source.groups == ['y']
  # An ambiguous name.
  _write_manifest(tmp_path, [rows[0] | {'file': '0.png'}])
  with pytest.raises(ValueError, match="2 files are called '0.png'; paths"):
    sources.folder(tmp_path)
  _save(tmp_path / '0.png')
  with pytest.raises(ValueError, match="3 files are called '0.png'; paths"):
    sources.folder(tmp_path)
  _write_manifest(tmp_path, [rows[0] | {'file': '0.png'}, *rows[:2]])
  assert tmp_path / '0.png' not in sources.folder(tmp_path).paths


def test_a_manifest_of_other_images_is_no_license_to_train(tmp_path):
  _save(tmp_path / '0.png')
  row = {'file': 'crops/0.jpg', 'original': 'x', 'source': ''}
  _write_manifest(tmp_path, [row])
  with pytest.raises(ValueError, match='no row for any of the 1 images'):
    sources.folder(tmp_path)
  (tmp_path / 'MANIFEST.csv').write_text('name,original\n0.png,x\n')
  with pytest.raises(ValueError, match='`file` is expected among them'):
    sources.folder(tmp_path)


def test_folder_with_nothing_left_says_so(tmp_path):
  _save(tmp_path / '0.png')
  held_out = next(
    r['original'] for r in _bundled_rows() if r['split'] == 'heldout'
  )
  _write_manifest(
    tmp_path, [{'file': '0.png', 'original': held_out, 'source': ''}]
  )
  with pytest.raises(ValueError, match='at least one image'):
    sources.folder(tmp_path)


def test_what_cannot_be_read_is_named_and_left_out(tmp_path, caplog):
  for i, name in enumerate(('a.png', 'c.JPE', 'd.ppm', 'e.bmp')):
    _save(tmp_path / name, 40 * i)
  (tmp_path / 'b.png').write_bytes(b'damaged')
  os.mkfifo(tmp_path / 'pipe.png')
  (tmp_path / 'lost.png').symlink_to('nowhere')
  (tmp_path / 'notes.txt').touch()
  caplog.set_level('INFO')
  source = sources.folder(tmp_path)
  assert [p.name for p in source.paths] == [
    'a.png', 'b.png', 'c.JPE', 'd.ppm', 'e.bmp',
  ]
  said = caplog.text
  assert 'no images by their names (1): ' in said and 'notes.txt' in said
  assert 'pipe.png: is a named pipe' in said
  assert 'lost.png: is a link to nothing' in said
  for _ in range(2):  # the next one is taken for it, and that is said once
    assert source[1]['image'][0, 0].tolist() == [40] * 3
  assert caplog.text.count('b.png') == 1
  assert [p.name for p, _ in source.readable()] == [
    'a.png', 'c.JPE', 'd.ppm', 'e.bmp',
  ]
  with pytest.raises(ValueError, match='None of the files of .*b.png'):
    sources.Files([tmp_path / 'b.png'])[0]


def test_folder_missing_or_empty(tmp_path):
  with pytest.raises(ValueError, match='missing.* is not a folder'):
    sources.folder(tmp_path / 'missing')
  (tmp_path / 'notes.txt').write_text('')
  with pytest.raises(ValueError, match='No images below'):
    sources.folder(tmp_path)


def test_split_by_group_keeps_every_image_once(tmp_path):
  for i, group in enumerate('abba'):
    _save(tmp_path / group / f'{i}.png', i)
  source = sources.folder(tmp_path)
  parts = source.split_by_group()
  assert [{p.parent.name for p in part.paths} for part in parts] == [
    {'a'}, {'b'}
  ]
  kept = sorted(p for part in parts for p in part.paths)
  assert kept == sorted(source.paths)


def test_cache_is_bounded(tmp_path, monkeypatch):
  for i in range(3):
    _save(tmp_path / f'{i}.png', i)
  one = 20 * 24 * 3
  source = sources.Files(
    sorted(tmp_path.glob('*.png')), cache=sources.Cache(2 * one)
  )
  first = [source[i]['image'] for i in range(3)]
  read = []
  decode = image_files.read_rgb
  monkeypatch.setattr(
    image_files, 'read_rgb', lambda p: read.append(p.name) or decode(p)
  )
  again = [source[i]['image'] for i in range(3)]
  assert read == ['2.png']
  np.testing.assert_array_equal(first, again)


def test_crops_are_of_fewer_photographs():
  names = [
    pathlib.Path(row['file']).stem for row in _bundled_rows()
    if row['split'] == 'heldout'
  ]
  originals = {
    row['original'] for row in _bundled_rows() if row['split'] == 'heldout'
  }
  assert sources.num_originals(names) == len(originals) < len(names)
  assert sources.num_originals([names[0], names[0], 'mine']) == 2


def test_groups_share_one_cache(tmp_path):
  for i in range(4):
    _save(tmp_path / str(i) / '0.png', i)
  one = 20 * 24 * 3
  source = sources.folder(tmp_path)
  parts = sources.Files(
    source.paths, source.groups, sources.Cache(2 * one)
  ).split_by_group()
  kept = [part[0]['image'] is part[0]['image'] for part in parts]
  assert kept == [True, True, False, False]


# --- Names ------------------------------------------------------------------


def test_build_reads_names(tmp_path):
  _save(tmp_path / 'x:y' / '0.png')
  assert len(sources.build('bundled:train')) == len(sources.bundled('train'))
  assert len(sources.build(f'folder:{tmp_path}/x:y')) == 1


@pytest.mark.parametrize('name', [
  '', 'bundled', 'bundled:', 'folder:', 'tfds:', 'photos', 'zip:a.zip',
])
def test_build_unknown_name(name):
  with pytest.raises(ValueError, match='A data source is bundled:train'):
    sources.build(name)


def test_build_unknown_split():
  with pytest.raises(ValueError, match="'train' or 'heldout', not 'test'"):
    sources.build('bundled:test')


# --- TFDS -------------------------------------------------------------------


@pytest.fixture(scope='module')
def tfds_dir(tmp_path_factory):
  """A data set of three grey images, of values 0, 10 and 20."""
  tfds = pytest.importorskip('tensorflow_datasets')
  pytest.importorskip('tensorflow')  # it writes; reading needs none
  data_dir = tmp_path_factory.mktemp('tfds')
  folder = data_dir / 'grey_squares' / '1.0.0'
  folder.mkdir(parents=True)
  info = tfds.core.DatasetInfo(
    builder=tfds.core.dataset_info.DatasetIdentity(
      name='grey_squares',
      version=tfds.core.Version('1.0.0'),
      data_dir=str(folder),
      module_name='',
    ),
    features=tfds.features.FeaturesDict({
      'image': tfds.features.Image(shape=(None, None, 1))
    }),
  )
  writer = tfds.core.SequentialWriter(
    info, max_examples_per_shard=10, file_format='array_record'
  )
  writer.initialize_splits(['train'])
  writer.add_examples({'train': [
    {'image': np.full((20, 24, 1), value, np.uint8)} for value in (0, 10, 20)
  ]})
  writer.close_all()
  return str(data_dir)


def test_tfds_greyscale_is_repeated(tfds_dir):
  source = sources.build('tfds:grey_squares:train', tfds_dir)
  assert len(source) == 3
  images = [source[i]['image'] for i in range(3)]
  assert {(i.shape, i.dtype.name) for i in images} == {((20, 24, 3), 'uint8')}
  assert sorted(int(i.mean()) for i in images) == [0, 10, 20]
  assert 'grey_squares:train' in repr(source)


def test_tfds_split_defaults_to_train_and_may_be_a_part(tfds_dir):
  versioned = sources.build('tfds:grey_squares:1.0.0', tfds_dir)
  assert len(versioned) == 3
  assert len(sources.build('tfds:grey_squares', tfds_dir)) == 3
  assert len(sources.build('tfds:grey_squares:train[:2]', tfds_dir)) == 2


@pytest.mark.parametrize('name', ['grey_squares:test', 'no_such_set:train'])
def test_tfds_unknown_name_or_split(tfds_dir, name):
  set_name = name.partition(':')[0]
  with pytest.raises(ValueError, match=f'could not open {set_name!r}'):
    sources.build(f'tfds:{name}', tfds_dir)


def test_tfds_unknown_name_has_a_nearest_and_no_list(tfds_dir):
  with pytest.raises(ValueError, match=r'Did you mean div2k\?$') as e:
    sources.build('tfds:div2', tfds_dir)
  assert len(str(e.value)) < 300


def test_tfds_is_read_without_tensorflow(tfds_dir):
  code = f'''
from importlib import machinery
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = staticmethod(
  lambda name, *args: None if name == 'tensorflow' else find(name, *args)
)
from gdc.data import sources
source = sources.build('tfds:grey_squares:train', {tfds_dir!r})
assert source[0]['image'].shape == (20, 24, 3)
'''
  root = pathlib.Path(sources.__file__).parents[2]
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True,
    env=os.environ | {'PYTHONPATH': str(root)}, check=False,
  )
  assert done.returncode == 0, done.stderr
