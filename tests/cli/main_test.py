"""The arguments of gdc, and what it says and does without a codec."""
import os
import pathlib
import subprocess
import sys

import pytest

from gdc.cli import main

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'command_line.md'


def run(*arguments):
  return main.main([str(a) for a in arguments])


@pytest.mark.parametrize('arguments,message', [
  ([], 'COMMAND'),
  (['nonsense'], 'nonsense'),
  (['compress'], 'IN'),
  (['compress', 'a', '--x'], '--x'),
  (['compress', 'a', '-q', 'nan'], "from 1 to 6 is expected, not 'nan'"),
  (['compress', 'a', '-q', '0.99'], 'from 1 to 6'),
  (['compress', 'a', '-q', '6.01'], 'from 1 to 6'),
  (['compress', 'a', '-q', 'best'], "not 'best'"),
  (['compress', 'a', '-q', '3', '--target-bpp', '1'], 'not allowed with'),
  (['compress', 'a', '--min-psnr', '3', '--target-bytes', '1'],
   'not allowed with'),
  (['compress', 'a', '--target-bpp', '0'], "above 0 is expected, not '0'"),
  (['compress', 'a', '--target-bpp', '-1'], 'argument --target-bpp'),
  (['compress', 'a', '--target-bpp', 'nan'], 'above 0'),
  (['compress', 'a', '--min-psnr', 'inf'], 'above 0'),
  (['compress', 'a', '--target-bytes', '0'], 'above 0'),
  (['compress', 'a', '--target-bytes', '5x'], "64KiB, not '5x'"),
  (['compress', 'a', '--target-bytes', 'nan'], 'above 0'),
  (['compress', 'a', '--seed', '4294967296'], 'from 0 to 4294967295'),
  (['compress', 'a', '--seed', '1.5'], "not '1.5'"),
  (['decompress', 'a', '--seed=-1'], 'from 0 to'),
  (['decompress', 'a', '--steps', '0'], 'from 1 to 10000'),
  (['decompress', 'a', '--realism', '1.1'], 'from 0 to 1 is'),
  (['decompress', 'a', '--realism', 'nan'], 'from 0 to 1 is'),
  (['decompress', 'a', '--decoder', 'best'], "'best'"),
  (['decompress', 'a', '--format', 'gif'], "'gif'"),
  (['compare', 'a', '--crop', '1,2,3'], 'LEFT,TOP,RIGHT,BOTTOM'),
  (['compare', 'a', '--crop', '5,5,5,9'], 'LEFT,TOP,RIGHT,BOTTOM'),
  (['eval', 'a', '--out', 'b', '--qualities', '1,9'], "not '9'"),
  (['completion', 'dos'], "'dos'"),
])
def test_wrong_arguments_exit_with_2(arguments, message, capsys):
  with pytest.raises(SystemExit) as e:
    run(*arguments)
  assert e.value.code == 2
  assert message in capsys.readouterr().err


def test_a_file_that_looks_like_an_option_is_named(
  capsys, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  for name in ('-x.png', '-q.png'):
    (tmp_path / name).touch()
    with pytest.raises(SystemExit) as e:
      run('compress', 'a', name)
    assert e.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(f"the file '{name}' is ./{name}\n")


@pytest.mark.parametrize('arguments,status', [
  (['compress', '--help'], 0), (['compress', 'a', '-q', '9'], 2),
  (['compress', 'missing'], 1), (['completion', 'bash'], 0),
])
def test_jax_is_not_imported_to_say_so(arguments, status):
  script = (
    'import sys\nfrom gdc import cli\n'
    f'try: code = main.main({arguments})\n'
    'except SystemExit as e: code = e.code\n'
    'print(code, "jax" in sys.modules)'
  )
  result = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )
  assert result.stdout.splitlines()[-1] == f'{status} False'


def test_a_reader_that_has_gone_is_no_traceback():
  """As in `gdc completion bash | head -1`."""
  script = (
    'import sys\nfrom gdc import cli\n'
    'sys.exit(main.main(["completion", "bash"]))'
  )
  reader, writer = os.pipe()
  os.close(reader)
  result = subprocess.run(
    [sys.executable, '-c', script], stdout=writer, stderr=subprocess.PIPE,
    text=True, check=False,
  )
  os.close(writer)
  assert result.returncode == 1 and not result.stderr


def test_the_page_names_every_option():
  sections = PAGE.read_text().split('\n## ')
  action, = (a for a in main._parser()._actions if a.dest == 'command')
  for name, command in action.choices.items():
    section, = (s for s in sections if s.startswith(f'gdc {name}\n'))
    for option in command._option_string_actions:
      assert f'`{option}' in section or option in ('-h', '--help'), option


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'tcsh'])
def test_completion(shell, capsys):
  assert run('completion', shell) == 0
  script = capsys.readouterr().out
  assert all(word in script for word in ('target-bpp', 'diffusion', 'realism'))


def test_completion_in_bash(tmp_path, capsys):
  run('completion', 'bash')
  script = capsys.readouterr().out + '\n'.join([
    'COMP_WORDS=(gdc compress pho)', 'COMP_CWORD=2', '_shtab_gdc',
    'echo ":${COMPREPLY[*]}"',
  ])
  (tmp_path / 'photo.png').touch()
  done = subprocess.run(
    ['bash', '-c', script], cwd=tmp_path, capture_output=True, text=True,
    check=True,
  )
  assert done.stdout.splitlines()[-1] == ':photo.png'
