"""The launch script without a cloud: what it prints, and a fake gcloud."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'launch' / 'tpu_vm.sh'
NODE = ['--name', 'n1', '--zone', 'z1']
ALL = [
  *NODE,
  '--type',
  'v5litepod-16',
  '--version',
  'v2-alpha-tpuv5-lite',
  '--workdir',
  'gs://bucket/dir',
]


def _run(*args, **env):
  clean = {k: v for k, v in os.environ.items() if not k.startswith('TPU_')}
  return subprocess.run(
    ['bash', str(SCRIPT), *args],
    env=clean | env,
    capture_output=True,
    text=True,
    timeout=30,
  )


def _dry_run(*args, **env):
  """The commands that --dry-run prints, as a shell reads them back."""
  printed = _run(*args[:1], '--dry-run', *args[1:], **env)
  assert printed.returncode == 0, printed.stderr
  record = (
    'record() { printf "%s\\0" "$@"; printf "\\1\\0"; }\n'
    'gcloud() { record gcloud "$@"; }\n'
    'git() { record git "$@"; }\n'
    'rm() { record rm "$@"; }\n'
  )
  read = subprocess.run(
    ['bash', '-eu', '-c', record + printed.stdout],
    capture_output=True,
    text=True,
    check=True,
    timeout=30,
  )
  commands = read.stdout.split('\0\1\0')[:-1]
  return [command.split('\0') for command in commands]


def test_the_script_parses():
  subprocess.run(['bash', '-n', str(SCRIPT)], check=True, timeout=30)


def test_all_prints_every_command_in_order():
  commands = _dry_run('all', *ALL)
  tpu = ['gcloud', 'compute', 'tpus', 'tpu-vm']
  assert [c[:5] if c[0] == 'gcloud' else c[:1] for c in commands] == [
    [*tpu, 'create'],
    ['git'],
    [*tpu, 'scp'],
    [*tpu, 'ssh'],
    ['rm'],
    [*tpu, 'ssh'],
    [*tpu, 'ssh'],
    [*tpu, 'delete'],
  ]
  create, archive, scp, install, _, run, tail, delete = commands
  assert create[5:] == [
    'n1',
    '--accelerator-type=v5litepod-16',
    '--version=v2-alpha-tpuv5-lite',
    '--zone=z1',
    '--quiet',
  ]
  tarball = archive[-2].removeprefix('--output=')
  assert archive[-1] == 'HEAD' and scp[5:7] == [tarball, 'n1:gdc.tar.gz']
  for command in (scp, install, run):
    assert '--worker=all' in command
  assert '--worker=0' in tail
  assert "install --quiet '.[train,tpu]'" in install[-3]
  assert (
    '-m gdc.main --config=configs/flow.py --workdir=gs://bucket/dir;' in run[-3]
  )
  assert delete[5:] == ['n1', '--zone=z1', '--quiet']


def test_project_and_spot_reach_the_commands():
  args = [*ALL, '--project', 'p1', '--spot']
  commands = [c for c in _dry_run('all', *args) if c[0] == 'gcloud']
  assert all('--project=p1' in command for command in commands)
  assert ['--spot' in command for command in commands] == [True] + 5 * [False]


def test_words_with_spaces_and_quotes_stay_one_word():
  create = _dry_run(
    'create', *ALL, '--name', "my node's", '--project', 'a $(b) "c"'
  )[0]
  assert create[5] == "my node's"
  assert create[-1] == '--project=a $(b) "c"'


def test_options_as_environment_variables_and_with_equals_signs():
  env = {'TPU_NAME': 'n1', 'TPU_ZONE': 'elsewhere'}
  assert _dry_run('delete', '--zone=z1', **env) == _dry_run('delete', *NODE)


@pytest.mark.parametrize(
  'args, words',
  [
    ([], 'verb is missing: one of create install'),
    (['start'], "'start': one of create install"),
    (['create', '--zone', 'z1'], '--name is missing (or TPU_NAME)'),
    (['tail', '--name', 'n1'], '--zone is missing (or TPU_ZONE)'),
    (['create', *NODE], '--type is missing (or TPU_TYPE)'),
    (['create', *ALL[:6]], '--version is missing (or TPU_VERSION)'),
    (['run', *NODE], '--workdir is missing (or TPU_WORKDIR)'),
    (['run', *NODE, '--workdir', 'here'], "'here': gs://bucket/folder"),
    (['run', *NODE, '--seed=3'], "'--seed': arguments of gdc.main come after"),
    (['create', '--name'], '--name needs a value'),
  ],
)
def test_errors_name_what_is_missing_and_run_nothing(args, words, tmp_path):
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text(f'#!/bin/sh\ntouch {tmp_path}/called\n')
  gcloud.chmod(0o755)
  path = f'{tmp_path}:{os.environ["PATH"]}'
  failed = _run(*args, PATH=path)
  assert failed.returncode == 2
  assert words in failed.stderr and failed.stdout == ''
  assert not (tmp_path / 'called').exists()


@pytest.fixture
def worker(tmp_path):
  """A fake gcloud whose ssh runs the command in a fake home folder."""
  home = tmp_path / 'home'
  (home / 'gdc').mkdir(parents=True)
  (home / 'gdc-env' / 'bin').mkdir(parents=True)
  python = home / 'gdc-env' / 'bin' / 'python'
  python.write_text(
    '#!/bin/sh\n'
    'printf "%s\\n" "$(basename "$PWD")" "$@"\n'
    'while [ -e ../hold ]; do sleep 0.05; done\n'
    'exit ${STATUS:-0}\n'
  )
  python.chmod(0o755)
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text(
    '#!/bin/bash\n'
    f'echo "$4" >> {tmp_path}/calls\n'
    'for word in "$@"; do case $word in --command=*)\n'
    f'  cd {home} && exec bash -c "${{word#--command=}}";;\n'
    'esac; done\n'
  )
  gcloud.chmod(0o755)
  return home, {'PATH': f'{tmp_path}:{os.environ["PATH"]}'}


def test_run_passes_arguments_on_and_tail_shows_the_log(worker):
  home, env = worker
  args = [*NODE, '--workdir', "gs://b/it's here"]
  extra = ['--config.seed=3', 'a  "b" $HOME']
  started = _run('run', *args, '--', *extra, **env)
  assert started.returncode == 0, started.stderr
  tailed = _run('tail', *NODE, **env)
  assert tailed.returncode == 0, tailed.stderr
  assert (home / 'gdc.log').read_text().splitlines() == [
    'gdc',
    '-m',
    'gdc.main',
    '--config=configs/flow.py',
    "--workdir=gs://b/it's here",
    *extra,
  ]
  assert '\na  "b" $HOME\n' in tailed.stdout


def test_tail_ends_with_the_status_of_the_run(worker):
  _, env = worker
  args = [*NODE, '--workdir', '/data']
  assert _run('run', *args, STATUS='7', **env).returncode == 0
  assert _run('tail', *NODE, **env).returncode == 7


def test_a_second_run_beside_a_living_one_is_refused(worker):
  home, env = worker
  args = [*NODE, '--workdir', '/data']
  (home / 'hold').touch()
  try:
    assert _run('run', *args, **env).returncode == 0
    second = _run('run', *args, **env)
    assert second.returncode == 1 and 'already running here' in second.stderr
  finally:
    (home / 'hold').unlink()
  deadline = time.monotonic() + 10
  while not (home / 'gdc.status').exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  assert _run('tail', *NODE, **env).returncode == 0
  assert _run('run', *args, **env).returncode == 0


def test_sigterm_does_not_cost_the_status(worker):
  home, env = worker
  (home / 'hold').touch()
  try:
    started = _run(
      'run', *NODE, '--workdir', '/data', STATUS='143', **env
    )
    assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + 10
    while not (home / 'gdc.log').read_text() and time.monotonic() < deadline:
      time.sleep(0.05)
    # To the shell: a system that shuts down signals every process.
    os.kill(int((home / 'gdc.pid').read_text()), signal.SIGTERM)
  finally:
    (home / 'hold').unlink()
  assert _run('tail', *NODE, **env).returncode == 143


def test_all_leaves_the_node_when_a_step_fails_and_says_so(tmp_path):
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text(
    f'#!/bin/sh\necho "$4" >> {tmp_path}/calls\n[ "$4" != scp ]\n'
  )
  gcloud.chmod(0o755)
  git = tmp_path / 'git'
  git.write_text('#!/bin/sh\n')
  git.chmod(0o755)
  failed = _run('all', *ALL, PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert failed.returncode != 0
  assert 'n1 may still be up' in failed.stderr
  assert (tmp_path / 'calls').read_text().split() == ['create', 'scp']


def test_all_that_ends_well_deletes_the_node_and_warns_of_nothing(tmp_path):
  for command in ('gcloud', 'git'):
    path = tmp_path / command
    path.write_text(f'#!/bin/sh\necho "$4" >> {tmp_path}/{command}.calls\n')
    path.chmod(0o755)
  ended = _run('all', *ALL, PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert ended.returncode == 0
  assert 'may still be up' not in ended.stderr
  assert (tmp_path / 'gcloud.calls').read_text().split()[-1] == 'delete'
