"""Where should the flow's few steps be small?

Step i of n begins at t = 1 - (1 - i/n)^warp. 1 is a uniform grid; above 1 steps
shrink toward the end, where detail is made, below 1 toward the beginning.
Diffusion samplers gain from small steps at low noise (Karras et al. 2022, arXiv
2206.00364, appendix D.1); for a perfectly straight flow it would not matter.

Every point samples from one trained network in 4 Euler steps, the default.
"""
from configs.sweeps import base, source_noise

AXIS = 'sampling.warp'
VALUES = (0.5, 1.0, 2.0, 3.0)
STEPS = 4


def runs():
  """Yields a Run per value."""
  trained = source_noise.run(source_noise.SAMPLED)
  for value in VALUES:
    yield base.sample(
      'warp', value, trained, sampler='euler', steps=STEPS, warp=value
    )
