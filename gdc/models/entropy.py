"""Factorized prior: one univariate density per latent channel.

The deep factorized density of Balle et al. 2018 (arXiv 1802.01436, appendix
6.1): the logit of the cumulative distribution is a small monotone network.
Here it has one set of parameters per quality level, linear in between (see
layers.level_weights), and an explicit scale that is fitted to data once.

The prior gives the bits of a unit bin around a value and the probability of an
integer's bin. Its callers round and add noise. It computes in float32; the
coder's tables are made from the same functions in float64 on the host, by
passing `xp=numpy`.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gdc.models import layers

_SIZES = (1, 3, 3, 3, 1)  # widths of the monotone network


def cumulative_logits(params, y, xp=jnp):
  """Returns the logit of the cumulative distribution at y.

  Args:
    params: dict of arrays whose first axis is the batch (or 1), as returned
      by `at_quality`: log_scale [b, c], matrix_i [b, c, out, in],
      bias_i [b, c, out], factor_i [b, c, out].
    y: [batch, positions, channels].
    xp: numpy or jax.numpy.

  Returns:
    [batch, positions, channels], increasing in y.
  """
  scale = xp.exp(-params['log_scale'])[:, None, :]
  units = [y * scale]
  for i in range(len(_SIZES) - 1):
    # Positive matrices and |tanh factor| < 1 keep the network increasing.
    matrix = xp.logaddexp(params[f'matrix_{i}'], 0.0)
    bias = params[f'bias_{i}']
    outputs = []
    for o in range(_SIZES[i + 1]):
      total = bias[:, None, :, o]
      for n, unit in enumerate(units):
        total = total + matrix[:, None, :, o, n] * unit
      if i < len(_SIZES) - 2:
        factor = xp.tanh(params[f'factor_{i}'])[:, None, :, o]
        total = total + factor * xp.tanh(total)
      outputs.append(total)
    units = outputs
  return units[0]


def bin_log_prob(params, y, xp=jnp):
  """Returns the natural logarithm of the probability of [y - 1/2, y + 1/2].

  Uses sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)),
  which keeps its relative precision in both tails: no likelihood bound is
  needed, and the gradient does not vanish there.
  """
  lower = cumulative_logits(params, y - 0.5, xp)
  upper = cumulative_logits(params, y + 0.5, xp)
  width = xp.maximum(upper - lower, 1e-6)
  return (
    -xp.logaddexp(0.0, -upper)
    - xp.logaddexp(0.0, lower)
    + xp.log(-xp.expm1(-width))
  )


def at_quality(tables, weights):
  """Interpolates the parameters between levels.

  Args:
    tables: dict of arrays [levels, channels, ...], the prior's parameters.
    weights: [batch, levels] from layers.level_weights.

  Returns:
    The same dict with arrays [batch, channels, ...].
  """
  return {k: layers.at_quality(weights, v) for k, v in tables.items()}


class FactorizedPrior(nn.Module):
  """The factorized prior of all channels; see the module's docstring."""

  channels: int
  num_levels: int

  def setup(self):
    lead = (self.num_levels, self.channels)
    tables = {
      'log_scale': self.param('log_scale', nn.initializers.zeros, lead)
    }
    depth = len(_SIZES) - 1
    for i in range(depth):
      out, inn = _SIZES[i + 1], _SIZES[i]
      # softplus of this is 1/inn: the network starts close to the identity.
      start = float(np.log(np.expm1(1 / inn)))
      tables[f'matrix_{i}'] = self.param(
        f'matrix_{i}', nn.initializers.constant(start), (*lead, out, inn)
      )
      tables[f'bias_{i}'] = self.param(
        f'bias_{i}', _shared_bias if i < depth - 1 else nn.initializers.zeros,
        (*lead, out),
      )
      if i < depth - 1:
        tables[f'factor_{i}'] = self.param(
          f'factor_{i}', nn.initializers.zeros, (*lead, out)
        )
    self.tables = tables

  def bin_bits(self, y: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the bits of the unit bin around each value.

    Args:
      y: [batch, height, width, channels], any real values.
      weights: [batch, levels] from layers.level_weights.

    Returns:
      float32 array of y's shape, positive.
    """
    b, h, w, c = y.shape
    params = at_quality(self.tables, weights)
    flat = y.astype(jnp.float32).reshape(b, h * w, c)
    return -bin_log_prob(params, flat).reshape(y.shape) / np.log(2)

  def __call__(self, y, weights):
    return self.bin_bits(y, weights)


def _shared_bias(key, shape, dtype=jnp.float32):
  """Draws biases in [-0.5, 0.5], equal at all levels, of zero sum over units.

  Different biases distinguish the units; with zero sum, the median starts at
  zero.
  """
  half = jax.random.uniform(key, (1, *shape[1:]), dtype, -0.5, 0.5)
  return jnp.broadcast_to(half - half.mean(axis=-1, keepdims=True), shape)


def bin_prob(tables, weights, k) -> np.ndarray:
  """Returns the probabilities of integers, in float64 on the host.

  Args:
    tables: the prior's parameters, dict of arrays [levels, channels, ...].
    weights: [levels] from layers.level_weights.
    k: [symbols] integers.

  Returns:
    [symbols, channels] float64; each column sums to at most 1.
  """
  tables = {n: np.asarray(v, np.float64) for n, v in tables.items()}
  params = at_quality(tables, np.asarray(weights, np.float64)[None])
  channels = tables['log_scale'].shape[1]
  y = np.broadcast_to(
    np.asarray(k, np.float64)[None, :, None], (1, len(k), channels)
  )
  return np.exp(bin_log_prob(params, y, xp=np))[0]
