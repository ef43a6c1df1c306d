"""A process, a network and a sampler put together: x_hat -> realistic image."""
import jax
import jax.numpy as jnp

from gdc.processes import diffusion, flow, samplers, schedules

PROCESSES = ('flow', 'diffusion')


def sample(
  process: str,
  spec: dict,
  net,
  params,
  x_hat: jax.Array,
  quality: jax.Array,
  rmse: jax.Array,
  key: jax.Array,
  steps,
) -> jax.Array:
  """Decodes with a score decoder.

  Args:
    process: 'flow' or 'diffusion'.
    spec: the decoder's record in its bundle; its 'sampling' part names the
      sampler and its settings.
    net: models.score_net.ScoreNet.
    params: its parameters.
    x_hat: [b, h, w, 3] in [-1, 1]; sides multiples of net.stride.
    quality: [b].
    rmse: [b] the autoencoder's expected error, images in [-1, 1].
    key: typed key, the only randomness.
    steps: number of sampling steps, may be traced.

  Returns:
    [b, h, w, 3] in [-1, 1].
  """
  if process not in PROCESSES:
    raise ValueError(f'process must be one of {PROCESSES}, not {process!r}.')
  sampling = spec['sampling']
  noise_key, step_key = jax.random.split(key)
  noise = jax.random.normal(noise_key, x_hat.shape)

  def predict(z, level):
    return net.apply({'params': params}, z, x_hat, level, quality)

  if process == 'flow':
    integrate = {'euler': samplers.euler, 'heun': samplers.heun}
    residual = integrate[sampling['sampler']](
      lambda r, t: flow.velocity(predict(r, t), r, t),
      flow.source(noise, spec['source_noise']),
      steps,
      warp=sampling['warp'],
    )
    return jnp.clip(flow.from_residual(residual, x_hat, rmse), -1, 1)

  def log_snr_fn(t):
    return schedules.cosine_log_snr(t, spec['noise_shift'])

  def noise_fn(i):
    return jax.random.normal(jax.random.fold_in(step_key, i), x_hat.shape)

  start = sampling['start']
  z = samplers.start_state(x_hat, noise, log_snr_fn, start)
  if sampling['sampler'] == 'ddim':
    return samplers.ddim(predict, z, steps, log_snr_fn, start)
  gamma = sampling['gamma']
  return samplers.ddpm(
    predict, z, steps, log_snr_fn, noise_fn, gamma, start
  )


def validate(process: str, spec: dict):
  """Raises ValueError if a decoder's record asks for what does not exist."""
  if process not in PROCESSES:
    raise ValueError(f'process must be one of {PROCESSES}, not {process!r}.')
  known = {'flow': ('euler', 'heun'), 'diffusion': ('ddpm', 'ddim')}[process]
  sampler = spec['sampling']['sampler']
  if sampler not in known:
    raise ValueError(
      f'sampler for {process} must be one of {known}, not {sampler!r}.'
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
  for name, (low, high) in {**limits, 'steps': (1, 10_000)}.items():
    if not low <= spec['sampling'][name] <= high:
      raise ValueError(
        f'sampling.{name} must be from {low:g} to {high:g}, not '
        f'{spec["sampling"][name]}.'
      )
