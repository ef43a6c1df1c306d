"""A process, a network and a sampler put together: x_hat -> realistic image.

The state of a decoder is an array like the picture; what it means is the
process' own business. It is made by `begin`, taken on by `advance`, and read
by `finish`. Each acts on a part of a picture as on the whole, if the part has
enough of its surroundings: one `advance` looks `evaluations` times as far as
the network.
"""
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gdc.processes import diffusion, flow, noise, samplers, schedules

PROCESSES = ('flow', 'diffusion')
MAX_STEPS = 10_000
SAMPLERS = {'flow': ('euler', 'heun'), 'diffusion': ('ddpm', 'ddim')}


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

  def _log_snr(self, t):
    return schedules.cosine_log_snr(t, self.spec['noise_shift'])

  def _noise(self, i, like):
    """Noise of the start (i = -1) or of a step."""
    key = jax.random.fold_in(self.key, i + 1)
    return noise.normal(key, like.shape, self.origin, self.extent)

  def begin(self, x_hat: jax.Array) -> jax.Array:
    """The state before the first step.

    Args:
      x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.
    """
    drawn = self._noise(-1, x_hat)
    if self.process == 'flow':
      return flow.source(drawn, self.spec['source_noise'])
    return samplers.start_state(
      x_hat, drawn, self._log_snr, self.spec['sampling']['start']
    )

  def advance(self, z, x_hat, quality, i, steps) -> jax.Array:
    """The state after step i of `steps`; both may be traced.

    Args:
      z: [b, h, w, 3] the state.
      x_hat: [b, h, w, 3]; sides multiples of the network's stride.
      quality: [b].
    """
    sampling = self.spec['sampling']

    def predict(z, level):
      return self.predict(z, x_hat, level, quality)

    if self.process == 'flow':
      step = {'euler': samplers.euler_step, 'heun': samplers.heun_step}
      return step[sampling['sampler']](
        lambda r, t: flow.velocity(predict(r, t), r, t),
        z, i, steps, sampling['warp'],
      )
    if sampling['sampler'] == 'ddim':
      z, x = samplers.ddim_step(
        predict, z, i, steps, self._log_snr, sampling['start']
      )
    else:
      z, x = samplers.ddpm_step(
        predict, z, i, steps, self._log_snr, lambda i: self._noise(i, z),
        sampling['gamma'], sampling['start'],
      )
    return jnp.where(i == steps - 1, x, z)

  def finish(self, z, x_hat, rmse) -> jax.Array:
    """The picture that the state after the last step stands for.

    Args:
      z: [b, h, w, 3].
      x_hat: [b, h, w, 3].
      rmse: [b] the autoencoder's expected error, images in [-1, 1].

    Returns:
      [b, h, w, 3] in [-1, 1].
    """
    if self.process == 'flow':
      z = flow.from_residual(z, x_hat, rmse)
    return jnp.clip(z, -1, 1)


def evaluations(spec: dict) -> int:
  """How often one step evaluates the network, one after the other."""
  return 2 if spec['sampling']['sampler'] == 'heun' else 1


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
  z = jax.lax.fori_loop(
    0, steps,
    lambda i, z: decoder.advance(z, x_hat, quality, i, steps),
    decoder.begin(x_hat),
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


def validate(process: str, spec: dict):
  """Raises ValueError if a decoder's record asks for what does not exist."""
  if process not in PROCESSES:
    raise ValueError(f'process must be one of {PROCESSES}, not {process!r}.')
  sampler = spec['sampling']['sampler']
  if sampler not in SAMPLERS[process]:
    raise ValueError(
      f'sampler for {process} must be one of {SAMPLERS[process]}, not '
      f'{sampler!r}.'
    )
  if process == 'flow':
    limits = {'warp': (0.1, 10.0)}
  else:
    limits = {'gamma': (0.0, 1.0), 'start': (1e-3, 1.0)}
    if spec['loss_space'] not in diffusion.LOSS_SPACES:
      raise ValueError(
        f'loss_space must be one of {diffusion.LOSS_SPACES}, not '
        f'{spec["loss_space"]!r}.'
      )
  for name, (low, high) in {**limits, 'steps': (1, MAX_STEPS)}.items():
    if not low <= spec['sampling'][name] <= high:
      raise ValueError(
        f'sampling.{name} must be from {low:g} to {high:g}, not '
        f'{spec["sampling"][name]}.'
      )
