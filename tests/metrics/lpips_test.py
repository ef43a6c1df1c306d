"""LPIPS as training sees it: batches, gradients, weights without code."""
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.metrics import lpips


def pictures(seed, batch=2, side=32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(-1, 1, (batch, side, side, 3)), jnp.float32)


@pytest.mark.parametrize('network', ['alex', 'vgg'])
def test_each_example_is_its_own(network):
  params = lpips.weights(network)
  side = lpips.NETWORKS[network][1] + 1
  a, b = pictures(0, side=side), pictures(1, side=side)
  together = lpips.distance(params, a, b, network)
  assert together.shape == (2,) and together.dtype == jnp.float32
  alone = [
    lpips.distance(params, a[i:i + 1], b[i:i + 1], network)[0]
    for i in range(2)
  ]
  np.testing.assert_allclose(together, alone, rtol=1e-4)
  assert np.all(together > 0.05)


def test_a_step_along_the_gradient_comes_nearer():
  params = lpips.weights('vgg')
  reference, decoded = pictures(0, 1, 16), 0.9 * pictures(0, 1, 16) + 0.05

  @jax.jit
  def value_and_grad(decoded, params):
    return jax.value_and_grad(
      lambda d: lpips.distance(params, reference, d, 'vgg')[0]
    )(decoded)

  before, slope = value_and_grad(decoded, params)
  assert np.all(np.isfinite(slope)) and np.linalg.norm(slope) > 0
  step = 0.2 * before / jnp.sum(slope**2)
  after, _ = value_and_grad(decoded - step * slope, params)
  assert after < 0.95 * before


def test_an_unknown_network_is_named():
  with pytest.raises(ValueError, match="'squeeze'.*'alex', 'vgg'"):
    lpips.weights('squeeze')


def test_a_weights_file_that_names_code_is_refused(tmp_path):
  path = tmp_path / 'weights'
  path.write_bytes(pickle.dumps({'kernel': os.system}))
  with (
    path.open('rb') as file,
    pytest.raises(pickle.UnpicklingError, match='system.*numpy arrays'),
  ):
    lpips._ArrayUnpickler(file).load()
