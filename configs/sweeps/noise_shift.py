"""How much noise should a diffusion add, if it starts from a decoded image?

noise_shift moves the schedule: log-SNR(t) is lowered by 2 log(noise_shift). 1
is the cosine schedule; above 1 there is more noise, as for text-to-image models
of large images (Hoogeboom et al. 2023, 'simple diffusion', arXiv 2301.11093,
whose shift is 4 at 256 pixels); below 1 there is less. Claim of 'High-Fidelity
Image Compression with Score-based Generative Models' (arXiv 2305.18231): less
noise is better here, because the autoencoder's output already has the coarse
structure, and more is worse.

Every point trains a network and samples from it twice. In equal steps of time,
the schedule also decides where the last step, which jumps to the predicted
image, begins: with a shift of 4, at a noise level far above the remaining
error, so that no texture can be made, whatever was learned. In equal steps of
log-SNR it begins at nearly the same level for all. What remains is that the
loss on eps trains the relevant noise levels more often if the shift is small.
"""
from configs.sweeps import base

AXIS = 'diffusion.noise_shift'
VALUES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
# The network that the sweeps of sampling use; the default there.
SAMPLED = 0.5


def run(value: float) -> base.Run:
  """Returns the point at a value of the axis."""
  return base.Run(
    'noise_shift', value, base.DIFFUSION,
    {AXIS: value, 'sampling.grid': 'time'},
  )


def runs():
  """Yields a Run per value and grid."""
  yield from map(run, VALUES)
  for value in VALUES:
    yield base.sample(
      'noise_shift', value, run(value), 'log_snr', grid='log_snr'
    )
