"""Stage 2: rectified flow from the autoencoder's output to the original.

  python -m gdc.main --config configs/flow.py --workdir DIR

Variants (--config configs/flow.py:NAME):
  default      trains the bundled flow decoder further, on the bundled
               photographs
  accelerator  the same with large batches, for minutes on a GPU or TPU
  scratch      the same network from random weights
  reflow       experimental: one round of reflow, on pairs that the flow itself
               gives
  sweep        a short run from the bundled flow, for sweeps: seconds on a GPU
  paper        a large network on ImageNet crops, a TPU pod
  tiny         seconds on a CPU; for tests

To expect: the default, on two CPU cores, in 4 minutes: on the bundled held-out
photographs at quality 1 (0.100 bpp) LPIPS 0.219, the autoencoder alone 0.240;
PSNR 26.18 and 26.47 dB (it ends where it began, or a little behind: these
photographs are few). `paper` has not been trained yet, `reflow` not measured.

`accelerator` has the settings of a script that made the flow `d40fdb77` from
`b9b4504c` in two runs of 30,654 steps in all, 267 seconds on one H200. On
CID22's validation set its LPIPS in four steps is 8 and 9 % below the
autoencoder's at qualities 1 and 3 (docs/results.md). The variant itself was
only run on a CPU, in small sizes.
"""
from configs import base
from gdc.decoders import flow


def get_config(variant: str = 'default'):
  """The config of a variant; see the module's docstring."""
  c = base.get_config()
  base.score_decoder(c, flow.Flow)
  if variant in ('default', 'reflow'):
    base.from_pretrained(c)
    if variant == 'reflow':
      c.flow.reflow_steps = 8
  elif variant == 'accelerator':
    base.accelerator(
      c, batch_size=96, crop=128, learning_rate=7e-4, steps=16_000
    )
  elif variant == 'sweep':
    base.sweep(c, learning_rate=5e-4)
  elif variant == 'scratch':
    c.optimizer.learning_rate = 5e-4
    c.steps = 5_000
  elif variant == 'paper':
    base.paper_score_net(c)
  elif variant == 'tiny':
    base.tiny(c)
  else:
    raise ValueError(
      'variant must be default, accelerator, scratch, reflow, sweep, paper or '
      f'tiny, not {variant!r}.'
    )
  c.lock()
  return c
