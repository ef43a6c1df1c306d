"""Data sets, by name: the bundled photographs, a folder, or TFDS.

A source is a sequence (len, []) of {'image': uint8 [height, width, 3]}, as
grain reads it. Names, as configs write them:

  bundled:train, bundled:heldout   the bundled photographs
  folder:PATH                      any folder, with its subfolders
  tfds:NAME or tfds:NAME:SPLIT     through tfds.data_source, without TensorFlow

A folder, and folders in it, may have a MANIFEST.csv with columns `file` (a path
below that folder, or a name that only one file there has) and, optionally,
`original` and `source`. Crops of a bundled held-out original are then left out
of training, and batches can be balanced over the values of `source`. Files
without a row are one source. Of a file's rows in several manifests, the values
in the innermost folder count.
"""
import collections
import csv
import difflib
import functools
import logging
import pathlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gdc import paths
from gdc.data import formats, image_files

_LOG = logging.getLogger(__name__)
PHOTOS = pathlib.Path(__file__).parent / 'photos'
MANIFEST = 'MANIFEST.csv'


class Cache:
  """Decoded images by path, as many as fit; safe for many threads."""

  def __init__(self, num_bytes: int = 1 << 30):
    self._left = num_bytes
    self._images = {}
    self._damaged = set()
    self._lock = threading.Lock()

  def read(self, path: pathlib.Path) -> np.ndarray | None:
    """Returns an image, or None, with one warning, if it cannot be read."""
    if path in self._images or path in self._damaged:
      return self._images.get(path)
    try:
      image, _ = image_files.read_rgb(path)
    except (OSError, ValueError) as e:
      with self._lock:
        if path not in self._damaged:
          self._damaged.add(path)
          _LOG.warning(
            'Left out, with %d before: %s', len(self._damaged) - 1,
            paths.about(path, e),
          )
      return None
    with self._lock:
      if path not in self._images and image.nbytes <= self._left:
        self._left -= image.nbytes
        self._images[path] = image
    return image


class Files:
  """A source of image files, decoded images being kept as far as they fit.

  A file that cannot be read gives one warning, and the next one takes its
  place.

  Attributes:
    paths: the files, in order.
    groups: one label per file, for balancing.
  """

  def __init__(
    self,
    paths: Sequence[pathlib.Path],
    groups: Sequence[str] | None = None,
    cache: Cache | None = None,
  ):
    if not paths:
      raise ValueError('A source needs at least one image file; got none.')
    self.paths = list(paths)
    self.groups = list(groups or [''] * len(paths))
    self._cache = cache or Cache()

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, index):
    for step in range(len(self)):
      image = self._cache.read(self.paths[(int(index) + step) % len(self)])
      if image is not None:
        return {'image': image}
    raise ValueError(f'None of the files of {self} can be read.')

  def readable(self) -> Iterator[tuple[pathlib.Path, np.ndarray]]:
    """Yields (path, uint8 [height, width, 3]) of the files that can be read."""
    for path in self.paths:
      image = self._cache.read(path)
      if image is not None:
        yield path, image

  def __repr__(self):
    return f'Files({len(self.paths)} images, first {self.paths[0].name})'

  def split_by_group(self) -> list['Files']:
    """Returns one source per group, sorted by label, with a common cache."""
    paths = {label: [] for label in sorted(set(self.groups))}
    for path, label in zip(self.paths, self.groups, strict=True):
      paths[label].append(path)
    return [
      Files(found, [label] * len(found), self._cache)
      for label, found in paths.items()
    ]


# --- Bundled photographs ----------------------------------------------------


@functools.lru_cache
def _bundled_rows() -> tuple[dict, ...]:
  with open(PHOTOS / MANIFEST, newline='') as f:
    return tuple(csv.DictReader(f))


def bundled(split: str) -> Files:
  """The bundled photographs; split is 'train' or 'heldout'."""
  if split not in ('train', 'heldout'):
    raise ValueError(
      f"bundled: takes 'train' or 'heldout', not {split!r}."
    )
  rows = [r for r in _bundled_rows() if r['split'] == split]
  return Files([PHOTOS / r['file'] for r in rows], [r['source'] for r in rows])


def bundled_images(split: str) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, uint8 [512, 512, 3]) of the bundled photographs."""
  for path, image in bundled(split).readable():
    yield path.stem, image


def num_originals(names: Iterable[str]) -> int:
  """Returns how many photographs these bundled crops were cut from.

  Args:
    names: file names without endings; others count as their own originals.
  """
  originals = {
    pathlib.Path(row['file']).stem: row['original'] for row in _bundled_rows()
  }
  return len({originals.get(name, name) for name in names})


# --- Folders ----------------------------------------------------------------


def search(path) -> paths.Found:
  """Finds the image files below a folder, sorted, and what else is there.

  Raises:
    ValueError: the path is not a folder, or there is no image file.
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
  """Returns the image files below a folder, sorted; logs what is left out.

  Raises:
    ValueError: see search.
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
  """All images below a folder, sorted by path; see the module's docstring.

  Args:
    path: the folder.
    held_out: whether to keep crops of bundled held-out photographs: to evaluate
      on them, not to train on them.

  Raises:
    ValueError: there are no images, or the manifest does not match them.
  """
  files = below(path)
  path = pathlib.Path(paths.expand(str(path)))
  rows = {}
  for manifest in sorted(path.rglob(MANIFEST), key=lambda p: len(p.parts)):
    own = [p for p in files if manifest.parent in p.parents]
    if own:
      for file, row in _rows(manifest.parent, own).items():
        rows.setdefault(file, {}).update((k, v) for k, v in row.items() if v)
  if not rows:
    return Files(files, [p.parent.relative_to(path).as_posix() for p in files])
  originals = {
    r['original'] for r in _bundled_rows() if r['split'] == 'heldout'
  }
  kept = [
    p for p in files
    if held_out or rows.get(p, {}).get('original') not in originals
  ]
  if len(kept) < len(files):
    _LOG.info(
      '%s: left out %d crops of photographs that are held out.',
      path, len(files) - len(kept),
    )
  return Files(kept, [rows.get(p, {}).get('source', '') for p in kept])


def _rows(path, files) -> dict[pathlib.Path, dict]:
  """Returns the rows of a folder's manifest, by file."""
  named = collections.defaultdict(list)
  for file in files:
    # Both are the same for a file in the folder itself.
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
    # A file with a row of its own is not matched by the name of another.
    meant = [p for p in fitting if p == exact or p not in known]
    if len(meant) > 1:
      raise ValueError(
        f'{path / MANIFEST}: {len(meant)} files are called '
        f'{row["file"]!r}; paths below {path} are expected.'
      )
    found.update(dict.fromkeys(meant, row))
  if not found:
    raise ValueError(
      f'{path / MANIFEST} has no row for any of the {len(files)} images: '
      f'names or paths below {path} are expected as `file`.'
    )
  return found


# --- TFDS -------------------------------------------------------------------


class Tfds:
  """A TFDS data set with an `image` feature, in the array_record format.

  It is the one format that tfds.data_source reads without TensorFlow.
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


# --- Names in configs -------------------------------------------------------


def check_files(name: str) -> None:
  """Raises ValueError unless `files` takes the name."""
  kind, _, rest = name.partition(':')
  if name not in ('bundled:train', 'bundled:heldout') and not (
    kind == 'folder' and rest
  ):
    raise ValueError(
      f'evaluation.source must be bundled:heldout or folder:PATH, not {name!r}.'
    )


def files(name: str) -> Files:
  """The images that a config names to evaluate on, held-out ones included."""
  check_files(name)
  kind, _, rest = name.partition(':')
  return bundled(rest) if kind == 'bundled' else folder(rest, held_out=True)


def build(name: str, data_dir: str | None = None):
  """The source of training images that a config names."""
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
