"""The command line of `gdc`: its arguments, and where each command is.

Whatever imports jax or numpy is imported when a command needs it, so that help
and errors in the arguments come at once.
"""
import argparse
import os
import sys

import gdc
from gdc import metrics
from gdc.cli import arguments as types
from gdc.cli import commands, files
from gdc.cli import report as report_lib
from gdc.data import formats

_PAGE = 'docs/command_line.md describes everything.'


def main(argv: list[str] | None = None) -> int:
  """Runs a command line.

  Returns:
    Exit status. 0: done. 1: an input or a file is at fault; each is reported in
    one line on standard error, and the others are done. argparse exits with 2
    if the arguments are at fault.
  """
  argv = sys.argv[1:] if argv is None else argv
  report, status = report_lib.Report(), 1
  try:
    arguments = _parse(argv)
    report = report_lib.Report(
      as_json=getattr(arguments, 'json', False),
      data_on_stdout=getattr(arguments, 'output', None) == files.STREAM,
      quiet=getattr(arguments, 'quiet', False),
    )
    status = arguments.run(arguments, report)
  except SystemExit as e:  # of argparse
    if _flushed() or e.code:
      raise
  except BrokenPipeError:
    pass  # the reader has gone, as with `| head`
  except Exception as e:
    report.error(e)
  return 0 if _flushed() and not status else 1


def _flushed() -> bool:
  """Flushes standard output; returns whether all of it has arrived."""
  try:
    sys.stdout.flush()
    return True
  except OSError as e:
    if not isinstance(e, BrokenPipeError):
      report_lib.Report().notice(f'standard output: {e.strerror}')
    # Python flushes again at exit, and would complain.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return False


def _parse(argv):
  parser = make_parser()
  arguments = parser.parse_args(argv)
  arguments.argv, arguments.parser = argv, parser
  if arguments.command == 'compress' and arguments.lossless == 'always' and (
    arguments.quality is not None
  ):
    parser.error(
      'argument --lossless: always is not allowed with argument -q/--quality'
    )
  if arguments.command in ('compress', 'decompress') and (
    arguments.output is None and arguments.inputs == [files.STREAM]
  ):
    arguments.output = files.STREAM
  return arguments


# --- Options ----------------------------------------------------------------


def _option(*flags, **keywords):
  """The arguments of add_argument."""
  return flags, keywords


def _one_of(*options):
  """Options of which one at most is given."""
  return list(options)


_FILES = (
  _option(
    'inputs', metavar='IN', nargs='+', type=types.path,
    help='files and folders, or - for standard input',
  ),
  _option(
    '-o', '--output', metavar='OUT', type=types.path,
    help='a file; a folder if there are several inputs; - for standard '
    'output; default: beside each input, or standard output for standard input',
  ),
  _one_of(
    _option('--force', action='store_true', help='overwrite existing outputs'),
    _option(
      '--skip-existing', action='store_true',
      help='leave out inputs whose output exists: continues a stopped job',
    ),
  ),
  _option(
    '--keep-suffix', action='store_true',
    help="keep an input's suffix in its output's name, as in photo.jpg.gdc",
  ),
)
_RATE = _one_of(
  _option(
    '-q', '--quality', type=float, metavar='Q',
    help='for the default model from 1 (smallest) to 6 (best), continuous; '
    'default 3',
  ),
  _option(
    '--target-bpp', type=types.positive, metavar='BPP',
    help='the best file found with at most this many bits per pixel',
  ),
  _option(
    '--target-bytes', type=types.num_bytes, metavar='SIZE',
    help='the best file found with at most this many bytes: 50000, 50k, 1.5M, '
    '64KiB',
  ),
  _option(
    '--min-psnr', type=types.positive, metavar='DB',
    help='the smallest file found whose image, decoded by mse, has this PSNR',
  ),
)
_JSON = _option(
  '--json', action='store_true', help='print a JSON object per input'
)
_QUIET = _option(
  '--quiet', action='store_true',
  help='print errors only: no progress, no notices, no results',
)
_MODEL = _option(
  '--model', default=gdc.DEFAULT_MODEL, metavar='NAME_OR_PATH',
  type=types.path,
  help='a bundled model, or a bundle folder; default %(default)s',
)
_COMPRESS = (
  _option(
    '--srgb', action='store_true',
    help='convert colours with another profile to sRGB instead of keeping both',
  ),
  _option(
    '--strip', action='store_true',
    help='leave out EXIF and XMP, such as camera, place and thumbnail',
  ),
  _option(
    '--seed', type=types.seed, metavar='N',
    help="store a seed for the score decoders' noise; default: the file's "
    'checksum is the seed',
  ),
  _option(
    '--lossless', choices=('auto', 'never', 'always'), default='auto',
    help='keep the image losslessly: where that is smaller or the network '
    'fails (auto, the default), never, or always',
  ),
)
_FORMATS = formats.SUFFIXES_WRITTEN.replace('.', '').split()
_DECOMPRESS = (
  _option(
    '--format', choices=_FORMATS, metavar='NAME',
    help=f'format of unnamed outputs: {", ".join(_FORMATS)}; default png',
  ),
  _option(
    '--decoder', choices=('mse', 'one_step', 'flow', 'diffusion'),
    help='mse is the autoencoder alone; default: the first of one_step, flow '
    'and diffusion that the model has',
  ),
  _option(
    '--steps', type=types.count, metavar='N',
    help="sampling steps of flow or diffusion; default: the model's; without "
    '--decoder, more than 1 selects flow',
  ),
  _option(
    '--seed', type=types.seed, metavar='N',
    help="seed of a score decoder's noise; default: the file's",
  ),
  _option(
    '--realism', type=types.realism, metavar='R',
    help='from 0, the image of mse, to 1, that of the score decoder; default 1',
  ),
  _option(
    '--region', type=types.region, metavar='X,Y,WIDTH,HEIGHT',
    help='only this part of each image, in pixels: the same as in the whole, '
    'and faster',
  ),
)
_INFO = (
  _option(
    'inputs', metavar='FILE', nargs='+', type=types.path,
    help='.gdc files, and folders of them; - for standard input',
  ),
)
_COMPARE = (
  _option('input', metavar='IN', type=types.path, help='an image'),
  _option(
    '-o', '--output', metavar='OUT', type=types.path,
    help=f'an image ({formats.SUFFIXES_WRITTEN}); default: IN-compare.png '
    'beside it',
  ),
  _option('--force', action='store_true', help='overwrite an existing output'),
  _option(
    '--crop', type=types.box, metavar='LEFT,TOP,RIGHT,BOTTOM',
    help='the detail to enlarge, in pixels; default: the busiest',
  ),
  _option(
    '--whole', action='store_true',
    help='compare all of an image above 2 megapixels, instead of a window '
    'around the detail',
  ),
)
_EVAL = (
  _option(
    'folder', metavar='FOLDER', type=types.folder, help='folder of images'
  ),
  _option(
    '--out', required=True, metavar='FOLDER', type=types.folder,
    help='folder for the results',
  ),
  _option(
    '--codecs', type=types.names, metavar='LIST',
    help='gdc:DECODER[@STEPS], gdc:mse+NOISE (a control), jpeg, webp, avif, '
    "jxl, jp2, heic; default: gdc:mse, the model's default decoder "
    '(gdc:one_step), jpeg, webp, avif and jxl',
  ),
  _option(
    '--qualities', type=types.numbers, metavar='LIST', default='1,2,3,4,5,6',
    help='qualities of the gdc codecs; default %(default)s',
  ),
  _option(
    '--equal-bytes', type=types.numbers, metavar='LIST',
    help='those of --qualities at which the other codecs are also matched to '
    "the bytes of gdc, image by image; '' for none; default: the first and "
    'the middle one',
  ),
  _option(
    '--measures', type=types.names, metavar='LIST',
    default='psnr,ms-ssim,lpips,dists,fd',
    help=f'{", ".join(metrics.NAMES)} (with KID); default %(default)s',
  ),
  _option(
    '--inception', metavar='FILE', type=types.path,
    help='weights (.safetensors) of Inception, for FID/256 in place of '
    'FD-VGG16/256',
  ),
  _option(
    '--anchor', metavar='CODEC',
    help='reference of BD-rates; default: the first codec that is not gdc',
  ),
  _option(
    '--reference', action='append', default=[], metavar='PATH', type=types.path,
    help="published curves to draw: a file in CompressAI's format, or a folder "
    'of them; may be repeated',
  ),
  _option(
    '--max-images', type=types.count, metavar='N',
    help='only the first N images',
  ),
  _option(
    '--pictures', type=types.between(0, 1000), default=4, metavar='N',
    help='number of images on the page; default %(default)s',
  ),
  _option(
    '--crop', type=types.count, default=384, metavar='PIXELS',
    help='longest side of what the page shows of an image; default %(default)s',
  ),
  _option(
    '--title', metavar='TEXT', help="page title; default: the folder's name"
  ),
  _option(
    '--note', default='', metavar='TEXT',
    help="note on the page, such as the images' licence",
  ),
  _option(
    '--jobs', type=types.count, default=1, metavar='N',
    help='processes on this machine, on a CPU; default %(default)s',
  ),
  _one_of(
    _option(
      '--shard', type=types.shard, metavar='I/N',
      help='do part I of N (0/4 to 3/4), into a folder that all share',
    ),
    _option(
      '--distributed', action='store_true',
      help='share the images among the hosts of a pod or cluster',
    ),
  ),
)
_COMPLETION = (_option('shell', choices=('bash', 'zsh', 'tcsh')),)


# --- Commands ---------------------------------------------------------------

# Name: function, options, short help, description.
_COMMANDS = {
  'compress': (
    commands.compress, (*_FILES, _RATE, *_COMPRESS, _JSON, _QUIET, _MODEL),
    'images to .gdc files',
    'Compresses images, and all images in folders, to .gdc files.',
  ),
  'decompress': (
    commands.decompress, (*_FILES, *_DECOMPRESS, _JSON, _QUIET, _MODEL),
    '.gdc files to images',
    'Decompresses .gdc files, and all in folders, to images. The suffix of '
    f'OUT decides on the format: {formats.SUFFIXES_WRITTEN}.',
  ),
  'info': (
    commands.info, (*_INFO, _JSON, _MODEL), 'what .gdc files hold',
    'Prints what .gdc files hold; for files of --model, the ideal length, too.',
  ),
  'compare': (
    commands.compare, (*_COMPARE, _RATE, _QUIET, _MODEL),
    'an image through every codec, on one page',
    'Makes a page of an image: through this codec, JPEG, WebP and AVIF at the '
    'same number of bytes.',
  ),
  'eval': (
    commands.evaluate, (*_EVAL, _QUIET, _MODEL),
    'codecs side by side on a folder of images',
    'Measures codecs on all images in a folder, with real files, and writes '
    "results in CompressAI's format, tables, plots and a page to look at. "
    'Stopped and started again, it continues.',
  ),
  'completion': (
    commands.completion, _COMPLETION,
    'a script with which a shell completes arguments',
    'Prints a script for a shell; to use it in bash: '
    'eval "$(gdc completion bash)"',
  ),
}


class _Parser(argparse.ArgumentParser):

  def _print_message(self, message, file=None):
    """Prints help or an error; unlike argparse, reports a full disk."""
    with files.naming_stdout():
      (file or sys.stderr).write(message)


def make_parser() -> argparse.ArgumentParser:
  """Makes the parser; its `commands` are the parsers of the commands."""
  parser = _Parser(
    prog='gdc',
    description='Generative image compression: small files, decoded by an '
    'autoencoder (mse) or made realistic by a score-based decoder.',
    epilog=_PAGE,
  )
  parser.add_argument('--version', action='version', version=gdc.__version__)
  subparsers = parser.add_subparsers(
    dest='command', metavar='COMMAND', required=True
  )
  parser.commands = subparsers.choices
  for name, (run, options, help, description) in _COMMANDS.items():
    command = subparsers.add_parser(
      name, help=help, description=description, epilog=_PAGE
    )
    command.set_defaults(run=run)
    _add(command, options)
  return parser


def _add(parser, options):
  for option in options:
    if isinstance(option, list):
      _add(parser.add_mutually_exclusive_group(), option)
    else:
      flags, keywords = option
      parser.add_argument(*flags, **keywords)
