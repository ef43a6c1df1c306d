"""How much noise should the flow inject while it samples?

eta = 0 follows the flow's ordinary differential equation. With eta > 0 noise is
injected and removed again by the drift, which preserves the marginal
distributions (Song et al. 2021, arXiv 2011.13456, section 4.3, for diffusion;
Albergo et al. 2023, arXiv 2303.08797, for flows). In theory nothing changes; in
practice noise can correct errors of earlier steps, at the cost of steps that
remove it. This is the flow's counterpart to the sweep of gamma.

Every point samples from one trained network in 16 steps: fewer steps would not
remove the noise that is injected last.
"""
from configs.sweeps import base, source_noise

AXIS = 'sampling.eta'
VALUES = (0.0, 0.25, 0.5, 1.0, 2.0)
STEPS = 16


def runs():
  """Yields a Run per value."""
  trained = source_noise.run(source_noise.SAMPLED)
  for value in VALUES:
    yield base.sample(
      'eta', value, trained, sampler='stochastic', steps=STEPS, eta=value
    )
