"""How much noise should diffusion see, when it starts from a decoded image?

noise_shift moves the schedule: log-SNR(t) loses 2 log(noise_shift). 1 is the
cosine schedule; above 1 is more noise, as text-to-image models of large
images want it (Hoogeboom et al. 2023, 'simple diffusion', arXiv 2301.11093,
whose shift is 4 at 256 pixels); below 1 is less. The claim of 'High-Fidelity
Image Compression with Score-based Generative Models' (arXiv 2305.18231): less
is better here, because the autoencoder's output holds the coarse structure
already, and the other direction is worse.

Every point trains a network, and samples from it twice. In equal steps of time
the schedule also decides where the last step, a jump to the predicted image,
begins: with a shift of 4 from far above the error that is left to mend, so that
no texture can be made, whatever was learned. In equal steps of log-SNR it
begins at nearly the same level for all. What remains is that the loss, of eps,
trains the levels that matter here the more often the smaller the shift is.
"""
from configs.sweeps import base

AXIS = 'diffusion.noise_shift'
VALUES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
# The one that the sweeps of sampling take: the default there.
SAMPLED = 0.5


def run(value: float) -> base.Run:
  """The point at a value of the axis."""
  return base.Run(
    'noise_shift', value, base.DIFFUSION,
    {AXIS: value, 'sampling.grid': 'time'},
  )


def runs():
  """One Run per value and grid."""
  yield from map(run, VALUES)
  for value in VALUES:
    yield base.sample(
      'noise_shift', value, run(value), 'log_snr', grid='log_snr'
    )
