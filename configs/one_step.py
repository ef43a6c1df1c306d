"""Stage 2: the one-step decoder, trained from the flow decoder.

  python -m gdc.main --config configs/one_step.py --workdir DIR

Variants (--config configs/one_step.py:NAME):
  default      trains the bundled one-step decoder further, or else the flow, on
               the bundled photographs
  accelerator  the same with large batches and larger weights of LPIPS and of
               local statistics, for several minutes on a GPU or TPU
  tiny         seconds on a CPU; for tests

`gdc decompress` uses it by default where the bundle has it.

To expect: 2,000 steps with periodic=0 and refine=0 on two CPU cores, from the
flow on the photographs of docs/model_card.md (28 minutes), gave in one step on
the bundled held-out photographs LPIPS 0.238 at 0.122 bpp (the autoencoder alone
0.266, the flow in four steps 0.243) and 0.104 at 0.420 bpp (0.125 and 0.114),
for 0.09 and 0.08 dB of PSNR.

`accelerator` has the settings of the GPU run behind `6e1d941a`, but statistics
is 40 throughout, and periodic has its present form and weight. That run took
12,169 steps in 622 seconds on one H200; 400 steps on two CPU cores followed. On
CID22's validation set the decoder's LPIPS is 27 and 33 % below the
autoencoder's at qualities 1 and 3, for 0.39 and 0.38 dB of PSNR
(docs/results.md); docs/log.md has the trials. The variant itself was only run
on a CPU, in small sizes.
"""
import ml_collections

from configs import base
from gdc.decoders import one_step


def get_config(variant: str = 'default'):
  """The config of a variant: default, accelerator or tiny."""
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
  if variant == 'accelerator':
    base.accelerator(
      c, batch_size=32, crop=160, learning_rate=6e-4, steps=8_000
    )
    c.one_step.perceptual = 10.0
    c.one_step.statistics = 40.0
    c.one_step.periodic = 10.0
    c.one_step.perceptual_dtype = 'bfloat16'
    c.one_step.window = 144
    c.one_step.low_quality_share = 2 / 3
  elif variant == 'tiny':
    base.tiny(c)
    c.one_step.window = 16
  elif variant != 'default':
    raise ValueError(
      f'variant must be default, accelerator or tiny, not {variant!r}.'
    )
  c.lock()
  return c
