"""Set up before jax is imported, and the small models that tests share."""
import os
import pathlib
import signal
import subprocess
import sys

# Programs keep ignoring the signals that they were started to ignore, as by
# nohup or in the background of a script; those that tests start must not.
for _number, _handler in (
  (signal.SIGINT, signal.default_int_handler),
  (signal.SIGHUP, signal.SIG_DFL),
  (signal.SIGTERM, signal.SIG_DFL),
):
  if signal.getsignal(_number) == signal.SIG_IGN:
    signal.signal(_number, _handler)

os.environ['JAX_PLATFORMS'] = 'cpu'
# Tests compile far longer than they run: the compiler does not optimise, and
# takes its older emitters where it has them.
_FLAGS = '--xla_backend_optimization_level=0'
_OLDER = f'{_FLAGS} --xla_cpu_use_fusion_emitters=false'
if 'PYTEST_XDIST_WORKER' not in os.environ:  # a worker inherits what is set
  _tried = subprocess.run(  # a flag that is not known ends a process
    [sys.executable, '-c', 'import jax; jax.devices()'],
    env={**os.environ, 'XLA_FLAGS': _OLDER}, capture_output=True, check=False,
  )
  os.environ['XLA_FLAGS'] = ' '.join([
    os.environ.get('XLA_FLAGS', ''),
    _FLAGS if _tried.returncode else _OLDER,
    # So that shardings are tested on any machine.
    '--xla_force_host_platform_device_count=8',
  ]).strip()
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
os.environ['CUDA_VISIBLE_DEVICES'] = ''

# `configs` is a namespace package at the root, which is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()  # grain's workers read flags


# Files that take longest go first: one of them that is begun last would leave
# the other process without work.
_LONGEST = (
  'main_test', 'loop_test', 'sharding_test', 'one_step_test', 'codec_test',
  'score_test', 'compress_test',
)


def pytest_collection_modifyitems(items):
  rank = {name: i for i, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory):
  """The same program is compiled once per session, not once per test.

  Other processes keep the codec's programs beside, not in the user's cache.
  """
  import jax
  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent  # which the processes share
  os.environ['GDC_CACHE_DIR'] = str(folder / 'gdc')
  jax.config.update('jax_compilation_cache_dir', str(folder / 'xla'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


@pytest.fixture
def by_the_network(monkeypatch):
  """Nothing is kept losslessly unless asked: random networks always fail."""
  from gdc.codec import encoder
  init = encoder.Encoder.__init__

  def patched(self, codec, image, header, mode):
    init(self, codec, image, header, 'never' if mode == 'auto' else mode)
  monkeypatch.setattr(encoder.Encoder, '__init__', patched)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
  """A test finds no program of the codec that another one has kept."""
  from gdc.codec import programs
  monkeypatch.setattr(programs, '_folder', None)


@pytest.fixture(scope='session')
def tiny_bundle():
  """A bundle of random networks with both decoders; gdc.codec.bundle.Bundle."""
  import jax

  from configs import autoencoder, diffusion, flow
  from gdc.codec import bundle
  from gdc.training import stages

  rng = np.random.default_rng(0)
  batch = {'image': rng.integers(0, 256, (2, 32, 32, 3), np.uint8)}

  stage = stages.build(autoencoder.get_config('tiny'))
  params = jax.jit(stage.init)(jax.random.key(0), batch)
  made = bundle.make('tiny', stage.spec, jax.device_get(params))
  for module in (flow, diffusion):
    stage = stages.build(module.get_config('tiny'), made)
    # A score network starts at zero; these do something.
    params = jax.tree.map(
      lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32),
      jax.eval_shape(stage.init, jax.random.key(0), batch),
    )
    made = bundle.add_decoder(made, stage.name, stage.spec, params)
  return made


@pytest.fixture(scope='session')
def tiny_bundle_path(tiny_bundle, tmp_path_factory):
  """The folder that tiny_bundle is saved in."""
  from gdc.codec import bundle
  return bundle.save(tiny_bundle, tmp_path_factory.mktemp('bundle') / 'tiny')


@pytest.fixture(scope='session')
def rgb_profile():
  """An ICC profile of RGB that is not sRGB: its red and green are swapped."""
  from PIL import ImageCms
  icc = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  return icc.replace(b'rXYZ', b'....').replace(b'gXYZ', b'rXYZ').replace(
    b'....', b'gXYZ'
  )
