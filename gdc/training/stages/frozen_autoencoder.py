"""The trained autoencoder, as the score decoders' training sees it."""
import jax
import jax.numpy as jnp

from gdc.codec import bundle as bundle_lib
from gdc.data import transforms
from gdc.decoders import base, noise
from gdc.models import autoencoder


class FrozenAutoencoder:
  """The autoencoder of a bundle; its parameters are arguments.

  Attributes:
    num_levels: its quality levels.
  """

  def __init__(
    self, bundle: bundle_lib.Bundle, dtype=jnp.float32,
    matmul_dtype: str = 'float32',
  ):
    """Takes the bundle and dtypes, see models.autoencoder.Autoencoder."""
    self.num_levels = bundle.autoencoder_spec['num_levels']
    self._net = autoencoder.Autoencoder(
      **bundle.autoencoder_spec, dtype=dtype, matmul_dtype=matmul_dtype
    )

  def output(self, params, image, quality) -> jax.Array:
    """Returns x_hat [b, h, w, 3] at qualities [b], without gradient."""
    return jax.lax.stop_gradient(self._net.apply(
      {'params': params}, image, quality, method='reconstruct'
    ))

  def rmse(self, params, quality) -> jax.Array:
    """Returns the expected error [b] at qualities [b], images in [-1, 1]."""
    return self._net.apply({'params': params}, quality, method='rmse')

  def visualise(
    self, decoder: base.Decoder, net, params, autoencoder_params, images
  ) -> dict[str, jax.Array]:
    """Decodes images at the middle quality.

    Args:
      decoder: a score decoder.
      net: models.score_net.ScoreNet.
      params: its parameters.
      autoencoder_params: the autoencoder's.
      images: [b, h, w, 3] in [-1, 1].

    Returns:
      'original', 'autoencoder' and the decoder's entry -> [b, h, w, 3].
    """
    quality = jnp.full(images.shape[:1], (1 + self.num_levels) / 2)
    x_hat = self.output(autoencoder_params, images, quality)
    decoded = base.sample(
      decoder,
      lambda z, level: net.apply({'params': params}, z, x_hat, level, quality),
      x_hat, self.rmse(autoencoder_params, quality), decoder.steps,
      noise.of_steps(jax.random.key(0), images.shape),
    )
    return {'original': images, 'autoencoder': x_hat, decoder.entry: decoded}


def init(net, key, batch):
  """Returns new parameters of a score network for a batch of images."""
  image = transforms.to_float(batch['image'])
  ones = jnp.ones(image.shape[0])
  return net.init(key, image, image, ones, ones)['params']
