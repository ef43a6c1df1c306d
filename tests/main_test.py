"""Door 1, run as a user runs it, on the tiny variants."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import gdc
from gdc.data import sources
from gdc.training import export

ROOT = pathlib.Path(__file__).parents[1]


def _command(config, workdir, *flags):
  return [
    sys.executable, '-m', 'gdc.main', '--config', f'configs/{config}',
    '--workdir', str(workdir), *flags,
  ]


def _environment(home):
  # One device; what is compiled here runs once, so it is compiled fast.
  flags = [f for f in os.environ['XLA_FLAGS'].split() if 'count' not in f]
  # As strict as somebody may have set JAX for other work.
  strict = {
    'JAX_NUMPY_RANK_PROMOTION': 'raise', 'JAX_TRANSFER_GUARD': 'disallow',
    'JAX_NUMPY_DTYPE_PROMOTION': 'strict', 'JAX_ENABLE_X64': '1',
  }
  return {
    **os.environ, **strict, 'HOME': str(home), 'XLA_FLAGS': ' '.join(flags),
  }


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A home of its own, for the compilation cache."""
  return tmp_path_factory.mktemp('home')


def _run(config, workdir, home, *flags):
  result = subprocess.run(
    _command(config, workdir, *flags), cwd=ROOT, env=_environment(home),
    capture_output=True, text=True,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return result.stdout


@pytest.fixture(scope='module')
def autoencoder_run(tmp_path_factory, home):
  """Stage 1, trained, exported, evaluated."""
  workdir = tmp_path_factory.mktemp('autoencoder')
  return workdir, _run('autoencoder.py:tiny', workdir, home)


def test_stage_1_leaves_everything_that_it_names(autoencoder_run):
  workdir, printed = autoencoder_run
  for name in ('bundle', 'tensorboard', 'pictures', 'results'):
    assert f'\n{name} ' in printed
  for path in printed.split():
    if path.startswith(str(workdir)):
      assert pathlib.Path(path).exists(), path
  assert list((workdir / 'tensorboard').glob('events*'))
  results = json.loads((workdir / 'results.json').read_text())
  row = results['mse']['images'][0]
  assert row['bpp'] == 8 * row['bytes'] / (row['height'] * row['width'])


def test_stage_2_from_a_checkpoint_and_the_later_modes(
  autoencoder_run, tmp_path, home
):
  workdir = tmp_path / 'flow'
  flags = [f'--config.autoencoder_from=workdir:{autoencoder_run[0]}']
  _run('flow.py:tiny', workdir, home, *flags)
  # The bundle keeps the autoencoder: what either writes, the other reads.
  codec = gdc.load(str(workdir / 'bundle'))
  first = gdc.load(str(autoencoder_run[0] / 'bundle'))
  assert codec.decoders == ('mse', 'flow')
  name, image = next(sources.box_images('heldout'))
  data = first.compress(image, lossless='never')
  assert codec.decompress(data, 'flow', steps=1).shape == image.shape

  # The figures are of those files: measured again by hand.
  results = json.loads((workdir / 'results.json').read_text())
  assert set(results) == {'mse', 'flow'}
  row = results['mse']['images'][0]
  assert (row['name'], row['bytes']) == (name, len(data))
  error = codec.decompress(data, 'mse').astype(float) - image
  psnr = 10 * np.log10(255**2 / np.mean(error**2))
  assert abs(row['psnr'] - psnr) < 1e-6
  assert row['lpips'] > 0
  with Image.open(next((workdir / 'pictures').glob('*.png'))) as picture:
    assert picture.width > 3 * 512

  # The last parts alone, from the checkpoint.
  (workdir / 'results.json').unlink()
  for path in (workdir / 'pictures').iterdir():
    path.unlink()
  _run('flow.py:tiny', workdir, home, *flags, '--mode=sample')
  assert list((workdir / 'pictures').glob('*.png'))
  assert not (workdir / 'results.json').exists()

  # Sampled in another way, with the results elsewhere: the run is as it was.
  before = _files(workdir)
  out = tmp_path / 'sweep' / '3.json'
  printed = _run(
    'flow.py:tiny', workdir, home, *flags, '--mode=eval', f'--out={out}',
    '--config.sampling.steps=3', '--config.data.batch_size=16',
  )
  assert _files(workdir) == before
  assert printed.split()[-2:] == ['results', str(out)]
  record = json.loads(out.read_text())['flow']['meta']['config']
  assert record['sampling']['steps'] == 3
  assert record['steps'] == 4  # trained
  assert record['data']['batch_size'] == 8  # in training, whatever is said now
  assert record['autoencoder_from'] == f'workdir:{autoencoder_run[0].name}'


def _files(folder):
  return {
    path: path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


def test_a_killed_run_goes_on(autoencoder_run, tmp_path, home):
  flags = [
    f'--config.autoencoder_from={autoencoder_run[0] / "bundle"}',
    '--config.steps=300', '--config.checkpoint_every=2',
    '--config.image_every=1000',
  ]
  workdir = tmp_path / 'killed'
  process = subprocess.Popen(
    _command('flow.py:tiny', workdir, *flags), cwd=ROOT,
    env=_environment(home), stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  metrics = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 240
  while not (metrics.exists() and metrics.read_text().count('\n') > 6):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.1)
  process.send_signal(signal.SIGKILL)
  process.wait()
  reached = max(
    int(p.name) for p in (workdir / 'checkpoints').iterdir()
    if p.name.isdigit()
  )
  assert 0 < reached < 300
  flags[1] = f'--config.steps={reached + 2}'
  _run('flow.py:tiny', workdir, home, *flags)
  steps = [json.loads(s)['step'] for s in metrics.read_text().splitlines()]
  assert steps == list(range(1, reached + 3))


def test_a_run_without_checkpoints_says_so(tmp_path, home):
  result = subprocess.run(
    _command('autoencoder.py:tiny', tmp_path / 'empty', '--mode=eval'),
    cwd=ROOT, env=_environment(home), capture_output=True, text=True,
  )
  assert result.returncode != 0
  assert 'No checkpoint in' in result.stderr
  assert not (tmp_path / 'empty').exists()  # it was to be read


@pytest.mark.parametrize('flags', [
  ['--mode=sample', '--out=a.json'], ['--out=gs://bucket/a.json'],
])
def test_out_is_refused_where_it_means_nothing(flags, tmp_path, home):
  result = subprocess.run(
    _command('flow.py:tiny', tmp_path / 'never', *flags),
    cwd=ROOT, env=_environment(home), capture_output=True, text=True,
  )
  assert result.returncode != 0
  assert '--out is a local file' in result.stdout + result.stderr
  assert not (tmp_path / 'never').exists()


def test_results_are_copied_to_a_bucket(tmp_path):
  local, bucket = tmp_path / 'local', tmp_path / 'bucket'
  (local / 'pictures').mkdir(parents=True)
  (local / 'pictures' / 'a.png').write_bytes(b'\x00\x01')
  export.copy_files(local, bucket)
  assert (bucket / 'pictures' / 'a.png').read_bytes() == b'\x00\x01'
