"""What all score decoders have in common: settings, records, sampling.

A decoder turns x_hat, the autoencoder's output, into a realistic image, by
evaluating a network several times. It is a frozen dataclass. Its fields are all
of its settings (`setting`), each with its default, admissible values and
meaning: bundles record them, configs offer them. Its methods are the
mathematics; the network is an argument. They act on a tile as on the whole
image, given enough of its surroundings: a step's receptive field is `nfe` times
the network's.
"""
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gdc.decoders import samplers

MAX_STEPS = 10_000
State = tuple[jax.Array, jax.Array]  # (z, memory), see samplers.py


def setting(
  default, help: str, *, kind: str = 'model', choices=(),
  low: float = -math.inf, high: float = math.inf, above: float | None = None,
) -> Any:
  """Returns a dataclass field for a setting of a decoder.

  Args:
    default: value in configs; its type is the setting's.
    help: meaning, one sentence.
    kind: 'model', needed to decode, recorded in bundles; 'sampling', the same,
      but may change without training; 'training', only for the loss.
    choices: admissible words.
    low: least admissible value.
    high: largest admissible value.
    above: exclusive lower bound.
  """
  return dataclasses.field(default=default, metadata={
    'help': help, 'kind': kind, 'choices': choices, 'low': low, 'high': high,
    'above': above,
  })


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A score decoder's settings and mathematics.

  Networks are functions (z [b, h, w, 3], level [b]) -> [b, h, w, 3], with x_hat
  and quality already given. `rmse` [b] is the autoencoder's expected error for
  images in [-1, 1]; `noise_fn` gives the noise of a step, and at -1 that of the
  start. Images are [b, h, w, 3] in [-1, 1], height and width multiples of the
  network's stride.

  A subclass has `entry`, `description`, SAMPLERS, `loss` (unless its stage has
  one) and

    _start(noise, x_hat)               z before the first step
    _grid(steps)                       the sampler's grid, see samplers.py
    _prediction(network, x_hat, rmse)  what the sampler calls

  Raises:
    ValueError: a setting that is out of range.
  """

  entry: ClassVar[str]  # its name: in bundles, configs and commands
  description: ClassVar[str]  # a noun phrase, for pages and help
  SAMPLERS: ClassVar[Mapping[str, samplers.Sampler]]

  sampler: str = setting('', 'Name of the sampler.', kind='sampling')
  steps: int = setting(
    4, 'Default number of steps.', kind='sampling', low=1, high=MAX_STEPS
  )
  warp: float = setting(
    1.0, 'Above 1: smaller steps toward the end.', kind='sampling', low=0.1,
    high=10.0,
  )
  low_quality_share: float = setting(
    0.5, 'Share of training images that are coded below the middle quality.',
    kind='training', low=0.0, high=1.0,
  )

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, limits = getattr(self, field.name), field.metadata
      if choices := self.choices(field):
        admitted = value in choices
      else:
        admitted = isinstance(value, int | float) and math.isfinite(value) and (
          limits['low'] <= value <= limits['high']
          and (limits['above'] is None or value > limits['above'])
        )
      if not admitted:
        raise ValueError(
          f'{self.full_name(field)} must be {self.admissible(field)}, not '
          f'{value!r}.'
        )

  # --- Settings ---------------------------------------------------------------

  @classmethod
  def settings(cls, *kinds: str) -> Iterator[dataclasses.Field]:
    """Yields the fields of settings of these kinds."""
    return (f for f in dataclasses.fields(cls) if f.metadata['kind'] in kinds)

  @classmethod
  def defaults(cls, *kinds: str) -> dict[str, Any]:
    """Returns the defaults of settings of these kinds, by name."""
    return {field.name: field.default for field in cls.settings(*kinds)}

  @classmethod
  def full_name(cls, field: dataclasses.Field) -> str:
    """Returns a setting's name in configs, such as 'flow.source_noise'."""
    sampling = field.metadata['kind'] == 'sampling'
    return f'{"sampling" if sampling else cls.entry}.{field.name}'

  @classmethod
  def choices(cls, field: dataclasses.Field) -> tuple[str, ...]:
    """Returns the admissible words of a setting, () for a number."""
    return tuple(
      cls.SAMPLERS if field.name == 'sampler' else field.metadata['choices']
    )

  @classmethod
  def admissible(cls, field: dataclasses.Field) -> str:
    """Returns a phrase for a setting's admissible values: 'from 0 to 1'."""
    if choices := cls.choices(field):
      return f'one of {", ".join(map(repr, choices))}'
    low, high, above = (field.metadata[k] for k in ('low', 'high', 'above'))
    if above is not None:
      return f'above {above:g}'
    if low == -math.inf:
      return 'finite'
    return f'{low:g} or more' if high == math.inf else (
      f'from {low:g} to {high:g}'
    )

  def record(self) -> dict[str, Any]:
    """Returns what a bundle records of the decoder, beside its network."""
    def values(kind):
      return {f.name: getattr(self, f.name) for f in self.settings(kind)}
    return {**values('model'), 'sampling': values('sampling')}

  @classmethod
  def from_record(cls, record: Mapping[str, Any]) -> tuple['Decoder', dict]:
    """Reads a decoder's record in a bundle.

    Sampling settings that are newer than the bundle keep their defaults.

    Returns:
      decoder: the decoder.
      network: the other fields, those of its network.

    Raises:
      ValueError: a setting that is missing or out of range.
    """
    network = dict(record)
    sampling = network.pop('sampling', {})
    names = {field.name for field in cls.settings('model')}
    missing = sorted(
      [name for name in names if name not in network]
      + [f'sampling.{n}' for n in ('sampler', 'steps') if n not in sampling]
    )
    if missing:
      raise ValueError(
        f'The record of {cls.entry} lacks {", ".join(missing)}.'
      )
    values = {name: network.pop(name) for name in names}
    sampling = {
      field.name: sampling[field.name] for field in cls.settings('sampling')
      if field.name in sampling
    }
    return cls(**values, **sampling), network

  def warm_starts(self) -> dict[str, dict[str, Any]]:
    """Returns the bundle entries usable for a warm start.

    They are in order of preference, each with required record fields.
    """
    return {self.entry: {}}

  # --- Sampling ---------------------------------------------------------------

  @property
  def nfe(self) -> int:
    """Number of function (network) evaluations per step."""
    return self.SAMPLERS[self.sampler].nfe

  @property
  def memory_channels(self) -> int:
    """Number of channels of the sampler's memory."""
    return 3 if self.SAMPLERS[self.sampler].memory else 0

  def begin(self, noise_fn: Callable, x_hat: jax.Array) -> State:
    """Returns the state before the first step."""
    z = self._start(noise_fn(-1), x_hat)
    return z, jnp.zeros((*z.shape[:-1], self.memory_channels), z.dtype)

  def step(
    self, network: Callable, state: State, x_hat: jax.Array, rmse: jax.Array,
    i, steps, noise_fn: Callable,
  ) -> State:
    """Returns the state after step i of `steps`; both may be traced."""
    settings = vars(self) | {
      'steps': steps, 'grid': self._grid(steps), 'noise_fn': noise_fn
    }
    return self.SAMPLERS[self.sampler].step(
      self._prediction(network, x_hat, rmse), state, i=i, **settings
    )

  def finish(
    self, state: State, x_hat: jax.Array, rmse: jax.Array
  ) -> jax.Array:
    """Returns the image that the state after the last step stands for."""
    del x_hat, rmse
    return jnp.clip(state[0], -1, 1)

  def loss(
    self, network: Callable, image: jax.Array, x_hat: jax.Array,
    rmse: jax.Array, u: jax.Array, noise: jax.Array,
  ) -> jax.Array:
    """Returns the training loss of each example, [b] float32.

    Args:
      network: see Decoder.
      image: the original.
      x_hat: the autoencoder's output.
      rmse: its expected error.
      u: [b] uniform in [0, 1), for the noise level.
      noise: standard normal, of the image's shape.
    """
    raise NotImplementedError


# --- Whole images -----------------------------------------------------------


def integrate(
  decoder: Decoder, network: Callable, x_hat: jax.Array, rmse: jax.Array,
  steps, noise_fn: Callable,
) -> State:
  """Returns the state after all steps; arguments as for Decoder.step."""
  return jax.lax.fori_loop(
    0, steps,
    lambda i, state: decoder.step(
      network, state, x_hat, rmse, i, steps, noise_fn
    ),
    decoder.begin(noise_fn, x_hat),
  )


def sample(
  decoder: Decoder, network: Callable, x_hat: jax.Array, rmse: jax.Array,
  steps, noise_fn: Callable,
) -> jax.Array:
  """Returns the decoded image; arguments as for Decoder.step."""
  state = integrate(decoder, network, x_hat, rmse, steps, noise_fn)
  return decoder.finish(state, x_hat, rmse)


def mix(x_hat: jax.Array, realistic: jax.Array, realism) -> jax.Array:
  """Interpolates between the ends of the distortion-perception plane.

  For square error, the best image at a given distance to the distribution of
  originals lies on the straight line from the conditional mean to a sample
  (Freirich et al. 2021, arXiv 2107.02555, theorem 3). x_hat stands in for the
  mean, the sampled image for the other end.

  Args:
    x_hat: [b, h, w, 3].
    realistic: [b, h, w, 3].
    realism: in [0, 1].
  """
  return x_hat + realism * (realistic - x_hat)
