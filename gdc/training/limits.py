"""Admissible values of a config's fields, whatever its stage.

Fields of a stage alone, and those that depend on the network or the devices,
are checked where they are used.
"""
import math

import ml_collections

from gdc.data import sources
from gdc.models import layers

# field -> (lowest, highest, whether these two are admissible)
_NUMBERS = {
  'fsdp': (1, math.inf, True),
  'data.batch_size': (1, math.inf, True),
  'data.crop': (16, math.inf, True),
  'data.min_scale': (0, 1, 'highest'),
  'data.resident': (0, math.inf, True),
  'flow.reflow_steps': (0, math.inf, True),
  'optimizer.learning_rate': (0, math.inf, False),
  'optimizer.warmup_steps': (0, math.inf, True),
  'optimizer.decay_fraction': (0, 1, True),
  'optimizer.b2': (0, 1, 'lowest'),
  'optimizer.clip': (0, math.inf, 'highest'),
  'optimizer.fast_factor': (0, math.inf, False),
  'optimizer.ema_decay': (0, 1, 'lowest'),
  'steps': (1, math.inf, True),
  'log_every': (1, math.inf, True),
  'image_every': (1, math.inf, True),
  'checkpoint_every': (1, math.inf, True),
  'checkpoints_kept': (1, math.inf, True),
  'evaluation.max_images': (0, math.inf, True),
}
_WORDS = {
  'dtype': ('float32', 'bfloat16'),
  'products': tuple(layers.PRODUCTS),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for a field out of range, and names it.

  A field that the config has not is left to its default.
  """
  for name, (low, high, ends) in _NUMBERS.items():
    value = _value(config, name)
    if value is None:
      continue
    above = value >= low if ends in (True, 'lowest') else value > low
    below = value <= high if ends in (True, 'highest') else value < high
    if not (above and below):
      raise ValueError(
        f'{name} must be {_range(low, high, ends)}, not {value}.'
      )
  for name, words in _WORDS.items():
    value = _value(config, name)
    if value is not None and value not in words:
      raise ValueError(
        f'{name} must be {" or ".join(map(repr, words))}, not {value!r}.'
      )
  if config.data.crop % 16:
    raise ValueError(
      f'data.crop {config.data.crop} must be a multiple of 16.'
    )
  if not config.evaluation.qualities:
    raise ValueError('evaluation.qualities is empty: at least one is expected.')
  sources.check_files(config.evaluation.source)


def _value(config, name):
  """A field's value; None where there is none."""
  section, _, field = name.rpartition('.')
  holder = config.get(section) if section else config
  return None if holder is None else holder.get(field)


def _range(low, high, ends) -> str:
  lowest = f'{low:g} or more' if ends in (True, 'lowest') else f'above {low:g}'
  if math.isinf(high):
    return lowest
  highest = 'at most' if ends in (True, 'highest') else 'below'
  return f'{lowest}, {highest} {high:g}'
