"""How much noise should the flow inject while it samples?

eta = 0 follows the flow's differential equation; above it noise is added on
the way and taken out again by the drift, which keeps the distribution at every
time (Song et al. 2021, arXiv 2011.13456, section 4.3, for diffusion; Albergo
et al. 2023, arXiv 2303.08797, for flows). In theory nothing changes; in
practice noise can wash out errors of earlier steps, at the price of steps that
have to take it away again. The flow's counterpart to the sweep of gamma.

Every point samples from one trained network, with 16 steps: with few, what is
injected last has no time to leave.
"""
from configs.sweeps import base, source_noise

AXIS = 'sampling.eta'
VALUES = (0.0, 0.25, 0.5, 1.0, 2.0)
STEPS = 16


def runs():
  """One Run per value."""
  trained = source_noise.run(source_noise.SAMPLED)
  for value in VALUES:
    yield base.sample(
      'eta', value, trained, sampler='stochastic', steps=STEPS, eta=value
    )
