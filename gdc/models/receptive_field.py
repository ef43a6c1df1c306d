"""Receptive fields of the networks, and the table of transforms.

Every network here sees a bounded distance around a position and no further. The
distance follows from its record alone: tiles are laid out without importing
jax, flax or a network.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

STRIDE = 16  # of the autoencoder: image pixels per latent position


def radius(path) -> int:
  """Returns how far a network of local layers sees, in image pixels.

  Args:
    path: from output back to input, pairs of a resolution (image pixels per
      position) and the number of positions that its layers see beyond their
      own. Between resolutions, what is seen widens to whole positions.

  Returns:
    The distance beyond an output that begins and ends at whole positions of
    the coarsest resolution.
  """
  distance = 0
  for pixels, positions in path:
    distance = (-(-distance // pixels) + positions) * pixels
  coarsest = max(pixels for pixels, _ in path)
  return -(-distance // coarsest) * coarsest


class Transforms(NamedTuple):
  """Receptive fields of an analysis and a synthesis: depths -> path of radius.
  """

  analysis: Callable[[Sequence[int]], list[tuple[int, int]]]
  synthesis: Callable[[Sequence[int]], list[tuple[int, int]]]


# Name of a module of this package, with the classes Analysis and Synthesis.
TRANSFORMS = {
  'lean': Transforms(
    lambda depths: [(16, depths[1]), (8, depths[0])],
    lambda depths: [(8, depths[0]), (16, depths[1])],
  ),
  # Attention sees 3 positions, a bottleneck 1, the next finer convolution 2.
  'elic': Transforms(
    lambda depths: [(16, 3), (8, 2 + 3), (4, 2 + 6), (2, 2 + 3), (1, 2)],
    lambda depths: [(2, 2 + 3), (4, 2 + 6), (8, 2 + 3), (16, 2 + 3)],
  ),
}


def analysis(record) -> int:
  """Returns how far a latent of an autoencoder's record sees, in pixels."""
  return radius(TRANSFORMS[record['transforms']].analysis(record['depths']))


def synthesis(record) -> int:
  """Returns how far a pixel of an autoencoder's record sees, in pixels."""
  return radius(TRANSFORMS[record['transforms']].synthesis(record['depths']))


def score_stride(record) -> int:
  """Returns what the sides of a score network's input must be multiples of."""
  return record['patch'] * 2 ** (len(record['depths']) - 1)


def score_net(record) -> int:
  """Returns how far a score network's output sees, in pixels."""
  down = [
    (record['patch'] * 2**i, depth) for i, depth in enumerate(record['depths'])
  ]
  refine = [(1, int(record.get('refine', 0) > 0))]
  return radius([*refine, *down, *reversed(down[:-1])])
