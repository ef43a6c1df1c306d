"""Stage 1, trained and frozen, as the score decoders' training sees it."""
import functools

import jax
import jax.numpy as jnp

from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import base


class FirstStage:
  """The autoencoder of a bundle; its parameters are arguments.

  Attributes:
    bundle: where it is from.
    num_levels: its quality levels.
    dtype: of the network's layers.
  """

  def __init__(self, autoencoder: bundle.Bundle, dtype=jnp.float32):
    """Takes the bundle and the type of the network's products."""
    self.bundle = autoencoder
    self.dtype = dtype
    self.num_levels = autoencoder.autoencoder_spec['num_levels']
    self._net = bundle.build_autoencoder(
      autoencoder.autoencoder_spec, dtype=dtype
    )

  def output(self, params, image, quality) -> jax.Array:
    """x_hat [b, h, w, 3] of images in [-1, 1] at qualities [b]; no gradient."""
    return jax.lax.stop_gradient(self._net.apply(
      {'params': params}, image, quality, method='reconstruct'
    ))

  def rmse(self, params, quality) -> jax.Array:
    """[b] its expected error at qualities [b], images in [-1, 1]."""
    return self._net.apply({'params': params}, quality, method='rmse')

  def pictures(self, entry, spec, net, params, autoencoder_params, images):
    """What a score decoder makes of images, to look at.

    Args:
      entry: key of base.ENTRIES.
      spec: the decoder's record.
      net: models.score_net.ScoreNet.
      params: its parameters.
      autoencoder_params: the autoencoder's.
      images: [b, h, w, 3] in [-1, 1].

    Returns:
      {'original': ..., 'autoencoder': ..., entry: ...}, of images' shape, at
      the middle quality.
    """
    quality = jnp.full(images.shape[:1], (1 + self.num_levels) / 2)
    x_hat = self.output(autoencoder_params, images, quality)
    decoder = base.Decoder(
      base.ENTRIES[entry], spec,
      functools.partial(net.apply, {'params': params}), jax.random.key(0),
    )
    decoded = base.sample(
      decoder, x_hat, quality, self.rmse(autoencoder_params, quality),
      spec['sampling']['steps'],
    )
    return {'original': images, 'autoencoder': x_hat, entry: decoded}


def init(net, key, batch):
  """Parameters of a score network that takes a batch as stage 1 codes it."""
  image = transforms.to_float(batch['image'])
  ones = jnp.ones(image.shape[0])
  return net.init(key, image, image, ones, ones)['params']
