"""Door 2: the command `gdc`.

Arguments only: what the commands do is in `commands`, and whatever imports jax
is imported when it is needed, so that help and errors in the arguments come at
once.
"""
import argparse
import functools
import os
import sys

import gdc
from gdc import outputs
from gdc.cli import arguments, commands, files

_PICTURES = '.png .jpg .webp .avif .tif .bmp .ppm'
_FORMATS = ('png', 'jpg', 'webp', 'avif', 'tif', 'bmp', 'ppm')
_PAGE = 'All of it is described in docs/command_line.md.'


def main(argv: list[str] | None = None) -> int:
  """Runs a command line; returns the exit status.

  0: done. 1: an input or a file is at fault, each said in one line on standard
  error, the others done. 2: the arguments are. 130: interrupted.
  """
  argv = sys.argv[1:] if argv is None else argv
  try:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if getattr(arguments, 'lossless', None) == 'always' and (
      arguments.quality is not None
    ):
      parser.error(
        'argument --lossless: always is not allowed with argument -q/--quality'
      )
    arguments.argv = argv
    status = _run(arguments)
  except SystemExit as e:  # of argparse
    if _flushed(say=not e.code):
      raise
    return 1
  except OSError as e:  # of its help
    if not isinstance(e, BrokenPipeError):
      files.Report().error(e)
    status = 1
  return status if _flushed(say=not status) else status or 1


def _run(arguments) -> int:
  if arguments.command in ('compress', 'decompress') and (
    arguments.output is None and arguments.inputs == [files.STREAM]
  ):
    arguments.output = files.STREAM
  report = files.Report(
    as_json=getattr(arguments, 'json', False),
    data_on_stdout=getattr(arguments, 'output', None) == files.STREAM,
    quiet=getattr(arguments, 'quiet', False),
  )
  try:
    if sys.stdout is None:
      raise files.CliError('Standard output is closed: give it a file or a '
                          'pipe, or >/dev/null.')
    return arguments.run(arguments, report)
  except KeyboardInterrupt:
    report.notice('interrupted')
    return 130
  except BrokenPipeError:
    return 1  # whoever read the output has gone, as `| head` does
  except Exception as e:
    report.error(e)
    return 1


def _flushed(say: bool) -> bool:
  """Whether what was printed has arrived; if not, that may be said."""
  arrived = True
  for stream in (sys.stdout, sys.stderr):
    try:
      if stream is not None:
        stream.flush()
    except OSError as e:
      if stream is sys.stdout:
        arrived = False
        if say and not isinstance(e, BrokenPipeError):
          files.Report().notice(f'standard output: {e.strerror}')
      # Or Python would try again at its end, and complain.
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, stream.fileno())
      os.close(null)
  return arrived


# --- Commands ---------------------------------------------------------------


class _Parser(argparse.ArgumentParser):

  def parse_known_args(self, args=None, namespace=None):
    self._words = args or ()  # for error
    return super().parse_known_args(args, namespace)

  def error(self, message):
    """Names a file that was taken for an option, too."""
    for word in self._words:
      if len(word) > 1 and word[0] == '-' and os.path.lexists(word):
        message += f'; the file {word!r} is ./{word}'
        break
    super().error(message)

  def _print_message(self, message, file=None):
    """Without this, help that does not arrive would pass for printed."""
    if file is not sys.stdout or file is None:
      super()._print_message(message, file)
    else:
      with outputs.naming('standard output'):
        file.write(message)


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='gdc',
    description='Generative image compression: small files, decoded by an '
    'autoencoder (mse) or made realistic by a score-based decoder.',
    epilog=_PAGE,
  )
  parser.add_argument('--version', action='version', version=gdc.__version__)
  adders = parser.add_subparsers(
    dest='command', metavar='COMMAND', required=True
  )

  def add(name, run, help, description):
    command = adders.add_parser(
      name, help=help, description=description, epilog=_PAGE
    )
    command.set_defaults(run=run)
    return command

  compress = add(
    'compress', commands.compress, 'pictures to .gdc files',
    'Compresses pictures, and all pictures below folders, to .gdc files.',
  )
  _add_files(
    compress,
    'a .gdc file; a folder where there are several inputs; - for standard '
    'output',
  )
  _add_rate(compress)
  compress.add_argument(
    '--srgb', action='store_true',
    help='convert colours of another profile to sRGB instead of keeping both',
  )
  compress.add_argument(
    '--seed', type=arguments.seed, metavar='N',
    help="stored: of a score decoder's noise in place of the file's checksum",
  )
  compress.add_argument(
    '--lossless', choices=('auto', 'never', 'always'), default='auto',
    help='keep the image losslessly: where that is smaller or the network '
    'fails (auto, the default), never, or always',
  )
  _add_model(compress)

  decompress = add(
    'decompress', commands.decompress, '.gdc files to pictures',
    'Decompresses .gdc files, and all below folders, to pictures.',
  )
  _add_files(
    decompress,
    f'a picture ({_PICTURES}); a folder where there are several inputs; - for '
    'standard output',
  )
  decompress.add_argument(
    '--format', choices=_FORMATS, metavar='NAME',
    help=f'of outputs without a name: {", ".join(_FORMATS)}; default png',
  )
  decompress.add_argument(
    '--decoder', choices=('mse', 'one_step', 'flow', 'diffusion'),
    help='mse is the autoencoder alone; default: the first of one_step, flow '
    'and diffusion that the model has',
  )
  decompress.add_argument(
    '--steps', type=arguments.steps, metavar='N',
    help="sampling steps of flow or diffusion; default: the model's; without "
    '--decoder, more than 1 takes flow; flow with 1 is one_step',
  )
  decompress.add_argument(
    '--seed', type=arguments.seed, metavar='N',
    help="of a score decoder's noise; default: the file's",
  )
  decompress.add_argument(
    '--realism', type=arguments.realism, metavar='R',
    help='from 0, the picture of mse, to 1, that of the score decoder; '
    'default 1',
  )
  _add_model(decompress)

  info = add(
    'info', commands.info, 'what .gdc files hold',
    'Prints what .gdc files hold.',
  )
  info.add_argument(
    'inputs', metavar='FILE', nargs='+', type=arguments.path,
    help='.gdc files, and folders of them; - for standard input',
  )
  _add_json(info)
  _add_model(info, ', of the ideal length, if it is that of the file')

  compare = add(
    'compare', commands.compare, 'a picture through every codec, on one page',
    'Makes a page of a picture: through this codec, JPEG, WebP and AVIF at the '
    'same number of bytes.',
  )
  compare.add_argument(
    'input', metavar='IN', type=arguments.path, help='a picture'
  )
  compare.add_argument(
    '-o', '--output', metavar='OUT', type=arguments.path,
    help=f'a picture ({_PICTURES}); default: IN-compare.png beside it',
  )
  compare.add_argument(
    '--force', action='store_true', help='overwrite an existing output'
  )
  compare.add_argument(
    '--crop', type=arguments.box, metavar='LEFT,TOP,RIGHT,BOTTOM',
    help='the detail that is enlarged, in pixels; default: the busiest',
  )
  compare.add_argument(
    '--whole', action='store_true',
    help='of an image above 2 megapixels, compare all of it and not a window '
    'around the detail',
  )
  _add_quiet(compare)
  _add_rate(compare)
  _add_model(compare)

  _add_evaluate(add(
    'eval', commands.evaluate, 'codecs side by side on a folder of pictures',
    'Measures codecs on all pictures below a folder, on real files, and writes '
    "results in CompressAI's format, tables, plots and a page to look at. "
    'Stopped and started again, it goes on.',
  ))

  completion = add(
    'completion', functools.partial(commands.completion, parser),
    'a script that lets a shell complete arguments',
    'Prints a script for a shell; to use it in bash: '
    'eval "$(gdc completion bash)"',
  )
  completion.add_argument('shell', choices=('bash', 'zsh', 'tcsh'))
  return parser


def _add_evaluate(parser):
  parser.add_argument('folder', metavar='FOLDER', type=arguments.folder)
  parser.add_argument(
    '--codecs', type=arguments.names, metavar='LIST',
    help='gdc:DECODER[@STEPS], gdc:mse+NOISE (a control), jpeg, webp, avif, '
    "jxl, jp2, heic; default: gdc:mse, the model's default decoder "
    '(gdc:one_step), jpeg, webp, avif and jxl',
  )
  parser.add_argument(
    '--qualities', type=arguments.qualities, metavar='LIST',
    default='1,2,3,4,5,6',
    help='of the gdc codecs; default %(default)s',
  )
  parser.add_argument(
    '--equal-bytes', type=arguments.qualities, metavar='LIST',
    help='those of --qualities at which the other codecs get the bytes of '
    "gdc, too, picture by picture; '' for none; default: the first and the "
    'middle one',
  )
  parser.add_argument(
    '--measures', type=arguments.measures, metavar='LIST',
    default='psnr,ms-ssim,lpips,dists,fd',
    help=f'{", ".join(arguments.MEASURES)} (with KID); default %(default)s',
  )
  parser.add_argument(
    '--inception', metavar='FILE', type=arguments.path,
    help='weights of the Inception network, for FID/256 in place of '
    'FD-VGG16/256',
  )
  parser.add_argument(
    '--out', required=True, metavar='FOLDER', type=arguments.folder,
    help='of the results',
  )
  parser.add_argument(
    '--anchor', metavar='CODEC',
    help='that BD-rates are against; default: the first that is not gdc',
  )
  parser.add_argument(
    '--reference', action='append', default=[], metavar='PATH',
    type=arguments.path,
    help="published curves to draw, too: a file in CompressAI's format, or a "
    'folder of them; may be given several times',
  )
  parser.add_argument(
    '--max-images', type=arguments.count, metavar='N', help='the first so many'
  )
  parser.add_argument(
    '--pictures', type=arguments.between(0, 1000, int, 'a whole number'),
    default=4, metavar='N',
    help='that the page shows; default %(default)s',
  )
  parser.add_argument(
    '--crop', type=arguments.count, default=384, metavar='PIXELS',
    help='the longest side of what it shows of one; default %(default)s',
  )
  parser.add_argument(
    '--title', metavar='TEXT', help="of the page; default: the folder's name"
  )
  parser.add_argument(
    '--note', default='', metavar='TEXT',
    help="for the page, such as the pictures' licence",
  )
  parser.add_argument(
    '--jobs', type=arguments.count, default=1, metavar='N',
    help='processes on this machine, on a CPU; default %(default)s',
  )
  split = parser.add_mutually_exclusive_group()
  split.add_argument(
    '--shard', type=arguments.shard, metavar='I/N',
    help='do part I of N (0/4 to 3/4), into a folder that all share',
  )
  split.add_argument(
    '--distributed', action='store_true',
    help='share the pictures among the hosts of a pod or cluster',
  )
  _add_quiet(parser)
  _add_model(parser)


def _add_files(parser, output_help):
  parser.add_argument(
    'inputs', metavar='IN', nargs='+', type=arguments.path,
    help='files and folders, or - for standard input',
  )
  parser.add_argument(
    '-o', '--output', metavar='OUT', type=arguments.path,
    help=f'{output_help}; default: beside each input, or standard output',
  )
  existing = parser.add_mutually_exclusive_group()
  existing.add_argument(
    '--force', action='store_true', help='overwrite existing outputs'
  )
  existing.add_argument(
    '--skip-existing', action='store_true',
    help='leave out inputs whose output exists: a job that was stopped goes on',
  )
  parser.add_argument(
    '--keep-suffix', action='store_true',
    help="keep an input's ending in its output's name, as in photo.jpg.gdc",
  )
  _add_json(parser)
  _add_quiet(parser)


def _add_json(parser):
  parser.add_argument(
    '--json', action='store_true', help='print a JSON object per input'
  )


def _add_quiet(parser):
  parser.add_argument(
    '--quiet', action='store_true',
    help='errors alone: no progress, no notices, no line per result',
  )


def _add_model(parser, help=''):
  parser.add_argument(
    '--model', default='lean', metavar='NAME_OR_PATH', type=arguments.path,
    help=f'a model in the box, or a bundle folder{help}; default lean',
  )


def _add_rate(parser):
  rate = parser.add_mutually_exclusive_group()
  rate.add_argument(
    '-q', '--quality', type=arguments.quality, metavar='Q',
    help='from 1 (smallest) to 6 (best), continuous; default 3',
  )
  rate.add_argument(
    '--target-bpp', type=arguments.positive, metavar='BPP',
    help='the best file found of at most so many bits per pixel',
  )
  rate.add_argument(
    '--target-bytes', type=arguments.num_bytes, metavar='SIZE',
    help='the best file found of at most so many bytes: 50000, 50k, 1.5M, '
    '64KiB',
  )
  rate.add_argument(
    '--min-psnr', type=arguments.positive, metavar='DB',
    help='the smallest file found whose picture (of mse) has so many dB',
  )


if __name__ == '__main__':
  sys.exit(main())
