"""How much noise around the decoded image should the flow start from?

source_noise is a multiple of the autoencoder's RMSE at the given quality. At 0
the flow maps one image to one image; with squared error it then learns the mean
of all originals that fit (Liu et al. 2022, arXiv 2209.03003, on rectified flow:
paths must not cross), which is no more realistic than the autoencoder. Noise is
turned into detail, but what an imperfect network does not remove stays in the
image. An optimum in between is expected.

Every point trains a network.
"""
from configs.sweeps import base

AXIS = 'flow.source_noise'
VALUES = (0.0, 0.25, 0.5, 1.0, 2.0)
# The network that the sweeps of sampling use.
SAMPLED = 0.5


def run(value: float) -> base.Run:
  """Returns the point at a value of the axis."""
  return base.Run('source_noise', value, base.FLOW, {AXIS: value})


def runs():
  """Yields a Run per value."""
  yield from map(run, VALUES)
