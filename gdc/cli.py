"""Door 2: the command `gdc`.

Argument parsing only: whatever imports jax is imported when it is needed, so
that help and errors in the arguments come at once.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile

import gdc

_PICTURES = '.png .jpg .jpeg .webp .avif .tif .tiff'


class CliError(Exception):
  """What is reported as one line, with exit status 1."""


# BitstreamError, BundleError and PictureError are ValueErrors; what jax says
# where memory runs out is a RuntimeError.
_ERRORS = (CliError, OSError, ValueError, RuntimeError, ImportError)


def main(argv: list[str] | None = None) -> int:
  """Runs a command line; returns the exit status.

  0: done. 1: an input or a file is at fault, each said in one line on standard
  error, the others done. 2: the arguments are. 130: interrupted.
  """
  arguments = _parser().parse_args(argv)
  try:
    return arguments.run(arguments)
  except KeyboardInterrupt:
    return 130
  except _ERRORS as e:
    _report(e)
    return 1


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='gdc',
    description='Generative image compression: small files, decoded by an '
    'autoencoder (mse) or made realistic by a score-based decoder.',
  )
  parser.add_argument('--version', action='version', version=gdc.__version__)
  commands = parser.add_subparsers(
    dest='command', metavar='COMMAND', required=True
  )

  compress = commands.add_parser(
    'compress', help='pictures to .gdc files',
    description='Compresses pictures to .gdc files.',
  )
  _add_files(compress, 'a .gdc file; a folder where there are several inputs')
  compress.add_argument(
    '-q', '--quality', type=float, default=3.0,
    help='from 1 (smallest) to 6 (best); default 3',
  )
  compress.set_defaults(run=_compress)

  decompress = commands.add_parser(
    'decompress', help='.gdc files to pictures',
    description='Decompresses .gdc files to pictures.',
  )
  _add_files(
    decompress,
    f'a picture ({_PICTURES}); a folder (of .png) where there are several '
    'inputs',
  )
  decompress.add_argument(
    '--decoder', default=None, choices=('mse', 'flow', 'diffusion'),
    help='mse is the autoencoder alone; default: flow if the model has it',
  )
  decompress.add_argument(
    '--steps', type=int, default=None,
    help="sampling steps of a score decoder; default: the model's",
  )
  decompress.add_argument(
    '--seed', type=int, default=None,
    help="of a score decoder's noise; default: the file's checksum",
  )
  decompress.set_defaults(run=_decompress)

  info = commands.add_parser(
    'info', help='what a .gdc file holds',
    description='Prints what a .gdc file holds.',
  )
  info.add_argument('input', metavar='FILE', type=pathlib.Path)
  info.add_argument('--json', action='store_true', help='as JSON')
  info.add_argument(
    '--model', default='lean', metavar='NAME_OR_PATH',
    help='of the ideal length, if it is the model of the file; default lean',
  )
  info.set_defaults(run=_info)

  evaluate = commands.add_parser(
    'eval', help='rate and distortion on a folder of pictures',
    description='Measures codecs on a folder of pictures, on real files, and '
    "writes a results file per codec in CompressAI's format.",
  )
  evaluate.add_argument('folder', metavar='FOLDER', type=pathlib.Path)
  evaluate.add_argument(
    '--codecs', default='gdc:mse,gdc:flow,jpeg', metavar='LIST',
    help='gdc:DECODER[@STEPS], jpeg, webp, avif; default %(default)s',
  )
  evaluate.add_argument(
    '--qualities', default='1,2,3,4,5,6', metavar='LIST',
    help='of the gdc codecs; default %(default)s',
  )
  evaluate.add_argument(
    '--out', required=True, metavar='FOLDER', type=pathlib.Path,
    help='of the results files',
  )
  evaluate.add_argument(
    '--model', default='lean', metavar='NAME_OR_PATH',
    help='a model in the box, or a bundle folder; default lean',
  )
  evaluate.set_defaults(run=_eval)
  return parser


def _add_files(parser, output_help):
  parser.add_argument('inputs', metavar='IN', nargs='+', type=pathlib.Path)
  parser.add_argument(
    '-o', '--output', metavar='OUT', type=pathlib.Path, default=None,
    help=f'{output_help}; default: beside each input',
  )
  parser.add_argument(
    '--model', default='lean', metavar='NAME_OR_PATH',
    help='a model in the box, or a bundle folder; default lean',
  )
  parser.add_argument(
    '--force', action='store_true', help='overwrite existing outputs'
  )


# --- Commands ---------------------------------------------------------------


def _compress(arguments):
  from gdc.data import pictures
  pairs = _outputs(arguments, '.gdc')
  for source, _ in pairs:
    if source.suffix.lower() == '.gdc':
      raise CliError(f'{source} is compressed already.')
  codec = _load(arguments.model)

  def compress(source, target):
    image, notices = pictures.read(source)
    for notice in notices:
      print(f'gdc: {source}: {notice}.', file=sys.stderr)
    data = codec.compress(image, arguments.quality)
    _write(target, data)
    height, width = image.shape[:2]
    print(
      f'{target}  {width} x {height}, {len(data):,} bytes, '
      f'{8 * len(data) / (width * height):.3f} bpp'
    )

  return _each(pairs, compress)


def _decompress(arguments):
  from gdc.data import pictures
  pairs = _outputs(arguments, '.png')
  for _, target in pairs:
    if target.suffix.lower() not in pictures.suffixes():
      raise CliError(
        f'{target}: the output needs the ending of a picture ({_PICTURES}).'
      )
  codec = _load(arguments.model)
  decoder = arguments.decoder or (
    'flow' if 'flow' in codec.decoders else 'mse'
  )

  def decompress(source, target):
    try:
      image = codec.decompress(
        source.read_bytes(), decoder, arguments.steps, arguments.seed
      )
    except gdc.codec.BitstreamError as e:
      raise CliError(f'{source}: {e}') from e
    _write(target, pictures.encode(image, target.suffix))
    height, width = image.shape[:2]
    print(f'{target}  {width} x {height}, decoder {decoder}')

  return _each(pairs, decompress)


def _info(arguments):
  from gdc.codec import bitstream
  data = arguments.input.read_bytes()
  try:
    header, payload, checksum = bitstream.unpack(data)
  except gdc.codec.BitstreamError as e:
    raise CliError(f'{arguments.input}: {e}') from e
  record = {
    'file': str(arguments.input),
    'version': bitstream.VERSION,
    'width': header.width,
    'height': header.height,
    'quality': bitstream.index_to_quality(header.quality_index),
    'model_digest': header.digest.hex(),
    'bytes': len(data),
    'header_bytes': len(data) - len(payload),
    'payload_bytes': len(payload),
    'bpp': 8 * len(data) / (header.width * header.height),
    'seed': checksum,
  }
  codec = _load(arguments.model)
  if codec.digest.startswith(record['model_digest']):
    record['model'] = codec.name
    record['ideal_bytes'] = codec.ideal_bits(data) / 8
  if arguments.json:
    print(json.dumps(record, indent=2))
  else:
    for name, value in record.items():
      shown = f'{value:.4f}' if isinstance(value, float) else value
      print(f'{name:14} {shown}')
  return 0


def _eval(arguments):
  from gdc.data import sources
  try:
    qualities = [float(q) for q in arguments.qualities.split(',')]
  except ValueError as e:
    raise CliError(f'--qualities are numbers and commas: {e}') from e
  names = arguments.codecs.split(',')
  try:
    import tqdm

    from gdc.evaluation import compare, report
    for name in names:
      compare.parse(name)
  except ModuleNotFoundError as e:
    raise CliError(f"{e}; install the extra: pip install 'gdc[eval]'") from e
  files = sources.folder(arguments.folder)
  images = [(p.stem, files[i]['image']) for i, p in enumerate(files.paths)]
  codec = _load(arguments.model)
  with tqdm.tqdm(unit='row') as bar:
    rows, results = compare.run(
      codec, images, names, qualities, arguments.out,
      on_row=lambda row: bar.update(),
    )
  print(report.format_table(rows))
  if 'jpeg' in results:
    print()
    print(report.format_table(compare.bd_rates(results)))
  return 0


# --- Files ------------------------------------------------------------------


def _load(model: str):
  """Loads a codec, with compiled programs kept between runs."""
  from gdc.codec import codec
  codec.keep_compiled_programs()
  return gdc.load(model)


def _outputs(arguments, suffix) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs of input and output, checked before any work is done."""
  inputs, output = arguments.inputs, arguments.output
  for source in inputs:
    if not source.is_file():
      raise CliError(f'{source}: no such file.')
  if output is None:
    pairs = [(s, s.with_suffix(suffix)) for s in inputs]
  elif len(inputs) > 1 or output.is_dir():
    if output.exists() and not output.is_dir():
      raise CliError(
        f'{output} is a file; {len(inputs)} inputs need a folder.'
      )
    pairs = [(s, output / s.with_suffix(suffix).name) for s in inputs]
  else:
    pairs = [(inputs[0], output)]
  targets = [t.absolute() for _, t in pairs]
  for (source, target), absolute in zip(pairs, targets, strict=True):
    if targets.count(absolute) > 1:
      raise CliError(f'Several inputs would be written to {target}.')
    if absolute == source.absolute():
      raise CliError(f'{source} would be its own output.')
    if target.exists() and not target.is_file():
      raise CliError(f'{target} is not a file that can be replaced.')
    if target.exists() and not arguments.force:
      raise CliError(f'{target} exists; --force overwrites it.')
  return pairs


def _each(pairs, work) -> int:
  """Does the work for every pair; one that fails does not stop the rest."""
  failed = 0
  for source, target in _progress(pairs):
    try:
      work(source, target)
    except _ERRORS as e:
      _report(e)
      failed += 1
  if failed and len(pairs) > 1:
    print(f'gdc: {failed} of {len(pairs)} failed.', file=sys.stderr)
  return int(failed > 0)


def _report(error: Exception):
  """One line on standard error, with the notes that the error gathered."""
  notes = ' '.join(getattr(error, '__notes__', []))
  print(' '.join(f'gdc: {error} {notes}'.split()), file=sys.stderr)


def _write(target: pathlib.Path, data: bytes):
  """Writes a file whole or not at all; a link is followed."""
  target = target.resolve()
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(
    prefix=f'.{target.name}-', dir=target.parent
  )
  try:
    with os.fdopen(handle, 'wb') as f:
      f.write(data)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, target)
  except BaseException:
    os.unlink(temporary)
    raise


def _progress(pairs):
  """The pairs, with a progress bar where there are several."""
  if len(pairs) == 1:
    return pairs
  import tqdm
  return tqdm.tqdm(pairs, unit='picture')


if __name__ == '__main__':
  sys.exit(main())
