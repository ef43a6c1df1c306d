import os

import pytest

from gdc import atomic


def test_a_file_appears_when_it_is_whole(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('former')
  with atomic.replaced(path) as temporary:
    temporary.write_text('new')
    assert path.read_text() == 'former'
  assert path.read_text() == 'new'
  assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path, error):
  path = tmp_path / 'a.txt'
  path.write_text('former')
  with pytest.raises(error), atomic.replaced(path) as temporary:
    temporary.write_text('ne')
    raise error
  assert path.read_text() == 'former'
  assert os.listdir(tmp_path) == ['a.txt']


def test_a_failure_before_anything_is_written_is_not_hidden(tmp_path):
  with (
    pytest.raises(ValueError, match='mine'),
    atomic.replaced(tmp_path / 'a.txt'),
  ):
    raise ValueError('mine')
  assert os.listdir(tmp_path) == []
