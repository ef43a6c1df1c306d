"""Stage 2: trains a score decoder's network behind the frozen autoencoder.

The decoder gives the loss (decoders/base.py): a new one needs no change here.
"""
import functools

import jax
import jax.numpy as jnp

from gdc import decoders
from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import base as decoder_base
from gdc.decoders import flow
from gdc.models import score_net
from gdc.training.stages import base, frozen_autoencoder


def build(config, autoencoder: bundle.Bundle) -> base.Stage:
  """Returns the stage that a config describes.

  Args:
    config: from configs/; its section `stage` has the decoder's settings.
    autoencoder: the bundle with the frozen autoencoder.

  Raises:
    ValueError: a setting that is out of range, or reflow without a flow.
  """
  decoder = decoders.DECODERS[config.stage](
    **config[config.stage].to_dict(), **config.sampling.to_dict()
  )
  dtypes = {
    'dtype': jnp.dtype(config.dtype), 'matmul_dtype': config.matmul_dtype
  }
  coder = frozen_autoencoder.FrozenAutoencoder(autoencoder, **dtypes)
  fields = {**config.score_net.to_dict(), 'num_levels': coder.num_levels}
  net = score_net.ScoreNet(**fields, **dtypes)
  frozen = {'autoencoder': autoencoder.autoencoder_params}
  teacher = None
  if config.stage == 'flow' and decoder.reflow_steps:
    teacher, frozen['teacher'] = _teacher(
      autoencoder, decoder.reflow_steps, dtypes
    )

  def loss(params, frozen, batch, key):
    image = transforms.to_float(batch['image'])
    quality_key, time_key, noise_key = jax.random.split(key, 3)
    quality = base.sample_quality(
      quality_key, image.shape[0], coder.num_levels, decoder.low_quality_share
    )
    x_hat = coder.output(frozen['autoencoder'], image, quality)
    rmse = coder.rmse(frozen['autoencoder'], quality)
    noise = jax.random.normal(noise_key, image.shape)
    if teacher:
      image = teacher(frozen['teacher'], x_hat, rmse, quality, noise)

    def network(z, level):
      return net.apply({'params': params}, z, x_hat, level, quality)

    mean = jnp.mean(decoder.loss(
      network, image, x_hat, rmse,
      base.stratified(time_key, image.shape[0]), noise,
    ))
    return mean, {'loss': mean}

  def visualise(params, frozen, images):
    return coder.visualise(decoder, net, params, frozen['autoencoder'], images)

  return base.Stage(
    config.stage, {**fields, **decoder.record()},
    functools.partial(frozen_autoencoder.init, net), loss, frozen,
    coder.num_levels, autoencoder, visualise,
    warm_starts=decoder.warm_starts(), teachers=('flow',) if teacher else (),
  )


def _teacher(autoencoder: bundle.Bundle, steps: int, dtypes):
  """Experimental: the teacher of a round of reflow, see flow.Flow.

  Returns:
    teach: (params, x_hat, rmse, quality, noise) -> the image [b, h, w, 3] where
      the teacher's path from this noise ends, without gradient.
    params: parameters of the teacher's network.
  """
  if 'flow' not in autoencoder.decoders:
    raise ValueError(
      f'flow.reflow_steps {steps} needs a flow decoder in autoencoder_from; '
      f'bundle {autoencoder.name!r} has '
      f'{", ".join(autoencoder.decoders) or "none"}.'
    )
  record, params = autoencoder.decoders['flow']
  recorded, fields = decoders.from_record('flow', record)
  decoder = flow.Flow(source_noise=recorded.source_noise)
  net = score_net.ScoreNet(**fields, **dtypes)

  def teach(params, x_hat, rmse, quality, noise):
    def network(z, level):
      return net.apply({'params': params}, z, x_hat, level, quality)

    r_1, _ = decoder_base.integrate(
      decoder, network, x_hat, rmse, steps, lambda i: noise
    )
    return jax.lax.stop_gradient(flow.from_residual(r_1, x_hat, rmse))

  return teach, params
