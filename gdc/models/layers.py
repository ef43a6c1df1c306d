"""Layers that act at one position or on its 3x3 neighbourhood.

Nothing here sees further: no attention, and normalisation over the channels of
one position only. A network of these layers is exactly local, so large images
can be evaluated tile by tile.

Arrays are [batch, height, width, channel]. Parameters are float32; layers
compute in `dtype`. Norms are always float32.
"""
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Kernels that end a residual branch start near zero: a network starts as its
# projections alone (for the autoencoder, a block transform).
NEAR_ZERO = nn.initializers.normal(1e-4)
MATMUL_DTYPES = 'float32', 'bfloat16'


def constant(value):
  """Returns an initializer that gives this matrix."""
  def init(key, shape, dtype=jnp.float32):
    del key
    if tuple(shape) != value.shape:
      raise ValueError(f'parameter of shape {shape}, value of {value.shape}.')
    return jnp.asarray(value, dtype)
  return init


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """[b, h, w, c] -> [b, h/block, w/block, block * block * c].

  The new channels are ordered (row in block, column in block, channel).
  """
  b, h, w, c = x.shape
  if h % block or w % block:
    raise ValueError(
      f'space_to_depth: height and width {h}x{w} must be multiples of {block}.'
    )
  x = x.reshape(b, h // block, block, w // block, block, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // block, w // block, block * block * c)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
  """The inverse of space_to_depth."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, block, block, c // (block * block))
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * block, w * block, c // (block * block))


def _shifted(x: jax.Array, size: int):
  """Yields (row, column, x shifted by that much), zero beyond the border."""
  h, w = x.shape[1:3]
  r = size // 2
  padded = jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)))
  for i in range(size):
    for j in range(size):
      yield i, j, padded[:, i:i + h, j:j + w]


@jax.custom_vjp
def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Correlates each channel with its own small kernel, zero-padded.

  Written as shifted multiply-adds, with gradients by hand: on CPU, XLA's
  grouped convolution is many times slower, and automatic gradients of this sum
  are somewhat slower (benchmarks/depthwise.py).

  Args:
    x: [batch, height, width, channels].
    kernel: [size, size, channels], size odd.

  Returns:
    [batch, height, width, channels].
  """
  return sum(kernel[i, j] * s for i, j, s in _shifted(x, kernel.shape[0]))


def _depthwise_forward(x, kernel):
  return depthwise(x, kernel), (x, kernel)


def _depthwise_backward(saved, grad):
  x, kernel = saved
  size = kernel.shape[0]
  grad_x = depthwise(grad, kernel[::-1, ::-1])
  # Summed in float32: thousands of bfloat16 products would lose precision.
  sums = [
    jnp.sum(s * grad, axis=(0, 1, 2), dtype=jnp.float32)
    for _, _, s in _shifted(x, size)
  ]
  grad_kernel = jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)
  return grad_x, grad_kernel


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


class Depthwise(nn.Module):
  """Depthwise correlation with a bias, see `depthwise`."""

  size: int = 3
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    kernel = self.param(
      'kernel',
      nn.initializers.normal(1 / self.size),
      (self.size, self.size, x.shape[-1]),
    )
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    x = x.astype(self.dtype)
    return depthwise(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)


def rms_normalize(x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
  """Scales the channels of each position to unit mean square, in float32."""
  y = x.astype(jnp.float32)
  y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
  return y.astype(x.dtype)


class Modulation(nn.Module):
  """x * (1 + scale) + shift, both linear in a condition per example.

  Starts as the identity. FiLM, Perez et al., arXiv 1709.07871.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, condition):
    """x [b, h, w, c], condition [b, k] -> [b, h, w, c]."""
    both = nn.Dense(
      2 * x.shape[-1],
      kernel_init=nn.initializers.zeros,
      dtype=self.dtype,
    )(condition)
    scale, shift = jnp.split(both[:, None, None], 2, axis=-1)
    return x * (1 + scale) + shift


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, kernel: jax.Array, dtype) -> jax.Array:
  """Returns x @ kernel with inputs cast to dtype and float32 accumulation.

  Its gradients cast their inputs in the same way; automatic ones would multiply
  in float32.

  Args:
    x: float32 [..., n].
    kernel: float32 [n, m].
    dtype: dtype of the inputs.

  Returns:
    float32 [..., m].
  """
  return _matmul_forward(x, kernel, dtype)[0]


def _matmul_forward(x, kernel, dtype):
  inputs = x.astype(dtype), kernel.astype(dtype)
  return jnp.matmul(*inputs, preferred_element_type=jnp.float32), inputs


def _matmul_backward(dtype, inputs, grad):
  x, kernel = inputs
  n, m = kernel.shape
  grad = grad.astype(dtype)
  return (
    jnp.matmul(grad, kernel.T, preferred_element_type=jnp.float32),
    jnp.matmul(
      x.reshape(-1, n).T, grad.reshape(-1, m),
      preferred_element_type=jnp.float32,
    ),
  )


matmul.defvjp(_matmul_forward, _matmul_backward)


class GatedBlock(nn.Module):
  """The block that every network here is made of; two residual branches.

  1x1, leaky ReLU, depthwise 3x3, 1x1; then a gated 1x1 network,
  c -> 4c -> 2c * sigmoid(2c) -> c. In the spirit of DCVC-RT (Jia et al.,
  arXiv 2502.20762). Both branches see their input modulated by a condition.

  Attributes:
    normalize: whether the branches' inputs are normalised.
    dtype: dtype of the layers.
    matmul_dtype: dtype of matmul inputs in the four 1x1 layers of float32
      blocks; accumulation and all else stay float32. Most of a network's work
      is in these, and 'bfloat16' costs them least.
  """

  normalize: bool = False
  dtype: jnp.dtype = jnp.float32
  matmul_dtype: str = 'float32'

  @nn.compact
  def __call__(self, x, condition):
    """x [b, h, w, c], condition [b, k] -> [b, h, w, c]."""
    c = x.shape[-1]
    for branch in (self._local, self._gated):
      h = rms_normalize(x) if self.normalize else x
      h = Modulation(dtype=self.dtype)(h, condition)
      x = x + branch(h, c)
    return x

  def _dense(self, features, **more):
    def dot_general(x, kernel, dimensions, precision=None):
      del dimensions, precision  # those of nn.Dense
      return matmul(x, kernel, self.matmul_dtype)

    own = self.matmul_dtype != 'float32' and self.dtype == jnp.float32
    return nn.Dense(
      features, dtype=self.dtype, dot_general=dot_general if own else None,
      **more,
    )

  def _local(self, h, c):
    h = self._dense(c)(h)
    h = Depthwise(dtype=self.dtype)(nn.leaky_relu(h, 0.1))
    return self._dense(c, kernel_init=NEAR_ZERO)(h)

  def _gated(self, h, c):
    value, gate = jnp.split(self._dense(4 * c)(h), 2, axis=-1)
    h = value * nn.sigmoid(gate)
    return self._dense(c, kernel_init=NEAR_ZERO)(h)


# --- Conditions --------------------------------------------------------------


def level_weights(quality: jax.Array, num_levels: int) -> jax.Array:
  """Returns weights of the two trained levels that a quality lies between.

  Whatever depends on quality is a table with one row per level, and its value
  at a quality is `at_quality(weights, table)`: linear between levels, exact on
  them.

  Args:
    quality: [batch] float in [1, num_levels]; clipped to that range.
    num_levels: number of trained levels.

  Returns:
    [batch, num_levels] float32, non-negative, rows sum to 1.
  """
  quality = jnp.clip(jnp.asarray(quality, jnp.float32), 1, num_levels)
  levels = jnp.arange(1, num_levels + 1, dtype=jnp.float32)
  return jnp.maximum(0.0, 1 - jnp.abs(quality[:, None] - levels))


def at_quality(weights, table):
  """Interpolates a table: weights [batch, levels] @ table [levels, ...].

  Multiplies in float32: accelerators would otherwise use bfloat16 or TF32,
  which changes rates and gains. Of numpy arrays, the result is one too.
  """
  flat = table.reshape(table.shape[0], -1)
  if isinstance(weights, np.ndarray) and isinstance(table, np.ndarray):
    found = weights @ flat
  else:
    found = jnp.matmul(weights, flat, precision=jax.lax.Precision.HIGHEST)
  return found.reshape(weights.shape[:1] + table.shape[1:])


def sinusoidal_embedding(value: jax.Array, size: int = 32) -> jax.Array:
  """[batch] -> [batch, size]: sines and cosines, angular rates 1/16 to 16.

  The range suits both a time in [0, 1] and a log-SNR in [-20, 20].
  """
  rates = jnp.geomspace(1 / 16, 16, size // 2)
  angles = value.astype(jnp.float32)[:, None] * rates
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
