"""The main job, run as a user runs it, on the tiny variants."""
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

import gdc
from gdc import main
from gdc.codec import bundle, programs
from gdc.data import sources
from gdc.training import checkpoints, export, lock

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
  """What a run prints: standard output and standard error."""
  result = subprocess.run(
    _command(config, workdir, *flags), cwd=ROOT, env=_environment(home),
    capture_output=True, text=True,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  for noise in ('oneDNN', 'absl::InitializeLog', 'Warning', 'Traceback'):
    assert noise not in result.stderr
  return result.stdout, result.stderr


@pytest.fixture
def run_here(monkeypatch, capfd):
  """Runs a command in this process: (exit status, output, errors)."""
  def no_pod():
    raise ValueError('a single host')

  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(programs, 'keep', lambda: None)
  monkeypatch.setattr(logging, 'basicConfig', lambda **_: None)
  monkeypatch.setattr(jax.distributed, 'initialize', no_pod)

  def run(config, workdir, *flags):
    capfd.readouterr()
    status = main.run(_command(config, workdir, *flags)[3:])
    return status, *capfd.readouterr()

  return run


@pytest.fixture(scope='module')
def autoencoder_run(tmp_path_factory, home):
  """Stage 1, trained, exported, evaluated."""
  workdir = tmp_path_factory.mktemp('autoencoder')
  return workdir, _run('autoencoder.py:tiny', workdir, home)[0]


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


def test_stage_1_fits_contexts(autoencoder_run, run_here):
  workdir, _ = autoencoder_run
  before = bundle.load(workdir / 'bundle')
  assert before.contexts is not None
  assert before.fitted_on['source'] == 'bundled:train'
  assert before.fitted_on['crops'] == 2
  # Evaluating it again does not fit them again, even with other settings.
  status, *_ = run_here(
    'autoencoder.py:tiny', workdir, '--mode=eval',
    '--config.contexts.max_crops=1',
  )
  assert status == 0
  assert bundle.load(workdir / 'bundle').digest == before.digest
  results = json.loads((workdir / 'results.json').read_text())
  assert results['mse']['meta']['config']['contexts']['max_crops'] == 2


def test_contexts_of_a_bundle(
  tiny_bundle, tiny_bundle_path, run_here, tmp_path
):
  flags = [f'--config.autoencoder_from={tiny_bundle_path}']
  workdir = tmp_path / 'contexts'
  status, _, errors = run_here(
    'contexts.py:tiny', workdir, *flags, '--mode=eval'
  )
  assert status == 1 and '--mode=train fits them' in errors
  assert not workdir.exists()

  status, printed, _ = run_here('contexts.py:tiny', workdir, *flags)
  assert status == 0
  for name in ('bundle', 'pictures', 'results'):
    assert f'\n{name} ' in printed
  assert 'tensorboard' not in printed
  made = bundle.load(workdir / 'bundle')
  assert made.contexts is not None
  assert list(made.decoders) == list(tiny_bundle.decoders)
  results = json.loads((workdir / 'results.json').read_text())
  assert list(results) == ['mse']
  config = results['mse']['meta']['config']
  assert config['stage'] == 'contexts' and 'steps' not in config

  # Evaluated again, at another quality, with the same contexts.
  status, printed, _ = run_here(
    'contexts.py:tiny', workdir, *flags, '--mode=eval',
    '--config.evaluation.qualities=(1.0,)', '--config.seed=1',
  )
  assert status == 0
  assert bundle.load(workdir / 'bundle').digest == made.digest
  # Another stage does not take the workdir, nor this step another stage's.
  shutil.rmtree(workdir / 'bundle')
  record = workdir / 'config.json'
  record.write_text(record.read_text().replace('contexts"', 'flow"', 1))
  status, _, errors = run_here('contexts.py:tiny', workdir, *flags)
  assert status == 1 and 'was trained with stage = flow, not contexts' in errors


@pytest.mark.parametrize('flags, status, message', [
  (['--config.contexts.max_crop=3'], 2, "no field 'contexts.max_crop'; did"),
  (['--config.contexts.crop=8'], 2, 'contexts.crop must be 16 or more, not 8.'),
  (['--config.data.source=folder:none'], 1, "'none' is not a folder of"),
  (['--config.autoencoder_from=none'], 1, "No model 'none'"),
])
def test_a_mistake_in_fitting_contexts(
  flags, status, message, run_here, tmp_path
):
  workdir = tmp_path / 'contexts'
  found, printed, errors = run_here('contexts.py:tiny', workdir, *flags)
  assert (found, printed) == (status, '')
  assert message in errors and errors.count('\n') == 1
  assert not workdir.exists()


@pytest.fixture(scope='module')
def flow_run(autoencoder_run, tmp_path_factory, home):
  """Stage 2 from a checkpoint of stage 1: killed, resumed, evaluated.

  Returns the workdir, the flags, the newest step that was saved before the
  kill, and what the resumed run said on standard error.
  """
  workdir = tmp_path_factory.mktemp('flow') / 'run'
  flags = [
    f'--config.autoencoder_from=workdir:{autoencoder_run[0]}',
    '--config.steps=300', '--config.checkpoint_every=2',
    '--config.image_every=1000',
  ]
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
  with pytest.raises(ValueError) as refused, lock.held(workdir):
    pass
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert f'trained in by process {process.pid} on ' in str(refused.value)
  reached = checkpoints.steps(workdir)[-1]
  assert 0 < reached < 300
  # A copy of the next one was interrupted.
  (workdir / 'checkpoints' / str(reached + 1)).mkdir()
  flags[1] = f'--config.steps={reached + 2}'
  _, errors = _run('flow.py:tiny', workdir, home, *flags)
  return workdir, flags, reached, errors


def test_a_killed_run_goes_on(flow_run):
  workdir, _, reached, errors = flow_run
  assert f'checkpoint {reached + 1} is not whole' in errors
  assert f'step {reached} is used' in errors
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps == list(range(1, reached + 3))


def test_a_finished_run_has_nothing_left_to_do(flow_run, run_here):
  workdir, flags, reached, _ = flow_run
  before = _files(workdir)
  status, printed, _ = run_here('flow.py:tiny', workdir, *flags)
  assert status == 0 and _files(workdir) == before
  assert f'is finished, at step {reached + 2}. --config.steps=' in printed
  for name in ('bundle', 'tensorboard', 'results.json'):
    assert str(workdir / name) in printed


def test_results_are_of_real_files(flow_run, autoencoder_run):
  workdir = flow_run[0]
  # The bundle keeps the autoencoder: what either writes, the other reads.
  codec = gdc.load(str(workdir / 'bundle'))
  first = gdc.load(str(autoencoder_run[0] / 'bundle'))
  assert codec.decoders == ('mse', 'flow')
  name, image = next(sources.bundled_images('heldout'))
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
  with Image.open(next((workdir / 'pictures').glob('*.png'))) as shown:
    assert shown.width > 3 * 512


def test_another_way_to_sample_leaves_the_run_as_it_is(
  flow_run, autoencoder_run, run_here, tmp_path
):
  workdir, flags, reached, _ = flow_run
  before = _files(workdir)
  out = tmp_path / 'sweep' / '3.json'
  status, printed, _ = run_here(
    'flow.py:tiny', workdir, *flags, '--mode=eval', f'--out={out}',
    '--config.sampling.steps=3', '--config.data.batch_size=16',
  )
  assert status == 0
  assert _files(workdir) == before
  assert printed.split()[-2:] == ['results', str(out)]
  record = json.loads(out.read_text())['flow']['meta']['config']
  assert record['sampling']['steps'] == 3
  assert record['steps'] == reached + 2  # trained
  assert record['data']['batch_size'] == 8  # during training
  assert record['autoencoder_from'] == f'workdir:{autoencoder_run[0].name}'


def test_sampling_alone_makes_images_and_no_results(
  autoencoder_run, run_here, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(autoencoder_run[0], workdir)
  (workdir / 'results.json').unlink()
  shutil.rmtree(workdir / 'pictures')
  assert run_here('autoencoder.py:tiny', workdir, '--mode=sample')[0] == 0
  assert list((workdir / 'pictures').glob('*.png'))
  assert not (workdir / 'results.json').exists()


def _files(folder):
  return {
    path: path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


@pytest.mark.parametrize('flags, status, message', [
  (['--config.steps_=3'], 2, "no field 'steps_'; did you mean steps?"),
  (['--config.steps=0'], 2, 'config.steps must be 1 or more, not 0.'),
  (['--mode=eval'], 1, 'No checkpoint in '),
  (['--config.data.source=folder:none'], 1, "'none' is not a folder of"),
  (['--config.data.batch_size=7'], 1, 'must be a multiple of the 8 devices'),
  (['--config.autoencoder.predicted_channels=(99,)'], 1, 'channels from 0 to'),
  (['--workdir={file}'], 1, 'is a file, not a folder'),
  (['--workdir={file}/below'], 1, 'Not a directory'),
])
def test_a_mistake_is_one_line_and_leaves_nothing(
  flags, status, message, tmp_path, run_here
):
  file = tmp_path / 'file'
  file.touch()
  flags = [f.format(file=file) for f in flags]
  found, printed, errors = run_here(
    'autoencoder.py:tiny', tmp_path / 'runs' / 'a', *flags
  )
  assert (found, printed) == (status, '')
  assert message in errors and errors.count('\n') == 1
  assert errors.startswith('gdc.main: ')
  assert list(tmp_path.iterdir()) == [file]


def test_without_the_back_end_it_says_so(run_here, monkeypatch, tmp_path):
  def none():
    raise AssertionError  # as jax does where no plugin brings it

  monkeypatch.setattr(jax, 'devices', none)
  status, _, errors = run_here('autoencoder.py:tiny', tmp_path / 'a')
  assert status == 1 and 'has no back end' in errors
  assert errors.count('\n') == 1


def test_a_missing_package_is_named_with_what_brings_it(
  run_here, monkeypatch, tmp_path
):
  monkeypatch.setitem(sys.modules, 'absl.logging', None)
  status, _, errors = run_here('autoencoder.py:tiny', tmp_path / 'a')
  assert status == 1 and errors.count('\n') == 1
  assert "absl.logging" in errors and "'gdc-codec[train]' brings" in errors


def test_a_mistake_of_the_program_shows_where(run_here, monkeypatch, tmp_path):
  monkeypatch.setattr(programs, 'keep', lambda: int('x'))
  with pytest.raises(ValueError, match='invalid literal'):
    run_here('autoencoder.py:tiny', tmp_path / 'a')


def test_an_error_of_a_bucket_is_one_line(run_here, monkeypatch, tmp_path):
  unreachable = type('NotFoundError', (Exception,), {
    '__module__': 'tensorflow.python.framework.errors_impl'
  })

  def fail():
    raise unreachable('no such bucket\nwhile reading')

  monkeypatch.setattr(programs, 'keep', fail)
  status, _, errors = run_here('autoencoder.py:tiny', tmp_path / 'a')
  assert (status, errors) == (1, 'gdc.main: no such bucket while reading\n')


def test_results_that_can_not_be_written_are_refused_first(run_here, tmp_path):
  (tmp_path / 'file').touch()
  status, _, errors = run_here(
    'autoencoder.py:tiny', tmp_path / 'a', '--mode=eval',
    f'--out={tmp_path}/file/x.json',
  )
  assert status == 1 and errors.endswith(
    '/file/x.json: cannot be written: Not a directory\n'
  )


def test_interrupted_before_the_first_step_it_leaves_nothing(
  run_here, monkeypatch, tmp_path
):
  monkeypatch.setattr(
    programs, 'keep', lambda: os.kill(os.getpid(), signal.SIGINT)
  )
  status, _, errors = run_here('autoencoder.py:tiny', tmp_path / 'a')
  assert (status, errors) == (130, 'gdc.main: ended by SIGINT\n')
  assert not (tmp_path / 'a').exists()


def test_results_are_copied_to_a_bucket(tmp_path):
  local, bucket = tmp_path / 'local', tmp_path / 'bucket'
  (local / 'pictures').mkdir(parents=True)
  (local / 'pictures' / 'a.png').write_bytes(b'\x00\x01')
  export.copy_files(local, bucket)
  assert (bucket / 'pictures' / 'a.png').read_bytes() == b'\x00\x01'


@pytest.mark.usefixtures('run_here')
def test_without_a_workdir_it_is_named_after_the_config(
  monkeypatch, tmp_path, capfd, caplog
):
  monkeypatch.chdir(tmp_path)
  caplog.set_level(logging.INFO)
  asked = ['--config', f'{ROOT}/configs/autoencoder.py:tiny', '--mode=eval']
  assert main.run(asked) == 1
  assert 'runs/autoencoder_tiny' in capfd.readouterr().err
  assert 'The work directory is runs/autoencoder_tiny;' in caplog.text
  assert not list(tmp_path.iterdir())
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  assert main.run(asked) == 2
  assert '--workdir is missing: 2 processes need' in capfd.readouterr().err
