import os

import pytest

from gdc import atomic


def test_a_file_is_replaced_at_the_end(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  with atomic.replaced(path) as temporary:
    temporary.write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path, error):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  with pytest.raises(error), atomic.replaced(path) as temporary:
    temporary.write_text('ne')
    raise error
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['a.txt']


def test_a_failure_before_writing_is_not_hidden(tmp_path):
  with (
    pytest.raises(ValueError, match='mine'),
    atomic.replaced(tmp_path / 'a.txt'),
  ):
    raise ValueError('mine')
  assert os.listdir(tmp_path) == []
