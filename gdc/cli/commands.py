"""What the commands of `gdc` do, once their arguments are understood.

Each takes the arguments and a Report, and returns the exit status. Whatever
imports jax, numpy or Pillow is imported when it is needed.
"""
import contextlib
import logging
import os
import pathlib
import sys

import gdc
from gdc import outputs, progress
from gdc.cli import files

CliError = files.CliError


def compress(arguments, report: files.Report) -> int:
  """Pictures to .gdc files."""
  from gdc.codec import bitstream
  from gdc.data import formats, image_files
  for name in arguments.inputs:
    if name.lower().endswith('.gdc') and not pathlib.Path(name).is_dir():
      raise CliError(f'{name} is compressed already.')
  plan = _plan(arguments, formats.READ, '.gdc')
  for job in plan.jobs:
    if job.target and job.target.suffix.lower() in formats.READ:
      raise CliError(
        f'{job.target}: the output is no such picture; .gdc is its ending.'
      )
  report.begin(plan, 'no picture by their names')
  if not plan.jobs:
    return report.each([], None)
  codec = _load(arguments.model, score_decoders=False)

  def work(job):
    picture = image_files.read(_source(job), srgb=arguments.srgb)
    data = codec.compress(
      picture.pixels, arguments.quality, **_targets(arguments),
      seed=arguments.seed, icc=picture.icc, lossless=arguments.lossless,
      notices=picture.notices,
    )
    files.write(job.target, data, arguments.force)
    height, width, channels = picture.pixels.shape
    header = bitstream.unpack(data)[0]
    quality = _quality(header)
    record = {
      'input': job.source_name,
      'output': job.target_name,
      'width': width,
      'height': height,
      'channels': channels,
      'bytes': len(data),
      'bpp': 8 * len(data) / (width * height),
      'quality': quality,
      'lossless': header.lossless,
      'seed': header.seed,
      'icc_bytes': len(header.icc),
      'model': None if header.lossless else codec.name,
      'model_digest': header.digest.hex() or None,
      'notices': picture.notices,
    }
    return (
      f'{job.target_name}  {width} x {height}, {len(data):,} bytes, '
      f'{record["bpp"]:.3f} bpp, '
      + ('lossless' if quality is None else f'quality {quality:g}')
    ), record

  return report.each(
    plan.jobs, work, lambda job: progress.pixels(job.source)
  )


def decompress(arguments, report: files.Report) -> int:
  """.gdc files to pictures."""
  from gdc.codec import bitstream
  from gdc.data import image_files
  suffix = f'.{arguments.format or "png"}'
  plan = _plan(arguments, ['.gdc'], suffix)
  for job in plan.jobs:
    _check_format(job, arguments.format)
  report.begin(plan, 'no .gdc by their names')
  if not plan.jobs:
    return report.each([], None)
  codec = _load(arguments.model, arguments.decoder != 'mse')
  codec.check_decoder(
    arguments.decoder, arguments.steps, arguments.seed, arguments.realism
  )

  def work(job):
    data = _read(job)
    header, _, checksum = bitstream.unpack(data)
    ending = suffix if job.target is None else job.target.suffix
    image_files.check_size(header.width, header.height, ending, header.grey)
    own_seed = checksum if header.seed is None else header.seed
    icc, lossless = header.icc, header.lossless
    del header  # an alpha plane may be large
    pixels = codec.decompress(
      data, arguments.decoder, arguments.steps, arguments.seed,
      arguments.realism,
    )
    height, width, channels = pixels.shape
    fitted = image_files.fit(pixels, ending, icc)
    encoded = image_files.encode(fitted.pixels, ending, fitted.icc)
    files.write(job.target, encoded, arguments.force)
    used, steps = codec.resolve(arguments.decoder, arguments.steps)
    if lossless:
      used = steps = None
    score = used not in (None, 'mse')
    how = 'lossless' if lossless else f'decoder {used}'
    return f'{job.target_name}  {width} x {height}, {how}', {
      'input': job.source_name,
      'output': job.target_name,
      'width': width,
      'height': height,
      'channels': channels,
      'lossless': lossless,
      'decoder': used,
      'steps': steps,
      'seed': _first(arguments.seed, own_seed) if score else None,
      'realism': _first(arguments.realism, 1.0) if score else None,
      'icc_bytes': len(fitted.icc),
      'model': None if lossless else codec.name,
      'notices': fitted.notices,
    }

  return report.each(
    plan.jobs, work, lambda job: progress.num_bytes(job.source)
  )


def info(arguments, report: files.Report) -> int:
  """What .gdc files hold."""
  from gdc.codec import bitstream, lossless
  plan = files.find(arguments.inputs, ['.gdc'])
  report.begin(plan, 'no .gdc by their names')
  if not plan.jobs:
    return report.each([], None)
  codec = _load(arguments.model, score_decoders=False)

  def work(job):
    data = _read(job)
    header, payload, checksum = bitstream.unpack(data)
    known = not header.lossless and (
      codec.digest.startswith(header.digest.hex())
    )
    exact = lossless.kinds(payload, header) if header.lossless else None
    record = {
      'input': job.source_name,
      'version': bitstream.VERSION,
      'flags': header.flags,
      'width': header.width,
      'height': header.height,
      'channels': header.channels,
      'grey': header.grey,
      'alpha': header.alpha is not None,
      'icc_bytes': len(header.icc),
      'lossless': header.lossless,
      'formats': exact,
      'quality': _quality(header),
      'seed': header.seed if header.lossless else _first(
        header.seed, checksum
      ),
      'seed_stored': header.seed is not None,
      'model_digest': header.digest.hex() or None,
      'model': codec.name if known else None,
      'bytes': len(data),
      'bpp': 8 * len(data) / (header.width * header.height),
      'payload_bytes': len(payload),
      'header_bytes': len(data) - len(payload),
      'ideal_bytes': codec.ideal_bits(data) / 8 if known else None,
    }
    return _table(record), record

  return report.each(plan.jobs, work)


def _quality(header) -> float | None:
  """The quality of a file; None where it is lossless."""
  from gdc.codec import bitstream
  if header.lossless:
    return None
  return bitstream.index_to_quality(header.quality_index)


def _table(record: dict) -> str:
  if record['lossless']:
    # What only files of a model have.
    record = {
      name: value for name, value in record.items() if name not in (
        'quality', 'seed', 'seed_stored', 'model_digest', 'model',
        'ideal_bytes',
      )
    }
  else:
    record = {k: v for k, v in record.items() if k != 'formats'}
  shown = {
    'seed_stored': lambda v: 'yes' if v else 'no, it is the checksum',
    'icc_bytes': lambda v: v or 'none, sRGB',
    'flags': lambda v: f'{v:#04x}',
    'grey': lambda v: 'yes' if v else 'no',
    'alpha': lambda v: 'yes' if v else 'no',
    'lossless': lambda v: 'yes' if v else 'no',
    'formats': ', '.join,
    'model': lambda v: v or 'another than --model',
    'ideal_bytes': lambda v: 'not known: of another model' if v is None else (
      f'{v:.1f}'
    ),
    'bpp': lambda v: f'{v:.4f}',
    'quality': lambda v: f'{v:g}',
  }
  return '\n'.join(
    f'{name:14} {shown.get(name, str)(value)}'
    for name, value in record.items()
  )


def compare(arguments, report: files.Report) -> int:
  """A picture beside itself through every codec, at the same bytes."""
  import numpy as np

  from gdc.data import image_files
  source = pathlib.Path(arguments.input)
  target = source.with_name(f'{source.stem}-compare.png')
  if arguments.output is not None:
    target = pathlib.Path(arguments.output)
  job = files.Job(source, target)
  files.check([job], arguments.force)
  _check_format(job, None)
  _check_back_end()
  from gdc.evaluation import showcase
  image, notices = image_files.read_rgb(source)
  codec = _load(arguments.model)
  if not arguments.whole and image.shape[0] * image.shape[1] > showcase.WINDOW:
    notices = [
      *notices, 'a window of it is compared; --whole takes all of it, which '
      'may take minutes',
    ]
  with report.progress(showcase.work(), source.name):
    page = showcase.make(
      codec, image, arguments.quality, arguments.crop, arguments.whole,
      **_targets(arguments),
    )
  encoded = image_files.encode(np.asarray(page.convert('RGB')), target.suffix)
  files.write(target, encoded, arguments.force)
  report.result(
    f'{target}  {page.width} x {page.height}',
    {'input': str(source), 'notices': notices},
  )
  return 0


def evaluate(arguments, report: files.Report) -> int:
  """Codecs side by side on a folder of pictures."""
  outputs.check_writable(arguments.out / 'page.html')
  # Hosts have to come together before their devices are looked at.
  _check_back_end(devices=not arguments.distributed)
  # Without a home, or where it draws for the first time, it says much.
  logging.getLogger('matplotlib').setLevel(logging.ERROR)
  try:
    from gdc.evaluation import command, figures
    del figures  # needed at the end: it had better be there
  except ModuleNotFoundError as e:
    raise CliError(f"{e}; pip install 'gdc-codec[eval]' brings it") from e
  return int(command.run(arguments, report.notice, report.error) > 0)


def completion(parser, arguments, report: files.Report) -> int:
  """A script for a shell that completes the arguments of gdc."""
  del report
  import argparse

  import shtab

  def mark(parser):
    for action in parser._actions:
      if isinstance(action, argparse._SubParsersAction):
        for child in action.choices.values():
          mark(child)
      elif action.dest in ('inputs', 'input', 'output', 'model'):
        action.complete = shtab.FILE
      elif action.dest in ('folder', 'out'):
        action.complete = shtab.DIRECTORY

  mark(parser)
  with outputs.naming('standard output'):
    print(shtab.complete(parser, arguments.shell))
  return 0


# --- What they share --------------------------------------------------------


def _plan(arguments, reads, writes: str) -> files.Plan:
  return files.plan(
    arguments.inputs, arguments.output, reads, writes, arguments.force,
    arguments.skip_existing, arguments.keep_suffix,
  )


def _load(model: str, score_decoders: bool = True):
  """Loads a codec, with compiled programs kept between runs."""
  _check_back_end()
  from gdc.codec import programs
  programs.keep()
  return gdc.load(model, score_decoders)


def _check_back_end(devices: bool = True):
  """Whether jax works, and finds the devices it is to use; CliError if not."""
  try:
    import jax
  except Exception as e:
    raise CliError(
      f'JAX cannot be imported ({type(e).__name__}: {e}): install jax and '
      'jaxlib of one version.'
    ) from e
  # Of a plugin that fails, such as that of CUDA without a GPU.
  logging.getLogger('jax._src.xla_bridge').addFilter(_one_line)
  try:
    if devices:
      jax.devices()
  except Exception as e:  # an AssertionError, too, without a word
    asked = os.environ.get('JAX_PLATFORMS')
    if not asked:
      raise
    reason = f' ({e})' if str(e) else ''
    raise CliError(
      f'JAX_PLATFORMS is {asked!r}, for which this JAX finds no device'
      f'{reason}: unset it, set it to cpu, or install JAX for that device.'
    ) from e


def _one_line(record: logging.LogRecord) -> bool:
  """Has a log say what an exception says, without its traceback."""
  if record.exc_info:
    record.msg = f'{record.getMessage()}: {record.exc_info[1]}'
    record.args, record.exc_info = (), None
  return True


def _targets(arguments) -> dict:
  """The argument of Codec.compress that stands in place of its quality."""
  targets = {
    name: getattr(arguments, name)
    for name in ('target_bytes', 'target_bpp', 'min_psnr')
  }
  return {name: value for name, value in targets.items() if value is not None}


def _source(job: files.Job):
  if job.source is not None:
    return job.source
  if sys.stdin is None:
    raise CliError('Standard input is closed.')
  return sys.stdin.buffer


def _read(job: files.Job) -> bytes:
  """A .gdc file, or the beginning of another, which may be of any length."""
  source = _source(job)
  with contextlib.ExitStack() as stack:
    if job.source is not None:
      source = stack.enter_context(source.open('rb'))
    start = source.read(64)
    return start + (source.read() if start[:3] == b'GDC' else b'')


def _check_format(job: files.Job, name: str | None):
  """Whether an output's name is one of a picture, and of --format."""
  from gdc.data import formats
  if job.target is None:
    return
  suffix = job.target.suffix.lower()
  if suffix not in formats.WRITTEN:
    raise CliError(
      f'{job.target}: the output needs the ending of an image: '
      f'{formats.SUFFIXES_WRITTEN}.'
    )
  if name and formats.WRITTEN[suffix] != formats.WRITTEN[f'.{name}']:
    raise CliError(f'{job.target} is not of --format {name}; leave one out.')


def _first(value, default):
  return default if value is None else value
