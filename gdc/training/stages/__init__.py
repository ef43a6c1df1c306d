"""What each stage optimises: batch and key -> scalar loss and metrics.

Stage 1 trains the autoencoder, stage 2 a score decoder on images that the
frozen autoencoder has coded; frozen parameters are an argument of the loss.
"""
from gdc import decoders
from gdc.codec import bundle
from gdc.training.stages import autoencoder as autoencoder_stage
from gdc.training.stages import base, one_step, score

# config.stage -> build(config, bundle of the frozen autoencoder)
STAGE_2 = {
  **dict.fromkeys(decoders.DECODERS, score.build), 'one_step': one_step.build
}


def build(config, autoencoder: bundle.Bundle | None = None) -> base.Stage:
  """Returns the stage that a config asks for.

  Args:
    config: from configs/.
    autoencoder: the bundle with the frozen autoencoder, for stage 2.

  Raises:
    ValueError: an unknown stage, stage 2 without an autoencoder, or a field out
      of range.
  """
  if config.stage == 'autoencoder':
    return autoencoder_stage.build(config)
  if config.stage not in STAGE_2:
    raise ValueError(
      f'stage must be autoencoder, {", ".join(STAGE_2)}, not '
      f'{config.stage!r}.'
    )
  if autoencoder is None:
    raise ValueError(
      f'Stage {config.stage!r} needs a trained autoencoder: set '
      '--config.autoencoder_from.'
    )
  return STAGE_2[config.stage](config, autoencoder)
