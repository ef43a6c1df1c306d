"""Paths as people write them, and system errors in words."""
import os
import pathlib

import pytest

from gdc import paths


def test_home_is_written_out(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/me')
  assert paths.expand('~') == '/home/me'
  assert paths.expand('~/a b') == '/home/me/a b'
  assert paths.expand('~root/x') == os.path.expanduser('~root/x') != '~root/x'
  for same in ('a/~/b', './~/x', 'gs://bucket/~x', '', '~backup.png~'):
    assert paths.expand(same) == same
  pathlib.Path('~root').touch()  # as a shell makes it of *
  assert paths.expand('~root') == '~root'
  with pytest.raises(ValueError, match=r"'~nobody-here' has .* \./~nobody"):
    paths.expand('~nobody-here/x')


def test_system_errors_are_words():
  for error, said in (
    (OSError(28, 'No space left on device'), 'No space left on device'),
    (PermissionError(13, 'Permission denied', b'a'), 'a: Permission denied'),
    (OSError(9, 'Bad file descriptor', 3), 'Bad file descriptor'),
    (OSError('image file is truncated'), 'image file is truncated'),
    (MemoryError(), 'MemoryError'),
  ):
    assert paths.words(error) == said
  assert paths.about('b', OSError(5, 'Input/output error')) == (
    'b: Input/output error'
  )
  assert paths.about('b', ValueError('b is damaged')) == 'b is damaged'
