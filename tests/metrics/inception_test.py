"""The InceptionV3 of FID against written-out definitions and torch-fidelity."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.metrics import inception


def _tensors():
  """Random weights that keep signals alive, under torch's names."""
  rng = np.random.default_rng(0)
  found = {}
  for name, shape in sorted(inception.shapes().items()):
    normal = rng.standard_normal(shape, np.float32)
    kind = name.rpartition('.')[2]
    if name.endswith('conv.weight'):
      found[name] = normal * np.float32(np.sqrt(1.6 / np.prod(shape[1:])))
    elif kind == 'running_var':
      found[name] = np.exp(normal / 4)
    elif name.endswith('bn.weight'):
      found[name] = 1 + normal / 4
    else:
      found[name] = normal / 5
  return found


@pytest.fixture(scope='module')
def tensors():
  return _tensors()


def _patch():
  y, x = np.mgrid[:256, :256]
  return np.stack(
    [(7 * x + 3 * y) % 256, (x * y // 16) % 256, (x // 32 + y // 32) % 2 * 255],
    -1,
  ).astype(np.uint8)


def test_features_are_those_of_torch_fidelity(tensors):
  @jax.jit
  def features(params, patch):
    x = inception.resize(patch[None].astype(jnp.float32))
    return inception.InceptionV3().apply({'params': params}, x)

  found = features(inception.params(tensors), _patch())
  assert found.shape == (1, 2048) and found.dtype == jnp.float32
  # FeatureExtractorInceptionV3 of torch-fidelity 0.4.0 with these weights, in
  # float64: branches 1x1, both 3x3, both double 3x3, and pool.
  np.testing.assert_allclose(
    found[0, [133, 518, 926, 1241, 1632, 1918]],
    [1.462238, 1.880024, 1.758928, 1.527225, 1.290403, 1.676423],
    rtol=2e-5,
  )
  np.testing.assert_allclose(np.mean(found), 0.284207, rtol=2e-5)


def test_resize_is_read_from_the_corner():
  rng = np.random.default_rng(1)
  x = rng.uniform(0, 255, (2, 40, 500, 3)).astype(np.float32)
  expected = np.zeros((2, 299, 299, 3))
  for i in range(299):
    top, down = divmod(i * 40 / 299, 1)
    rows = x[:, int(top)] * (1 - down) + x[:, min(int(top) + 1, 39)] * down
    for j in range(299):
      left, right = divmod(j * 500 / 299, 1)
      expected[:, i, j] = (
        rows[:, int(left)] * (1 - right)
        + rows[:, min(int(left) + 1, 499)] * right
      )
  np.testing.assert_allclose(inception.resize(x), expected, atol=0.02)
  np.testing.assert_array_equal(inception.resize(x)[:, 0, 0], x[:, 0, 0])


def test_average_pool_counts_what_there_is():
  rng = np.random.default_rng(2)
  x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
  expected = np.zeros_like(x)
  for i in range(5):
    for j in range(4):
      window = x[:, max(i - 1, 0):i + 2, max(j - 1, 0):j + 2]
      expected[:, i, j] = window.mean((1, 2))
  np.testing.assert_allclose(inception.average_pool(x), expected, atol=1e-6)


def test_shapes_of_the_published_network():
  shapes = inception.shapes()
  convolutions = [s for n, s in shapes.items() if n.endswith('.conv.weight')]
  assert len(convolutions) == 94
  assert len(shapes) == 94 * 5 + 1
  # torchvision's inception_v3 without its classifier.
  assert sum(
    int(np.prod(s)) for n, s in shapes.items() if 'running' not in n
  ) - 1008 * 2048 == 21_785_568
  assert shapes['Mixed_6e.branch7x7_2.conv.weight'] == (192, 192, 1, 7)
  assert shapes['Mixed_7c.branch3x3dbl_3b.bn.bias'] == (384,)


def test_batch_norm_is_folded(tensors):
  name = 'Conv2d_1a_3x3'
  rng = np.random.default_rng(3)
  x = rng.normal(size=(3, 3, 3))  # height, width, channel: one output pixel
  weight = tensors[f'{name}.conv.weight'].astype(np.float64)
  scale, bias, mean, variance = (
    tensors[f'{name}.bn.{kind}']
    for kind in ('weight', 'bias', 'running_mean', 'running_var')
  )
  raw = np.einsum('hwi,oihw->o', x, weight)
  expected = (raw - mean) / np.sqrt(variance + 1e-3) * scale + bias
  layer = inception.params(tensors)[name]
  found = np.einsum('hwi,hwio->o', x, layer['kernel']) + layer['bias']
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_other_weights_are_refused(tensors):
  name = 'Mixed_6b.branch_pool.bn.running_var'
  less = {k: v for k, v in tensors.items() if k != name}
  with pytest.raises(ValueError, match=f'1 of the 471 .* missing, {name}'):
    inception.params(less)
  torchvision = {**tensors, 'fc.weight': np.zeros((1000, 2048), np.float32)}
  with pytest.raises(ValueError, match=r'\(1000, 2048\).*\(1008, 2048\)'):
    inception.params(torchvision)
  broken = {**tensors, name: np.full(192, np.nan, np.float32)}
  with pytest.raises(ValueError, match=f'{name} is not finite'):
    inception.params(broken)
