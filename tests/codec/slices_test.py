"""Slices: independent, exact in any window and with any number of threads."""
import dataclasses
import os

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from gdc.codec import (
  bitstream,
  contexts,
  prediction,
  range_coder,
  slices,
  tables,
)

SIDE = 4
GRID = 9, 6  # six slices, of four sizes
PREDICTED = 5, 0


@pytest.fixture
def model(golden_contexts, monkeypatch):
  """Contexts with small slices."""
  monkeypatch.setattr(contexts, 'SLICE_SIDE', SIDE)
  return golden_contexts


def draw(channels: int, shape, seed=0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  scale = np.geomspace(0.1, 40, channels)[:, None, None]
  return np.rint(rng.laplace(0, scale, (channels, *shape))).astype(np.int32)


def by_hand(latents, model, index) -> list[bytes]:
  """The range coder's bytes of each slice, coded as an image of its own."""
  found = []
  for top in range(0, latents.shape[1], SIDE):
    for left in range(0, latents.shape[2], SIDE):
      part = latents[:, top:top + SIDE, left:left + SIDE]
      rows = part.shape[1]
      symbols = prediction.to_differences(
        part.reshape(len(part), -1).copy(), rows, PREDICTED
      )
      found.append(range_coder.encode(symbols, model, index, rows))
  return found


@pytest.mark.parametrize('shape', [GRID, (4, 4), (1, 13), (12, 1), (2, 3)])
def test_a_payload_is_its_slices_one_after_another(model, shape):
  latents = draw(7, shape)
  *streams, last = by_hand(latents, model, 9)
  expected = b''.join(bitstream.varint(1 + len(s)) + s for s in streams) + last
  assert slices.encode(latents, model, 9, PREDICTED) == expected
  np.testing.assert_array_equal(
    slices.decode(expected, model, 9, shape, PREDICTED), latents
  )


def test_a_model_without_contexts_has_one_slice(golden_tables):
  latents = draw(5, (300, 7))
  symbols = prediction.to_differences(
    latents.reshape(5, -1).copy(), 300, (1,)
  )
  payload = slices.encode(latents, golden_tables, 1, (1,))
  assert payload == range_coder.encode(symbols, golden_tables, 1, 300)
  for window in (None, (slice(290, 300), slice(2, 3))):
    part = slices.decode(payload, golden_tables, 1, (300, 7), (1,), window)
    rows, columns = window or (slice(None), slice(None))
    np.testing.assert_array_equal(part, latents[:, rows, columns])


@settings(deadline=None)
@given(st.data())
def test_a_window_is_the_crop_of_the_whole(golden_contexts, data):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(contexts, 'SLICE_SIDE', SIDE)
    latents = draw(7, GRID)
    payload = slices.encode(latents, golden_contexts, 3, PREDICTED)
    window = []
    for n in GRID:
      start = data.draw(st.integers(0, n - 1))
      window.append(slice(start, data.draw(st.integers(start + 1, n))))
    np.testing.assert_array_equal(
      slices.decode(
        payload, golden_contexts, 3, GRID, PREDICTED, tuple(window)
      ),
      latents[:, window[0], window[1]],
    )


def test_a_window_leaves_other_slices_alone(model, monkeypatch):
  latents, decoded = draw(7, GRID), []
  payload = slices.encode(latents, model, 3, PREDICTED)
  real = range_coder.decode

  def decode(stream, *arguments):
    decoded.append(stream)
    return real(stream, *arguments)

  monkeypatch.setattr(range_coder, 'decode', decode)
  window = slice(5, 7), slice(0, 4)
  slices.decode(payload, model, 3, GRID, PREDICTED, window)
  assert decoded == by_hand(latents, model, 3)[2:3]


def test_threads_change_nothing(model, monkeypatch):
  latents, found = draw(7, (40, 40)), set()
  for cores in (1, 2, 5):
    monkeypatch.setattr(
      os, 'sched_getaffinity', lambda pid, n=cores: range(n), raising=False
    )
    payload = slices.encode(latents, model, 8, PREDICTED)
    found.add(payload)
    np.testing.assert_array_equal(
      slices.decode(payload, model, 8, (40, 40), PREDICTED), latents
    )
  assert len(found) == 1


def test_blas_has_one_thread_and_then_its_own_again(model, monkeypatch):
  within, real = set(), range_coder.encode

  def threads():
    return {
      library['num_threads'] for library in threadpoolctl.threadpool_info()
      if library['user_api'] == 'blas'
    }

  def encode(*arguments):
    within.update(threads())
    return real(*arguments)

  monkeypatch.setattr(range_coder, 'encode', encode)
  with threadpoolctl.threadpool_limits(2, user_api='blas'):
    assert threads() == {2}
    payload = slices.encode(draw(7, GRID), model, 8)
    assert within == {1} and threads() == {2}
    with pytest.raises(bitstream.BitstreamError):
      slices.decode(payload[:4], model, 8, GRID)
    assert threads() == {2}


def test_ideal_bits_are_those_of_the_slices(model):
  latents = draw(7, GRID)
  ideal = slices.ideal_bits(latents, model, 8, PREDICTED)
  total = sum(map(len, by_hand(latents, model, 8)))
  assert ideal / 8 <= total <= 1.001 * ideal / 8 + 6
  np.testing.assert_allclose(ideal, sum(
    slices.ideal_bits(
      latents[:, i:i + SIDE, j:j + SIDE], model, 8, PREDICTED
    ) for i in (0, 4, 8) for j in (0, 4)
  ))


@pytest.mark.parametrize('shape', [(1, 1), GRID, (100, 90)])
def test_no_payload_is_smaller_than_the_least(model, monkeypatch, shape):
  """Latents that cost next to nothing: streams are all padding."""
  pmf = np.tile([[1e-4], [1 - 3e-4], [1e-4]], contexts.CLASSES)
  model = dataclasses.replace(model, tables=tables.from_pmfs([pmf], [-1]))
  latents = np.zeros((7, *shape), np.int32)
  for side in (SIDE, 32):
    monkeypatch.setattr(contexts, 'SLICE_SIDE', side)
    size = len(slices.encode(latents, model, 0))
    least = slices.least_bytes(shape, model, 0)
    assert 0 <= least <= size
  if shape == (100, 90):
    assert least > 0.9 * size


# --- Damage -----------------------------------------------------------------


def test_lengths_are_checked(model):
  payload = slices.encode(draw(7, GRID), model, 3)
  for damaged, message in (
    (b'\0' + payload, 'length of slice 1 is 0'),
    (b'\xff\xff\xff\xff' + payload, 'length of slice 1 does not end'),
    (b'\xff\xff\x03' + payload, 'ends within the slice 1'),
    (payload[:len(payload) // 3], 'ends within the|too short'),
  ):
    with pytest.raises(bitstream.BitstreamError, match=message):
      slices.decode(damaged, model, 3, GRID)


def test_absurd_sizes_are_refused_before_anything_is_allocated(
  golden_contexts, traced_memory
):
  with traced_memory() as peak:
    for size, *grid in (
      (1000, 10**9, 10**9), (1000, 1, 10**12), (1000, 10**12, 1), (0, 129, 1)
    ):
      with pytest.raises(bitstream.BitstreamError, match='too short'):
        slices.decode(bytes(size), golden_contexts, 3, grid)
  assert peak[0] < 2**20


def test_a_quality_index_that_the_model_lacks_is_named_first(model):
  for grid in ((1, 1), (10**9, 10**9)):
    with pytest.raises(bitstream.BitstreamError, match='17: .* has 0 to 16'):
      slices.decode(b'', model, 17, grid)


def test_absurd_numbers_of_slices_end_with_the_payload(model, traced_memory):
  """Of a slice as small as here, the number of positions alone says little."""
  with traced_memory() as peak, pytest.raises(
    bitstream.BitstreamError, match='length of slice 1001'
  ):
    slices.decode(b'\1' * 1000, model, 3, (10**9, 10**9))
  assert peak[0] < 2**20


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_any_bytes_give_latents_or_an_error(golden_contexts, seed, cut):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(contexts, 'SLICE_SIDE', SIDE)
    rng = np.random.default_rng(seed)
    payload = bytearray(slices.encode(draw(7, GRID), golden_contexts, 3))
    for _ in range(rng.integers(1, 4)):
      payload[rng.integers(len(payload))] = rng.integers(256)
    if cut:
      del payload[rng.integers(len(payload)):]
    try:
      decoded = slices.decode(bytes(payload), golden_contexts, 3, GRID)
    except bitstream.BitstreamError:
      return
    assert decoded.shape == (7, *GRID) and decoded.dtype == np.int32
