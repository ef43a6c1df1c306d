"""Stage 2: diffusion conditioned on the autoencoder's output.

  python -m gdc.main --config configs/diffusion.py --workdir DIR

Variants (--config configs/diffusion.py:NAME):
  default  goes on from the box's diffusion decoder, on the photographs in the
           box
  scratch  the network of configs/flow.py from random weights
  small    a small network from random weights, for sweeps
  paper    a large network on ImageNet crops, a TPU pod
  tiny     seconds on a CPU; for tests

To expect: on two CPU cores, 7,000 steps of the default's network and process
from the flow, on the photographs of docs/model_card.md (64 minutes), gave LPIPS
0.246 at 0.122 bpp (the autoencoder alone 0.266) and 0.121 at 0.420 bpp (0.125)
on the box's held-out photographs, for 0.5 and 0.4 dB of PSNR. No figure of
`scratch` and `paper` yet.
"""
import ml_collections

from configs import base


def get_config(variant: str = 'default'):
  """The config of a variant; see the module's docstring."""
  c = base.get_config()
  c.stage = 'diffusion'
  base.score_net(c)
  c.diffusion = ml_collections.ConfigDict()
  c.diffusion.schedule = 'cosine'  # cosine, linear (in log-SNR)
  # < 1 is less noise than the schedule, > 1 the text-to-image way.
  c.diffusion.noise_shift = 0.5
  c.diffusion.log_snr_bound = 15.0  # positive; before the shift
  # v, eps, x: what the network answers; residual: what the autoencoder's output
  # and the state, linearly, leave undone of x; flow: what that of a flow does.
  c.diffusion.prediction = 'residual'
  # For flow alone, positive: of the flow whose network it starts from.
  c.diffusion.source_noise = 0.5
  # v, eps, x: whose squared error counts; sigmoid: eps but for little noise.
  c.diffusion.loss_weighting = 'eps'
  c.sampling.sampler = 'ddpm'  # ddpm, ddim, dpmpp_2m
  c.sampling.steps = 32
  c.sampling.grid = 'log_snr'  # log_snr, time: what has equal steps
  c.sampling.gamma = 0.0  # in [0, 1]: noise injected by ddpm
  # 0.001 to 1; < 1 starts late, from x_hat with less noise
  c.sampling.start = 1.0
  if variant == 'default':
    base.from_the_box(c)
    c.diffusion.noise_shift = 0.1
    c.diffusion.prediction = 'flow'
    c.sampling.steps = 8
  elif variant == 'scratch':
    c.optimizer.learning_rate = 5e-4
    c.steps = 5_000
  elif variant == 'small':
    base.small(c)
  elif variant == 'paper':
    base.paper_score_net(c)
  elif variant == 'tiny':
    base.tiny(c)
    c.sampling.steps = 2
  else:
    raise ValueError(
      'variant must be default, scratch, small, paper or tiny, not '
      f'{variant!r}.'
    )
  c.lock()
  return c
