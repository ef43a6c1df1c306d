"""Admissible values of config fields, checked before anything is built.

The dataclasses in gdc/decoders/ check settings of score decoders. Fields that
depend on the networks or the devices are checked where they are used.
"""
import math

import ml_collections

from gdc.data import sources
from gdc.models import layers
from gdc.training import stages

# field -> interval, as mathematics writes it: ( and ) exclude the end.
_NUMBERS = {
  'seed': '[0, 4294967295]',
  'fsdp': '[1, inf]',
  'data.batch_size': '[1, inf]',
  'data.crop': '[16, inf]',
  'data.min_scale': '(0, 1]',
  'data.transpose': '[0, 1]',
  'data.cache_on_device': '[0, inf]',
  'contexts.max_crops': '[1, inf]',
  'contexts.crop': '[16, inf]',
  'autoencoder.latent_channels': '[1, inf]',
  'autoencoder.initial_gain': '(0, inf)',
  'level_balance': '(-inf, inf)',
  'score_net.patch': '[1, inf]',
  'score_net.condition_features': '[1, inf]',
  'optimizer.learning_rate': '(0, inf)',
  'optimizer.warmup_steps': '[0, inf]',
  'optimizer.decay_fraction': '[0, 1]',
  'optimizer.b2': '[0, 1)',
  'optimizer.clip': '(0, inf]',
  'optimizer.fast_factor': '(0, inf)',
  'optimizer.ema_decay': '[0, 1)',
  'steps': '[1, inf]',
  'log_every': '[1, inf]',
  'image_every': '[1, inf]',
  'checkpoint_every': '[1, inf]',
  'checkpoints_kept': '[1, inf]',
  'evaluation.max_images': '[0, inf]',
}
# field -> (type, lowest) of each of its values.
_LISTS = {
  'autoencoder.widths': (int, 1),
  'autoencoder.depths': (int, 1),
  'autoencoder.lambdas': (float, 1e-9),
  'score_net.widths': (int, 1),
  'score_net.depths': (int, 1),
  'evaluation.qualities': (float, 1),
}
_WORDS = {
  'stage': ('autoencoder', *stages.STAGE_2, 'contexts'),
  'dtype': ('float32', 'bfloat16'),
  'matmul_dtype': layers.MATMUL_DTYPES,
}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for the first field out of range.

  Each stage has sections of its own; fields of absent sections are not
  checked.
  """
  for name, interval in _NUMBERS.items():
    value = _value(config, name)
    if value is not None:
      _check_number(name, value, interval)
  for name, (kind, low) in _LISTS.items():
    values = _value(config, name)
    if values is not None:
      _check_list(name, values, kind, low)
  for name, words in _WORDS.items():
    value = _value(config, name)
    if value not in words and (value is not None or name == 'stage'):
      raise ValueError(f'{name} must be {admissible(name)}, not {value!r}.')

  sources.check_files(config.evaluation.source)
  if config.stage == 'contexts':
    return
  crop, side = config.data.crop, config.data.cache_on_device
  if crop % 16:
    raise ValueError(f'data.crop {crop} must be a multiple of 16.')
  if 0 < side < crop:
    raise ValueError(
      f'data.cache_on_device {side} must be 0, or data.crop {crop} or more.'
    )
  net = config.get('score_net')
  if net and len(net.depths) != len(net.widths):
    raise ValueError(
      f'score_net.depths {net.depths} must be as many as score_net.widths '
      f'{net.widths}.'
    )
  if net and crop % (net.patch << len(net.widths) - 1):
    raise ValueError(
      f'score_net.patch {net.patch}, doubled for each of score_net.widths '
      f'after the first, must divide data.crop {crop}.'
    )


def admissible(name: str) -> str:
  """Returns a phrase for a field's admissible values, '' without limits."""
  if words := _WORDS.get(name):
    return ' or '.join(map(repr, words))
  if name in _LISTS:
    kind, low = _LISTS[name]
    return f'{"whole " if kind is int else ""}numbers of {low:g} or more'
  if name not in _NUMBERS:
    return ''
  interval = _NUMBERS[name]
  low, high = map(float, interval[1:-1].split(','))
  ends = []
  if low > -math.inf:
    is_closed = interval[0] == '['
    ends.append(f'{low:.0f} or more' if is_closed else f'above {low:.0f}')
  if high < math.inf:
    ends.append(f'{"at most" if interval[-1] == "]" else "below"} {high:.0f}')
  return ', '.join(ends) or 'finite'


def _value(config, name: str):
  """A field's value, or None if there is no such section or field."""
  section, _, field = name.rpartition('.')
  holder = config.get(section) if section else config
  return None if holder is None else holder.get(field)


def _check_number(name: str, value, interval: str) -> None:
  low, high = map(float, interval[1:-1].split(','))
  above = value >= low if interval[0] == '[' else value > low
  below = value <= high if interval[-1] == ']' else value < high
  if not (above and below):
    raise ValueError(f'{name} must be {admissible(name)}, not {value}.')


def _check_list(name: str, values, kind: type, low: float) -> None:
  if not len(values):
    raise ValueError(f'{name} is empty: at least one is expected.')
  kinds = (int, float) if kind is float else int
  if not all(isinstance(v, kinds) and low <= v < math.inf for v in values):
    raise ValueError(
      f'{name} must be {admissible(name)}, not {tuple(values)}.'
    )
