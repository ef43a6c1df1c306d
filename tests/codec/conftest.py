"""What several tests of the codec share."""
import contextlib
import itertools
import pathlib
import tracemalloc

import jax
import numpy as np
import pytest

from gdc import decoders
from gdc.codec import bundle, contexts, tables
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


class DocumentedReader:
  """Decodes a payload as docs/bitstream.md says, in plain integers."""

  def __init__(self, payload: bytes):
    lacking = -len(payload) % 4
    whole = len(payload) // 4 * 4
    data = payload[:whole] + bytes(lacking) + payload[whole:]
    words = [
      int.from_bytes(data[k : k + 4], 'little') for k in range(0, len(data), 4)
    ]
    self.following = itertools.chain(words, itertools.repeat(0))
    self.lower, self.range = 0, 2**64 - 1
    self.point = next(self.following) << 32 | next(self.following)

  def get(self, counts):
    """Decodes the index of one symbol."""
    scale = self.range >> 24
    quantile = (self.point - self.lower) % 2**64 // scale
    assert quantile < 2**24
    k, before = 0, 0
    while quantile >= 256 * (before + counts[k]):
      before += counts[k]
      k += 1
    self.lower = (self.lower + scale * 256 * before) % 2**64
    self.range = scale * 256 * counts[k]
    if self.range < 2**32:
      self.lower = (self.lower << 32) % 2**64
      self.range <<= 32
      self.point = (self.point << 32) % 2**64 | next(self.following)
    return k

  def get_step(self, rows):
    """Decodes the symbols of a step, each with its row (first, counts)."""
    index = [self.get(counts) for _, counts in rows]
    escapes = [
      k for k, i in enumerate(index) if i == len(rows[k][1]) - 1
    ]
    bit = [32768, 32768]
    above = {k: self.get(bit) for k in escapes}
    prefix = dict.fromkeys(escapes, 0)
    for plane in range(31):
      for k in escapes:
        if prefix[k] == plane:
          prefix[k] += self.get(bit)
    distance = dict.fromkeys(escapes, 1)
    for plane in range(30, -1, -1):
      for k in escapes:
        if prefix[k] > plane:
          distance[k] = 2 * distance[k] + self.get(bit)
    values = [first + i for i, (first, _) in zip(index, rows, strict=True)]
    for k in escapes:
      first, counts = rows[k]
      values[k] = (
        first + len(counts) - 2 + distance[k]
        if above[k]
        else first - distance[k]
      )
    return values


@pytest.fixture(scope='session')
def documented_reader():
  """DocumentedReader, which takes a payload."""
  return DocumentedReader


@pytest.fixture(scope='session')
def golden_contexts():
  """Contexts of 7 channels in 3 groups; 17 qualities."""
  with np.load(GOLDEN / 'contexts.npz', allow_pickle=False) as arrays:
    made = {k: v for k, v in arrays.items() if not k.startswith('tables/')}
    made['tables'] = {
      k.removeprefix('tables/'): v for k, v in arrays.items()
      if k.startswith('tables/')
    }
  return contexts.Contexts.from_arrays(made)


@pytest.fixture(scope='session')
def bundle_with_contexts(tiny_bundle, golden_contexts):
  """tiny_bundle with contexts, in which neighbours raise the class."""
  channels = tiny_bundle.tables.num_channels
  levels = tiny_bundle.autoencoder_spec['num_levels']
  ends = np.array([4, 10, channels], np.int16)
  weights = []
  for step in contexts.make_steps(ends):
    own = np.full(step.shape, 8, np.int16)
    own[:, -1] = -768
    weights.append(own.ravel())
  made = contexts.Contexts(
    np.arange(channels, dtype=np.int16)[::-1], ends,
    np.tile(np.concatenate(weights), (levels, 1)), golden_contexts.tables,
    np.geomspace(50, 100, levels).astype(np.float32),
  )
  return bundle.with_contexts(tiny_bundle, made, {'source': 'none', 'crops': 0})
