"""Stage 2: rectified flow from the autoencoder's output to the original.

  python -m gdc.main --config configs/flow.py --workdir DIR

Variants (--config configs/flow.py:NAME):
  default  goes on from the box's flow decoder, on the photographs in the box
  scratch  the same network from random weights
  reflow   one round of reflow: goes on, on pairs that the flow itself gives
  small    a small network from random weights, for sweeps
  paper    a large network on ImageNet crops, a TPU pod
  tiny     seconds on a CPU; for tests

To expect: the default, on two CPU cores, in 4 minutes: on the box's held-out
photographs at quality 1 (0.122 bpp) LPIPS 0.246, the autoencoder alone 0.266;
PSNR 25.76 and 25.97 dB (it ends where it began, or a little behind: these
photographs are few). `paper` has not been trained yet, `reflow` not measured.
"""
import ml_collections

from configs import base


def get_config(variant: str = 'default'):
  """The config of a variant; see the module's docstring."""
  c = base.get_config()
  c.stage = 'flow'
  base.score_net(c)
  c.flow = ml_collections.ConfigDict()
  # Noise at the source, as a multiple of the autoencoder's RMSE at that
  # quality; 0 is the pure map.
  c.flow.source_noise = 0.5
  c.flow.time_sampling = 'uniform'  # uniform, logit_normal: times in training
  c.flow.time_mean = 0.0  # of the logit of t, for logit_normal
  c.flow.time_std = 1.0  # of the same, positive
  # > 0 trains on the pairs of a teacher, the flow in autoencoder_from, solved
  # in so many Euler steps (Liu et al. 2022, arXiv 2209.03003, section 2.2).
  c.flow.reflow_steps = 0
  c.sampling.sampler = 'euler'  # euler, midpoint, heun, stochastic
  c.sampling.eta = 0.0  # 0 to 100: noise injected by stochastic
  if variant in ('default', 'reflow'):
    base.from_the_box(c)
    if variant == 'reflow':
      c.flow.reflow_steps = 8
  elif variant == 'small':
    base.small(c)
  elif variant == 'scratch':
    c.optimizer.learning_rate = 5e-4
    c.steps = 5_000
  elif variant == 'paper':
    base.paper_score_net(c)
  elif variant == 'tiny':
    base.tiny(c)
  else:
    raise ValueError(
      'variant must be default, scratch, reflow, small, paper or tiny, not '
      f'{variant!r}.'
    )
  c.lock()
  return c
