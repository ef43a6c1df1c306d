"""The one-step decoder: a flow whose first step is its last.

The network of the flow decoder, started from its weights, is asked once, at
t = 0, and its answer is the residual of the picture: r_1 = velocity + r_0 (see
processes/flow.py). It is trained for what one step can give, all in units of
what the autoencoder leaves undone, so that every quality weighs alike:

  distortion  |r_1 - r|^2, r the true residual: 1 is the autoencoder's error;
  perceptual  LPIPS of the picture, 1 being about that of the autoencoder's (see
              LPIPS_OF_RMSE). On VGG16 features: AlexNet's are kept for
              evaluation;
  matching    distribution matching (Yin et al. 2024, arXiv 2311.18828,
              sections 3.2 and 3.3): r_1, noised along the flow's path, is moved
              from where a second network, trained on such r_1, expects it to
              where the frozen flow, trained on photographs, does;
  periodic    energy of the part of r_1 - r that repeats with the period of the
              network's patches, see `periodic`; about 1 for the autoencoder's
              own error. LPIPS alone leaves such a pattern.
"""
import jax
import jax.numpy as jnp
from flax import traverse_util

from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import flow
from gdc.metrics import lpips
from gdc.training.stages import base as stage_lib
from gdc.training.stages import frozen_autoencoder

# LPIPS (VGG16) of an autoencoder's output over its RMSE, images in [-1, 1]: 3.0
# to 3.4 at all six levels of the `lean` b6fa0069, on 96 crops of 64 pixels. To
# measure it for every crop would be a fourth pass of VGG16 beside three.
LPIPS_OF_RMSE = 3.3


def build(config, autoencoder: bundle.Bundle) -> stage_lib.Stage:
  """The stage; `autoencoder` must hold the flow that it starts from.

  Raises:
    ValueError: there is no flow, or a weight or window is out of range.
  """
  if 'flow' not in autoencoder.decoders:
    raise ValueError(
      f'A one-step decoder is made from a flow: bundle {autoencoder.name!r} '
      f'has {", ".join(autoencoder.decoders) or "no score decoder"}.'
    )
  dials = config.one_step
  for name in ('distortion', 'perceptual', 'matching', 'periodic', 'refine'):
    if not dials[name] >= 0:
      raise ValueError(
        f'one_step.{name} must not be negative: {dials[name]}.'
      )
  smallest = lpips.NETWORKS['vgg'][1]
  if not smallest <= dials.window <= config.data.crop:
    raise ValueError(
      f'one_step.window must be from {smallest} to data.crop '
      f'{config.data.crop}, not {dials.window}.'
    )
  dtype = jnp.dtype(config.dtype)
  coder = frozen_autoencoder.FirstStage(autoencoder, dtype)
  flow_spec, teacher = autoencoder.decoders['flow']
  spec = {
    **flow_spec,
    'refine': dials.refine,
    'sampling': {**flow_spec['sampling'], 'sampler': 'euler', 'steps': 1},
  }
  net = bundle.build_score_net(spec, dtype=dtype)
  frozen = {'autoencoder': autoencoder.autoencoder_params}
  if dials.perceptual:
    frozen['vgg'] = lpips.weights('vgg')
  if dials.matching:
    frozen['teacher'] = teacher

  def init(key, batch):
    fresh = frozen_autoencoder.init(net, key, batch)
    return start({'decoder': fresh}, fresh)

  def start(params, exported):
    """From exported weights, the flow's or one's own; `fake` from the flow's.

    The latter is asked all along the path, of which a one-step decoder knows
    the start alone. A flow has no refinement: that one starts fresh.
    """
    started = {'decoder': _completed(params['decoder'], exported)}
    if dials.matching:
      # Buffers of its own: the state is donated to the step.
      started['fake'] = jax.tree.map(lambda a: a + 0, teacher)
    return started

  def end(params, r, x_hat, t, quality):
    output = net.apply({'params': params}, r, x_hat, t, quality)
    return flow.end(output, r, t)

  def loss(params, frozen, batch, key):
    image = transforms.to_float(batch['image'])
    quality_key, noise_key, window_key, time_key, path_key = jax.random.split(
      key, 5
    )
    batch_size = image.shape[0]
    quality = stage_lib.sample_quality(
      quality_key, batch_size, coder.num_levels
    )
    x_hat = coder.output(frozen['autoencoder'], image, quality)
    rmse = coder.rmse(frozen['autoencoder'], quality)
    target = flow.to_residual(image, x_hat, rmse)
    r_0 = flow.source(
      jax.random.normal(noise_key, image.shape), spec['source_noise']
    )
    zeros = jnp.zeros(batch_size)
    r_1 = end(params['decoder'], r_0, x_hat, zeros, quality)
    metrics = {'distortion': jnp.mean((r_1 - target) ** 2)}
    total = dials.distortion * metrics['distortion']
    if dials.perceptual:
      picture = flow.from_residual(r_1, x_hat, rmse)
      distance = lpips.distance(
        frozen['vgg'],
        *_windows(window_key, (image, picture), dials.window), 'vgg',
      )
      metrics['perceptual'] = jnp.mean(distance / (LPIPS_OF_RMSE * rmse))
      total += dials.perceptual * metrics['perceptual']
    if dials.periodic:
      metrics['periodic'] = periodic(r_1 - target, spec['patch'])
      total += dials.periodic * metrics['periodic']
    if dials.matching:
      fake_params = jax.lax.stop_gradient(params['fake'])
      # Up to where `velocity` stops to divide by what is left.
      t = (1 - flow.MIN_TIME_LEFT) * stage_lib.stratified(
        time_key, batch_size
      )
      noised = flow.interpolate(
        flow.source(
          jax.random.normal(path_key, image.shape), spec['source_noise']
        ),
        jax.lax.stop_gradient(r_1), t,
      )
      real = end(frozen['teacher'], noised, x_hat, t, quality)
      fake = end(fake_params, noised, x_hat, t, quality)
      metrics['matching'] = _matching(r_1, real, fake)
      total += dials.matching * metrics['matching']
      # The second network follows the decoder; the latter gets no gradient from
      # this, but the two share an optimiser, and its clip sees both.
      seen = end(params['fake'], noised, x_hat, t, quality)
      metrics['fake'] = jnp.mean((seen - jax.lax.stop_gradient(r_1)) ** 2)
      total += metrics['fake']
    metrics['loss'] = total
    return total, metrics

  def pictures(params, frozen, images):
    return coder.pictures(
      'one_step', spec, net, params['decoder'], frozen['autoencoder'], images
    )

  return stage_lib.Stage(
    'one_step', spec, init, loss, frozen, coder.num_levels, autoencoder,
    pictures, origins={'one_step': {}, 'flow': {}}, start=start,
    exported=lambda params: params['decoder'],
  )


def periodic(error, period: int) -> jax.Array:
  """Energy of the part of an error that repeats with a period.

  Within windows of eight periods, it is the mean at each phase less the mean of
  all. Like the square error it is least at the conditional mean, but it acts on
  these few frequencies alone.

  Args:
    error: [b, h, w, c]; rows and columns beyond whole windows are left out.
    period: in pixels, along both axes.

  Returns:
    A scalar: 1 - 1 / period^2 for white noise of unit variance.
  """
  count = min(8, min(error.shape[1:3]) // period)
  side = count * period
  b, h, w, c = error.shape
  rows, columns = h // side, w // side
  phases = jnp.mean(
    error[:, :rows * side, :columns * side].reshape(
      b, rows, count, period, columns, count, period, c
    ), axis=(2, 5),
  )
  phases -= jnp.mean(phases, axis=(2, 4), keepdims=True)
  return count**2 * jnp.mean(phases**2)


def _completed(fresh, exported):
  """Exported parameters, with fresh ones where they have none."""
  fresh, exported = map(traverse_util.flatten_dict, (fresh, exported))
  if unknown := sorted(set(exported) - set(fresh)):
    raise ValueError(
      'The decoder to start from has parameters that this config does not '
      f'describe, such as {"/".join(unknown[0])}: set one_step.refine as it '
      'was trained.'
    )
  return traverse_util.unflatten_dict({**fresh, **exported})


def _windows(key, pictures, side: int):
  """The same window, [b, side, side, 3], near the middle of each batch.

  VGG16 costs far more than the decoder, and at a crop's edge the decoder sees
  less than it will. VGG16 halves its maps four times: a window that always
  began at a multiple of 16 would leave patterns on that grid unseen.
  """
  middle = (pictures[0].shape[1] - side) // 2
  most = min(middle, 8)
  top, left = middle + jax.random.randint(key, (2,), -most, most)
  return [
    jax.lax.dynamic_slice(
      a, (0, top, left, 0), (len(a), side, side, a.shape[-1])
    )
    for a in pictures
  ]


def _matching(r_1, real, fake):
  """A scalar whose gradient in r_1 moves it from `fake` toward `real`.

  Divided, per example, by how far r_1 is from what the flow expects of it
  (arXiv 2311.18828, eq. 8).
  """
  fixed = jax.lax.stop_gradient
  axes = tuple(range(1, r_1.ndim))
  scale = jnp.mean(jnp.abs(r_1 - real), axis=axes, keepdims=True)
  direction = fixed((fake - real) / jnp.maximum(scale, 1e-3))
  return 0.5 * jnp.mean((r_1 - fixed(r_1 - direction)) ** 2)
