"""The arguments of gdc, and what it does without a codec."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

import gdc
from gdc.cli import main

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'command_line.md'
BUNDLE = ROOT / 'gdc' / 'pretrained' / gdc.DEFAULT_MODEL / 'bundle.json'


def run(*arguments):
  return main.main([str(a) for a in arguments])


@pytest.mark.parametrize('arguments,message', [
  ([], 'COMMAND'),
  (['nonsense'], 'nonsense'),
  (['compress'], 'IN'),
  (['compress', 'a', '--x'], '--x'),
  (['compress', 'a', '-q', 'best'], "'best'"),
  (['compress', 'a', '-q', '3', '--target-bpp', '1'], 'not allowed with'),
  (['compress', 'a', '-q', '3', '--lossless', 'always'], 'not allowed with'),
  (['compress', 'a', '--min-psnr', '3', '--target-bytes', '1'],
   'not allowed with'),
  (['compress', 'a', '--target-bpp', '0'], "a number above 0, not '0'"),
  (['compress', 'a', '--target-bpp', '-1'], 'argument --target-bpp'),
  (['compress', 'a', '--target-bpp', 'nan'], 'above 0'),
  (['compress', 'a', '--min-psnr', 'inf'], 'above 0'),
  (['compress', 'a', '--target-bytes', '0'], 'above 0'),
  (['compress', 'a', '--target-bytes', '5x'], "64KiB, not '5x'"),
  (['compress', 'a', '--target-bytes', 'nan'], 'above 0'),
  (['compress', 'a', '--seed', '4294967296'], 'from 0 to 4294967295'),
  (['compress', 'a', '--seed', '1.5'], "not '1.5'"),
  (['decompress', 'a', '--seed=-1'], 'from 0 to'),
  (['decompress', 'a', '--steps', '0'], 'from 1 to'),
  (['decompress', 'a', '--realism', '1.1'], 'from 0 to 1, not'),
  (['decompress', 'a', '--realism', 'nan'], 'from 0 to 1, not'),
  (['decompress', 'a', '--region', '0,0,5'], 'X,Y,WIDTH,HEIGHT in pixels, not'),
  (['decompress', 'a', '--region', '0,0,5,0'], 'in pixels, not'),
  (['decompress', 'a', '--region=-1,0,5,5'], 'in pixels, not'),
  (['decompress', 'a', '--decoder', 'best'], "'best'"),
  (['decompress', 'a', '--format', 'gif'], "'gif'"),
  (['compare', 'a', '--crop', '1,2,3'], 'LEFT,TOP,RIGHT,BOTTOM'),
  (['compare', 'a', '--crop', '5,5,5,9'], 'LEFT,TOP,RIGHT,BOTTOM'),
  (['eval', 'a', '--out', 'b', '--qualities', '1,x'], "not '1,x'"),
  (['completion', 'dos'], "'dos'"),
])
def test_wrong_arguments_exit_with_2(arguments, message, capsys):
  with pytest.raises(SystemExit) as e:
    run(*arguments)
  assert e.value.code == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize('arguments,status', [
  (['compress', '--help'], 0), (['compress', 'a', '-q', 'x'], 2),
  (['compress', 'missing'], 1), (['completion', 'bash'], 0),
])
def test_jax_is_not_imported_for_help_and_errors(arguments, status):
  script = (
    'import sys\nfrom gdc.cli import main\n'
    f'try: code = main.main({arguments})\n'
    'except SystemExit as e: code = e.code\n'
    'print(code, "jax" in sys.modules)'
  )
  result = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )
  assert result.stdout.splitlines()[-1] == f'{status} False'


def test_a_closed_pipe_is_not_an_error_message():
  """As in `gdc completion bash | head -1`."""
  script = (
    'import sys\nfrom gdc.cli import main\n'
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


def test_the_docs_name_every_option():
  sections = PAGE.read_text().split('\n## ')
  for name, command in main.make_parser().commands.items():
    section, = (s for s in sections if s.startswith(f'gdc {name}\n'))
    for option in command._option_string_actions:
      assert f'`{option}' in section or option in ('-h', '--help'), option


def test_the_parser_knows_the_decoders_of_models():
  command = main.make_parser().commands['decompress']
  action, = (a for a in command._actions if a.dest == 'decoder')
  assert set(action.choices) == {
    'mse', *json.loads(BUNDLE.read_text())['decoders']
  }


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
