"""Points of a sweep. Not run by itself.

A sweep is a module of this folder: its docstring states the question and the
published claim, AXIS names the field that it varies, and `runs()` yields a Run
per point. A point trains a network of its own, or samples from one that a point
of another sweep trains.

  python -m launch.sweep    prints the command of every point
  python -m tools.results   draws docs/results.md from their results

Imports no jax, so that launch scripts work without it.
"""
import dataclasses
from collections.abc import Mapping
from typing import Any

FLOW = 'configs/flow.py:sweep'
DIFFUSION = 'configs/diffusion.py:sweep'


@dataclasses.dataclass(frozen=True)
class Run:
  """One point of a sweep.

  Attributes:
    sweep: the module's name.
    value: position on the sweep's axis.
    config: for gdc.main, with its variant.
    fields: config fields that this point sets, different for every point.
    trained: the Run whose network this one samples from; None if it trains.
    series: the curve of the point, if the sweep has several.
  """

  sweep: str
  value: float
  config: str
  fields: Mapping[str, Any]
  trained: 'Run | None' = None
  series: str = ''

  @property
  def name(self) -> str:
    """File name, unique within the sweep: '0.5', 'flow-euler-4'."""
    return f'{self.series}-{self.value:g}'.removeprefix('-')

  @property
  def mode(self) -> str:
    """Mode of gdc.main."""
    return 'eval' if self.trained else 'train'

  @property
  def workdir(self) -> str:
    """Workdir of the run that trains the network."""
    if self.trained:
      return self.trained.workdir
    return f'runs/sweeps/{self.sweep}_{self.name}'

  @property
  def out(self) -> str:
    """Results file."""
    return f'results/sweeps/{self.sweep}/{self.name}.json'

  @property
  def overrides(self) -> dict[str, Any]:
    """All fields to set, including those that the network was trained with."""
    return {**(self.trained.overrides if self.trained else {}), **self.fields}


def sample(
  sweep: str, value: float, trained: Run, series: str = '', **sampling
) -> Run:
  """Returns a point that samples from a trained network.

  Args:
    sweep: as in Run.
    value: as in Run.
    trained: as in Run.
    series: as in Run.
    **sampling: fields of config.sampling.
  """
  fields = {f'sampling.{name}': v for name, v in sampling.items()}
  return Run(sweep, value, trained.config, fields, trained, series)
