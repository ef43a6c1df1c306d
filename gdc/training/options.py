"""Command line of `python -m gdc.main`, with the config that it names.

Imports neither jax nor anything that trains, so that a mistake is reported at
once. Every field of a config is a flag, --config.FIELD=VALUE, of the type of
the field's value.
"""
import argparse
import ast
import dataclasses
import difflib
import importlib.util
import pathlib
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import ml_collections

from gdc import paths

MODES = ('train', 'sample', 'eval', 'compile')
RUNS = 'runs'  # the default workdir is in it
_FLAGS = (
  '--config', '--workdir', '--mode', '--out', '--topology', '--help'
)
_BUCKETS = ('gs://', 's3://', 'az://')  # what etils.epath supports
_BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}
_KINDS = {
  bool: 'true or false', int: 'a whole number', float: 'a number',
  tuple: 'numbers, such as "(1, 2)"',
}


class OptionError(ValueError):
  """A mistake in the arguments, described in one line."""


class _Parser(argparse.ArgumentParser):

  def error(self, message):
    raise OptionError(message)


def parse(argv: Sequence[str], description: str) -> argparse.Namespace:
  """Parses a command line.

  --help prints the description, with --config also its fields, and exits.

  Returns:
    config: locked ConfigDict.
    workdir: folder, or URL of one in a bucket.
    chosen: whether the workdir was given; if not, it is RUNS/NAME[_VARIANT].
    mode: one of MODES.
    out: results file; None for the workdir's own.
    topology: for the mode compile, or None.
    stand_in: for that mode, the config of an autoencoder of the same variant,
      if the config names none; or None.

  Raises:
    OptionError: names the mistake and what would be right.
  """
  parser = _Parser(
    prog='python -m gdc.main', description=description, allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False,
  )
  parser.add_argument(
    '-h', '--help', action='store_true',
    help='print this and, with --config, the fields of that config',
  )
  parser.add_argument(
    '--config', metavar='FILE[:VARIANT]',
    help='a file of configs/, such as configs/flow.py; --config.FIELD=VALUE '
    'sets a field of it',
  )
  parser.add_argument(
    '--workdir', metavar='DIR',
    help='folder for checkpoints, metrics and results; default: '
    f'{RUNS}/NAME or {RUNS}/NAME_VARIANT, after the config',
  )
  parser.add_argument(
    '--mode', choices=MODES, default='train', help='default: %(default)s'
  )
  parser.add_argument(
    '--out', metavar='FILE', help='results file; default: DIR/results.json'
  )
  parser.add_argument(
    '--topology', metavar='CHIP:SHAPE',
    help='for --mode=compile, such as v5e:16x16',
  )
  options, words = parser.parse_known_args(argv)
  if options.help:
    parser.print_help()
    if options.config:
      print(f'\n{_described(read_config(options.config, words))}')
    parser.exit()
  if not options.config:
    flag = next((w for w in words if not w.startswith('--config.')), None)
    raise OptionError(
      _unknown(flag.partition('=')[0]) if flag else '--config is missing.'
    )
  if (options.mode == 'compile') != bool(options.topology):
    raise OptionError(
      '--mode=compile and --topology=CHIP:SHAPE, such as v5e:16x16, need each '
      'other.'
    )
  options.chosen = options.workdir is not None
  if options.workdir == '':
    raise OptionError('--workdir is empty: the path of a folder is expected.')
  try:
    file, colon, variant = options.config.partition(':')
    if not options.chosen:
      name = '_'.join(filter(None, (pathlib.Path(file).stem, variant)))
      options.workdir = f'{RUNS}/{name}'
    options.workdir = paths.expand(options.workdir).rstrip('/') or '/'
    options.out = options.out and paths.expand(options.out)
    options.config = read_config(options.config, words)
    options.stand_in = None
    if options.mode == 'compile' and not options.config.get(
      'autoencoder_from', 'itself'
    ):
      beside = pathlib.Path(file).with_name('autoencoder.py')
      options.stand_in = read_config(f'{beside}{colon}{variant}')
  except OptionError:
    raise
  except ValueError as e:  # from paths
    raise OptionError(str(e)) from e
  if '://' in options.workdir and not options.workdir.startswith(_BUCKETS):
    raise OptionError(
      f'--workdir is {options.workdir!r}: the path of a folder is expected, or '
      'one in a bucket, such as gs://BUCKET/FOLDER.'
    )
  no_results = options.mode in ('sample', 'compile')
  if options.out and (no_results or '://' in options.out):
    raise OptionError(
      '--out is a local file, and not for --mode=sample or compile.'
    )
  return options


def read_config(name: str, words: Sequence[str] = ()):
  """Reads a config and sets fields of it.

  Args:
    name: FILE or FILE:VARIANT.
    words: --config.FIELD=VALUE, or the flag and its value as two words.

  Returns:
    A locked ConfigDict.

  Raises:
    OptionError: no such file, variant or field, or a value of another type.
  """
  config = _load(name)
  left = list(words)
  while left:
    flag, equals, text = left.pop(0).partition('=')
    field = flag.removeprefix('--config.')
    if field == flag:
      raise OptionError(_unknown(flag, _fields(config)))
    kind = _kind(config, field)
    if not equals:
      if kind is bool and (not left or left[0].startswith('--')):
        text = 'true'
      elif left:
        text = left.pop(0)
      else:
        raise OptionError(f'{flag} needs a value: {flag}=VALUE.')
    value = _value(field, kind, text)
    with config.unlocked():  # a tuple may change its length
      config.update_from_flattened_dict({field: value})
  config.lock()
  return config


def _load(name: str) -> ml_collections.ConfigDict:
  """Returns what get_config of a file returns."""
  file, colon, variant = name.partition(':')
  path = pathlib.Path(paths.expand(file))
  if not path.is_file():
    raise OptionError(f'There is no config file {file!r}{_nearest_file(path)}')
  # The files of configs/ import one another from the repository's root.
  root = str(path.absolute().parents[1])
  if root not in sys.path:
    sys.path.append(root)
  spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
  if spec is None:
    raise OptionError(f'{file!r} is no Python file: configs/*.py are.')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*([variant] if colon else ()))
  except (Exception, SystemExit) as e:
    raise OptionError(f'{name}: {e}') from e
  if not isinstance(config, ml_collections.ConfigDict):
    raise OptionError(
      f'{name}: get_config returns {type(config).__name__}, not a ConfigDict.'
    )
  return config


def _described(config) -> str:
  """Lists a config's fields with meanings (of decoders) and limits."""
  from gdc import decoders  # these import jax
  from gdc.training import limits
  meanings = {
    name: f'Must be {limits.admissible(name)}.' for name in _fields(config)
    if limits.admissible(name)
  }
  if decoder := decoders.DECODERS.get(config.stage):
    for field in dataclasses.fields(decoder):
      meanings[decoder.full_name(field)] = (
        f'{field.metadata["help"]} Must be {decoder.admissible(field)}.'
      )
  lines = ['fields; configs/base.py explains those that all configs share:']
  for name, value in _fields(config).items():
    lines.append(f'  --config.{name}={value}')
    lines += textwrap.wrap(
      meanings.get(name, ''), 80, initial_indent=' ' * 6,
      subsequent_indent=' ' * 6,
    )
  return '\n'.join(lines)


def _fields(config, prefix='') -> dict[str, Any]:
  """Returns the values of all fields by dotted name, without sections."""
  found = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      found |= _fields(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = value
  return found


def _kind(config, field: str) -> type:
  """The type of a field's values."""
  names = _fields(config)
  within = [n for n in names if n.startswith(f'{field}.')]
  if within:
    raise OptionError(
      f'config.{field} is a section: set one of its fields, '
      f'{", ".join(within)}.'
    )
  if field not in names:
    raise OptionError(
      f'The config has no field {field!r}{_nearest(field, names)}'
    )
  section, _, name = field.rpartition('.')
  return (config[section] if section else config).get_type(name)


def _value(field: str, kind: type, text: str) -> Any:
  """The value that a word means, for a field of a type."""
  try:
    if kind is bool:
      return _BOOLEANS[text.lower()]
    if kind is not tuple:
      return kind(text)
    value = ast.literal_eval(text)
    value = value if isinstance(value, tuple | list) else (value,)
    if all(type(v) in (int, float) for v in value):
      return tuple(value)
  except (KeyError, SyntaxError, TypeError, ValueError, RecursionError):
    pass
  raise OptionError(
    f'config.{field} must be {_KINDS.get(kind, kind.__name__)}, not {text!r}.'
  )


# --- Advice -----------------------------------------------------------------


def _unknown(word: str, fields: Collection[str] = ()) -> str:
  if not word.startswith('-'):
    return f'Unknown argument {word!r}: flags begin with --.'
  if word.lstrip('-') in fields:
    return f'Unknown flag {word}; did you mean --config.{word.lstrip("-")}?'
  return f'Unknown flag {word}{_nearest(word, _FLAGS)}'


def _nearest(name: str, names: Collection[str]) -> str:
  last = name.rpartition('.')[2]
  near = [n for n in names if n.rpartition('.')[2] == last]
  near = near or difflib.get_close_matches(name, names, 1)
  if near:
    return f'; did you mean {" or ".join(near)}?'
  return f', only {", ".join(names)}.'


def _nearest_file(path: pathlib.Path) -> str:
  found = {
    p.stem: str(p) for p in sorted(pathlib.Path('configs').glob('*.py'))
    if p.stem != 'base'  # shared by the others, and no config itself
  }
  if not found:
    return ": run from the repository's root, where configs/ is."
  near = difflib.get_close_matches(path.stem, found, 1)
  if near:
    return f'; did you mean {found[near[0]]}?'
  return f', only {", ".join(found.values())}.'
