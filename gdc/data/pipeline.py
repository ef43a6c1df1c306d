"""Batches from a data set, with grain: shuffled, cropped, sharded.

The iterator's state is small; it is saved with every checkpoint and resumes at
the exact next batch. All randomness comes from one seed.
"""
import functools
from collections.abc import Sequence

import grain.python as grain

from gdc.data import sources, transforms


def batches(
  source,
  *,
  batch_size: int,
  rows: Sequence[int],
  crop: int,
  min_scale: float,
  seed: int,
  balance: bool,
  transpose: float = 0.0,
):
  """Returns an endless iterator of {'image': uint8 [rows, crop, crop, 3]}.

  Args:
    source: from sources.build.
    batch_size: global batch size, over all processes.
    rows: rows of the global batch that this process draws.
    crop: side of the crops, pixels.
    min_scale: see transforms.random_crop.
    seed: seed of shuffling and cropping.
    balance: draw from each of the source's groups in proportion to the square
      root of its size, rather than to its size (file sources only).
    transpose: see transforms.random_crop.

  Returns:
    A grain iterator with get_state and set_state.
  """
  if balance and not isinstance(source, sources.Files):
    raise ValueError(
      'data.balance needs bundled:train or folder:PATH as its source.'
    )
  parts = source.split_by_group() if balance else [source]
  data = grain.MapDataset.mix([
    grain.MapDataset.source(part).seed(seed + i).shuffle().repeat()
    for i, part in enumerate(parts)
  ], weights=[len(part) ** 0.5 for part in parts])
  # Grain seeds crops by position. Cropping before the split into processes
  # makes a batch the same on any number of them.
  data = data.seed(seed).random_map(functools.partial(
    transforms.random_crop, size=crop, min_scale=min_scale,
    transpose=transpose,
  ))
  data = _Rows(data, batch_size, rows)
  data = data.batch(len(rows), drop_remainder=True)
  return iter(data.to_iter_dataset(
    grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
  ))


class _Rows(grain.MapDataset):
  """Selects this process's rows of every global batch."""

  def __init__(self, elements, batch_size: int, rows: Sequence[int]):
    super().__init__(elements)
    self._elements, self._batch_size, self._rows = elements, batch_size, rows

  def __len__(self):
    return len(self._elements) // self._batch_size * len(self._rows)

  def __getitem__(self, index):
    batch, position = divmod(index, len(self._rows))
    return self._elements[batch * self._batch_size + self._rows[position]]
