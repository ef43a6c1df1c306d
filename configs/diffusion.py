"""Stage 2: diffusion conditioned on the autoencoder's output.

  python -m gdc.main --config configs/diffusion.py --workdir DIR

Variants (--config configs/diffusion.py:NAME):
  default  trains the bundled diffusion decoder further, on the bundled
           photographs
  scratch  the network of configs/flow.py from random weights
  sweep    a short run from the bundled diffusion, for sweeps: seconds on a GPU
  paper    a large network on ImageNet crops, a TPU pod
  tiny     seconds on a CPU; for tests

To expect: on two CPU cores, 7,000 steps of the default's network from the flow,
on the photographs of docs/model_card.md (64 minutes), gave LPIPS 0.246 at 0.122
bpp (the autoencoder alone 0.266) and 0.121 at 0.420 bpp (0.125) on the bundled
held-out photographs, for 0.5 and 0.4 dB of PSNR. No results of `scratch` and
`paper` yet.
"""
from configs import base
from gdc.decoders import diffusion


def get_config(variant: str = 'default'):
  """The config of a variant; see the module's docstring."""
  c = base.get_config()
  base.score_decoder(c, diffusion.Diffusion)
  if variant == 'default':
    base.from_pretrained(c)
    c.diffusion.noise_shift = 0.1
    c.diffusion.prediction = 'flow'
    c.sampling.steps = 8
  elif variant == 'scratch':
    c.optimizer.learning_rate = 5e-4
    c.steps = 5_000
  elif variant == 'sweep':
    base.sweep(c, learning_rate=3e-4)
    c.diffusion.prediction = 'flow'
  elif variant == 'paper':
    base.paper_score_net(c)
  elif variant == 'tiny':
    base.tiny(c)
    c.sampling.steps = 2
  else:
    raise ValueError(
      'variant must be default, scratch, sweep, paper or tiny, not '
      f'{variant!r}.'
    )
  c.lock()
  return c
