"""Fits the coder's contexts to the autoencoder of a bundle, without training.

  python -m gdc.main --config configs/contexts.py --workdir DIR

Variants (--config configs/contexts.py:NAME):
  default  on the bundled photographs
  tiny     seconds on a CPU; for tests

DIR/bundle becomes the bundle of autoencoder_from with these contexts; its score
decoders are kept. Decoded images stay the same, and files become smaller. Files
of the bundle as it was need it as it was.

configs/autoencoder.py fits contexts at its end, on its own data. This one is
for a bundle without contexts, or for other photographs.

To expect, on two CPU cores: on the 38 bundled crops, in two minutes of CPU
time, 17 % fewer bits at quality 1 and 24 to 26 % from quality 3 on; on 300
crops of the photographs of docs/model_card.md, in three and a half, 21 % and 25
to 27 %. The bundled contexts are of 800 crops: ten minutes of CPU time, 4 GB of
memory; 20 % and 26 to 27 % on CID22, and 35 to 43 % on larger, smoother images.
"""
import ml_collections

from configs import base


def get_config(variant: str = 'default'):
  """The config of a variant: default or tiny."""
  shared = base.get_config()
  c = ml_collections.ConfigDict()
  c.stage = 'contexts'
  c.seed = 0  # of the choice of crops
  # The bundle to fit contexts to: pretrained:NAME, a bundle folder, or
  # workdir:PATH, the newest checkpoint of a stage-1 run.
  c.autoencoder_from = 'pretrained:lean'
  c.data = ml_collections.ConfigDict()
  c.data.source = shared.data.source  # as for training
  c.data.data_dir = shared.data.data_dir  # as for training
  base.contexts(c)
  c.evaluation = shared.evaluation  # as for training
  if variant == 'tiny':
    c.contexts.max_crops = 2
    c.contexts.crop = 64
    c.evaluation.max_images = 1
    c.evaluation.qualities = (3.0,)
  elif variant != 'default':
    raise ValueError(f'variant must be default or tiny, not {variant!r}.')
  c.lock()
  return c
