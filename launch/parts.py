"""Files as parts of a limited size, with their SHA-256 sums, and back.

Made here, opened with what every system has:

  sha256sum -c SHA256SUMS && cat part-* | tar xf -
"""
import hashlib
import os
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Mapping

SUMS = 'SHA256SUMS'


def write(
  entries: Mapping[str, pathlib.Path], out: pathlib.Path, part_size: int
) -> list[pathlib.Path]:
  """Writes a tar archive as parts; all of them or nothing.

  Args:
    entries: name in the archive -> file or folder.
    out: folder of the parts, which is not there yet or empty.
    part_size: of the largest part, in bytes.

  Returns:
    The parts, in order.

  Raises:
    ValueError: out is not empty.
  """
  if out.exists() and any(out.iterdir()):
    raise ValueError(f'{out} is not empty: another folder is expected.')
  out.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent)
  )
  try:
    with tempfile.TemporaryFile() as file:
      with tarfile.open(fileobj=file, mode='w') as archive:
        for name, path in entries.items():
          archive.add(path, name)
      file.seek(0)
      names = _split(file, temporary, part_size)
    os.replace(temporary, out)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return [out / name for name in names]


def _split(file, folder, part_size) -> list[str]:
  names, sums = [], []
  while data := file.read(part_size):
    names.append(f'part-{len(names):05}')  # in a shell's order
    (folder / names[-1]).write_bytes(data)
    sums.append(f'{hashlib.sha256(data).hexdigest()}  {names[-1]}\n')
  (folder / SUMS).write_text(''.join(sums))
  return names


def read(folder: pathlib.Path, target: pathlib.Path) -> None:
  """Unpacks what `write` wrote.

  Args:
    folder: of the parts.
    target: folder to unpack into.

  Raises:
    ValueError: it is no folder of parts, or one is missing or damaged.
  """
  try:
    lines = (folder / SUMS).read_text().splitlines()
    sums = [line.split() for line in lines]
    with tempfile.TemporaryFile() as file:
      for digest, name in sums:
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
          raise ValueError(f'{name} is not as {SUMS} says')
        file.write(data)
      file.seek(0)
      with tarfile.open(fileobj=file) as archive:
        archive.extractall(target, filter='data')
  except FileNotFoundError as e:
    raise ValueError(f'{e.filename} is missing.') from e
  except (ValueError, tarfile.TarError) as e:
    raise ValueError(f'The parts in {folder} are damaged: {e}.') from e
