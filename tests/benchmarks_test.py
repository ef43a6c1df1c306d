"""The benchmarks: that they can be asked, and what they are asked about."""
import importlib.util
import io
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.codec import codec
from gdc.data import sources
from gdc.training import contexts_step

FOLDER = pathlib.Path(__file__).parents[1] / 'benchmarks'


def _load(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('name', [
  'codec_speed', 'contexts', 'guidance', 'large_images', 'peer_measures',
  'patch_pattern', 'plain_noise', 'precision', 'slices', 'startup',
  'training_speed',
])
def test_help(name):
  done = subprocess.run(
    [sys.executable, FOLDER / f'{name}.py', '--help'],
    capture_output=True, text=True, check=True,
  )
  assert done.stdout.startswith(f'usage: {name}.py')


def test_sizes():
  parser = _load('large_images').parser()
  assert parser.parse_args([]).sizes == [1, 10, 100]
  assert parser.parse_args(['--sizes', '0.5,2']).sizes == [0.5, 2]
  for wrong in ('0', '1,', '300', 'big'):
    with pytest.raises(SystemExit):
      parser.parse_args(['--sizes', wrong])


def test_operations_are_those_of_matmuls():
  @jax.custom_vjp
  def matmul(x, kernel):
    return x @ kernel

  matmul.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, grad: (grad @ saved[1].T, saved[0].T @ grad),
  )

  def step(x, kernel, image, filters):
    y = jax.lax.conv_general_dilated(
      image, filters, (1, 1), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return jnp.sum(jax.nn.relu(matmul(x, kernel))) + jnp.sum(y)

  x, kernel = jnp.ones((5, 7)), jnp.ones((7, 3))
  image, filters = jnp.ones((1, 4, 6, 2)), jnp.ones((3, 3, 2, 8))
  count = _load('training_speed').matmul_flops
  forward = 2 * 5 * 7 * 3 + 2 * 4 * 6 * 9 * 2 * 8
  given = x, kernel, image, filters
  assert count(jax.make_jaxpr(step)(*given).jaxpr) == forward
  # Under jit, with the gradients of all but the image.
  grads = jax.make_jaxpr(jax.jit(jax.grad(step, (0, 1))))(*given)
  assert count(grads.jaxpr) >= 3 * 2 * 5 * 7 * 3


def test_a_step_for_every_line(monkeypatch, capsys):
  module = _load('training_speed')
  module.build = lambda *_: (
    lambda state, batch: (state + batch['image'].sum(), {}),
    jnp.zeros(()), ({'image': jnp.ones((2, 4, 6, 3))},),
  )
  monkeypatch.setattr(sys, 'stdin', io.StringIO('\n\n'))
  module.serve('flow', 'float32', None, None)
  said, *seconds = map(json.loads, capsys.readouterr().out.splitlines())
  assert said['shape'] == [2, 4, 6, 3] and said['flops'] == 0
  assert len(seconds) == 2 and min(seconds) > 0


def test_what_is_preloaded_must_be_there():
  parser = _load('training_speed').parser()
  assert parser.parse_args(['--preload', __file__]).preload.is_absolute()
  with pytest.raises(SystemExit):
    parser.parse_args(['--preload', 'none.so'])


def test_images_to_time():
  [image] = _load('codec_speed').test_images(1)
  assert image.shape == (512, 768, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(image[:, 512:], image[:, 511:255:-1])


def test_large_images_are_filled():
  image = _load('large_images').test_image(2100, 1100)
  assert image.shape == (1100, 2100, 3) and image.dtype == np.uint8
  for top in (0, 1024):  # every cell has a photograph
    for left in (0, 1024, 2048):
      assert image[top:top + 1024, left:left + 1024].std() > 5
  np.testing.assert_array_equal(image[:512, :512], image[1023:511:-1, :512])


def test_a_process_is_measured_by_itself():
  """Not by what this process holds, which its children begin with."""
  code = (
    'import sys; sys.path.insert(0, sys.argv[1])\n'
    'import large_images\n'
    'small = large_images.run(["-c", "pass"])[1]\n'
    'big = large_images.run(["-c", "x = b\'a\' * (100 << 20)"])[1]\n'
    'print(small, big)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, FOLDER], capture_output=True, text=True,
    check=True,
  )
  small, big = map(float, done.stdout.split())
  assert 95 < big - small < 130


def test_a_pattern_is_told_from_noise():
  pattern = _load('patch_pattern')
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((96, 64, 3))
  image = noise + np.tile(rng.standard_normal((4, 4, 3)), (24, 16, 1))
  assert pattern.blocks(image, 32).shape == (6, 32, 32, 3)
  periodic, total = pattern.energies(pattern.blocks(noise, 32), 4)
  assert 0.01 < periodic / total < 0.02
  periodic, total = pattern.energies(pattern.blocks(image, 32), 4)
  assert 0.4 < periodic / total < 0.6
  # What repeats after 4 pixels does after 16, among more noise.
  periodic, total = pattern.energies(pattern.blocks(image, 64), 16)
  assert 0.45 < periodic / total < 0.65


def test_bits_of_contexts_and_of_what_is_fitted_between(tiny_bundle):
  module = _load('contexts')
  assert module.parser().parse_args(['a', '--between', '1.5,2']).between == [
    1.5, 2
  ]
  settings = contexts_step.Settings('bundled:heldout', 2, 64, 0)
  coder = codec.Codec(contexts_step.add(tiny_bundle, settings))
  fitted = module.fit_between(coder, [1.5, 2.5], settings.source)
  source = sources.bundled('heldout')
  images = contexts_step.draw(source, 2, 64, 0)
  row = module.measure(coder, images, 1.5, {'fitted': (fitted, 0)})
  data = [coder.compress(image, 1.5, lossless='never') for image in images]
  bits = sum(map(coder.ideal_bits, data))
  assert row['contexts'] == pytest.approx(bits / (2 * 64**2), abs=1e-4)
  assert row['loss, %'] == pytest.approx(
    100 * (row['contexts'] / row['fitted'] - 1), abs=0.05
  )
