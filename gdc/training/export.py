"""Bundles in and out of training: trained parameters, starting weights."""
import tempfile

from etils import epath

from gdc.codec import bundle, jax_settings


@jax_settings.defaults()
def bundle_of(stage, params, name: str) -> bundle.Bundle:
  """Returns the bundle of a trained stage.

  Stage 1 gives a new bundle. Stage 2 adds its decoder to the bundle that it
  was trained on, or replaces it there: a file written with either decodes
  with both.

  Args:
    stage: training.stages.base.Stage.
    params: exported parameters, numpy.
    name: of a new bundle.
  """
  if stage.autoencoder is None:
    return bundle.make(name, stage.spec, params)
  return bundle.add_decoder(stage.autoencoder, stage.name, stage.spec, params)


def read_bundle(name: str) -> bundle.Bundle:
  """Reads pretrained:NAME or a bundle folder, which may be in a bucket."""
  name = name.removeprefix('pretrained:')
  if '://' not in name:
    return bundle.load(name)
  with tempfile.TemporaryDirectory() as folder:
    copy_files(name, folder)
    return bundle.load(folder)


def copy_files(source, target) -> None:
  """Copies every file below a folder; either folder may be in a bucket."""
  source, target = epath.Path(source), epath.Path(target)
  target.mkdir(parents=True, exist_ok=True)
  for path in source.iterdir():
    if path.is_dir():
      copy_files(path, target / path.name)
    else:
      (target / path.name).write_bytes(path.read_bytes())


def read_parameters(name: str, warm_starts: dict[str, dict]):
  """Reads a stage's starting weights from a bundle.

  Args:
    name: pretrained:NAME, or a bundle folder.
    warm_starts: see training.stages.base.Stage.

  Raises:
    ValueError: the bundle has no such decoder, or one with other settings.
  """
  start = read_bundle(name)
  if 'autoencoder' in warm_starts:
    return start.autoencoder_params
  for entry, fields in warm_starts.items():
    if entry not in start.decoders:
      continue
    spec, params = start.decoders[entry]
    for field, value in fields.items():
      if spec[field] != value:
        raise ValueError(
          f'init_from {name!r}: its {entry} decoder has {field} '
          f'{spec[field]!r}, this config {value!r}.'
        )
    return params
  raise ValueError(
    f'init_from {name!r} has no {" or ".join(warm_starts)} decoder, only '
    f'{", ".join(start.decoders) or "the autoencoder"}.'
  )
