"""Fits the coder's contexts to latents: statistics, without training.

The log2 of a symbol's expected magnitude is regressed on its features. Its loss
is the negative log likelihood of a geometric distribution with that mean, about
what the symbol costs. Least squares give the first weights; gradient steps in
the same metric follow, and each channel keeps its best weights. Tables are the
histograms of all symbols of a class, made symmetric.

docs/log.md, Contexts, has what was measured of this and of other fits.
"""
from collections.abc import Callable, Sequence

import numpy as np

from gdc.codec import contexts, tables

GROUPS = 12
FIRST_GROUP = 4  # channels; later groups grow geometrically
ITERATIONS = 15
MOMENTUM = 0.6
RIDGE = 1000  # positions of mean squared features that weights of 0 count for
_LARGEST = 2**12  # larger symbols are left to the escape code
_HIGHEST_OCTAVE = 10
_BLOCK = 2**14  # positions at a time: bounds memory, and fits into caches
_PRIOR = 32  # symbols of a class that its assumed distribution counts for


def fit(
  latents: Callable[[int], Sequence[np.ndarray]],
  num_levels: int,
  report: Callable[[float], None] = lambda share: None,
) -> contexts.Contexts:
  """Fits contexts.

  Args:
    latents: of a level, 0 to num_levels - 1, called once for each: integers
      [channels, rows, columns] of each image, as they are coded. The images
      are the same at every level.
    num_levels: number of quality levels.
    report: called after each step with the share of its level's work.

  Returns:
    Contexts with weights for each level, and tables for all levels together.
  """
  # The middle level decides the order of the channels.
  middle = num_levels // 2
  counts = np.zeros([num_levels, contexts.CLASSES, 2 * _LARGEST + 1], np.int64)
  order, weights = None, [None] * num_levels
  for level in sorted(range(num_levels), key=lambda i: i != middle):
    images = latents(level)
    if order is None:
      order = _by_energy(images)
      ends = group_ends(len(order))
      positions = sum(k[0].size for k in images)
    weights[level] = _fit_level(images, order, ends, counts[level], report)
  made = _tables(counts.sum(0))
  bits = np.sum(counts * _bits(made), axis=(1, 2)) / positions
  return contexts.Contexts(
    order, ends, np.stack(weights).astype(np.int16), made,
    bits.astype(np.float32),
  )


def group_ends(num_channels: int) -> np.ndarray:
  """Returns where each group of channels ends, int16, at most GROUPS."""
  return np.unique(np.rint(np.geomspace(
    min(FIRST_GROUP, num_channels), num_channels, GROUPS
  )).astype(np.int16))


def _by_energy(images) -> np.ndarray:
  """Returns the channels by falling mean magnitude, int16."""
  total = sum(np.abs(k).sum((1, 2), dtype=np.int64) for k in images)
  return np.argsort(-total, kind='stable').astype(np.int16)


def _fit_level(images, order, ends, counts, report) -> np.ndarray:
  """Fits the weights of a level, int32; adds its symbols to `counts`.

  Args:
    images: integers [channels, rows, columns] of each.
    order: see contexts.Contexts.
    ends: see contexts.Contexts.
    counts: int64 [classes, 2 * _LARGEST + 1], changed in place.
    report: see fit.
  """
  steps, found = contexts.make_steps(ends), []
  capacity = max(step.capacity for step in steps)
  known = [contexts.Slice(*k.shape[1:], capacity) for k in images]
  values = [
    s.sort(k[order]) for s, k in zip(known, images, strict=True)
  ]
  for step in steps:
    parts = [
      v[step.channels, s.columns(step)]
      for s, v in zip(known, values, strict=True)
    ]
    symbols = np.concatenate(parts, axis=1)
    x = np.concatenate([s.features(step) for s in known], axis=1)
    x /= contexts.UNIT  # in octaves; exact
    own = _regress(x, symbols)
    _count(own, x, symbols, counts)
    del x
    for s, part in zip(known, parts, strict=True):
      s.fill(step, part)
    found.append(own.ravel())
    report(own.size / steps[-1].weights.stop)
  return np.concatenate(found)


def _regress(x: np.ndarray, symbols: np.ndarray) -> np.ndarray:
  """Returns weights of the log2 of expected magnitudes, int32.

  Args:
    x: float32 [features, positions], in octaves; the last one is constant.
    symbols: integers [channels, positions].

  Returns:
    [channels, features], in units of 1 / contexts.SCALE.
  """
  count = x.shape[1]
  blocks = [slice(i, i + _BLOCK) for i in range(0, count, _BLOCK)]
  k = np.minimum(np.abs(symbols), contexts.CLIP).astype(np.float32)
  w = np.zeros([len(k), len(x)])
  sums = k.sum(1, dtype=np.float64)
  # A channel that is always zero has no likeliest mean; the lowest will do.
  w[:, -1] = np.log2(np.maximum(
    sums / max(count, 1), 2.0**contexts.LOWEST_OCTAVE
  ))
  seen = sums > 0
  if len(x) > 1 and seen.any():
    w[seen] = _descend(x, k[seen], blocks)
  limit = np.iinfo(np.int16)
  return np.clip(np.rint(w * contexts.SCALE), limit.min, limit.max).astype(
    np.int32
  )


def _descend(x, k, blocks) -> np.ndarray:
  """Returns the weights of least loss that were found.

  Args:
    x: float32 [features, positions], in octaves.
    k: float32 [channels, positions], magnitudes.
    blocks: slices of positions.

  Returns:
    float64 [channels, features].
  """
  gram = sum((x[:, b] @ x[:, b].T).astype(np.float64) for b in blocks)
  # The constant is hardly penalised.
  ridge = np.full(len(x), RIDGE * np.trace(gram) / x.size)
  ridge[-1] = 1e-6 * x.shape[1]
  inverse = np.linalg.inv(gram + np.diag(ridge))
  w = sum(
    (np.log2(1 + k[:, b]) @ x[:, b].T).astype(np.float64) for b in blocks
  ) @ inverse
  best, least = w, np.full(len(w), np.inf)
  velocity = np.zeros_like(w)
  for _ in range(ITERATIONS + 1):
    cost, gradient = _loss(x, k, blocks, w.astype(np.float32))
    better = cost < least
    best, least = np.where(better[:, None], w, best), np.minimum(cost, least)
    velocity = MOMENTUM * velocity + gradient @ inverse
    w = w + velocity
  return best


def _loss(x, k, blocks, w):
  """Returns the loss [channels] in bits, and the direction that lowers it.

  The direction [channels, features] is the negative gradient with respect to
  the log2 of the mean, times the features, up to a constant.
  """
  cost, direction = 0.0, 0.0
  for block in blocks:
    magnitude = k[:, block]
    log_mean = w @ x[:, block]
    np.clip(log_mean, contexts.LOWEST_OCTAVE, _HIGHEST_OCTAVE, log_mean)
    mean = np.exp2(log_mean)
    log_mean *= magnitude
    residual = magnitude - mean
    mean += 1
    residual /= mean
    cost += ((1 + magnitude) * np.log2(mean) - log_mean).sum(
      1, dtype=np.float64
    )
    direction += (residual @ x[:, block].T).astype(np.float64)
  return cost, direction


def _count(weights, x, symbols, counts) -> None:
  """Adds symbols to the histograms of their classes."""
  width = counts.shape[1]
  weights = weights.astype(np.float64) * contexts.UNIT
  for start in range(0, x.shape[1], _BLOCK):
    block = slice(start, start + _BLOCK)
    # Exact, and so the classes that the coder finds.
    scores = weights @ x[:, block].astype(np.float64)
    classes = contexts.classify(scores).astype(np.int64)
    values = np.clip(symbols[:, block], -_LARGEST, _LARGEST) + _LARGEST
    counts += np.bincount(
      (classes * width + values).ravel(), minlength=counts.size
    ).reshape(counts.shape)


def _tables(counts) -> tables.Tables:
  """Makes a table of each class from its histogram."""
  counts = counts + counts[:, ::-1]
  magnitude = np.abs(np.arange(-_LARGEST, _LARGEST + 1))
  # A class that is hardly seen takes the shape of a geometric distribution.
  mean = 2.0 ** (
    contexts.LOWEST_OCTAVE + (np.arange(contexts.CLASSES) + 0.5) / 4
  )[:, None]
  ratio = mean / (1 + mean)
  shape = np.exp(magnitude * np.log(ratio)) * np.where(magnitude, 0.5, 1)
  shape /= shape.sum(1, keepdims=True)
  pmf = counts + _PRIOR * shape
  pmf /= pmf.sum(1, keepdims=True)
  return tables.from_pmfs([pmf.T], [-_LARGEST])


def _bits(made: tables.Tables) -> np.ndarray:
  """Returns what each symbol costs, float64 [classes, 2 * _LARGEST + 1]."""
  found = []
  for row in range(contexts.CLASSES):
    first, counts = made.row(0, row)
    index, _, distance = tables.split_escapes(
      np.arange(-_LARGEST, _LARGEST + 1), first, len(counts)
    )
    bits = tables.PRECISION - np.log2(counts)[index]
    bits[index == len(counts) - 1] += tables.escape_bits(distance)
    found.append(bits)
  return np.stack(found)
