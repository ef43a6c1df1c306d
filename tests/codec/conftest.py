"""What tests of the bitstream and the range coder share."""
import contextlib
import pathlib
import tracemalloc

import numpy as np
import pytest

from gdc.codec import tables

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


@pytest.fixture(scope='session')
def golden_tables():
  """Tables of every awkward kind, with escapes; 2 qualities, 5 channels."""
  with np.load(GOLDEN / 'tables.npz', allow_pickle=False) as arrays:
    return tables.Tables.from_arrays(dict(arrays))


@pytest.fixture(scope='session')
def traced_memory():
  """A context that yields a list, which holds the peak in bytes afterwards."""
  @contextlib.contextmanager
  def trace():
    peak = []
    tracemalloc.start()
    try:
      yield peak
    finally:
      peak.append(tracemalloc.get_traced_memory()[1])
      tracemalloc.stop()

  return trace
