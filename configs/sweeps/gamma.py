"""How much noise should diffusion inject while it samples?

gamma interpolates between the two variances of ancestral sampling (Ho et al.
2020, arXiv 2006.11239, section 3.2), in logarithms (Nichol & Dhariwal 2021,
arXiv 2102.09672, section 3.1): 0 is the smaller one, optimal for data that is a
point, 1 the larger one, optimal for data that is noise. Claim of arXiv
2305.18231: the amount matters, and there is an optimum.

Every point samples from one trained network in 32 steps.
"""
from configs.sweeps import base, noise_shift

AXIS = 'sampling.gamma'
VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 32


def runs():
  """Yields a Run per value."""
  trained = noise_shift.run(noise_shift.SAMPLED)
  for value in VALUES:
    yield base.sample(
      'gamma', value, trained, sampler='ddpm', steps=STEPS, gamma=value,
      grid='log_snr',
    )
