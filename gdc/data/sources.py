"""Photographs, by name: in the box, in a folder, or a TFDS data set.

A source is a sequence (len, []) of {'image': uint8 [height, width, 3]}, which
is what grain reads. Names, as configs write them:

  bundled:train, bundled:heldout   the photographs in the box
  folder:PATH              any folder; subfolders are read too
  tfds:NAME or tfds:NAME:SPLIT   through tfds.data_source, no TensorFlow

A folder may carry a MANIFEST.csv with columns `file` (a path below the folder,
or a name that only one file there has) and, optionally, `original` and
`source`: crops of an original that is held out in the box are then left out of
what is trained on, and batches can be balanced over the values of `source`.
"""
import collections
import csv
import difflib
import functools
import logging
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gdc import paths
from gdc.data import cache as cache_lib
from gdc.data import formats

_LOG = logging.getLogger(__name__)
BOX = pathlib.Path(__file__).parent / 'photos'
MANIFEST = 'MANIFEST.csv'


class Files:
  """A source over picture files, decoded pictures kept while they fit.

  A file that cannot be read is said once, and the next one is taken for it.

  Attributes:
    paths: the files, in order.
    groups: one label per file, for balancing.
  """

  def __init__(
    self,
    paths: Sequence[pathlib.Path],
    groups: Sequence[str] | None = None,
    cache: cache_lib.Cache | None = None,
  ):
    if not paths:
      raise ValueError('A source needs at least one picture file; got none.')
    self.paths = list(paths)
    self.groups = list(groups or [''] * len(paths))
    self._cache = cache or cache_lib.Cache()

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, index):
    for step in range(len(self)):
      image = self._cache.try_read(self.paths[(int(index) + step) % len(self)])
      if image is not None:
        return {'image': image}
    raise ValueError(f'None of the files of {self} can be read.')

  def readable(self) -> Iterator[tuple[pathlib.Path, np.ndarray]]:
    """Yields (path, uint8 [height, width, 3]) of the files that can be read."""
    for path in self.paths:
      image = self._cache.try_read(path)
      if image is not None:
        yield path, image

  def __repr__(self):
    return f'Files({len(self.paths)} pictures, first {self.paths[0].name})'

  def split_by_group(self) -> list['Files']:
    """One source per group, in the order of their labels; one cache for all."""
    paths = {label: [] for label in sorted(set(self.groups))}
    for path, label in zip(self.paths, self.groups, strict=True):
      paths[label].append(path)
    return [
      Files(found, [label] * len(found), self._cache)
      for label, found in paths.items()
    ]


@functools.lru_cache
def _box_manifest() -> tuple[dict, ...]:
  with open(BOX / MANIFEST, newline='') as f:
    return tuple(csv.DictReader(f))


def bundled(split: str) -> Files:
  """The photographs in the box; split is 'train' or 'heldout'."""
  if split not in ('train', 'heldout'):
    raise ValueError(f"box split must be 'train' or 'heldout', not {split!r}.")
  rows = [r for r in _box_manifest() if r['split'] == split]
  return Files([BOX / r['file'] for r in rows], [r['source'] for r in rows])


def num_originals(names: Iterable[str]) -> int:
  """Of how many photographs these crops in the box are.

  Args:
    names: of files, without endings; others are photographs of their own.
  """
  originals = {
    pathlib.Path(row['file']).stem: row['original'] for row in _box_manifest()
  }
  return len({originals.get(name, name) for name in names})


def box_images(split: str) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, uint8 [512, 512, 3]) of the photographs in the box."""
  source = bundled(split)
  for i, path in enumerate(source.paths):
    yield path.stem, source[i]['image']


def search(path) -> paths.Found:
  """The image files below a folder, sorted by path, and what else is there.

  Raises:
    ValueError: it is no folder, or has no image file.
  """
  path = pathlib.Path(paths.expand(str(path)))
  if not path.is_dir():
    raise ValueError(f'{str(path)!r} is not a folder of images.')
  found = paths.search(path, formats.READ)
  if not found.files:
    problems = ''.join(f'; {name}: {why}' for name, why in found.problems)
    raise ValueError(
      f'No images below {str(path)!r}; looked for '
      f'{" ".join(formats.READ)}{problems}.'
    )
  found.files.sort()
  others = [other for other in found.others if other.name != MANIFEST]
  return found._replace(others=others)


def below(path) -> list[pathlib.Path]:
  """The image files below a folder, sorted by path; what is left out is logged.

  Raises:
    ValueError: it is no folder, or has no image file.
  """
  found = search(path)
  if found.others:
    _LOG.info(
      '%s: left out, no images by their names (%d): %s.', path,
      len(found.others), paths.listed(found.others),
    )
  for name, why in found.problems:
    _LOG.warning('Left out: %s: %s.', name, why)
  return found.files


def folder(path, held_out: bool = False) -> Files:
  """All pictures below a folder, sorted by path; see the module's docstring.

  Args:
    path: of the folder.
    held_out: keep crops of photographs that the box holds out: to look at them,
      not to train on them.

  Raises:
    ValueError: no pictures, or a manifest that does not fit them.
  """
  files = below(path)
  path = pathlib.Path(paths.expand(str(path)))
  if not (path / MANIFEST).exists():
    return Files(files, [p.parent.relative_to(path).as_posix() for p in files])
  rows = _rows(path, files)
  originals = {
    r['original'] for r in _box_manifest() if r['split'] == 'heldout'
  }
  kept = [
    p for p in files
    if held_out or rows.get(p, {}).get('original') not in originals
  ]
  if len(kept) < len(files):
    _LOG.info(
      '%s: left out %d crops of photographs that the box holds out.',
      path, len(files) - len(kept),
    )
  return Files(kept, [rows.get(p, {}).get('source', '') for p in kept])


def _rows(path, files) -> dict[pathlib.Path, dict]:
  """The rows of a folder's manifest, by file."""
  named = collections.defaultdict(list)
  for file in files:
    # A file that is right in the folder has one name only.
    for name in {file.name, file.relative_to(path).as_posix()}:
      named[name].append(file)
  found = {}
  with open(path / MANIFEST, newline='') as f:
    reader = csv.DictReader(f)
    if 'file' not in (reader.fieldnames or ()):
      raise ValueError(
        f'{path / MANIFEST} has columns {reader.fieldnames}: `file` is '
        'expected among them.'
      )
    rows = [row for row in reader if row['file']]
  known = {path / row['file'] for row in rows}
  for row in rows:
    fitting, exact = named[row['file']], path / row['file']
    # What has a row of its own is not meant by the name of another.
    meant = [p for p in fitting if p == exact or p not in known]
    if len(meant) > 1:
      raise ValueError(
        f'{path / MANIFEST}: {len(meant)} files are called '
        f'{row["file"]!r}; paths below {path} are expected.'
      )
    found.update(dict.fromkeys(meant, row))
  if not found:
    raise ValueError(
      f'{path / MANIFEST} has no row for any of the {len(files)} pictures: '
      f'names or paths below {path} are expected as `file`.'
    )
  return found


class Tfds:
  """A TFDS data set with an `image` feature, in the array_record format.

  tfds.data_source works without TensorFlow, but only on array_record files.
  """

  def __init__(self, name: str, split: str, data_dir: str | None = None):
    import tensorflow_datasets as tfds  # late: seconds to import
    if data_dir is not None:
      data_dir = paths.expand(data_dir)
    try:
      self._source = tfds.data_source(
        name,
        split=split,
        data_dir=data_dir,
        download=data_dir is None,
        builder_kwargs={'file_format': 'array_record'},
      )
    except Exception as e:
      said, _, known = str(e).partition('Available datasets:')
      if near := difflib.get_close_matches(
        re.split('[:/]', name)[0], re.findall(r'- (\w+)', known), 1
      ):
        said = f'{said.strip()} Did you mean {near[0]}?'
      raise ValueError(
        f'TFDS could not open {name!r}, split {split!r}, data_dir '
        f'{data_dir!r}, as array_record: {said.strip()}'
      ) from e
    self._name = f'{name}:{split}'

  def __len__(self):
    return len(self._source)

  def __getitem__(self, index):
    image = np.asarray(self._source[int(index)]['image'])
    if image.dtype != np.uint8 or image.ndim != 3:
      raise ValueError(
        f'{self._name}: an image is uint8 [height, width, channels], not '
        f'{image.dtype} {list(image.shape)}.'
      )
    if image.shape[-1] < 3:  # grey, perhaps with transparency
      image = np.repeat(image[..., :1], 3, axis=-1)
    return {'image': image[..., :3]}

  def __repr__(self):
    return f'Tfds({self._name})'


def check_files(name: str) -> None:
  """Raises ValueError unless a name is one that `files` takes."""
  kind, _, rest = name.partition(':')
  if not rest or kind != 'folder' and name not in ('bundled:train', 'bundled:heldout'):
    raise ValueError(
      f'evaluation.source must be bundled:heldout or folder:PATH, not {name!r}.'
    )


def files(name: str) -> Files:
  """The pictures that a config names to be looked at: box:... or folder:PATH.

  All of them: nothing is left out of a folder.
  """
  check_files(name)
  kind, _, rest = name.partition(':')
  return bundled(rest) if kind == 'bundled' else folder(rest, held_out=True)


def build(name: str, data_dir: str | None = None):
  """The source of training pictures that a config names; see the top."""
  kind, _, rest = name.partition(':')
  if kind == 'bundled' and rest:
    return bundled(rest)
  if kind == 'folder' and rest:
    return folder(rest)
  # A version, as in coco/2017:1.1.0, belongs to the name.
  parts = re.fullmatch(r'([^:]+(?::\d[^:]*)?)(?::(.+))?', rest)
  if kind == 'tfds' and parts:
    return Tfds(*parts.groups('train'), data_dir)
  raise ValueError(
    'A data source is bundled:train, bundled:heldout, folder:PATH or '
    f'tfds:NAME[:SPLIT], not {name!r}.'
  )
