"""What the commands of `gdc` do.

Each takes the parsed arguments and a Report, and returns the exit status.
Modules that import jax, numpy or Pillow are imported where they are needed.
"""
import contextlib
import dataclasses
import logging
import os
import pathlib
import sys

import gdc
from gdc import atomic, progress
from gdc.cli import files
from gdc.data import formats

CliError = files.CliError


def compress(arguments, report) -> int:
  """Compresses images to .gdc files."""
  from gdc.codec import bitstream
  from gdc.data import image_files
  for name in arguments.inputs:
    if name.lower().endswith(gdc.SUFFIX) and not os.path.isdir(name):
      raise CliError(f'{name} is compressed already.')
  plan = _plan(arguments, formats.READ, gdc.SUFFIX)
  for job in plan.jobs:
    if job.target and job.target.suffix.lower() in formats.READ:
      raise CliError(f'{job.target}: the output needs the suffix {gdc.SUFFIX}.')
  report.begin(plan)
  codec = _load(arguments.model, score_decoders=False) if plan.jobs else None
  if codec and arguments.quality is not None:
    bitstream.quality_to_index(
      arguments.quality, codec.bundle.tables.num_qualities
    )

  def work(job):
    image = image_files.read(_stream(job), srgb=arguments.srgb)
    if arguments.strip:
      image = dataclasses.replace(image, exif=b'', xmp=b'')
    data = codec.compress(
      image.pixels, arguments.quality, **_targets(arguments),
      seed=arguments.seed, icc=image.icc, exif=image.exif, xmp=image.xmp,
      lossless=arguments.lossless, notices=image.notices,
    )
    files.write(job.target, data, arguments.force)
    height, width, channels = image.pixels.shape
    header = bitstream.unpack(data)[0]
    quality = _quality(header)
    bpp = 8 * len(data) / (width * height)
    how = 'lossless' if header.lossless else f'quality {quality:g}'
    return (
      f'{job.target_name}  {width} x {height}, {len(data):,} bytes, '
      f'{bpp:.3f} bpp, {how}'
    ), {
      'input': job.source_name,
      'output': job.target_name,
      'width': width,
      'height': height,
      'channels': channels,
      'bytes': len(data),
      'bpp': bpp,
      'quality': quality,
      'lossless': header.lossless,
      'seed': header.seed,
      'icc_bytes': len(header.icc),
      'exif_bytes': len(header.exif),
      'xmp_bytes': len(header.xmp),
      'model': None if header.lossless else codec.name,
      'model_digest': header.digest.hex() or None,
      'notices': image.notices,
    }

  return report.each(plan, work, lambda job: progress.pixels(job.source))


def decompress(arguments, report) -> int:
  """Decompresses .gdc files to images."""
  from gdc.codec import bitstream
  from gdc.data import image_files
  default = f'.{arguments.format or "png"}'
  plan = _plan(arguments, [gdc.SUFFIX], default)
  for job in plan.jobs:
    _check_format(job, arguments.format)
  report.begin(plan)
  options = (
    arguments.decoder, arguments.steps, arguments.seed, arguments.realism
  )
  if plan.jobs:
    codec = _load(arguments.model, arguments.decoder != 'mse')
    codec.check_decoder(*options)

  def work(job):
    data = _read(job)
    header, _, checksum = bitstream.unpack(data)
    suffix = default if job.target is None else job.target.suffix
    size = arguments.region[2:] if arguments.region else (
      header.width, header.height
    )
    image_files.check_size(*size, suffix, header.grey)
    seed = _first(arguments.seed, header.seed, checksum)
    lossless, kept = header.lossless, (header.icc, header.exif, header.xmp)
    del header  # an alpha plane may be large
    pixels = codec.decompress(data, *options, region=arguments.region)
    height, width, channels = pixels.shape
    fitted = image_files.fit(pixels, suffix, *kept)
    encoded = image_files.encode(
      fitted.pixels, suffix, fitted.icc, fitted.exif, fitted.xmp
    )
    files.write(job.target, encoded, arguments.force)
    decoder, steps = (None, None) if lossless else codec.resolve(*options[:2])
    is_score = decoder not in (None, 'mse')
    how = 'lossless' if lossless else f'decoder {decoder}'
    return f'{job.target_name}  {width} x {height}, {how}', {
      'input': job.source_name,
      'output': job.target_name,
      'width': width,
      'height': height,
      'channels': channels,
      'region': arguments.region,
      'lossless': lossless,
      'decoder': decoder,
      'steps': steps,
      'seed': seed if is_score else None,
      'realism': _first(arguments.realism, 1.0) if is_score else None,
      'icc_bytes': len(fitted.icc),
      'exif_bytes': len(fitted.exif),
      'xmp_bytes': len(fitted.xmp),
      'model': None if lossless else codec.name,
      'notices': fitted.notices,
    }

  return report.each(plan, work, lambda job: progress.num_bytes(job.source))


def info(arguments, report) -> int:
  """Prints what .gdc files hold."""
  from gdc.codec import bitstream, lossless
  plan = files.find(arguments.inputs, [gdc.SUFFIX])
  report.begin(plan)
  codec = _load(arguments.model, score_decoders=False) if plan.jobs else None

  def work(job):
    data = _read(job)
    header, payload, checksum = bitstream.unpack(data)
    is_known = not header.lossless and (
      codec.digest.startswith(header.digest.hex())
    )
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
      'exif_bytes': len(header.exif),
      'xmp_bytes': len(header.xmp),
      'lossless': header.lossless,
      'formats': lossless.kinds(payload, header) if header.lossless else None,
      'quality': _quality(header),
      'seed': _first(header.seed, None if header.lossless else checksum),
      'seed_stored': header.seed is not None,
      'model_digest': header.digest.hex() or None,
      'model': codec.name if is_known else None,
      'bytes': len(data),
      'bpp': 8 * len(data) / (header.width * header.height),
      'payload_bytes': len(payload),
      'header_bytes': len(data) - len(payload),
      'ideal_bytes': codec.ideal_bits(data) / 8 if is_known else None,
    }
    return _table(record), record

  return report.each(plan, work)


def _table(record: dict) -> str:
  """The record of `info` for people: without fields that do not apply."""
  shown = {
    name: {True: 'yes', False: 'no'}[value] if isinstance(value, bool)
    else f'{value:.6g}' if isinstance(value, float)
    else ', '.join(value) if isinstance(value, list) else value
    for name, value in record.items() if value is not None
  }
  return '\n'.join(f'{name:14} {value}' for name, value in shown.items())


def compare(arguments, report) -> int:
  """Draws an image through every codec at the same bytes."""
  from gdc.data import image_files
  source = pathlib.Path(arguments.input)
  target = source.with_name(f'{source.stem}-compare.png')
  if arguments.output is not None:
    target = pathlib.Path(arguments.output)
  job = files.Job(source, target)
  files.check([job], arguments.force)
  _check_format(job, None)
  _check_backend()
  import numpy as np

  from gdc.evaluation import showcase
  image, notices = image_files.read_rgb(source)
  codec = _load(arguments.model)
  if not arguments.whole and image.shape[0] * image.shape[1] > showcase.WINDOW:
    notices = [
      *notices,
      'a window of it is compared; --whole takes all of it, which may take '
      'minutes',
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


def evaluate(arguments, report) -> int:
  """Evaluates codecs side by side on a folder of images."""
  atomic.check_writable(arguments.out / 'page.html')
  # Hosts have to be connected before their devices are looked at.
  _check_backend(devices=not arguments.distributed)
  logging.getLogger('matplotlib').setLevel(logging.ERROR)  # its font cache
  try:
    from gdc.evaluation import command
  except ModuleNotFoundError as e:
    raise CliError(f"{e}; pip install 'gdc-codec[eval]' installs it") from e
  return int(command.run(arguments, report.notice, report.error) > 0)


def completion(arguments, report) -> int:
  """Prints a script with which a shell completes the arguments of gdc."""
  del report
  import shtab
  parser = arguments.parser
  for command in parser.commands.values():
    for action in command._actions:
      if action.dest in ('inputs', 'input', 'output', 'model'):
        action.complete = shtab.FILE
      elif action.dest in ('folder', 'out'):
        action.complete = shtab.DIRECTORY
  with files.naming_stdout():
    print(shtab.complete(parser, arguments.shell))
  return 0


# --- What they share --------------------------------------------------------


def _plan(arguments, reads, writes: str) -> files.Plan:
  return files.plan(
    arguments.inputs, arguments.output, reads, writes, arguments.force,
    arguments.skip_existing, arguments.keep_suffix,
  )


def _load(model: str, score_decoders: bool = True):
  """Loads a codec, whose compiled programs are kept between runs."""
  _check_backend()
  from gdc.codec import programs
  programs.keep()
  return gdc.load(model, score_decoders)


def _check_backend(devices: bool = True):
  """Raises CliError if jax does not work or, with `devices`, finds none."""
  try:
    import jax
  except Exception as e:
    raise CliError(
      f'JAX cannot be imported ({type(e).__name__}: {e}): install jax and '
      'jaxlib of one version.'
    ) from e
  logging.getLogger('jax._src.xla_bridge').addFilter(_one_line)
  try:
    if devices:
      jax.devices()
  except Exception as e:  # including an AssertionError without a message
    platforms = os.environ.get('JAX_PLATFORMS')
    if not platforms:
      raise
    reason = f' ({e})' if str(e) else ''
    raise CliError(
      f'JAX_PLATFORMS is {platforms!r}, for which this JAX finds no device'
      f'{reason}: unset it, set it to cpu, or install JAX for that device.'
    ) from e


def _one_line(record: logging.LogRecord) -> bool:
  """Logs the failure of a JAX plugin without its traceback."""
  if record.exc_info:
    record.msg = f'{record.getMessage()}: {record.exc_info[1]}'
    record.args, record.exc_info = (), None
  return True


def _targets(arguments) -> dict:
  """The target that was given in place of a quality, for Codec.compress."""
  targets = {
    name: getattr(arguments, name)
    for name in ('target_bytes', 'target_bpp', 'min_psnr')
  }
  return {name: value for name, value in targets.items() if value is not None}


def _stream(job: files.Job):
  return sys.stdin.buffer if job.source is None else job.source


def _read(job: files.Job) -> bytes:
  """Reads a .gdc file; of another, which may be huge, the beginning."""
  with contextlib.ExitStack() as stack:
    file = _stream(job)
    if job.source is not None:
      file = stack.enter_context(job.source.open('rb'))
    start = file.read(64)
    return start + (file.read() if start[:3] == b'GDC' else b'')


def _quality(header) -> float | None:
  from gdc.codec import bitstream
  if header.lossless:
    return None
  return bitstream.index_to_quality(header.quality_index)


def _check_format(job: files.Job, name: str | None):
  """Checks that an output has the suffix of an image, and of --format."""
  if job.target is None:
    return
  suffix = job.target.suffix.lower()
  if suffix not in formats.WRITTEN:
    raise CliError(
      f'{job.target}: the output needs the suffix of an image: '
      f'{formats.SUFFIXES_WRITTEN}.'
    )
  if name and formats.WRITTEN[suffix] != formats.WRITTEN[f'.{name}']:
    raise CliError(
      f'{job.target} is not of --format {name}; leave out one of the two.'
    )


def _first(*values):
  """The first value that is not None."""
  return next((value for value in values if value is not None), None)
