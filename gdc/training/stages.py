"""What each stage optimises: batch and key -> scalar loss and metrics.

Stage 1 trains the autoencoder for bits per pixel + lambda 255^2 MSE. Stage 2
trains a score network, by diffusion or by flow, on images that the frozen
autoencoder has coded; the frozen parameters are an argument of the loss.
Rates are summed over latents and divided by image pixels here, and only here.
"""
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdc.codec import bundle, decoders
from gdc.data import transforms
from gdc.models import quantization
from gdc.processes import diffusion, flow, schedules


@dataclasses.dataclass(frozen=True)
class Stage:
  """One thing to train.

  Attributes:
    name: autoencoder, diffusion or flow.
    spec: what the exported bundle records of the network; see codec.bundle.
    init: (key, batch) -> params. The batch fits initial scales.
    loss: (params, frozen, batch, key) -> (scalar, dict of scalars).
    frozen: parameters that are not trained, {} or the autoencoder's.
    num_levels: quality levels of the autoencoder.
    autoencoder: the bundle that `frozen` is from; None in stage 1.
    pictures: (params, frozen, images) -> dict of pictures to look at.
  """

  name: str
  spec: dict[str, Any]
  init: Callable
  loss: Callable
  frozen: Any
  num_levels: int
  autoencoder: bundle.Bundle | None
  pictures: Callable


def sample_quality(key, batch: int, num_levels: int) -> jax.Array:
  """[batch] qualities, stratified uniform, the end levels as dense as others.

  Drawn in [0.5, num_levels + 0.5] and clipped to [1, num_levels]: qualities
  between the levels are trained too.
  """
  return jnp.clip(
    0.5 + num_levels * _stratified(key, batch), 1, num_levels
  )


def _stratified(key, batch: int) -> jax.Array:
  """[batch] in [0, 1), uniform each, evenly spread together, shuffled."""
  offset_key, order_key = jax.random.split(key)
  t = (jax.random.uniform(offset_key) + jnp.arange(batch) / batch) % 1.0
  return jax.random.permutation(order_key, t)


def mse_255(reference, decoded) -> jax.Array:
  """[b] mean square error of images in [-1, 1], on the scale of [0, 255]."""
  error = (reference - decoded).astype(jnp.float32) * 127.5
  return jnp.mean(error**2, axis=(1, 2, 3))


def psnr(mse) -> jax.Array:
  """Peak signal-to-noise ratio, dB, of a mean square error on [0, 255]."""
  return 10 * jnp.log10(255**2 / mse)


# --- Stage 1 ----------------------------------------------------------------


def _autoencoder_stage(config) -> Stage:
  fields = config.autoencoder.to_dict()
  lambdas = fields.pop('lambdas')
  spec = {**fields, 'num_levels': len(lambdas)}
  model = bundle.build_autoencoder(spec, dtype=jnp.dtype(config.dtype))
  log_lambdas = jnp.log(jnp.asarray(lambdas, jnp.float32))

  def init(key, batch):
    image = transforms.to_float(batch['image'])
    quality = jnp.ones(image.shape[0])
    params = model.init(key, image, quality)['params']
    # The prior starts at the scale that the latents have at each level. A
    # logistic density of scale s has mean magnitude 2 log(2) s.
    scales = []
    for level in range(1, len(lambdas) + 1):
      y = model.apply(
        {'params': params}, image, level * quality, method='encode'
      )
      scales.append(jnp.mean(jnp.abs(y), axis=(0, 1, 2)) / (2 * np.log(2)))
    log_scale = jnp.log(jnp.maximum(jnp.stack(scales), 0.05))
    params['prior']['log_scale'] = log_scale
    return params

  def loss(params, frozen, batch, key):
    del frozen
    image = transforms.to_float(batch['image'])
    quality_key, noise_key = jax.random.split(key)
    quality = sample_quality(quality_key, image.shape[0], len(lambdas))
    variables = {'params': params}
    y = model.apply(variables, image, quality, method='encode')
    bits = model.apply(
      variables, quantization.add_uniform_noise(noise_key, y), quality,
      method='bin_bits',
    )
    x_hat = model.apply(
      variables, quantization.round_straight_through(y), quality,
      method='decode',
    )
    pixels = image.shape[1] * image.shape[2]
    bpp = jnp.sum(bits, axis=(1, 2, 3)) / pixels
    mse = mse_255(image, x_hat)
    weights = model.apply(variables, quality, method='level_weights')
    lambda_ = jnp.exp(weights @ log_lambdas)
    # Relative to the middle of the ladder, so that losses compare.
    balance = jnp.exp(
      config.level_balance * (jnp.mean(log_lambdas) - jnp.log(lambda_))
    )
    # The likelihood of the error under a Gaussian: its scale is the RMSE.
    rmse = model.apply(variables, quality, method='rmse')
    ratio = jax.lax.stop_gradient(mse) / 127.5**2 / rmse**2
    rmse_loss = jnp.mean(0.5 * ratio + jnp.log(rmse))
    total = jnp.mean(balance * (bpp + lambda_ * mse)) + 0.01 * rmse_loss
    metrics = {
      'bpp': jnp.mean(bpp),
      'psnr': jnp.mean(psnr(mse)),
      'rd': jnp.mean(bpp + lambda_ * mse),
      'rmse_ratio': jnp.sqrt(jnp.mean(ratio)),
    }
    return total, metrics

  def pictures(params, frozen, images):
    del frozen
    quality = jnp.full(images.shape[:1], (1 + len(lambdas)) / 2)
    x_hat = model.apply(
      {'params': params}, images, quality, method='reconstruct'
    )
    return {'original': images, 'autoencoder': x_hat}

  return Stage(
    'autoencoder', spec, init, loss, {}, len(lambdas), None, pictures
  )


# --- Stage 2 ----------------------------------------------------------------


def _score_stage(config, autoencoder: bundle.Bundle) -> Stage:
  """A score network on the frozen autoencoder's output."""
  process = config.stage
  spec = {
    **config.score_net.to_dict(),
    'num_levels': autoencoder.autoencoder_spec['num_levels'],
    **config[process].to_dict(),
    'sampling': config.sampling.to_dict(),
  }
  decoders.validate(process, spec)
  dtype = jnp.dtype(config.dtype)
  coder = bundle.build_autoencoder(autoencoder.autoencoder_spec, dtype=dtype)
  net = bundle.build_score_net(spec, dtype=dtype)
  num_levels = spec['num_levels']

  def init(key, batch):
    image = transforms.to_float(batch['image'])
    ones = jnp.ones(image.shape[0])
    return net.init(key, image, image, ones, ones)['params']

  def coded(frozen, image, quality):
    x_hat = coder.apply(
      {'params': frozen}, image, quality, method='reconstruct'
    )
    return jax.lax.stop_gradient(x_hat)

  def loss(params, frozen, batch, key):
    image = transforms.to_float(batch['image'])
    quality_key, time_key, noise_key = jax.random.split(key, 3)
    quality = sample_quality(quality_key, image.shape[0], num_levels)
    t = _stratified(time_key, image.shape[0])
    noise = jax.random.normal(noise_key, image.shape)
    x_hat = coded(frozen, image, quality)

    def predict(z, level):
      return net.apply({'params': params}, z, x_hat, level, quality)

    if process == 'flow':
      rmse = coder.apply({'params': frozen}, quality, method='rmse')
      error = flow.loss(
        lambda r, t: flow.velocity(predict(r, t), r, t),
        flow.source(noise, config.flow.source_noise),
        flow.to_residual(image, x_hat, rmse),
        t,
      )
    else:
      error = diffusion.loss(
        predict, image, noise,
        schedules.cosine_log_snr(t, config.diffusion.noise_shift),
        config.diffusion.loss_space,
      )
    metrics = {'loss': jnp.mean(error)}
    return metrics['loss'], metrics

  def pictures(params, frozen, images):
    quality = jnp.full(images.shape[:1], (1 + num_levels) / 2)
    x_hat = coded(frozen, images, quality)
    rmse = coder.apply({'params': frozen}, quality, method='rmse')
    decoder = decoders.Decoder(
      process, spec, functools.partial(net.apply, {'params': params}),
      jax.random.key(0),
    )
    steps = spec['sampling']['steps']
    decoded = decoders.sample(decoder, x_hat, quality, rmse, steps)
    return {'original': images, 'autoencoder': x_hat, process: decoded}

  return Stage(
    process, spec, init, loss, autoencoder.autoencoder_params, num_levels,
    autoencoder, pictures,
  )


def build(config, autoencoder: bundle.Bundle | None = None) -> Stage:
  """The stage that a config asks for.

  Args:
    config: from configs/.
    num_levels: quality levels of the autoencoder.
    autoencoder: the bundle with the frozen autoencoder, for stage 2.

  Raises:
    ValueError: unknown stage, or stage 2 without an autoencoder.
  """
  if config.stage == 'autoencoder':
    return _autoencoder_stage(config)
  if config.stage not in ('diffusion', 'flow'):
    raise ValueError(
      'stage must be autoencoder, diffusion or flow, not '
      f'{config.stage!r}.'
    )
  if autoencoder is None:
    raise ValueError(
      f'Stage {config.stage!r} needs a trained autoencoder: set '
      '--config.autoencoder_from.'
    )
  return _score_stage(config, autoencoder)
