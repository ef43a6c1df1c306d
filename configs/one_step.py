"""Stage 2: the one-step decoder, trained from the flow decoder.

  python -m gdc.main --config configs/one_step.py --workdir DIR

Variants (--config configs/one_step.py:NAME):
  default  trains the bundled one-step decoder further, or else the flow, on the
           bundled photographs
  tiny     seconds on a CPU; for tests

`gdc decompress` uses it by default where the bundle has it.

To expect: 2,000 steps with periodic=0 and refine=0 on two CPU cores, from the
flow on the photographs of docs/model_card.md (28 minutes), gave in one step on
the bundled held-out photographs LPIPS 0.238 at 0.122 bpp (the autoencoder alone
0.266, the flow in four steps 0.243) and 0.104 at 0.420 bpp (0.125 and 0.114),
for 0.09 and 0.08 dB of PSNR. docs/log.md tells what the two add.
"""
import ml_collections

from configs import base
from gdc.decoders import one_step


def get_config(variant: str = 'default'):
  """The config of a variant: default or tiny."""
  c = base.get_config()
  c.stage = 'one_step'
  # The bundle with the frozen autoencoder and the flow: pretrained:NAME or a
  # bundle folder. The network is the flow's, with a refinement.
  c.autoencoder_from = 'pretrained:lean'
  c.one_step = ml_collections.ConfigDict(
    one_step.OneStep.defaults('training')
  )
  c.data.crop = 96
  base.from_pretrained(c)
  c.steps = 200
  c.image_every = 100
  if variant == 'tiny':
    base.tiny(c)
    c.one_step.window = 16
  elif variant != 'default':
    raise ValueError(f'variant must be default or tiny, not {variant!r}.')
  c.lock()
  return c
