"""Makes the golden files, which fix version 1 of the format.

  python tests/golden/make.py

Integers only, so that any machine makes the same tables and symbols. Run it
for a new version of the format, never to make a failing test pass.
"""

import dataclasses
import pathlib

import numpy as np

from gdc.codec import bitstream, contexts, range_coder, slices, tables

HERE = pathlib.Path(__file__).parent
QUALITY_INDEX = 1
NUM_POSITIONS = 35
HEADER = bitstream.Header(
  width=100, height=300, quality_index=QUALITY_INDEX, digest=b'\x01\x02\xfe\xff'
)
# The optional fields but EXIF and XMP; the payload is that of HEADER.
SEED = 0xFEDCBA98
NUM_ICC_BYTES = 600
# Contexts: a quality between two levels, and a grid with odd sides.
CONTEXTS_INDEX = 9
GRID = 7, 5


def make_tables() -> tables.Tables:
  """Makes tables of two qualities and five channels, with awkward rows."""
  steep = [1, 4, 64, 1024, 65536 - 1103, 8, 1, 1]
  wide = [1 + k % 200 for k in range(600)]
  wide.append(65536 - sum(wide))
  rows = [
    (0, [65535, 1]),  # an empty channel
    (-4, steep),
    (7, [1, 65535]),  # almost everything escapes
    (-300, wide),
    (2**31 - 2, [30000, 30000, 5536]),  # up to the largest int32
  ]
  rows += [(first - 1, counts) for first, counts in rows]
  return tables.Tables(
    counts=np.concatenate([counts for _, counts in rows]).astype(np.uint16),
    first=np.array([first for first, _ in rows], np.int32).reshape(2, 5),
    length=np.array([len(c) for _, c in rows], np.int32).reshape(2, 5),
  )


def make_symbols(golden: tables.Tables) -> np.ndarray:
  """Draws symbols from the tables, by a linear congruential generator."""
  state = 1
  symbols = np.empty([golden.num_channels, NUM_POSITIONS], np.int32)
  for channel in range(golden.num_channels):
    first, counts = golden.row(QUALITY_INDEX, channel)
    ends = np.cumsum(counts)
    for position in range(NUM_POSITIONS):
      state = (1664525 * state + 1013904223) % 2**32
      k = int(np.searchsorted(ends, state >> 16, side='right'))
      if k == len(counts) - 1:
        symbols[channel, position] = first - 1 - (state & 0xFFFF)
      else:
        symbols[channel, position] = first + k
  symbols[0, 0], symbols[0, 1] = 2**31 - 1, -(2**31)
  return symbols


def make_contexts() -> contexts.Contexts:
  """Makes contexts of 7 channels in groups of 2, 1 and 4; 2 levels."""
  rows = []
  for row in range(contexts.CLASSES):
    radius = row // 3
    share = [(radius + 1 - abs(k)) ** 2 for k in range(-radius, radius + 1)]
    counts = [1 + 60000 * n // sum(share) for n in share]
    rows.append((row % 2 - radius, [*counts, 65536 - sum(counts)]))
  ends = np.array([2, 3, 7], np.int16)
  steps, state, weights = contexts.make_steps(ends), 1, []
  for _ in range(2):
    for step in steps:
      for _ in range(step.shape[0]):
        for column in range(step.shape[1]):
          state = (1664525 * state + 1013904223) % 2**32
          is_constant = column == step.shape[1] - 1
          weights.append(
            (state >> 16) % 2048 - 1600 if is_constant
            else (state >> 16) % 256 - 80
          )
  return contexts.Contexts(
    order=np.array([5 * k % 7 for k in range(7)], np.int16),
    ends=ends,
    weights=np.array(weights, np.int16).reshape(2, -1),
    tables=tables.Tables(
      counts=np.concatenate([counts for _, counts in rows]).astype(np.uint16),
      first=np.array([[first for first, _ in rows]], np.int32),
      length=np.array([[len(counts) for _, counts in rows]], np.int32),
    ),
    bits=np.array([10, 20], np.float32),
  )


def make_contexts_symbols() -> np.ndarray:
  """Draws symbols of all magnitudes, int32 [7, positions of GRID]."""
  state, symbols = 7, np.zeros([7, GRID[0] * GRID[1]], np.int32)
  for channel in range(7):
    for position in range(symbols.shape[1]):
      state = (1664525 * state + 1013904223) % 2**32
      scale = 1 << (state >> 28) * (position % 9) // 12
      symbols[channel, position] = (state >> 8) % (2 * scale + 1) - scale
  symbols[0, 3], symbols[2, 8], symbols[6, 11] = 2**31 - 1, -(2**31), 5000
  return symbols


def make_slices_symbols() -> np.ndarray:
  """Draws symbols of two slices, int32 [7, 2, contexts.SLICE_SIDE + 2]."""
  state, symbols = 3, np.zeros([7, 2, contexts.SLICE_SIDE + 2], np.int32)
  for index in np.ndindex(symbols.shape):
    state = (1664525 * state + 1013904223) % 2**32
    scale = 1 << (state >> 28) * (index[2] % 9) // 12
    symbols[index] = (state >> 8) % (2 * scale + 1) - scale
  return symbols


def make_optional_header() -> bitstream.Header:
  """Returns HEADER with all optional fields but EXIF and XMP."""
  icc = bytes(k * k % 251 for k in range(NUM_ICC_BYTES))
  alpha = bytes(
    (3 * x * x + 5 * y * y + x * y // 8) % 256
    for y in range(HEADER.height)
    for x in range(HEADER.width)
  )
  return dataclasses.replace(
    HEADER, seed=SEED, icc=icc, grey=True, alpha=alpha
  )


def make_metadata_header() -> bitstream.Header:
  """Returns HEADER with EXIF (big endian, of one tag) and XMP."""
  return dataclasses.replace(
    HEADER,
    exif=b'MM\0*\0\0\0\x08\0\1\1\x0f\0\2\0\0\0\4gdc\0\0\0\0\0',
    xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
  )


def main():
  golden = make_tables()
  symbols = make_symbols(golden)
  payload = range_coder.encode(symbols, golden, QUALITY_INDEX)
  fitted = make_contexts()
  arrays = fitted.to_arrays()
  of_tables = {f'tables/{k}': v for k, v in arrays.pop('tables').items()}
  np.savez(HERE / 'contexts.npz', **arrays, **of_tables)
  in_contexts = make_contexts_symbols()
  np.save(HERE / 'contexts_symbols.npy', in_contexts)
  (HERE / 'contexts_payload.bin').write_bytes(
    range_coder.encode(in_contexts, fitted, CONTEXTS_INDEX, GRID[0])
  )
  (HERE / 'slices_payload.bin').write_bytes(
    slices.encode(make_slices_symbols(), fitted, CONTEXTS_INDEX)
  )
  np.savez(HERE / 'tables.npz', **golden.to_arrays())
  np.save(HERE / 'symbols.npy', symbols)
  (HERE / 'payload.bin').write_bytes(payload)
  (HERE / 'picture.gdc').write_bytes(bitstream.pack(HEADER, payload))
  # Another zlib may write other bytes that inflate to the same.
  (HERE / 'optional.gdc').write_bytes(
    bitstream.pack(make_optional_header(), payload)
  )
  (HERE / 'metadata.gdc').write_bytes(
    bitstream.pack(make_metadata_header(), payload)
  )


if __name__ == '__main__':
  main()
