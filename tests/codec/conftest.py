"""What several tests of the codec compare with."""
import jax
import numpy as np
import pytest

from gdc import decoders
from gdc.decoders import base, noise
from gdc.models import score_net


@pytest.fixture(scope='session')
def sample_at_once():
  """A function that decodes a whole image without tiles, float32 [h, w, 3]."""
  def sample(entry, spec, params, x_hat, quality, rmse, steps, seed):
    decoder, fields = decoders.from_record(entry, spec)
    net = score_net.ScoreNet(**fields)
    x_hat = x_hat[None]
    quality, rmse = np.float32([quality]), np.float32([rmse])
    return np.asarray(base.sample(
      decoder,
      lambda z, level: net.apply({'params': params}, z, x_hat, level, quality),
      x_hat, rmse, steps, noise.of_steps(jax.random.key(seed), x_hat.shape),
    )[0])
  return sample
