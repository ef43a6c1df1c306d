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
  'seed': (0, 2**32 - 1, True),
  'fsdp': (1, math.inf, True),
  'data.batch_size': (1, math.inf, True),
  'data.crop': (16, math.inf, True),
  'data.min_scale': (0, 1, 'highest'),
  'data.cache_on_device': (0, math.inf, True),
  'autoencoder.latent_channels': (1, math.inf, True),
  'autoencoder.initial_gain': (0, math.inf, False),
  'level_balance': (-math.inf, math.inf, False),
  'score_net.patch': (1, math.inf, True),
  'score_net.condition_features': (1, math.inf, True),
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
# field -> (kind, lowest) of each of its values, of which there is one at least
_LISTS = {
  'autoencoder.widths': (int, 1),
  'autoencoder.depths': (int, 1),
  'autoencoder.lambdas': (float, 1e-9),
  'score_net.widths': (int, 1),
  'score_net.depths': (int, 1),
  'evaluation.qualities': (float, 1),
}
_STAGES = ('autoencoder', 'flow', 'diffusion', 'one_step')
_WORDS = {
  'stage': _STAGES,
  'dtype': ('float32', 'bfloat16'),
  'matmul_dtype': layers.MATMUL_DTYPES,
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
  for name, (kind, low) in _LISTS.items():
    values = _value(config, name)
    if values is None:
      continue
    if not len(values):
      raise ValueError(f'{name} is empty: at least one is expected.')
    kinds = (int, float) if kind is float else int
    if not all(isinstance(v, kinds) and low <= v < math.inf for v in values):
      raise ValueError(
        f'{name} must be {"whole " if kind is int else ""}numbers of {low:g} '
        f'or more, not {tuple(values)}.'
      )
  for name, words in _WORDS.items():
    value = _value(config, name)
    if value not in words and (value is not None or name == 'stage'):
      raise ValueError(
        f'{name} must be {" or ".join(map(repr, words))}, not {value!r}.'
      )
  if config.data.crop % 16:
    raise ValueError(
      f'data.crop {config.data.crop} must be a multiple of 16.'
    )
  net = config.get('score_net')
  if net and len(net.depths) != len(net.widths):
    raise ValueError(
      f'score_net.depths {net.depths} must be as many as score_net.widths '
      f'{net.widths}.'
    )
  if net and config.data.crop % (net.patch << len(net.widths) - 1):
    raise ValueError(
      f'score_net.patch {net.patch}, doubled for each of score_net.widths '
      f'after the first, must divide data.crop {config.data.crop}.'
    )
  sources.check_files(config.evaluation.source)


def _value(config, name):
  """A field's value; None where there is none."""
  section, _, field = name.rpartition('.')
  holder = config.get(section) if section else config
  return None if holder is None else holder.get(field)


def _range(low, high, ends) -> str:
  if math.isinf(low):
    return 'finite'
  lowest = f'{low} or more' if ends in (True, 'lowest') else f'above {low}'
  if math.isinf(high):
    return lowest
  highest = 'at most' if ends in (True, 'highest') else 'below'
  return f'{lowest}, {highest} {high}'
