"""How much noise should diffusion inject while it samples?

gamma goes between the two variances that ancestral sampling may take (Ho et
al. 2020, arXiv 2006.11239, section 3.2; in logarithms, Nichol & Dhariwal 2021,
arXiv 2102.09672, section 3.1): 0 is the smaller, right for data that is a
point, 1 the larger, right for data that is noise. The claim of arXiv
2305.18231: the amount matters, and has an optimum.

Every point samples from one trained network, with 32 steps.
"""
from configs.sweeps import base, noise_shift

AXIS = 'sampling.gamma'
VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 32


def runs():
  """One Run per value."""
  trained = noise_shift.run(noise_shift.SAMPLED)
  for value in VALUES:
    yield base.sample(
      'gamma', value, trained, sampler='ddpm', steps=STEPS, gamma=value,
      grid='log_snr',
    )
