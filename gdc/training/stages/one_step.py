"""Trains the one-step decoder (decoders/one_step.py) from the flow's weights.

The network is evaluated once, at t = 0; its answer gives the residual of the
image, r_1 = velocity + r_0 (decoders/flow.py). The loss is a weighted sum, each
part in units of the autoencoder's own error, so that qualities weigh alike:

  distortion  |r_1 - r|^2, r the true residual: 1 is the autoencoder's error;
  perceptual  LPIPS of the image, about 1 for the autoencoder's output (see
              LPIPS_OF_RMSE). On VGG16 features: AlexNet's are kept for
              evaluation;
  statistics  distance of local statistics of the same features
              (lpips.with_statistics), about 1 for the autoencoder's output: the
              squared error, and less so LPIPS, penalise misplaced texture more
              than missing texture, this does not;
  periodic    how much of r_1 - r repeats with the period of the network's
              patches, and of its coarsest positions, see `periodic`; together
              about 2 for noise. LPIPS alone leaves such patterns;
  matching    experimental: distribution matching (Yin et al. 2024, arXiv
              2311.18828, sections 3.2 and 3.3): r_1, noised along the flow's
              path, is moved from where a second network, trained on such r_1,
              expects it to where the frozen flow, trained on photographs, does.
"""
import jax
import jax.numpy as jnp
from flax import traverse_util

from gdc import decoders
from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import flow
from gdc.decoders import one_step as one_step_decoder
from gdc.metrics import lpips
from gdc.models import receptive_field, score_net
from gdc.training.stages import base, frozen_autoencoder

# LPIPS (VGG16) of an autoencoder's output over its RMSE, images in [-1, 1]: 3.0
# to 3.4 at all levels of `lean`, on 96 crops of 64 pixels. Measuring it for
# every crop would be a fourth pass of VGG16 beside three.
LPIPS_OF_RMSE = 3.3
# The same of the distance of statistics: 1.9 to 2.1 at levels 1 to 5 and 1.5 at
# the last, on eight crops of 256 pixels.
STATISTICS_OF_RMSE = 2.0
# Least energy that `periodic` divides by; the autoencoder's mean squared error
# is about 1.
MIN_ENERGY = 1e-2


def build(config, autoencoder: bundle.Bundle) -> base.Stage:
  """Returns the stage; `autoencoder` must hold the flow that it starts from.

  Raises:
    ValueError: there is no flow, or a weight or window is out of range.
  """
  if 'flow' not in autoencoder.decoders:
    raise ValueError(
      f'A one-step decoder is made from a flow: bundle {autoencoder.name!r} '
      f'has {", ".join(autoencoder.decoders) or "no score decoder"}.'
    )
  record, teacher = autoencoder.decoders['flow']
  from_flow, fields = decoders.from_record('flow', record)
  decoder = one_step_decoder.OneStep(
    **config.one_step.to_dict(), source_noise=from_flow.source_noise,
    warp=from_flow.warp, eta=from_flow.eta,
  )
  smallest = (
    lpips.WINDOW if decoder.statistics else lpips.NETWORKS['vgg'].smallest
  )
  if not smallest <= decoder.window <= config.data.crop:
    raise ValueError(
      f'one_step.window must be from {smallest} to data.crop '
      f'{config.data.crop}, not {decoder.window}.'
    )
  stride = receptive_field.score_stride(fields)
  if decoder.periodic and config.data.crop < 2 * stride:
    raise ValueError(
      f'one_step.periodic needs data.crop {2 * stride} or more, not '
      f'{config.data.crop}.'
    )
  dtypes = {
    'dtype': jnp.dtype(config.dtype), 'matmul_dtype': config.matmul_dtype
  }
  coder = frozen_autoencoder.FrozenAutoencoder(autoencoder, **dtypes)
  flow_net = score_net.ScoreNet(**fields, **dtypes)
  fields = {**fields, 'refine': decoder.refine}
  net = score_net.ScoreNet(**fields, **dtypes)
  periods = (net.patch, stride)
  frozen = {'autoencoder': autoencoder.autoencoder_params}
  if decoder.perceptual or decoder.statistics:
    frozen['vgg'] = lpips.weights('vgg')
  if decoder.matching:
    frozen['teacher'] = teacher

  def init(key, batch):
    fresh = frozen_autoencoder.init(net, key, batch)
    return start({'decoder': fresh}, fresh)

  def start(params, exported):
    """Starts from exported weights, the flow's or a one-step decoder's.

    A flow has no refinement: that starts fresh. `fake` starts from the flow's
    weights: it is evaluated all along the path, of which a one-step decoder
    knows only the start.
    """
    started = {'decoder': _completed(params['decoder'], exported)}
    if decoder.matching:
      # Buffers of its own: the state is donated to the step.
      started['fake'] = jax.tree.map(lambda a: a + 0, teacher)
    return started

  def end(net, params, r, x_hat, t, quality):
    output = net.apply({'params': params}, r, x_hat, t, quality)
    return flow.end(output, r, t)

  def loss(params, frozen, batch, key):
    image = transforms.to_float(batch['image'])
    quality_key, noise_key, window_key, time_key, path_key = jax.random.split(
      key, 5
    )
    batch_size = image.shape[0]
    quality = base.sample_quality(
      quality_key, batch_size, coder.num_levels, decoder.low_quality_share
    )
    x_hat = coder.output(frozen['autoencoder'], image, quality)
    rmse = coder.rmse(frozen['autoencoder'], quality)
    target = flow.to_residual(image, x_hat, rmse)
    r_0 = decoder.source_noise * jax.random.normal(noise_key, image.shape)
    r_1 = end(
      net, params['decoder'], r_0, x_hat, jnp.zeros(batch_size), quality
    )
    metrics = {'distortion': jnp.mean((r_1 - target) ** 2)}
    total = decoder.distortion * metrics['distortion']
    if decoder.perceptual or decoder.statistics:
      decoded = flow.from_residual(r_1, x_hat, rmse)
      windows = _windows(window_key, (image, decoded), decoder.window)
      if decoder.statistics:
        distance, statistics = lpips.with_statistics(
          frozen['vgg'], *windows, decoder.perceptual_dtype
        )
        metrics['statistics'] = jnp.mean(
          statistics / (STATISTICS_OF_RMSE * rmse)
        )
        total += decoder.statistics * metrics['statistics']
      else:
        distance = lpips.distance(
          frozen['vgg'], *windows, 'vgg', decoder.perceptual_dtype
        )
      metrics['perceptual'] = jnp.mean(distance / (LPIPS_OF_RMSE * rmse))
      total += decoder.perceptual * metrics['perceptual']
    if decoder.periodic:
      metrics['periodic'] = sum(
        periodic(r_1 - target, period) for period in periods
      )
      total += decoder.periodic * metrics['periodic']
    if decoder.matching:
      fake_params = jax.lax.stop_gradient(params['fake'])
      # Up to where `velocity` bounds its division.
      t = (1 - flow.MIN_TIME_LEFT) * base.stratified(time_key, batch_size)
      noise = jax.random.normal(path_key, image.shape)
      noised = flow.interpolate(
        decoder.source_noise * noise, jax.lax.stop_gradient(r_1), t
      )
      real = end(flow_net, frozen['teacher'], noised, x_hat, t, quality)
      fake = end(flow_net, fake_params, noised, x_hat, t, quality)
      metrics['matching'] = _matching(r_1, real, fake)
      total += decoder.matching * metrics['matching']
      # The second network follows the decoder, which gets no gradient from
      # this; but the two share an optimiser, and its clipping.
      seen = end(flow_net, params['fake'], noised, x_hat, t, quality)
      metrics['fake'] = jnp.mean((seen - jax.lax.stop_gradient(r_1)) ** 2)
      total += metrics['fake']
    metrics['loss'] = total
    return total, metrics

  def visualise(params, frozen, images):
    return coder.visualise(
      decoder, net, params['decoder'], frozen['autoencoder'], images
    )

  return base.Stage(
    'one_step', {**fields, **decoder.record()}, init, loss, frozen,
    coder.num_levels, autoencoder, visualise,
    warm_starts=decoder.warm_starts(), teachers=('flow',), start=start,
    exported=lambda params: params['decoder'],
  )


def periodic(error, period: int) -> jax.Array:
  """Returns how much of an error repeats with a period.

  The part that repeats is, within a window, the mean at each phase less the
  mean of all. Its energy counts relative to that of the window's whole error: a
  pattern on a dark sky is seen, however small it is. Windows have eight periods
  a side, or as many as fit, n.

  Args:
    error: [b, h, w, c]; rows and columns beyond whole windows are left out.
    period: in pixels, along both axes.

  Returns:
    A scalar: 1 - 1 / period^2 for white noise, n^2 for an error that is a
    pattern alone. The denominator gets no gradient.
  """
  count = min(8, min(error.shape[1:3]) // period)
  side = count * period
  b, h, w, c = error.shape
  rows, columns = h // side, w // side
  windows = error[:, :rows * side, :columns * side].reshape(
    b, rows, count, period, columns, count, period, c
  )
  phases = jnp.mean(windows, axis=(2, 5), keepdims=True)
  phases -= jnp.mean(phases, axis=(3, 6), keepdims=True)
  axes = (2, 3, 5, 6, 7)
  whole = jax.lax.stop_gradient(jnp.mean(windows**2, axis=axes))
  share = jnp.mean(phases**2, axis=axes) / jnp.maximum(whole, MIN_ENERGY)
  return count**2 * jnp.mean(share)


def _completed(fresh, exported):
  """Returns exported parameters, with fresh ones where they have none."""
  fresh, exported = map(traverse_util.flatten_dict, (fresh, exported))
  if unknown := sorted(set(exported) - set(fresh)):
    raise ValueError(
      'The decoder to start from has parameters that this config does not '
      f'describe, such as {"/".join(unknown[0])}: set one_step.refine as it '
      'was trained.'
    )
  return traverse_util.unflatten_dict({**fresh, **exported})


def _windows(key, batches, side: int):
  """Cuts the same window, [b, side, side, 3], near the middle of each batch.

  VGG16 costs far more than the decoder, and at a crop's edge the decoder sees
  less than when decoding. VGG16 halves its maps four times: a window that
  always began at a multiple of 16 would hide patterns on that grid.
  """
  middle = (batches[0].shape[1] - side) // 2
  most = min(middle, 8)
  top, left = middle + jax.random.randint(key, (2,), -most, most)
  return [
    jax.lax.dynamic_slice(
      a, (0, top, left, 0), (len(a), side, side, a.shape[-1])
    )
    for a in batches
  ]


def _matching(r_1, real, fake):
  """Returns a scalar whose gradient moves r_1 from `fake` toward `real`.

  Divided, per example, by the distance of r_1 from the flow's expectation
  (arXiv 2311.18828, eq. 8).
  """
  fixed = jax.lax.stop_gradient
  axes = tuple(range(1, r_1.ndim))
  scale = jnp.mean(jnp.abs(r_1 - real), axis=axes, keepdims=True)
  direction = fixed((fake - real) / jnp.maximum(scale, 1e-3))
  return 0.5 * jnp.mean((r_1 - fixed(r_1 - direction)) ** 2)
