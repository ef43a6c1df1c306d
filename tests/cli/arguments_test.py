"""Types of arguments; most of what is refused is in main_test."""
import argparse

import pytest

from gdc.cli import arguments


@pytest.mark.parametrize('text,size', [
  ('50000', 50_000), ('50k', 50_000), ('50KB', 50_000), ('50KiB', 51_200),
  ('1.5M', 1_500_000), ('.5m', 500_000), ('1Gi', 1 << 30), ('2 k', 2000),
  ('7B', 7), ('0.9', None), ('1i', None), ('-5', None), ('1e3', None),
  ('', None), ('k', None), ('1.5.5', None),
])
def test_sizes(text, size):
  if size is None:
    with pytest.raises(argparse.ArgumentTypeError):
      arguments.num_bytes(text)
  else:
    assert arguments.num_bytes(text) == size


def test_lists_may_have_spaces_and_repetitions():
  assert arguments.names('gdc:mse, jpeg ,jpeg') == ['gdc:mse', 'jpeg']
  assert arguments.names('') == []
  assert arguments.numbers('1, 2.5') == [1.0, 2.5]
