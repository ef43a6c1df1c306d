"""Sizes and checksums of a checkpoint's files, to tell whether it is whole.

An interrupted copy or a failing disk leaves a folder with the name of a
checkpoint, and an array that lost a few bits is read without an error.
"""
import json
import pathlib
import zlib

NAME = 'files.json'
# Orbax writes these after the checkpoint is complete.
_LATER = {NAME, '_CHECKPOINT_METADATA', 'commit_success.txt'}
_CHUNK = 1 << 20


def write(folder: pathlib.Path) -> None:
  """Records the files of a complete checkpoint in its folder."""
  record = {
    path.relative_to(folder).as_posix(): _size_and_crc(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name not in _LATER
  }
  (folder / NAME).write_text(json.dumps({'files': record}, indent=1) + '\n')


def fault(folder: pathlib.Path) -> str:
  """Returns what is wrong with a checkpoint's files, '' if nothing is."""
  try:
    record = json.loads((folder / NAME).read_text())['files']
    for name, (size, crc) in record.items():
      found = _size_and_crc(folder / name)
      if found[0] != size:
        return f'{name} has {found[0]} bytes, not {size}'
      if found[1] != crc:
        return f'{name} is damaged'
  except FileNotFoundError as e:
    return f'{pathlib.Path(e.filename).relative_to(folder)} is missing'
  except (OSError, LookupError, TypeError, ValueError, AttributeError) as e:
    return f'{NAME} is damaged: {e}'
  return ''


def _size_and_crc(path: pathlib.Path) -> list[int]:
  size = crc = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
