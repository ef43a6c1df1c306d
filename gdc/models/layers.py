"""Layers that act at one position or on its 3x3 neighbourhood.

Nothing here looks further: no attention, and normalisation over the channels
of one position only. A network made of these layers is exactly local, which
is what lets a large picture be evaluated tile by tile.

Arrays are [batch, height, width, channel]. Parameters are float32; `dtype` is
the type that products are computed in. Norms are always float32.
"""
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

# The kernel that ends a residual branch starts near zero, so that a network
# starts as what its projections are (for the autoencoder, a block transform).
NEAR_ZERO = nn.initializers.normal(1e-4)


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

  Written as shifted multiply-adds: on CPU, XLA's grouped convolution took 36
  times as long forward and 5 times with gradients. The gradients by hand gain
  less: the automatic ones of this very sum took 1.2 times as long.
  benchmarks/depthwise.py measures all three in one run.

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
  # Sums in float32: thousands of products of a narrow type lose its last bits.
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


class GatedBlock(nn.Module):
  """The block that every network here is made of; two residual branches.

  1x1, leaky ReLU, depthwise 3x3, 1x1; then a gated 1x1 network,
  c -> 4c -> 2c * sigmoid(2c) -> c. In the spirit of DCVC-RT (Jia et al.,
  arXiv 2502.20762). Both branches see their input modulated by a condition.
  """

  normalize: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, condition):
    """x [b, h, w, c], condition [b, k] -> [b, h, w, c]."""
    c = x.shape[-1]
    for branch in (self._local, self._gated):
      h = rms_normalize(x) if self.normalize else x
      h = Modulation(dtype=self.dtype)(h, condition)
      x = x + branch(h, c)
    return x

  def _local(self, h, c):
    h = nn.Dense(c, dtype=self.dtype)(h)
    h = Depthwise(dtype=self.dtype)(nn.leaky_relu(h, 0.1))
    return nn.Dense(c, kernel_init=NEAR_ZERO, dtype=self.dtype)(h)

  def _gated(self, h, c):
    value, gate = jnp.split(nn.Dense(4 * c, dtype=self.dtype)(h), 2, axis=-1)
    h = value * nn.sigmoid(gate)
    return nn.Dense(c, kernel_init=NEAR_ZERO, dtype=self.dtype)(h)


# --- Products with narrow factors --------------------------------------------

PRODUCTS = 'float32', 'bfloat16'  # types of their factors


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, dtype) -> jax.Array:
  """x @ kernel with factors of a type and sums in float32, gradients alike.

  Without a gradient of its own, that of a float32 sum would be multiplied in
  float32.

  Args:
    x: float32 [..., n].
    kernel: float32 [n, m].
    dtype: of the factors; where it is float32, this is an ordinary product.

  Returns:
    float32 [..., m].
  """
  return _product_forward(x, kernel, dtype)[0]


def _product_forward(x, kernel, dtype):
  factors = x.astype(dtype), kernel.astype(dtype)
  return jnp.matmul(*factors, preferred_element_type=jnp.float32), factors


def _product_backward(dtype, factors, grad):
  x, kernel = factors
  n, m = kernel.shape
  grad = grad.astype(dtype)
  return (
    jnp.matmul(grad, kernel.T, preferred_element_type=jnp.float32),
    jnp.matmul(
      x.reshape(-1, n).T, grad.reshape(-1, m),
      preferred_element_type=jnp.float32,
    ),
  )


product.defvjp(_product_forward, _product_backward)


def narrow_dense(module: nn.Dense, x: jax.Array, dtype) -> jax.Array:
  """A dense layer's output, its product with factors of a type."""
  params = module.variables['params']
  return product(x, params['kernel'], dtype) + params['bias']


def is_block_product(module: nn.Module) -> bool:
  """Whether a layer is one of the four products of a gated block.

  Most of a network's work is in them, and narrow factors cost them least:
  what maps pixels and latents is not among them.
  """
  return isinstance(module, nn.Dense) and isinstance(module.parent, GatedBlock)


def narrow_products(dtype: str):
  """A context: all networks applied in it have such factors in their blocks.

  All else stays float32, unlike with `dtype` of the networks, which narrows
  what is between the products, too. A processor that multiplies bfloat16
  faster than it converts and stores it is better off with this one
  (benchmarks/training_speed.py).

  Args:
    dtype: one of PRODUCTS; 'float32' changes nothing.
  """
  def intercept(call, args, kwargs, context):
    module = context.module
    if (
      dtype == 'float32' or kwargs or context.method_name != '__call__'
      or module.is_initializing() or not is_block_product(module)
      or module.dtype != jnp.float32
    ):
      return call(*args, **kwargs)
    return narrow_dense(module, *args, dtype)

  return nn.intercept_methods(intercept)


# --- Conditions --------------------------------------------------------------


def level_weights(quality: jax.Array, num_levels: int) -> jax.Array:
  """A quality as the weights of the two trained levels that it lies between.

  Whatever depends on quality is a table with one row per level, and its value
  at a quality is `weights @ table`: linear between levels, exact on them.

  Args:
    quality: [batch] float in [1, num_levels]; clipped to that range.
    num_levels: the number of trained levels.

  Returns:
    [batch, num_levels] float32, non-negative, rows sum to 1.
  """
  quality = jnp.clip(jnp.asarray(quality, jnp.float32), 1, num_levels)
  levels = jnp.arange(1, num_levels + 1, dtype=jnp.float32)
  return jnp.maximum(0.0, 1 - jnp.abs(quality[:, None] - levels))


def sinusoidal_embedding(value: jax.Array, size: int = 32) -> jax.Array:
  """[batch] -> [batch, size]: sines and cosines, angular rates 1/16 to 16.

  The range suits both a time in [0, 1] and a log-SNR in [-20, 20].
  """
  rates = jnp.geomspace(1 / 16, 16, size // 2)
  angles = value.astype(jnp.float32)[:, None] * rates
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
