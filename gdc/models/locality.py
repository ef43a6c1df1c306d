"""How far the networks look. Plain arithmetic: imports nothing.

Every network here looks a bounded way around a position and no further. How
far follows from its record alone, so that tiles can be laid before, and
without, its code.
"""

STRIDE = 16  # of the autoencoder: pixels of the picture per latent position


def reach(path) -> int:
  """How far a network made of local layers looks, in pixels of the picture.

  Args:
    path: from the output back to the input, pairs of a resolution (pixels of
      the picture per position) and the positions that its layers look beyond
      their own. Between resolutions, what is seen widens to whole positions.

  Returns:
    The distance beyond an output that begins and ends at whole positions of
    the coarsest resolution.
  """
  distance = 0
  for pixels, positions in path:
    distance = (-(-distance // pixels) + positions) * pixels
  coarsest = max(pixels for pixels, _ in path)
  return -(-distance // coarsest) * coarsest


def analysis(transforms: str, depths) -> int:
  """Of the analysis transform, see models.autoencoder: what a latent sees."""
  if transforms == 'lean':
    return reach([(16, depths[1]), (8, depths[0])])
  # Attention 3, bottlenecks 1 each, the next finer convolution 2.
  return reach([(16, 3), (8, 2 + 3), (4, 2 + 6), (2, 2 + 3), (1, 2)])


def synthesis(transforms: str, depths) -> int:
  """Of the synthesis transform: what a pixel sees of the latents."""
  if transforms == 'lean':
    return reach([(8, depths[0]), (16, depths[1])])
  return reach([(2, 2 + 3), (4, 2 + 6), (8, 2 + 3), (16, 2 + 3)])


def score_stride(patch: int, depths) -> int:
  """Of models.score_net.ScoreNet: what the sides of its input are multiples of.
  """
  return patch * 2 ** (len(depths) - 1)


def score_net(patch: int, depths, refine: int = 0) -> int:
  """Of models.score_net.ScoreNet: its refinement, then down and up again."""
  down = [(patch * 2**i, depth) for i, depth in enumerate(depths)]
  return reach([(1, int(refine > 0)), *down, *reversed(down[:-1])])
