"""Stage 1: the autoencoder and its entropy model, for rate and MSE.

  python -m gdc.main --config configs/autoencoder.py --workdir DIR

Variants (--config configs/autoencoder.py:NAME):
  default      `lean` on the bundled photographs, one machine
  accelerator  the bundled autoencoder trained further, for minutes on a GPU or
               TPU
  paper        `elic` on ImageNet crops, a TPU pod
  tiny         seconds on a CPU; for tests

To expect: on two CPU cores, with levels from lambda 0.0018 to 0.0483 and no
predicted channels, 3,000 steps on the 783 photographs of docs/model_card.md
gave 28.3 dB at 0.24 bpp and 34.5 dB at 0.93 bpp on the CID22 validation set (40
minutes), and 5,000 more 28.5 at 0.21 and 34.8 at 0.85; with the levels and
channels below, 14,500 more gave 29.4 at 0.21 and 35.9 at 0.92 (2 h 10 min). The
bundled 38 crops alone give less. `paper` has not been trained yet.

`accelerator` has the settings of a script that made the autoencoder `04383d88`
from `d2ff330e` in 18,303 steps, 197 seconds on one H200, 10,720 of them with
bfloat16 layers. On eleven CID22 images it needs 10.3 % fewer bits at equal
PSNR, both without contexts. The variant itself was only run on a CPU, in small
sizes.
"""
from configs import base


def get_config(variant: str = 'default'):
  """The config of a variant: default, accelerator, paper or tiny."""
  c = base.get_config()
  c.stage = 'autoencoder'
  base.autoencoder(c)
  base.contexts(c)  # fitted at the end
  # Level weights lambda^-level_balance: 0 lets the highest rates lead, 1
  # weighs every level's error alike.
  c.level_balance = 0.5
  c.optimizer.learning_rate = 1e-3
  c.steps = 2_000
  if variant == 'accelerator':
    base.accelerator(
      c, batch_size=32, crop=256, learning_rate=1e-3, steps=18_000
    )
    # bfloat16 next to pixels and latents costs PSNR at high rates.
    c.dtype, c.matmul_dtype = 'float32', 'bfloat16'
  elif variant == 'paper':
    base.paper_data(c)
    c.autoencoder.transforms = 'elic'
    c.autoencoder.widths = (256, 256, 256)
    c.autoencoder.latent_channels = 320
    c.autoencoder.initial_gain = 1.0
    c.autoencoder.predicted_channels = ()
    c.optimizer.fast_factor = 1.0
    c.steps = 2_000_000
  elif variant == 'tiny':
    base.tiny(c)
  elif variant != 'default':
    raise ValueError(
      'variant must be default, accelerator, paper or tiny, not '
      f'{variant!r}.'
    )
  c.lock()
  return c
