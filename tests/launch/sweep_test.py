"""The command lines of sweeps: complete, in order, as a shell takes them."""
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from launch import sweep

ROOT = pathlib.Path(__file__).parents[2]


def _lines(capsys, *arguments):
  sweep.main(arguments)
  return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def _value(words, flag):
  for i, word in enumerate(words):
    if word == flag:
      return words[i + 1]
    if word.startswith(f'{flag}='):
      return word.partition('=')[2]
  raise AssertionError(f'{flag} is not in {words}')


def test_training_comes_before_what_samples_from_it(capsys):
  lines = _lines(capsys)
  trained, outs = set(), []
  for words in lines:
    assert words[:3] == ['python', '-m', 'gdc.main']
    workdir = _value(words, '--workdir')
    if _value(words, '--mode') == 'train':
      assert workdir not in trained
      trained.add(workdir)
    else:
      assert workdir in trained
    outs.append(_value(words, '--out'))
  assert len(set(outs)) == len(outs)


def test_a_sweep_brings_along_the_run_that_it_needs(capsys):
  lines = _lines(capsys, 'gamma', 'eta', 'warp')
  outs = [_value(words, '--out') for words in lines]
  assert outs[:2] == [
    'results/sweeps/noise_shift/0.5.json',
    'results/sweeps/source_noise/0.5.json',
  ]
  assert all(_value(words, '--mode') == 'eval' for words in lines[2:])
  # A network is restored as it was trained.
  assert all(
    any(w in ('--config.diffusion.noise_shift=0.5',
              '--config.flow.source_noise=0.5') for w in words)
    for words in lines
  )


def test_a_shell_takes_values_as_they_are():
  folder = "folder:it's $HOME; a *"
  printed = subprocess.run(
    ['python3', '-m', 'launch.sweep', 'noise_shift',
     f'--config.data.source={folder}'],
    cwd=ROOT, capture_output=True, text=True, check=True,
  ).stdout
  read = subprocess.run(
    ['sh', '-ec', f'python() {{ printf "%s\\n" "$@"; }}\n{printed}'],
    capture_output=True, text=True, check=True,
  ).stdout
  assert read.splitlines().count(f'--config.data.source={folder}') == 12


def test_missing_leaves_out_what_is_measured(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  done = pathlib.Path('results/sweeps/noise_shift/0.5.json')
  done.parent.mkdir(parents=True)
  done.write_text('{}')
  everything = _lines(capsys, 'gamma')
  # Its network is needed, and is not there.
  assert _lines(capsys, 'gamma', '--missing') == everything
  pathlib.Path('runs/sweeps/noise_shift_0.5/checkpoints/500').mkdir(
    parents=True
  )
  assert _lines(capsys, 'gamma', '--missing') == everything[1:]
  # Nothing needs it any more.
  for line in everything[1:]:
    out = pathlib.Path(line[-1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text('{}')
  shutil.rmtree('runs')
  assert not _lines(capsys, 'gamma', '--missing')


def test_either_mode_alone(capsys):
  everything = _lines(capsys)
  assert everything == (
    _lines(capsys, '--mode=train') + _lines(capsys, '--mode=eval')
  )


@pytest.mark.parametrize('arguments, words', [
  (['gama'], "no sweep 'gama', only noise_shift"),
  (['gamma', '--config.sampling.gamma=1'], 'set themselves'),
  (['gamma', '--config.steps'], 'not of the form'),
  (['gamma', '--steps=3'], 'unrecognized arguments: --steps=3'),
])
def test_errors(arguments, words, capsys):
  with pytest.raises(SystemExit):
    sweep.main(arguments)
  printed = capsys.readouterr()
  assert words in printed.err and not printed.out


# What a shell passes on to `python`, a word a line, instead of running it.
_RECORD = """
python() { printf '%s\\n' "$@" --END; }
sh() { cat; }
"""


def test_the_commands_of_the_docs_work(capsys):
  found = []
  for page in sorted((ROOT / 'docs').glob('*.md')):
    for block in re.findall(r'```bash\n(.*?)```', page.read_text(), re.DOTALL):
      if 'launch.sweep' in block:
        passed = subprocess.run(
          ['sh', '-ec', _RECORD + block],
          capture_output=True, text=True, check=True,
        ).stdout
        found += passed.split('--END\n')[:-1]
  sweeps = [words.splitlines() for words in found if 'launch.sweep' in words]
  assert len(sweeps) > 3
  for words in sweeps:
    assert words[:2] == ['-m', 'launch.sweep']
    assert _lines(capsys, *words[2:])
