"""Makes the golden files, which fix version 1 of the format.

  python tests/golden/make.py

Integers only, so that any machine makes the same tables and symbols. Run it
for a new version of the format, never to make a failing test pass.
"""

import dataclasses
import pathlib

import numpy as np

from gdc.codec import bitstream, range_coder, tables

HERE = pathlib.Path(__file__).parent
QUALITY_INDEX = 1
NUM_POSITIONS = 35
HEADER = bitstream.Header(
  width=100, height=300, quality_index=QUALITY_INDEX, digest=b'\x01\x02\xfe\xff'
)
# Every optional field; the payload is that of HEADER.
SEED = 0xFEDCBA98
NUM_ICC_BYTES = 600


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


def make_optional_header() -> bitstream.Header:
  """Returns HEADER with all optional fields."""
  icc = bytes(k * k % 251 for k in range(NUM_ICC_BYTES))
  alpha = bytes(
    (3 * x * x + 5 * y * y + x * y // 8) % 256
    for y in range(HEADER.height)
    for x in range(HEADER.width)
  )
  return dataclasses.replace(
    HEADER, seed=SEED, icc=icc, grey=True, alpha=alpha
  )


def main():
  golden = make_tables()
  symbols = make_symbols(golden)
  payload = range_coder.encode(symbols, golden, QUALITY_INDEX)
  np.savez(HERE / 'tables.npz', **golden.to_arrays())
  np.save(HERE / 'symbols.npy', symbols)
  (HERE / 'payload.bin').write_bytes(payload)
  (HERE / 'picture.gdc').write_bytes(bitstream.pack(HEADER, payload))
  # Another zlib may write other bytes that inflate to the same.
  (HERE / 'optional.gdc').write_bytes(
    bitstream.pack(make_optional_header(), payload)
  )


if __name__ == '__main__':
  main()
