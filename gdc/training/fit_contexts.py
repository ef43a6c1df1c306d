"""Fits the contexts of the coder to latents: statistics, no training.

The expected magnitude of a symbol is regressed on its features with a log
link, for a geometric distribution: its negative log likelihood is about what
the symbol costs. Tables are the histograms of all symbols of a class, made
symmetric.
"""
import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from gdc.codec import bitstream, contexts, tables

_FIRST_GROUP = 4
_MOMENTUM = 0.6
CAL = float(os.environ.get('CAL', 1))
RATE = float(os.environ.get('RATE', 1))
_ITERATIONS = int(os.environ.get('ITER', 15))
_GROUPS = int(os.environ.get('GROUPS', 12))
_RIDGE = float(os.environ.get('RIDGE', 3e-3))
_LARGEST = 2**12  # symbols beyond are left to the escape code
_FLOOR = 1e-3  # magnitude where a channel is always zero


def fit(
  latents: Sequence[Sequence[np.ndarray]], report=lambda done, total: None
) -> contexts.Contexts:
  """Fits contexts.

  Args:
    latents: of each level, of the same images: int32 [channels, rows, columns].
    report: called with the number of steps done and in all.

  Returns:
    Contexts with weights for each level and tables for all of them.
  """
  middle = latents[len(latents) // 2]
  energy = sum(np.abs(k).mean((1, 2)) for k in middle)
  order = np.argsort(-energy, kind='stable').astype(np.int16)
  ends = np.unique(np.rint(
    np.geomspace(min(_FIRST_GROUP, len(order)), len(order), _GROUPS)
  ).astype(np.int16))
  steps = contexts.make_steps(ends)
  counts = np.zeros([contexts.CLASSES, 2 * _LARGEST + 1], np.int64)
  weights, bits = [], np.zeros(len(latents), np.float32)
  for level, images in enumerate(latents):
    states = [contexts.Block(*k.shape[1:]) for k in images]
    images = [s.sort(k[order]) for k, s in zip(images, states, strict=True)]
    parts = []
    for i, step in enumerate(steps):
      symbols = [
        k[step.channels, s.columns(step)]
        for k, s in zip(images, states, strict=True)
      ]
      features = np.concatenate(
        [s.features(step) for s in states], axis=1
      )
      own = _regress(features, np.abs(np.concatenate(symbols, axis=1)))
      parts.append(own)
      classes = contexts.classify(
        own.astype(np.float64) @ features.astype(np.float64)
      )
      values = np.clip(np.concatenate(symbols, axis=1), -_LARGEST, _LARGEST)
      np.add.at(counts, (classes.ravel(), values.ravel() + _LARGEST), 1)
      for s, k in zip(states, symbols, strict=True):
        s.fill(step, k)
      report(level * len(steps) + i + 1, len(latents) * len(steps))
    weights.append(np.concatenate([w.ravel() for w in parts]))
  made = contexts.Contexts(
    order, ends, np.stack(weights).astype(np.int16), _tables(counts), bits + 1
  )
  for level, images in enumerate(latents):
    unit = bitstream.QUALITY_STEPS
    bits[level] = sum(
      made.ideal_bits(k.reshape(len(k), -1), unit * level, k.shape[1])
      for k in images
    ) / sum(k[0].size for k in images)
  return dataclasses.replace(made, bits=bits)


def _regress(features, magnitudes) -> np.ndarray:
  """int32 [channels, features]: weights of the log2 of expected magnitudes."""
  x, count = features / contexts.UNIT, features.shape[1]
  k = np.minimum(magnitudes, contexts.CLIP).astype(np.float32)
  mean = np.maximum(k.mean(1), _FLOOR)
  w = np.zeros([len(k), len(x)], np.float32)
  w[:, -1] = np.log2(mean)
  if len(x) > 1:
    gram = (x @ x.T).astype(np.float64)
    gram[np.diag_indices(len(x) - 1)] += _RIDGE * np.trace(gram) / len(gram)
    gram[-1, -1] += 1e-6 * count
    inverse = np.linalg.inv(gram).astype(np.float32)
    # Least squares first, then the likelihood, by gradients in its metric; each
    # channel keeps its best weights.
    w = (np.log2(1 + k) @ x.T) @ inverse
    best, least = w.copy(), np.full(len(w), np.inf)
    velocity = np.zeros_like(w)
    for _ in range(_ITERATIONS + 1):
      log_mean = np.clip(w @ x, contexts.LOWEST_OCTAVE, 10)
      expected = np.exp2(log_mean)
      cost = np.mean(
        (1 + k) * np.log2(1 + expected) - k * log_mean, axis=1,
        dtype=np.float64,
      )
      better = cost < least
      best[better], least[better] = w[better], cost[better]
      gradient = ((k - expected) / (1 + expected)) @ x.T @ inverse
      velocity = _MOMENTUM * velocity + RATE * gradient
      w = w + velocity
    w = best
    w[:, -1] += CAL * np.log2(mean / np.exp2(w @ x).mean(1))
  limit = np.iinfo(np.int16)
  return np.clip(np.rint(w * contexts.SCALE), limit.min, limit.max).astype(
    np.int32
  )


def _tables(counts) -> tables.Tables:
  counts = counts + counts[:, ::-1]
  magnitude = np.abs(np.arange(-_LARGEST, _LARGEST + 1))
  # A class that is hardly seen takes the shape of a geometric distribution.
  centre = 2.0 ** (
    contexts.LOWEST_OCTAVE + (np.arange(contexts.CLASSES) + 0.5) / 4
  )[:, None]
  ratio = centre / (1 + centre)
  shape = np.exp(magnitude * np.log(ratio)) * np.where(magnitude, 0.5, 1)
  shape /= shape.sum(1, keepdims=True)
  pmf = counts + 32 * shape
  pmf /= pmf.sum(1, keepdims=True)
  return tables.from_pmfs([pmf.T], [-_LARGEST])
