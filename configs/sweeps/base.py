"""What the sweeps have in common. Not run by itself.

A sweep is a module of this folder: its docstring says what it asks and what is
claimed, AXIS is the field that it varies, `runs()` yields a Run per point. A
point either trains a network of its own, or only samples from one that a point
of another sweep has trained.

  python -m launch.sweep           prints the command of every point
  python -m tools.results draws docs/results.md from what they write

No jax here: launch scripts read this on machines without it.
"""
import dataclasses
from collections.abc import Mapping
from typing import Any

FLOW = 'configs/flow.py:small'
DIFFUSION = 'configs/diffusion.py:small'


@dataclasses.dataclass(frozen=True)
class Run:
  """One point of a sweep.

  Attributes:
    sweep: the module's name.
    value: where the point stands on the sweep's axis.
    config: of gdc.main, with its variant.
    fields: config field -> value, what this point sets; no two points of a
      sweep set the same.
    trained: the Run whose network this one samples from; None: it trains.
    series: the curve that the point is on, where a sweep has several.
  """

  sweep: str
  value: float
  config: str
  fields: Mapping[str, Any]
  trained: 'Run | None' = None
  series: str = ''

  @property
  def name(self) -> str:
    """Unique within the sweep, fit for a file: '0.5', 'flow-euler-4'."""
    return f'{self.series}-{self.value:g}'.removeprefix('-')

  @property
  def mode(self) -> str:
    """Of gdc.main."""
    return 'eval' if self.trained else 'train'

  @property
  def workdir(self) -> str:
    """Of the run that trains the network."""
    if self.trained:
      return self.trained.workdir
    return f'runs/sweeps/{self.sweep}_{self.name}'

  @property
  def out(self) -> str:
    """The results file."""
    return f'results/sweeps/{self.sweep}/{self.name}.json'

  @property
  def overrides(self) -> dict[str, Any]:
    """All fields to set: a network is restored as it was trained."""
    return {**(self.trained.overrides if self.trained else {}), **self.fields}


def sample(
  sweep: str, value: float, trained: Run, series: str = '', **sampling
) -> Run:
  """A point that samples from a trained network.

  Args:
    sweep: as in Run.
    value: as in Run.
    trained: as in Run.
    series: as in Run.
    **sampling: fields of config.sampling.
  """
  fields = {f'sampling.{name}': v for name, v in sampling.items()}
  return Run(sweep, value, trained.config, fields, trained, series)
