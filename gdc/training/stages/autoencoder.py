"""Stage 1: trains the autoencoder for bits per pixel + lambda 255^2 MSE.

Rates are summed over latents and divided by image pixels here, and only here.
"""
import jax
import jax.numpy as jnp
import numpy as np

from gdc.data import transforms
from gdc.models import autoencoder, layers, quantization
from gdc.training.stages import base


def build(config) -> base.Stage:
  """Returns the stage that a config describes."""
  fields = config.autoencoder.to_dict()
  lambdas = fields.pop('lambdas')
  spec = {**fields, 'num_levels': len(lambdas)}
  model = autoencoder.Autoencoder(
    **spec, dtype=jnp.dtype(config.dtype), matmul_dtype=config.matmul_dtype
  )
  log_lambdas = jnp.log(jnp.asarray(lambdas, jnp.float32))

  def init(key, batch):
    image = transforms.to_float(batch['image'])
    quality = jnp.ones(image.shape[0])
    params = model.init(key, image, quality)['params']
    # The prior starts at the scale of the coded values at each level. A
    # logistic density of scale s has mean magnitude 2 log(2) s.
    scales = []
    for level in range(1, len(lambdas) + 1):
      y = model.apply(
        {'params': params}, image, level * quality, method='encode'
      )
      y = model.apply({'params': params}, y, method='coded')
      scales.append(jnp.mean(jnp.abs(y), axis=(0, 1, 2)) / (2 * np.log(2)))
    log_scale = jnp.log(jnp.maximum(jnp.stack(scales), 0.05))
    params['prior']['log_scale'] = log_scale
    return params

  def loss(params, frozen, batch, key):
    del frozen
    image = transforms.to_float(batch['image'])
    quality_key, noise_key = jax.random.split(key)
    quality = base.sample_quality(quality_key, image.shape[0], len(lambdas))
    variables = {'params': params}
    y = model.apply(variables, image, quality, method='encode')
    coded = model.apply(variables, y, method='coded')
    bits = model.apply(
      variables, quantization.add_uniform_noise(noise_key, coded), quality,
      method='bin_bits',
    )
    x_hat = model.apply(
      variables, quantization.round_straight_through(y), quality,
      method='decode',
    )
    pixels = image.shape[1] * image.shape[2]
    bpp = jnp.sum(bits, axis=(1, 2, 3)) / pixels
    error = (image - x_hat).astype(jnp.float32) * 127.5
    mse = jnp.mean(error**2, axis=(1, 2, 3))  # of values from 0 to 255
    weights = model.apply(variables, quality, method='level_weights')
    lambda_ = jnp.exp(layers.at_quality(weights, log_lambdas))
    # Relative to the mean lambda, so that losses compare.
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
      'psnr': jnp.mean(10 * jnp.log10(255**2 / mse)),
      'rd': jnp.mean(bpp + lambda_ * mse),
      'rmse_ratio': jnp.sqrt(jnp.mean(ratio)),
    }
    return total, metrics

  def visualise(params, frozen, images):
    del frozen
    quality = jnp.full(images.shape[:1], (1 + len(lambdas)) / 2)
    x_hat = model.apply(
      {'params': params}, images, quality, method='reconstruct'
    )
    return {'original': images, 'autoencoder': x_hat}

  return base.Stage(
    'autoencoder', spec, init, loss, {}, len(lambdas), None, visualise,
    warm_starts={'autoencoder': {}},
  )
