"""Commands and links in README.md and docs/."""
import pathlib
import re
import shlex

import pytest

from configs import autoencoder, contexts, diffusion, flow, one_step
from gdc.cli import main

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / 'launch' / 'README.md'
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), LAUNCH]
CONFIGS = {
  'autoencoder': autoencoder, 'contexts': contexts, 'diffusion': diffusion,
  'flow': flow, 'one_step': one_step,
}


def _commands(page):
  """The commands in a page's bash blocks, as lists of words."""
  blocks = re.findall(r'```bash\n(.*?)```', page.read_text(), re.DOTALL)
  for block in blocks:
    for line in block.replace('\\\n', ' ').splitlines():
      words = shlex.split(line, comments=True)
      while '&&' in words:
        i = words.index('&&')
        yield words[:i]
        words = words[i + 1:]
      if words:
        yield words


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_gdc_commands_can_be_parsed(page):
  for words in _commands(page):
    if words[0] == 'gdc':
      main.make_parser().parse_args(words[1:])  # exits if it does not


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_training_commands_name_configs_and_fields_that_exist(page):
  for words in _commands(page):
    if words[:3] != ['python', '-m', 'gdc.main'] and page != LAUNCH:
      continue
    path, _, variant = words[words.index('--config') + 1].partition(':')
    assert (ROOT / path).is_file(), path
    config = CONFIGS[pathlib.Path(path).stem].get_config(variant or 'default')
    assert '--workdir' in words or page != LAUNCH  # hosts share one
    for word in words:
      if word.startswith('--config.'):
        name, _, value = word.removeprefix('--config.').partition('=')
        assert value, word
        field = config
        for part in name.split('.'):
          assert part in field, word
          field = field[part]
        if name == 'data.batch_size':
          config.data.batch_size = int(value)
        if name == 'autoencoder_from':
          config.autoencoder_from = value
    # A pod's batch is a multiple of its chips, and stage 2 has its stage 1.
    if '--type' in words:
      chips = int(words[words.index('--type') + 1].rpartition('-')[2])
      assert config.data.batch_size % chips == 0
    assert (
      config.stage == 'autoencoder' or config.autoencoder_from
      or '--mode=compile' in words
    )


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_and_paths_exist(page):
  for target in re.findall(r'\]\(([^)#]+)', page.read_text()):
    if '://' not in target:
      assert (page.parent / target).exists(), target


def test_the_readme_has_the_two_commands():
  commands = list(_commands(ROOT / 'README.md'))
  assert ['pip', 'install', '-e', '.[train]'] in commands
  assert ['pytest'] in commands
