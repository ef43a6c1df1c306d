"""How much noise should the flow start from, around the decoded image?

source_noise is a multiple of the autoencoder's RMSE at the quality in hand. At
0 the flow is a map of one image to one image; squared error then leads it
to the mean of all originals that fit (Liu et al. 2022, arXiv 2209.03003, on
rectified flow: paths must not cross), which is no more realistic than the
autoencoder. Noise gives it something to make detail from, but whatever an
unfinished network does not take away stays in the image. An optimum between
is expected; where it lies is ours to find.

Every point trains a network.
"""
from configs.sweeps import base

AXIS = 'flow.source_noise'
VALUES = (0.0, 0.25, 0.5, 1.0, 2.0)
# The one that the sweeps of sampling take.
SAMPLED = 0.25


def run(value: float) -> base.Run:
  """The point at a value of the axis."""
  return base.Run('source_noise', value, base.FLOW, {AXIS: value})


def runs():
  """One Run per value."""
  yield from map(run, VALUES)
