"""Stage 2: the flow decoder, made to give its picture in one step.

  python -m gdc.main --config configs/one_step.py --workdir DIR

Variants (--config configs/one_step.py:NAME):
  default  goes on from the box's one-step decoder, or else from its flow, on
           the photographs in the box
  tiny     seconds on a CPU; for tests

`gdc decompress` uses it by default where the bundle has it.

To expect: 2,000 steps with periodic=0 and refine=0 on two CPU cores, from the
flow on the photographs of docs/model_card.md (28 minutes), gave in one step on
the box's held-out photographs LPIPS 0.238 at 0.122 bpp (the autoencoder alone
0.266, the flow in four steps 0.243) and 0.104 at 0.420 bpp (0.125 and 0.114),
for 0.09 and 0.08 dB of PSNR. What the two add: docs/training.md, The next
weights.
"""
import ml_collections

from configs import base


def get_config(variant: str = 'default'):
  """The config of a variant: default or tiny."""
  c = base.get_config()
  c.stage = 'one_step'
  # The bundle with the frozen autoencoder and the flow: pretrained:NAME or a
  # bundle folder. The network is the flow's, with a refinement.
  c.autoencoder_from = 'pretrained:lean'
  c.one_step = ml_collections.ConfigDict()
  # Weights of the loss' parts, each relative to the autoencoder's own picture.
  c.one_step.distortion = 1.0  # of the squared error; 0 or more
  c.one_step.perceptual = 1.0  # of LPIPS on VGG16 features; 0: not loaded
  c.one_step.matching = 0.0  # of distribution matching; 0: no second network
  # Of what repeats with the period of the network's patches; 0 or more.
  c.one_step.periodic = 1.0
  # Channels of the network's branch at full resolution; 0: none, as the flow.
  c.one_step.refine = 16
  # Side of the window near the middle of a crop that LPIPS looks at, pixels.
  c.one_step.window = 64
  c.data.crop = 96
  base.from_the_box(c)
  c.steps = 200
  c.image_every = 100
  if variant == 'tiny':
    base.tiny(c)
    c.one_step.window = 16
  elif variant != 'default':
    raise ValueError(f'variant must be default or tiny, not {variant!r}.')
  c.lock()
  return c
