"""Whether the files of a checkpoint are whole: their sizes and checksums.

A copy that was broken off, a full disk or a damaged one leave a folder that
bears the name of a checkpoint; and an array that lost a few bits is read
without an error. Nothing but the standard library is needed.
"""
import json
import pathlib
import zlib

NAME = 'files.json'
# Orbax writes these last, and reads a checkpoint without them.
_METADATA = '_CHECKPOINT_METADATA'
_OTHERS = {NAME, _METADATA, 'commit_success.txt'}
_ARRAYS = 'state/manifest.ocdbt'  # without it no array is found
_CHUNK = 1 << 20


def write(folder: pathlib.Path) -> None:
  """Records the files of a checkpoint, which is whole, in it."""
  record = {
    path.relative_to(folder).as_posix(): _size_and_crc(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name not in _OTHERS
  }
  (folder / NAME).write_text(json.dumps({'files': record}, indent=1) + '\n')


def recorded(folder) -> bool:
  """Whether a checkpoint has a record of its files; earlier ones have none."""
  return (folder / NAME).exists()


def fault(folder) -> str:
  """What is wrong with the files of a checkpoint; '' if nothing is.

  Of one without a record, only that files are missing is found.

  Args:
    folder: of a checkpoint; a pathlib.Path, or an epath.Path of a bucket.
  """
  if not any(folder.iterdir()):
    return 'it is empty'
  if not recorded(folder):
    return next(
      (f'{name} is missing' for name in _expected(folder)
       if not (folder / name).exists()), '',
    )
  try:
    record = json.loads((folder / NAME).read_text())['files']
    for name, (size, crc) in record.items():
      if not (folder / name).exists():
        return f'{name} is missing'
      found = _size_and_crc(folder / name)
      if found[0] != size:
        return f'{name} has {found[0]} bytes, not {size}'
      if found[1] != crc:
        return f'{name} is damaged'
  except (OSError, LookupError, TypeError, ValueError, AttributeError) as e:
    return f'{NAME} is damaged: {e}'
  return ''


def _expected(folder) -> list[str]:
  """Names that every checkpoint has, one with a place in the data included."""
  names = [_METADATA, _ARRAYS]
  if has_place(folder):
    names.append('data')
  return names


def has_place(folder) -> bool:
  """Whether a checkpoint was written with a place in its run's data."""
  try:
    record = json.loads((folder / _METADATA).read_text())
    return 'data' in record['item_handlers']
  except (OSError, LookupError, TypeError, ValueError):
    return (folder / 'data').exists()


def _size_and_crc(path) -> list[int]:
  size = crc = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
