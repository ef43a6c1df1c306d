"""Features of VGG16 as a pure function of its weights.

Simonyan and Zisserman 2015, 'Very deep convolutional networks for large-scale
image recognition', https://arxiv.org/abs/1409.1556, configuration D without
its dense layers, trained on ImageNet. The weights are those that LPIPS is built
on, `lpips.weights('vgg')['VGG16_0']`.
"""
import jax
import jax.numpy as jnp

# Channels of the stages' convolutions; between the stages the sides halve.
STAGES = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)

# Of ImageNet, for RGB in [0, 1].
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def features(
  params, images, pool: str = 'max', dtype=jnp.float32
) -> list[jax.Array]:
  """Returns the last map of each stage, after its ReLU; differentiable.

  They are relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, at 1, 1/2, 1/4, 1/8
  and 1/16 of the sides.

  Args:
    params: {'Conv_0': {'kernel': [3, 3, in, out], 'bias': [out]}, ...
      'Conv_12': ...}.
    images: [batch, height, width, 3], RGB in [0, 1]; ImageNet's mean and
      deviation are applied here.
    pool: halves the sides between stages. 'max', as the network was trained:
      2 x 2, odd sides rounded down, both 16 or more. 'l2', as in DISTS, against
      aliasing: the root of the mean square under a 3 x 3 Hanning window, odd
      sides rounded up.
    dtype: of weights and maps; measures use float32.

  Returns:
    Five maps, [batch, height', width', channel] with 64, 128, 256, 512 and
    512 channels, of dtype.
  """
  params = jax.tree.map(lambda a: jnp.asarray(a, dtype), params)
  x = ((images - jnp.array(MEAN)) / jnp.array(DEVIATION)).astype(dtype)
  maps, index = [], 0
  for stage, convolutions in enumerate(STAGES):
    if stage:
      x = POOLS[pool](x)
    for _ in convolutions:
      layer = params[f'Conv_{index}']
      x = jax.nn.relu(_convolve(x, layer['kernel']) + layer['bias'])
      index += 1
    maps.append(x)
  return maps


def _convolve(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, window_strides=(1, 1), padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    # Accelerators would otherwise multiply float32 in bfloat16.
    precision=jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None,
  )


def _max_pool(x):
  # Unlike flax's, its gradient is no scatter.
  batch, height, width, channels = x.shape
  rows, columns = height // 2, width // 2
  return x[:, :2 * rows, :2 * columns].reshape(
    batch, rows, 2, columns, 2, channels
  ).max((2, 4))


def _l2_pool(x):
  # On every side: 'SAME' would pad even sides at the end alone.
  x = jnp.pad(x**2, ((0, 0), (1, 1), (1, 1), (0, 0)))
  x = 0.25 * x[:, :-2:2] + 0.5 * x[:, 1:-1:2] + 0.25 * x[:, 2::2]
  x = 0.25 * x[:, :, :-2:2] + 0.5 * x[:, :, 1:-1:2] + 0.25 * x[:, :, 2::2]
  return jnp.sqrt(x + 1e-12)


POOLS = {'max': _max_pool, 'l2': _l2_pool}
