"""What `gdc eval` does, once its arguments are understood."""
import shlex
from collections.abc import Callable

from gdc import paths, progress
from gdc.codec import jax_settings
from gdc.data import image_files, sources
from gdc.evaluation import (
  choice,
  codecs,
  overview,
  pace,
  published,
  records,
  report,
  study,
  tables,
  workers,
)


@jax_settings.defaults()
def run(
  arguments,
  notice: Callable[[str], None],
  error: Callable[[Exception, str], None],
) -> int:
  """Evaluates, and writes what an evaluation leaves behind.

  Of an evaluation whose parts are shared out, only the process that finds all
  of them there writes it.

  Args:
    arguments: of the command line, see cli; argv is the line itself.
    notice: says a line, of what is left out.
    error: says what is wrong with an image, of that name.

  Returns:
    How many images could not be read.

  Raises:
    ValueError: arguments that contradict each other or name what is not
      there; pictures, weights or results that can't be used.
    RuntimeError: an encoder that is not installed, a host that has failed.
    OSError: a file that can't be read or written.
  """
  shard = arguments.shard or (0, 1)
  if arguments.distributed:
    shard = workers.start_hosts()
  failed = True
  try:
    references = [
      curve
      for path in arguments.reference for curve in published.read_all(path)
    ]
    arguments.codecs, missing = choice.codecs(
      arguments.codecs, arguments.model
    )
    arguments.measures, unmeasured = choice.measures(
      arguments.measures, bool(arguments.inception)
    )
    for sentence in (*missing, *unmeasured):
      notice(sentence)
    images, unread = _images(arguments, notice, error)
    made = study.Study(_plan(arguments, images), arguments.jobs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = {
      name: progress.pixels(path) for name, path in
      list(zip(made.names, made.plan.paths, strict=True))[shard[0]::shard[1]]
    }
    with progress.Bar(
      sum(sizes.values()), 'eval', arguments.quiet, tiles=False
    ) as bar:
      on_row = pace.Pace(bar, sizes, made.rows).row
      workers.run(made, arguments.jobs, shard, on_row)
      bar.label = 'eval'
    failed = False
  finally:
    # The others would wait for ever for one that does not come.
    if arguments.distributed and workers.meet(failed) and not failed:
      raise RuntimeError('Another host has failed, and says why.')
  if arguments.shard:
    print(f'Part {shard[0]} of {shard[1]} is done. Once all are, the same '
          'command without --shard writes the results.')
  elif shard[0] == 0:
    _write(made, references, arguments, notice)
  return unread


def _write(made, references, arguments, notice):
  results = made.results()
  with progress.Bar(1.0, 'writing the page', arguments.quiet, tiles=False):
    overview.write(
      made, results,
      command=shlex.join(['gdc', *records.portable(arguments.argv)]),
      title=arguments.title or arguments.out.resolve().name,
      note=arguments.note, anchor=arguments.anchor, references=references,
      num_pictures=arguments.pictures, crop=arguments.crop,
    )
  for line in overview.notices(results, made.failed_codecs):
    notice(line)
  if arguments.quiet:
    return
  print(report.format_table(tables.summary(results)))
  print(f'{arguments.out / "page.html"} is the page to look at.')


def _images(arguments, notice, error):
  """The images that can be read, as every process finds them.

  Returns:
    A list of paths, at most --max-images; and how many could not be read.

  Raises:
    ValueError: there is none.
  """
  found = sources.search(arguments.folder)
  # The results may stand in the folder, too.
  others = [p for p in found.others if arguments.out not in p.parents]
  if others:
    files = 'file' if len(others) == 1 else 'files'
    notice(
      f'{len(others)} {files} skipped: no image by their names: '
      f'{paths.listed(others)}.'
    )
  for path, why in found.problems:
    error(OSError(f'{path}: {why}.'), str(path))
  images, unread = [], len(found.problems)
  # A damaged file is better found now than after an hour.
  sizes = [progress.num_bytes(path) for path in found.files]
  with progress.Bar(sum(sizes), 'reading images', arguments.quiet) as bar:
    for path, size in zip(found.files, sizes, strict=True):
      if len(images) == arguments.max_images:
        break
      try:
        image_files.read_rgb(path)
        images.append(path)
      except (OSError, ValueError) as e:
        error(e, str(path))
        unread += 1
      bar.advance(size)
  if not images:
    raise ValueError(f'{arguments.folder}: none of its images can be read.')
  if unread:
    these = 'image is' if len(images) == 1 else 'images are'
    notice(f'{unread} left out, {len(images)} {these} evaluated.')
  return images, unread


def _plan(arguments, images) -> study.Plan:
  """The study that is asked for."""
  if arguments.anchor not in (None, *arguments.codecs):
    raise ValueError(
      f'--anchor is {arguments.anchor!r}: one of '
      f'{", ".join(arguments.codecs)} is expected.'
    )
  names, matched = codecs.with_matched(
    arguments.codecs, arguments.qualities, arguments.equal_bytes
  )
  features = arguments.inception or 'vgg16'
  return study.Plan(
    images, names,
    arguments.out, arguments.model, arguments.qualities, matched,
    [name for name in arguments.measures if name != 'fd'],
    features if 'fd' in arguments.measures else None,
  )
