"""A process, a network and a sampler put together: x_hat -> realistic image.

The state of a decoder is an array like the picture; what it means is the
process' own business. It is made by `begin`, taken on by `advance`, and read
by `finish`. Each acts on a part of a picture as on the whole, if the part has
enough of its surroundings: one `advance` looks `evaluations` times as far as
the network.
"""
import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from gdc.decoders import diffusion, flow, noise, samplers, schedules

# A bundle's entries, and the process of each. `one_step` is a flow that was
# trained to end after its first step.
ENTRIES = {'flow': 'flow', 'diffusion': 'diffusion', 'one_step': 'flow'}
# What a diffusion's network may answer: see processes/diffusion.py; 'residual'
# is its `around`, 'flow' its `along_flow`.
PREDICTIONS = (*diffusion.PREDICTIONS, 'residual', 'flow')
MAX_STEPS = 10_000
# The default decoder is the first of these that a model has: the best LPIPS for
# the time that it takes (docs/performance.md).
_BY_DEFAULT = ('one_step', 'flow', 'diffusion', 'mse')
SAMPLERS = {
  'flow': ('euler', 'midpoint', 'heun', 'stochastic'),
  'diffusion': ('ddpm', 'ddim', 'dpmpp_2m'),
}
_TWICE = ('midpoint', 'heun')  # two evaluations a step
# What a record says of the process, beside the network and the sampling.
PROCESS_FIELDS = {
  'flow': ('source_noise',),
  'diffusion': (
    'schedule', 'noise_shift', 'log_snr_bound', 'prediction', 'source_noise',
  ),
}
_LIMITS = {
  'flow': {'warp': (0.1, 10.0), 'eta': (0.0, 100.0)},
  'diffusion': {
    'warp': (0.1, 10.0), 'gamma': (0.0, 1.0), 'start': (1e-3, 1.0)
  },
}


def default(names: Collection[str], steps: int | None = None) -> str:
  """Returns the decoder that is used where none is named.

  Args:
    names: decoders of the model, and 'mse'.
    steps: number of sampling steps asked for; more than one is not for the
      one-step decoder.
  """
  return next(
    name for name in _BY_DEFAULT
    if name in names and (name != 'one_step' or steps in (None, 1))
  )


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A score decoder on (a part of) a picture.

  Attributes:
    process: 'flow' or 'diffusion'.
    spec: the decoder's record in its bundle; its 'sampling' part names the
      sampler and its settings.
    predict: (z [b, h, w, 3], x_hat, level [b], quality [b]) -> [b, h, w, 3],
      the network.
    key: typed key, the only randomness.
    origin: (row, column) of the part's first pixel in the picture.
    extent: (height, width) of the part within the picture; None: all of it.
  """

  process: str
  spec: dict[str, Any]
  predict: Callable
  key: jax.Array
  origin: Any = (0, 0)
  extent: Any = None

  def _noise(self, i, like):
    """Noise of the start (i = -1) or of a step."""
    key = jax.random.fold_in(self.key, i + 1)
    shape = (*like.shape[:3], 3)
    return noise.normal(key, shape, self.origin, self.extent)

  def begin(self, x_hat: jax.Array) -> jax.Array:
    """The state before the first step.

    Args:
      x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.

    Returns:
      [b, h, w, state_channels(spec)].
    """
    drawn = self._noise(-1, x_hat)
    if self.process == 'flow':
      return flow.source(drawn, self.spec['source_noise'])
    start = self.spec['sampling']['start']
    z = samplers.start_state(
      x_hat, drawn, schedule(self.spec).log_snr(start)
    )
    more = state_channels(self.spec) - z.shape[-1]
    return jnp.pad(z, ((0, 0), (0, 0), (0, 0), (0, more)))

  def advance(self, z, x_hat, quality, rmse, i, steps) -> jax.Array:
    """The state after step i of `steps`; both may be traced.

    Args:
      z: [b, h, w, state_channels(spec)] the state.
      x_hat: [b, h, w, 3]; sides multiples of the network's stride.
      quality: [b].
      rmse: [b] the autoencoder's expected error, images in [-1, 1].
    """
    sampling = self.spec['sampling']
    name = sampling['sampler']
    noise_fn = functools.partial(self._noise, like=z)

    def output(z, level):
      return self.predict(z, x_hat, level, quality)

    if self.process == 'flow':
      more = {} if name != 'stochastic' else {
        'noise_fn': noise_fn, 'eta': sampling['eta'],
        'source_noise': self.spec['source_noise'],
      }
      return getattr(samplers, name)(
        lambda r, t: flow.velocity(output(r, t), r, t),
        z, i, steps, warp=sampling['warp'], **more,
      )

    predict = image_predictor(output, self.spec, x_hat, rmse)
    more = {} if name != 'ddpm' else {
      'noise_fn': noise_fn, 'gamma': sampling['gamma'],
    }
    levels = samplers.noise_levels(
      schedule(self.spec), steps, sampling['start'], sampling['warp'],
      sampling['grid'],
    )
    return getattr(samplers, name)(predict, z, i, steps, levels, **more)

  def finish(self, z, x_hat, rmse) -> jax.Array:
    """The picture that the state after the last step stands for.

    Args:
      z: [b, h, w, state_channels(spec)].
      x_hat: [b, h, w, 3].
      rmse: [b], as for advance.

    Returns:
      [b, h, w, 3] in [-1, 1].
    """
    z = z[..., :3]
    if self.process == 'flow':
      z = flow.from_residual(z, x_hat, rmse)
    return jnp.clip(z, -1, 1)


def image_predictor(output, spec: dict, x_hat, rmse) -> Callable:
  """What samplers of a diffusion ask: (z, log_snr [b]) -> x.

  Args:
    output: (state, level [b]) -> the network's answer. A state is z and a level
      a log-SNR, unless `prediction` says otherwise.
    spec: the diffusion's record; its `prediction` says what the answer is.
    x_hat: [b, h, w, 3] the autoencoder's output.
    rmse: [b] its expected error.
  """
  prediction = spec['prediction']
  if prediction == 'residual':
    return diffusion.around(output, x_hat, rmse)
  if prediction == 'flow':
    return diffusion.along_flow(output, x_hat, rmse, spec['source_noise'])
  return lambda z, log_snr: diffusion.image(
    output(z, log_snr), z, log_snr, prediction
  )


def schedule(spec: dict) -> schedules.Schedule:
  """The noise schedule of a diffusion's record."""
  return schedules.Schedule(
    spec['schedule'], spec['noise_shift'], spec['log_snr_bound']
  )


def evaluations(spec: dict) -> int:
  """How often one step evaluates the network, one after the other."""
  return 2 if spec['sampling']['sampler'] in _TWICE else 1


def state_channels(spec: dict) -> int:
  """Of a decoder's state: a picture's, or with the last prediction beside."""
  return 6 if spec['sampling']['sampler'] == 'dpmpp_2m' else 3


def sample(
  decoder: Decoder, x_hat: jax.Array, quality: jax.Array, rmse: jax.Array,
  steps,
) -> jax.Array:
  """Decodes a whole picture at once.

  Args:
    decoder: see there.
    x_hat: [b, h, w, 3] in [-1, 1]; sides multiples of the network's stride.
    quality: [b].
    rmse: [b].
    steps: number of sampling steps, may be traced.

  Returns:
    [b, h, w, 3] in [-1, 1].
  """
  z = samplers.loop(
    lambda z, i: decoder.advance(z, x_hat, quality, rmse, i, steps),
    decoder.begin(x_hat), steps,
  )
  return decoder.finish(z, x_hat, rmse)


def mix(x_hat, realistic, realism):
  """A point between the two ends of the distortion-perception plane.

  For square error, the best picture at a given distance to the distribution
  of originals lies on the straight line from the conditional mean to a sample
  (Freirich et al. 2021, arXiv 2107.02555, theorem 3). x_hat stands in for the
  mean here, the sampled picture for the other end.

  Args:
    x_hat: [b, h, w, 3].
    realistic: [b, h, w, 3].
    realism: in [0, 1].
  """
  return x_hat + realism * (realistic - x_hat)


def validate(entry: str, spec: dict):
  """Raises ValueError if a decoder's record asks for what does not exist."""
  if entry not in ENTRIES:
    raise ValueError(
      f'a decoder must be one of {tuple(ENTRIES)}, not {entry!r}.'
    )
  process, sampling = ENTRIES[entry], spec['sampling']
  fields = {'sampler', 'steps', *_LIMITS[process]}
  if process == 'diffusion':
    fields |= {'grid'}
  missing = [
    *(f for f in PROCESS_FIELDS[process] if f not in spec),
    *(f'sampling.{f}' for f in sorted(fields - sampling.keys())),
  ]
  if missing:
    raise ValueError(f'The record of {entry} lacks {", ".join(missing)}.')
  _one_of(f'sampler for {process}', sampling['sampler'], SAMPLERS[process])
  if process == 'diffusion':
    schedule(spec)
    _one_of('prediction', spec['prediction'], PREDICTIONS)
    _one_of('grid', sampling['grid'], samplers.SPACES)
    if spec['prediction'] == 'flow' and not spec['source_noise'] > 0:
      raise ValueError(
        f'source_noise must be positive for prediction flow, not '
        f'{spec["source_noise"]}.'
      )
  elif not spec['source_noise'] >= 0:
    raise ValueError(
      f'source_noise must not be negative: {spec["source_noise"]}.'
    )
  most = 1 if entry == 'one_step' else MAX_STEPS
  for name, (low, high) in {**_LIMITS[process], 'steps': (1, most)}.items():
    if not low <= sampling[name] <= high:
      raise ValueError(
        f'sampling.{name} must be from {low:g} to {high:g}, not '
        f'{sampling[name]}.'
      )


def _one_of(name, value, known):
  if value not in known:
    raise ValueError(f'{name} must be one of {known}, not {value!r}.')
