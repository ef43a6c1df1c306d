"""InceptionV3 of 2015-12-05, the network whose features FID is defined on.

Szegedy et al. 2016, 'Rethinking the Inception architecture for computer
vision', https://arxiv.org/abs/1512.00567, as in TensorFlow's graph of that day,
which torch-fidelity, torchmetrics and pytorch-fid rebuild. It departs from
later InceptionV3s, and a figure without one of these is another figure:
- Images are resized as TensorFlow 1 did: sample i is at i * scale.
- Pixels are (x - 128) / 128, not divided by 127.5 or normalised otherwise.
- Average pools do not count padding.
- The last block has a max pool where all others have an average pool.
- There are 1008 classes; torchvision's own weights have the same names and
  otherwise the same shapes, and other values.
"""

import functools
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn

SIDE = 299  # pixels
CLASSES = 1008
EPSILON = 0.001  # of batch norm


class InceptionV3(nn.Module):
  """The network up to its last average pool, 'pool3'.

  Layers have the names of torch's files; batch norms are folded into them.
  """

  @nn.compact
  def __call__(self, x):
    """[b, 299, 299, 3], pixels in [0, 255] -> [b, 2048], >= 0."""
    x = (x - 128) / 128
    x = _conv(x, 'Conv2d_1a_3x3', 32, (3, 3), 2, 'VALID')
    x = _conv(x, 'Conv2d_2a_3x3', 32, (3, 3), 1, 'VALID')
    x = _conv(x, 'Conv2d_2b_3x3', 64, (3, 3))
    x = _max_pool(x)
    x = _conv(x, 'Conv2d_3b_1x1', 80)
    x = _conv(x, 'Conv2d_4a_3x3', 192, (3, 3), 1, 'VALID')
    x = _max_pool(x)
    for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
      x = _block_a(x, f'Mixed_{name}', pooled)
    x = _block_b(x, 'Mixed_6a')
    for name, inner in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
      x = _block_c(x, f'Mixed_{name}', inner)
    x = _block_d(x, 'Mixed_7a')
    x = _block_e(x, 'Mixed_7b', average_pool(x))
    x = _block_e(x, 'Mixed_7c', nn.max_pool(x, (3, 3), padding='SAME'))
    return jnp.mean(x, (1, 2))


def _conv(x, name, channels, kernel=(1, 1), strides=1, padding='SAME'):
  return nn.relu(nn.Conv(channels, kernel, strides, padding, name=name)(x))


def _chain(x, name, *layers):
  """Convolutions NAME_1, NAME_2 and so on, of (channels, height, width)."""
  for i, (channels, *kernel) in enumerate(layers, 1):
    x = _conv(x, f'{name}_{i}', channels, kernel)
  return x


def _block_a(x, name, pooled):
  return jnp.concatenate([
    _conv(x, f'{name}.branch1x1', 64),
    _chain(x, f'{name}.branch5x5', (48, 1, 1), (64, 5, 5)),
    _chain(x, f'{name}.branch3x3dbl', (64, 1, 1), (96, 3, 3), (96, 3, 3)),
    _conv(average_pool(x), f'{name}.branch_pool', pooled),
  ], -1)


def _block_b(x, name):
  double = _chain(x, f'{name}.branch3x3dbl', (64, 1, 1), (96, 3, 3))
  return jnp.concatenate([
    _conv(x, f'{name}.branch3x3', 384, (3, 3), 2, 'VALID'),
    _conv(double, f'{name}.branch3x3dbl_3', 96, (3, 3), 2, 'VALID'),
    _max_pool(x),
  ], -1)


def _block_c(x, name, inner):
  return jnp.concatenate([
    _conv(x, f'{name}.branch1x1', 192),
    _chain(
      x, f'{name}.branch7x7', (inner, 1, 1), (inner, 1, 7), (192, 7, 1)
    ),
    _chain(
      x, f'{name}.branch7x7dbl', (inner, 1, 1), (inner, 7, 1), (inner, 1, 7),
      (inner, 7, 1), (192, 1, 7),
    ),
    _conv(average_pool(x), f'{name}.branch_pool', 192),
  ], -1)


def _block_d(x, name):
  single = _chain(x, f'{name}.branch3x3', (192, 1, 1))
  double = _chain(
    x, f'{name}.branch7x7x3', (192, 1, 1), (192, 1, 7), (192, 7, 1)
  )
  return jnp.concatenate([
    _conv(single, f'{name}.branch3x3_2', 320, (3, 3), 2, 'VALID'),
    _conv(double, f'{name}.branch7x7x3_4', 192, (3, 3), 2, 'VALID'),
    _max_pool(x),
  ], -1)


def _block_e(x, name, pooled):
  single = _chain(x, f'{name}.branch3x3', (384, 1, 1))
  double = _chain(x, f'{name}.branch3x3dbl', (448, 1, 1), (384, 3, 3))
  return jnp.concatenate([
    _conv(x, f'{name}.branch1x1', 320),
    _conv(single, f'{name}.branch3x3_2a', 384, (1, 3)),
    _conv(single, f'{name}.branch3x3_2b', 384, (3, 1)),
    _conv(double, f'{name}.branch3x3dbl_3a', 384, (1, 3)),
    _conv(double, f'{name}.branch3x3dbl_3b', 384, (3, 1)),
    _conv(pooled, f'{name}.branch_pool', 192),
  ], -1)


def _max_pool(x):
  return nn.max_pool(x, (3, 3), (2, 2))


def average_pool(x: jax.Array) -> jax.Array:
  """Means of 3 x 3 windows at stride 1, which do not count padding."""
  return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)


@functools.cache
def shapes() -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tensors, by their names in torch's files."""
  layers = jax.eval_shape(lambda: InceptionV3().init(
    jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3))
  ))['params']
  found = {'fc.weight': (CLASSES, 2048)}
  for name, layer in layers.items():
    height, width, inputs, outputs = layer['kernel'].shape
    found[f'{name}.conv.weight'] = (outputs, inputs, height, width)
    for statistic in ('weight', 'bias', 'running_mean', 'running_var'):
      found[f'{name}.bn.{statistic}'] = (outputs,)
  return found


def load(path: str | os.PathLike) -> dict:
  """Reads the weights, which are not part of this package.

  Args:
    path: a .safetensors file with the tensors of pytorch-fid's
      `pt_inception-2015-12-05-6726825d.pth`, which torch-fidelity has, too;
      docs/evaluation.md shows how to convert it.

  Returns:
    As `params`.

  Raises:
    ValueError: no such file, another format, a damaged file, or other weights.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path} is not a file: a file of weights is expected')
  if path.suffix in ('.pth', '.pt'):
    raise ValueError(
      f'{path} was written by torch: convert it to .safetensors with the three '
      'lines in docs/evaluation.md, "Inception weights"'
    )
  try:
    return params(safetensors.numpy.load_file(path))
  except (OSError, ValueError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'{path} does not hold the InceptionV3 of FID: {error}'
    ) from error


def params(tensors: Mapping[str, np.ndarray]) -> dict:
  """Returns the parameters, batch norm folded into the convolutions.

  Args:
    tensors: arrays with torch's names and shapes; others (the classifier's
      bias, the counts of batches) are ignored.

  Returns:
    Layer -> {'kernel': float32 [height, width, in, out], 'bias': float32
    [out]}.

  Raises:
    ValueError: a tensor is missing, or of another shape or not finite.
  """
  expected = shapes()
  missing = sorted(expected.keys() - tensors.keys())
  if missing:
    raise ValueError(
      f'{len(missing)} of the {len(expected)} tensors of InceptionV3 are '
      f'missing, {missing[0]} among them'
    )
  for name, shape in expected.items():
    if tensors[name].shape != shape:
      raise ValueError(
        f'{name} has shape {tensors[name].shape}: {shape} is expected in the '
        'InceptionV3 of 2015-12-05'
      )
    if not np.all(np.isfinite(tensors[name])):
      raise ValueError(f'{name} is not finite')
  found = {}
  for key in expected:
    name, _, kind = key.rpartition('.conv.')
    if kind != 'weight':
      continue
    weight, scale, bias, mean, variance = (
      tensors[f'{name}.{tensor}'].astype(np.float64)
      for tensor in (
        'conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean',
        'bn.running_var',
      )
    )
    gain = scale / np.sqrt(variance + EPSILON)
    found[name] = {
      'kernel': (weight.transpose(2, 3, 1, 0) * gain).astype(np.float32),
      'bias': (bias - mean * gain).astype(np.float32),
    }
  return found


def resize(x: jax.Array) -> jax.Array:
  """Resizes to 299 x 299, bilinearly, as TensorFlow 1 did by default.

  Sample i of a side of s pixels is read at i * s / 299, without the half pixel
  of aligned centres, and without a low-pass filter.

  Args:
    x: float32 [b, h, w, c].

  Returns:
    float32 [b, 299, 299, c].
  """
  for axis in (2, 1):
    side = x.shape[axis]
    at = np.arange(SIDE, dtype=np.float32) * np.float32(side / SIDE)
    low = at.astype(np.int32)
    high = np.minimum(low + 1, side - 1)
    weight = np.expand_dims(at - low, [a for a in range(4) if a != axis])
    near, far = (jnp.take(x, i, axis) for i in (low, high))
    x = near + (far - near) * weight
  return x
