"""Inputs and outputs: what goes where, and how files are written."""
import os
import pathlib
import resource
import socket
import sys

import pytest

from gdc.cli import files

IMAGES = ('.png', '.jpg')


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def _touch(*names):
  for name in names:
    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
    with open(name, 'w') as f:
      f.write(name)


def _plan(*inputs, output=None, **options):
  """Pairs of names, and the number of files that were skipped."""
  plan = files.plan(list(inputs), output, IMAGES, '.gdc', **options)
  assert not plan.problems
  return [(j.source_name, j.target_name) for j in plan.jobs], len(plan.others)


def _refused(match, *inputs, **options):
  with pytest.raises((files.CliError, OSError), match=match):
    _plan(*inputs, **options)


# --- Names ------------------------------------------------------------------


def test_a_file():
  _touch('a.b.png', 'noending')
  assert _plan('a.b.png')[0] == [('a.b.png', 'a.b.gdc')]
  assert _plan('noending')[0] == [('noending', 'noending.gdc')]
  assert _plan('a.b.png', output='x')[0] == [('a.b.png', 'x')]
  assert _plan('a.b.png', output='x/')[0] == [('a.b.png', 'x/a.b.gdc')]
  os.mkdir('y')
  assert _plan('a.b.png', output='y')[0] == [('a.b.png', 'y/a.b.gdc')]


def test_files_need_a_folder():
  _touch('a.png', 'sub/b.png', 'file')
  pairs = [('a.png', 'out/a.gdc'), ('sub/b.png', 'out/b.gdc')]
  assert _plan('a.png', 'sub/b.png', output='out')[0] == pairs
  _refused('file is a file; several', 'a.png', 'sub/b.png', output='file')
  _refused('name for a file; several', 'a.png', 'sub/b.png', output='out.GDC')
  assert _plan('a.png', 'sub/b.png', output='o.gdc/')[0][0][1] == 'o.gdc/a.gdc'
  # The same input twice is one.
  assert _plan('a.png', 'a.png')[0] == [('a.png', 'a.gdc')]


def test_a_folder_keeps_its_structure():
  _touch(
    'in/b.png', 'in/a.JPG', 'in/sub/deep/c.png', 'in/notes.txt', 'in/d.gdc',
    'in/.hidden.png', 'in/.thumbnails/e.png', 'in/sub/none',
  )
  found, skipped = _plan('in', output='out')
  assert found == [
    ('in/a.JPG', 'out/a.gdc'), ('in/b.png', 'out/b.gdc'),
    ('in/sub/deep/c.png', 'out/sub/deep/c.gdc'),
  ]
  assert skipped == 3
  assert _plan('in')[0][2] == ('in/sub/deep/c.png', 'in/sub/deep/c.gdc')
  os.mkdir('empty')
  _refused('empty: no file below it ends in .png .jpg', 'empty')
  _touch('a.png')
  plan = files.plan(['empty', 'a.png'], 'o', IMAGES, '.gdc')
  assert [j.target_name for j in plan.jobs] == ['o/a.gdc']
  (path, why), = plan.problems
  assert str(path) == 'empty' and why.startswith('no file below it ends in')


def test_a_folder_of_one_still_needs_a_folder():
  _touch('in/a.png', 'file')
  assert _plan('in', output='out')[0] == [('in/a.png', 'out/a.gdc')]
  _refused('a folder, need a folder', 'in', output='file')
  _refused('do not fit into standard output', 'in', output='-')


def test_files_and_folders_together():
  _touch('in/sub/a.png', 'b.png')
  pairs, _ = _plan('in', 'b.png', output='out')
  assert pairs == [('in/sub/a.png', 'out/sub/a.gdc'), ('b.png', 'out/b.gdc')]


def test_links_to_folders_are_not_followed():
  _touch('in/a.png')
  os.symlink('.', 'in/loop')
  assert len(_plan('in')[0]) == 1


def test_unreadable_inputs_do_not_stop_the_others(monkeypatch):
  _touch('in/a.png', 'in/sub/b.png', 'in/folder.png/c.png')
  os.mkfifo('in/pipe.png')
  os.symlink('nowhere', 'in/lost.jpg')
  os.symlink('lost.jpg', 'in/lost.txt')
  with socket.socket(socket.AF_UNIX) as server:
    server.bind('in/socket.png')
  scandir = os.scandir

  def refuse(path):
    if str(path).endswith('sub'):
      raise PermissionError(13, 'Permission denied', str(path))
    return scandir(path)
  monkeypatch.setattr(os, 'scandir', refuse)
  plan = files.plan(['in'], 'out', IMAGES, '.gdc')
  assert [j.source_name for j in plan.jobs] == ['in/a.png',
                                                'in/folder.png/c.png']
  assert list(map(str, plan.others)) == ['in/lost.txt']
  assert [(str(path), why) for path, why in plan.problems] == [
    ('in/lost.jpg', 'is a link to nothing'),
    ('in/pipe.png', 'is a named pipe'),
    ('in/socket.png', 'is a socket'),
    ('in/sub', 'Permission denied'),
  ]
  # Among several inputs given by name, too.
  plan = files.plan(['in/a.png', 'in/pipe.png', '/dev/null', 'in/lost.jpg'],
                    'out', IMAGES, '.gdc')
  assert len(plan.jobs) == 1
  assert [why for _, why in plan.problems] == [
    'is a named pipe', 'is a device', 'is a link to nothing',
  ]
  # A single pipe, and one that a shell made for <(...), have a writer.
  assert _plan('in/pipe.png', output='x.gdc')[0]
  reader, writer = os.pipe()
  os.write(writer, b'x')
  names = [f'/dev/fd/{reader}', 'in/a.png']
  assert len(_plan(*names, output='out')[0]) == 2
  os.close(reader)
  os.close(writer)


def test_standard_streams():
  _touch('a.png', 'b.png')
  assert _plan('-', output='-')[0] == [('-', '-')]
  assert _plan('-', output='x.gdc')[0] == [('-', 'x.gdc')]
  assert _plan('a.png', output='-')[0] == [('a.png', '-')]
  _refused('cannot be combined', '-', 'a.png')
  _refused('2 outputs do not fit', 'a.png', 'b.png', output='-')
  os.mkdir('out')
  _refused('standard input needs a file', '-', output='out')
  _touch('./-')
  assert _plan('./-')[0] == [('-', '-.gdc')]


def test_bytes_are_not_written_to_terminals(monkeypatch):
  _touch('a.png')
  monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
  _refused('terminal', 'a.png', output='-')
  _refused('terminal', '-', output='-')


def test_what_is_refused_before_any_work():
  _touch('a.png', 'a.jpg', 'old.gdc', 'file')
  _refused('missing.png: no such file', 'missing.png')
  _touch('b.png', 'b.jpg')
  _refused(r'to a.gdc \(a.jpg, a.png\); b.gdc \(b.jpg, b.png\). --keep', '.')
  assert _plan('a.jpg', 'a.png', keep_suffix=True)[0] == [
    ('a.jpg', 'a.jpg.gdc'), ('a.png', 'a.png.gdc'),
  ]
  # Where suffixes do not tell names apart, the advice is another.
  _touch('x/c.png', 'y/c.png', 'x/c.jpg')
  _refused('png.gdc .x/c.png, y/c.png.. Give the', 'x/c.png', 'y/c.png',
           output='out', keep_suffix=True)
  _refused('the folder above', 'x/c.png', 'y/c.png', 'x/c.jpg', output='out')
  for name in ('a.jpg', 'b.jpg', 'x/c.jpg'):
    os.remove(name)
  assert ('x/c.png', 'out/x/c.gdc') in _plan('.', output='out')[0]
  _touch('a.jpg', 'b.jpg')
  _refused('old.gdc exists; --force', 'a.png', output='old.gdc')
  assert _plan('a.png', output='old.gdc', force=True)[0]
  _refused('own output', 'a.png', output='a.png', force=True)
  os.symlink('a.png', 'link')
  _refused('own output', 'a.png', output='link', force=True)
  _refused('not a file that can be replaced', 'a.png', output='/dev/null',
           force=True)
  _refused('in file: Not a directory', 'a.png', output='file/sub/a.gdc')
  os.mkdir('folder.gdc')
  job = files.Job(pathlib.Path('a.png'), pathlib.Path('folder.gdc'))
  with pytest.raises(files.CliError, match='is a folder; name a file in it'):
    files.check([job], force=True)
  assert pathlib.Path('old.gdc').read_text() == 'old.gdc'


def test_existing_outputs_may_be_left_out():
  _touch('in/a.png', 'in/b.png', 'in/c.png', 'out/b.gdc', 'out/a.gdc')
  _refused(
    '2 outputs exist .out/a.gdc, out/b.gdc.; --force overwrites them, '
    '--skip-existing leaves them out', 'in', output='out',
  )
  plan = files.plan(['in'], 'out', IMAGES, '.gdc', skip_existing=True)
  assert [j.source_name for j in plan.jobs] == ['in/c.png']
  assert [j.source_name for j in plan.existing] == ['in/a.png', 'in/b.png']
  # An existing output is not that of another input.
  _touch('in/b.jpg')
  _refused('--keep-suffix', 'in', output='out', skip_existing=True)


def test_unwritable_outputs_are_refused_first(monkeypatch):
  _touch('a.png')
  os.mkdir('locked')

  def refuse(path, *arguments, **options):
    raise PermissionError(13, 'Permission denied', str(path))
  monkeypatch.setattr(pathlib.Path, 'touch', refuse)
  for name, where in (('locked/a.gdc', ''), ('locked/x/a.gdc', ' in locked')):
    _refused(f"cannot be written{where}: Permission denied: '{name}'$", 'a.png',
             output=name)
  assert not os.listdir('locked')
  with pytest.raises(OSError, match='too long'):
    _plan('a.png', output='x' * 300)


# --- Writing ----------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  target = tmp_path / 'new' / ('long' * 60 + '.gdc')
  files.write(target, b'first')
  assert target.read_bytes() == b'first'
  umask = os.umask(0)
  os.umask(umask)
  assert target.stat().st_mode & 0o777 == 0o666 & ~umask

  # A replaced file keeps its permissions.
  target.chmod(0o600)
  files.write(target, b'first', force=True)
  assert target.stat().st_mode & 0o777 == 0o600

  def fail(*arguments):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(pathlib.Path, 'replace', fail)
  with pytest.raises(files.CliError, match='gdc cannot be written: No space'):
    files.write(target, b'second', force=True)
  assert os.listdir(target.parent) == [target.name]
  assert target.read_bytes() == b'first'


@pytest.mark.parametrize('hard_links', [True, False])
def test_files_that_appeared_meanwhile_are_not_overwritten(
  tmp_path, monkeypatch, hard_links
):
  if not hard_links:
    def refuse(*_):
      raise PermissionError('no hard links on this disk')
    monkeypatch.setattr(os, 'link', refuse)
  target = tmp_path / 'photo.gdc'
  files.write(target, b'of another process')
  with pytest.raises(files.CliError, match='photo.gdc exists; --force'):
    files.write(target, b'ours')
  assert target.read_bytes() == b'of another process'
  assert os.listdir(tmp_path) == ['photo.gdc']
  files.write(target, b'ours', force=True)
  assert target.read_bytes() == b'ours'


@pytest.mark.parametrize('refused', [['chmod'], ['chmod', 'replace']])
def test_file_systems_that_refuse(tmp_path, monkeypatch, refused):
  """As network mounts, and a file that is mounted into a container, do."""
  def refuse(*arguments):
    raise PermissionError(1, 'Operation not permitted')
  for name in refused:
    monkeypatch.setattr(pathlib.Path, name, refuse)
  monkeypatch.setattr(os, 'chmod', refuse)
  monkeypatch.setattr(os, 'link', refuse)
  target = tmp_path / 'photo.gdc'
  files.write(target, b'first')
  files.write(target, b'second', force=True)
  assert target.read_bytes() == b'second'
  assert os.listdir(tmp_path) == ['photo.gdc']


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  target = pathlib.Path('photo.gdc')
  files.write(target, b'old')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
  try:
    for name in ('photo.gdc', 'new.gdc'):
      with pytest.raises(
        files.CliError, match=f'^{name} cannot be written: File too large.$'
      ):
        files.write(pathlib.Path(name), bytes(2000), force=True)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)

  # Where a file is written in place, its old content comes back.
  write, tried = pathlib.Path.write_bytes, []

  def fail_once(path, data):
    tried.append(path)
    write(path, data)
    if len(tried) == 1:
      raise OSError(28, 'No space left on device')

  def refuse(*arguments):
    raise OSError(16, 'Device or resource busy')
  monkeypatch.setattr(pathlib.Path, 'write_bytes', fail_once)
  monkeypatch.setattr(pathlib.Path, 'replace', refuse)
  with pytest.raises(files.CliError, match='photo.gdc cannot .* No space left'):
    files.write(target, b'new', force=True)
  assert target.read_bytes() == b'old'
  assert os.listdir() == ['photo.gdc']


def test_links_are_followed(tmp_path):
  real, link = tmp_path / 'real', tmp_path / 'link'
  real.write_bytes(b'old')
  link.symlink_to(real)
  files.write(link, b'new', force=True)
  assert link.is_symlink() and real.read_bytes() == b'new'


def test_standard_output_takes_bytes(capsysbinary):
  files.write(None, b'\0\xff')
  assert capsysbinary.readouterr().out == b'\0\xff'
