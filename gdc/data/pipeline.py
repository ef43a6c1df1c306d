"""Source to batches, with grain: shuffled, cropped, sharded over processes.

The iterator's state is small, is saved with every checkpoint, and resumes at
the exact next batch. All randomness is grain's, from one seed.
"""
import grain.python as grain
import jax

from gdc.data import random_crop, sources


def batches(
  source,
  *,
  batch_size: int,
  crop: int,
  min_scale: float,
  seed: int,
  balance: bool,
):
  """An endless iterator of {'image': uint8 [local batch, crop, crop, 3]}.

  Args:
    source: from sources.build.
    batch_size: global batch size; each process draws its equal part.
    crop: side of the crops, pixels.
    min_scale: see random_crop.RandomCrop.
    seed: of shuffling and cropping.
    balance: draw from each of the source's groups in proportion to the square
      root of its size, rather than to its size (a file source only).

  Returns:
    A grain iterator with get_state and set_state.
  """
  processes = jax.process_count()
  if batch_size % processes:
    raise ValueError(
      f'batch_size {batch_size} must be a multiple of the {processes} '
      'processes.'
    )
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
  size = batch_size // processes
  data = _Part(data, batch_size, jax.process_index() * size, size)
  data = data.batch(size, drop_remainder=True)
  return iter(data.to_iter_dataset(
    grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
  ))


class _Part(grain.MapDataset):
  """Positions first to first + size of every batch_size elements."""

  def __init__(self, whole, batch_size: int, first: int, size: int):
    super().__init__(whole)
    self._whole = whole
    self._batch_size, self._first, self._size = batch_size, first, size

  def __len__(self):
    return len(self._whole) // self._batch_size * self._size

  def __getitem__(self, index):
    batch, position = divmod(index, self._size)
    return self._whole[batch * self._batch_size + self._first + position]
