"""What several tests of the codec share."""
import contextlib
import pathlib
import tracemalloc

import jax
import numpy as np
import pytest

from gdc import decoders
from gdc.codec import tables
from gdc.decoders import base, noise
from gdc.models import score_net

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


@pytest.fixture(scope='session')
def sample_at_once():
  """A function that decodes a whole image without tiles, float32 [h, w, 3]."""
  def sample(entry, spec, params, x_hat, quality, rmse, steps, seed):
    decoder, fields = decoders.from_record(entry, spec)
    net = score_net.ScoreNet(**fields)
    x_hat = x_hat[None]
    quality, rmse = np.float32([quality]), np.float32([rmse])
    return np.asarray(base.sample(
      decoder,
      lambda z, level: net.apply({'params': params}, z, x_hat, level, quality),
      x_hat, rmse, steps, noise.of_steps(jax.random.key(seed), x_hat.shape),
    )[0])
  return sample
