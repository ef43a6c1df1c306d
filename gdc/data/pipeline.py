"""Source to batches, with grain: shuffled, cropped, sharded over processes.

The iterator's state is small, is saved with every checkpoint, and resumes at
the exact next batch. All randomness is grain's, from one seed.
"""
from collections.abc import Sequence

import grain.python as grain

from gdc.data import random_crop, sources


def batches(
  source,
  *,
  batch_size: int,
  rows: Sequence[int],
  crop: int,
  min_scale: float,
  seed: int,
  balance: bool,
):
  """An endless iterator of {'image': uint8 [len(rows), crop, crop, 3]}.

  Args:
    source: from sources.build.
    batch_size: of all processes together.
    rows: positions in the batch that this process draws.
    crop: side of the crops, pixels.
    min_scale: see random_crop.RandomCrop.
    seed: of shuffling and cropping.
    balance: draw from each of the source's groups in proportion to the square
      root of its size, rather than to its size (a file source only).

  Returns:
    A grain iterator with get_state and set_state.
  """
  if balance and not isinstance(source, sources.Files):
    raise ValueError('balance needs a folder or the box as its source.')
  parts = source.split_by_group() if balance else [source]
  data = grain.MapDataset.mix([
    grain.MapDataset.source(part).seed(seed + i).shuffle().repeat()
    for i, part in enumerate(parts)
  ], weights=[len(part) ** 0.5 for part in parts])
  # Grain draws by position: cropped before it is divided, no two processes
  # draw alike, and a batch is the same on any number of processes.
  data = data.seed(seed).random_map(
    random_crop.RandomCrop(crop, min_scale)
  )
  data = _Part(data, batch_size, rows)
  data = data.batch(len(rows), drop_remainder=True)
  return iter(data.to_iter_dataset(
    grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
  ))


class _Part(grain.MapDataset):
  """Of every batch_size elements those at some positions."""

  def __init__(self, whole, batch_size: int, rows: Sequence[int]):
    super().__init__(whole)
    self._whole, self._batch_size, self._rows = whole, batch_size, rows

  def __len__(self):
    return len(self._whole) // self._batch_size * len(self._rows)

  def __getitem__(self, index):
    batch, position = divmod(index, len(self._rows))
    return self._whole[batch * self._batch_size + self._rows[position]]
