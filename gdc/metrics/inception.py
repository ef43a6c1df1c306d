"""InceptionV3 of 2015-12-05, the network whose features FID is defined on.

Szegedy et al. 2016, 'Rethinking the Inception architecture for computer
vision', https://arxiv.org/abs/1512.00567, as TensorFlow's graph of that day has
it and torch-fidelity, torchmetrics and pytorch-fid rebuild it. Where it departs
from later InceptionV3s, a figure that leaves it out is another figure:
- Pictures are resized as TensorFlow 1 did: sample i is at i * scale.
- Pixels are (x - 128) / 128, not divided by 127.5 or normalised otherwise.
- Average pools don't count what is padded.
- The last block has a max pool where all others have an average pool.
- There are 1008 classes; torchvision's own weights have the same names and
  shapes but for these, and other values.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 299  # pixels
CLASSES = 1008
EPSILON = 0.001  # of batch norm


class Conv(NamedTuple):
  """A convolution, batch norm and ReLU; the name is that of the weights."""

  name: str
  channels: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = 'SAME'


def _down(name, channels):
  return Conv(name, channels, (3, 3), 2, 'VALID')


def _block_a(pool):
  return [
    [Conv('branch1x1', 64)],
    [Conv('branch5x5_1', 48), Conv('branch5x5_2', 64, (5, 5))],
    [
      Conv('branch3x3dbl_1', 64),
      Conv('branch3x3dbl_2', 96, (3, 3)),
      Conv('branch3x3dbl_3', 96, (3, 3)),
    ],
    ['average', Conv('branch_pool', pool)],
  ]


def _block_c(inner):
  return [
    [Conv('branch1x1', 192)],
    [
      Conv('branch7x7_1', inner),
      Conv('branch7x7_2', inner, (1, 7)),
      Conv('branch7x7_3', 192, (7, 1)),
    ],
    [
      Conv('branch7x7dbl_1', inner),
      Conv('branch7x7dbl_2', inner, (7, 1)),
      Conv('branch7x7dbl_3', inner, (1, 7)),
      Conv('branch7x7dbl_4', inner, (7, 1)),
      Conv('branch7x7dbl_5', 192, (1, 7)),
    ],
    ['average', Conv('branch_pool', 192)],
  ]


def _block_e(pool):
  # Two branches fork; the layers they share are computed once.
  fork = [Conv('branch3x3_1', 384)]
  double = [Conv('branch3x3dbl_1', 448), Conv('branch3x3dbl_2', 384, (3, 3))]
  return [
    [Conv('branch1x1', 320)],
    [*fork, Conv('branch3x3_2a', 384, (1, 3))],
    [*fork, Conv('branch3x3_2b', 384, (3, 1))],
    [*double, Conv('branch3x3dbl_3a', 384, (1, 3))],
    [*double, Conv('branch3x3dbl_3b', 384, (3, 1))],
    [pool, Conv('branch_pool', 192)],
  ]


STEM = [
  _down('Conv2d_1a_3x3', 32),
  Conv('Conv2d_2a_3x3', 32, (3, 3), padding='VALID'),
  Conv('Conv2d_2b_3x3', 64, (3, 3)),
  'down',
  Conv('Conv2d_3b_1x1', 80),
  Conv('Conv2d_4a_3x3', 192, (3, 3), padding='VALID'),
  'down',
]
# Name -> branches, whose outputs are joined in this order.
BLOCKS = {
  'Mixed_5b': _block_a(32),
  'Mixed_5c': _block_a(64),
  'Mixed_5d': _block_a(64),
  'Mixed_6a': [
    [_down('branch3x3', 384)],
    [
      Conv('branch3x3dbl_1', 64),
      Conv('branch3x3dbl_2', 96, (3, 3)),
      _down('branch3x3dbl_3', 96),
    ],
    ['down'],
  ],
  'Mixed_6b': _block_c(128),
  'Mixed_6c': _block_c(160),
  'Mixed_6d': _block_c(160),
  'Mixed_6e': _block_c(192),
  'Mixed_7a': [
    [Conv('branch3x3_1', 192), _down('branch3x3_2', 320)],
    [
      Conv('branch7x7x3_1', 192),
      Conv('branch7x7x3_2', 192, (1, 7)),
      Conv('branch7x7x3_3', 192, (7, 1)),
      _down('branch7x7x3_4', 192),
    ],
    ['down'],
  ],
  'Mixed_7b': _block_e('average'),
  'Mixed_7c': _block_e('max'),
}


def shapes() -> dict[str, tuple[int, ...]]:
  """Shapes of the tensors that are read, by their names in torch's files."""
  found = {'fc.weight': (CLASSES, 2048)}

  def pass_through(prefix, layers, channels):
    for layer in layers:
      if isinstance(layer, Conv):
        name = prefix + layer.name
        found[f'{name}.conv.weight'] = (layer.channels, channels, *layer.kernel)
        for statistic in ('weight', 'bias', 'running_mean', 'running_var'):
          found[f'{name}.bn.{statistic}'] = (layer.channels,)
        channels = layer.channels
    return channels

  channels = pass_through('', STEM, 3)
  for block, branches in BLOCKS.items():
    channels = sum(
      pass_through(f'{block}.', branch, channels) for branch in branches
    )
  return found


def params(tensors: Mapping[str, np.ndarray]) -> dict:
  """The network's parameters, batch norm folded into the convolutions.

  Args:
    tensors: of torch's names and shapes; others (the classifier's bias, the
      counts of batches) are left alone.

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
  """Bilinear resizing to 299 x 299 as TensorFlow 1 did it by default.

  Sample i of a side of s pixels is read at i * s / 299, without the half pixel
  that centres would ask for, and without a low-pass filter.

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


def features(params, x: jax.Array) -> jax.Array:
  """The last average pool, 'pool3', after the last block.

  Args:
    params: of `params`.
    x: float32 [b, 299, 299, 3], pixels in [0, 255], of `resize`.

  Returns:
    float32 [b, 2048], >= 0.
  """
  def apply(prefix, layers, x, done):
    path = prefix
    for layer in layers:
      name = layer.name if isinstance(layer, Conv) else layer
      path = f'{path}/{name}'
      if path not in done:
        done[path] = (
          _convolve(params[prefix + name], layer, x)
          if isinstance(layer, Conv) else POOLS[layer](x)
        )
      x = done[path]
    return x

  x = apply('', STEM, (x - 128) / 128, {})
  for block, branches in BLOCKS.items():
    done = {}
    x = jnp.concatenate(
      [apply(f'{block}.', branch, x, done) for branch in branches], -1
    )
  return jnp.mean(x, (1, 2))


def _convolve(params, layer, x):
  x = jax.lax.conv_general_dilated(
    x, params['kernel'], (layer.stride, layer.stride), layer.padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jax.nn.relu(x + params['bias'])


def average_pool(x: jax.Array) -> jax.Array:
  """Means of 3 x 3 windows at stride 1, over the pixels there are.

  At a border the mean is over 6 pixels, in a corner over 4: zeros that are
  padded aren't counted.
  """
  total, count = (
    _windows(a, jax.lax.add, 0.0, 1, 'SAME')
    for a in (x, jnp.ones((1, *x.shape[1:3], 1), x.dtype))
  )
  return total / count


def _windows(x, operator, start, stride, padding):
  return jax.lax.reduce_window(
    x, np.array(start, x.dtype), operator, (1, 3, 3, 1), (1, stride, stride, 1),
    padding,
  )


POOLS = {
  'average': average_pool,
  'max': lambda x: _windows(x, jax.lax.max, -np.inf, 1, 'SAME'),
  'down': lambda x: _windows(x, jax.lax.max, -np.inf, 2, 'VALID'),
}
