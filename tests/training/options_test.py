import pathlib

import pytest

from gdc.training import options

ROOT = pathlib.Path(__file__).parents[2]
A = ['--config', 'configs/autoencoder.py:tiny']
W = ['--workdir', 'none/run']


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def _parse(*words):
  return options.parse(words, 'what it does')


@pytest.mark.parametrize('words, message', [
  ([], '--config is missing.'),
  ([*A, '--workdir='], '--workdir is empty: the path of a folder'),
  (['--confg', 'x', *W], 'Unknown flag --confg; did you mean --config?'),
  ([*A, '--wrkdir=x'], 'Unknown flag --wrkdir; did you mean --workdir?'),
  ([*A, *W, '--steps=3'], 'flag --steps; did you mean --config.steps?'),
  ([*A, *W, 'more'], "Unknown argument 'more'"),
  ([*A, *W, '--mode=evl'], "'evl' (choose from"),
  ([*A, *W, '--mode=sample', '--out=a.json'], '--out is a local file'),
  ([*A, *W, '--out=gs://bucket/a.json'], '--out is a local file'),
  ([*A, '--mode=compile'], '--topology=CHIP:SHAPE, such as v5e:16x16, need'),
  ([*A, *W, '--topology=v5e:2x2'], '--mode=compile and --topology=CHIP:SHAPE'),
  ([*A, '--mode=compile', '--topology=v5e:2x2', '--out=a.json'],
   '--out is a local file, and not for --mode=sample or compile'),
  ([*A, '--workdir=file:///a'], 'the path of a folder is expected, or one'),
  (['--config', 'configs/flw.py', *W],
   "no config file 'configs/flw.py'; did you mean configs/flow.py?"),
  (['--config', 'flow', *W], 'did you mean configs/flow.py?'),
  (['--config', 'configs', *W], 'only configs/autoencoder.py, configs/cont'),
  (['--config', 'README.md', *W], 'is no Python file'),
  (['--config', 'launch/sweep.py', *W], "no attribute 'get_config'"),
  (['--config', 'configs/flow.py:tny', *W],
   'variant must be default, accelerator, scratch, reflow, sweep, paper or '),
  ([*A, *W, '--config.steps_=3'], "no field 'steps_'; did you mean steps?"),
  ([*A, *W, '--config.learning_rate=3'],
   'did you mean optimizer.learning_rate?'),
  ([*A, *W, '--config.steps'], '--config.steps needs a value'),
  ([*A, *W, '--config.steps=3.5'],
   "config.steps must be a whole number, not '3.5'."),
  ([*A, *W, '--config.data.min_scale=x'], "must be a number, not 'x'."),
  ([*A, *W, '--config.data.balance=maybe'], "true or false, not 'maybe'."),
  ([*A, *W, "--config.autoencoder.widths=(1,'a')"],
   'config.autoencoder.widths must be numbers, such as "(1, 2)", not'),
  ([*A, *W, '--config.data=3'], 'config.data is a section: set one of its '
   'fields, data.balance, data.batch_size'),
  ([*A, '--workdir=~nobody-here/x'], "no user '~nobody-here' has a home here"),
])
def test_a_mistake_is_named_with_what_is_right(words, message):
  with pytest.raises(options.OptionError) as wrong:
    _parse(*words)
  assert message in str(wrong.value)
  assert '\n' not in str(wrong.value)


def test_what_is_meant_works():
  """The advice of the mistakes above, followed."""
  asked = _parse(
    *A, *W, '--config.steps', '3', '--config.optimizer.learning_rate=3',
    '--config.data.balance', '--config.autoencoder.widths=(1, 2)',
    '--config.evaluation.qualities=2', '--config.data.source=folder:a:b',
    '--mode=eval', '--out=a.json',
  )
  config = asked.config
  assert (asked.workdir, asked.mode, asked.out) == (W[1], 'eval', 'a.json')
  assert config.steps == 3 and config.optimizer.learning_rate == 3.0
  assert config.data.balance is True
  assert config.autoencoder.widths == (1, 2)
  assert config.evaluation.qualities == (2,)
  assert config.data.source == 'folder:a:b'
  assert config.is_locked
  assert options.read_config('configs/flow.py').steps == 120


def test_home_is_expanded(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  found = _parse(
    '--config', 'configs/flow.py:tiny', '--workdir=~/run', '--out=~/a.json',
  )
  assert found.workdir == f'{tmp_path}/run'
  assert found.out == f'{tmp_path}/a.json'


def test_help_says_what_there_is(capsys):
  with pytest.raises(SystemExit) as ended:
    _parse('--help')
  assert ended.value.code == 0
  printed = capsys.readouterr().out
  assert 'what it does' in printed and '--config.FIELD=VALUE' in printed


def test_help_lists_the_fields_of_a_config(capsys):
  with pytest.raises(SystemExit) as ended:
    _parse('--config', 'configs/diffusion.py', '--help', '--config.seed=7')
  assert ended.value.code in (None, 0)
  printed = ' '.join(capsys.readouterr().out.split())
  assert '--config.seed=7 Must be 0 or more, at most 4294967295.' in printed
  assert '--config.init_from=pretrained:lean ' in printed
  assert (
    '--config.diffusion.noise_shift=0.1 Below 1: less noise than the '
    'schedule; above 1: more. Must be above 0.'
  ) in printed
  assert "--config.sampling.sampler=ddpm Name of the sampler. Must be one of " \
    "'ddpm', 'ddim', 'dpmpp_2m'." in printed
  assert '--config.sampling.start=1.0 Time of the first state;' in printed
  assert 'Must be from 0.001 to 1.' in printed


@pytest.mark.parametrize('config, workdir', [
  ('configs/flow.py', 'runs/flow'),
  ('configs/flow.py:tiny', 'runs/flow_tiny'),
  ('./configs/one_step.py:accelerator', 'runs/one_step_accelerator'),
])
def test_the_work_directory_is_named_after_the_config(config, workdir):
  found = _parse('--config', config)
  assert (found.workdir, found.chosen) == (workdir, False)
  given = _parse('--config', config, *W)
  assert (given.workdir, given.chosen) == (W[1], True)


def test_a_config_without_an_autoencoder_is_compiled_with_one_of_its_variant():
  compiled = ('--mode=compile', '--topology=v5e:2x2')
  found = _parse('--config', 'configs/flow.py:paper', *compiled)
  assert found.stand_in.autoencoder.transforms == 'elic'
  for named in ('configs/flow.py:tiny', 'configs/autoencoder.py:paper'):
    assert _parse('--config', named, *compiled).stand_in is None
  assert _parse('--config', 'configs/flow.py:paper').stand_in is None
