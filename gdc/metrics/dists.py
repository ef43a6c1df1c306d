"""DISTS as a pure function: structure and texture of VGG16's features.

Ding et al. 2020, 'Image quality assessment: unifying structure and texture
similarity', https://arxiv.org/abs/2004.07728. Per channel of the image and of
the maps of five stages, the means are compared (texture) and the covariance
(structure), with weights that the authors fitted to people's judgements.

Beside this file: dists.safetensors, the weights of PyPI's DISTS-pytorch 0.1,
and DISTS_LICENSE, their licence (MIT, Keyan Ding). The weights of VGG16 are
those of LPIPS, `lpips.weights('vgg')['VGG16_0']`.

The reference is described apart from the comparison, so that many versions of
one image cost one pass each.
"""
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors_numpy

from gdc.metrics import vgg

SMALLEST = 16  # pixels a side: the last map is a 16th of it
EPSILON = 1e-6  # keeps 0 / 0 at 1


class Stage(NamedTuple):
  """One map of an image: the image itself, or that of one stage of VGG16."""

  mean: jax.Array  # [batch, channel]
  variance: jax.Array  # [batch, channel]
  centred: jax.Array  # [batch, height', width', channel], less its mean


def weights() -> dict[str, np.ndarray]:
  """Returns alpha, of the means, and beta, of the covariances.

  Each is float32 [1475], in the order of `describe`: 3 channels of the image,
  then 64, 128, 256, 512 and 512.
  """
  return safetensors_numpy.load_file(
    pathlib.Path(__file__).with_name('dists.safetensors')
  )


def describe(vgg_params, images) -> list[Stage]:
  """Returns what is compared of images.

  Args:
    vgg_params: parameters of VGG16, see `vgg.features`.
    images: [batch, height, width, 3], RGB in [0, 1], at least 16 pixels on a
      side.

  Returns:
    Six stages: the images themselves, then VGG16's five.
  """
  stages = []
  for x in (images, *vgg.features(vgg_params, images, pool='l2')):
    mean = x.mean((1, 2), keepdims=True)
    centred = x - mean
    stages.append(Stage(mean[:, 0, 0], (centred**2).mean((1, 2)), centred))
  return stages


def distance(params, reference: list[Stage], decoded: list[Stage]) -> jax.Array:
  """DISTS of each pair of images.

  Args:
    params: see `weights`.
    reference: see `describe`.
    decoded: see `describe`; of images of the same size.

  Returns:
    [batch] float32, lower is better; 0 for equal images, about 1 at most.
  """
  means, covariances = [], []
  for a, b in zip(reference, decoded, strict=True):
    means.append(
      (2 * a.mean * b.mean + EPSILON) / (a.mean**2 + b.mean**2 + EPSILON)
    )
    covariance = (a.centred * b.centred).mean((1, 2))
    covariances.append(
      (2 * covariance + EPSILON) / (a.variance + b.variance + EPSILON)
    )
  alpha, beta = params['alpha'], params['beta']
  # Dissimilarities are summed, not similarities: equal images give 0, free of
  # the rounding of 1475 weights.
  apart = (alpha * (1 - jnp.concatenate(means, -1))).sum(-1) + (
    beta * (1 - jnp.concatenate(covariances, -1))
  ).sum(-1)
  return apart / (alpha.sum() + beta.sum())
