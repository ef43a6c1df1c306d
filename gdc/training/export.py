"""Between runs and bundles: trained parameters out, starting weights in."""
import tempfile

from etils import epath

from gdc.codec import bundle, jax_settings


@jax_settings.defaults()
def bundle_of(stage, params, name: str) -> bundle.Bundle:
  """The bundle of a trained stage.

  Stage 1 gives a new one. Stage 2 gives the one that it was trained on, with
  its decoder added or replaced: files made with either decode with both.

  Args:
    stage: training.stage.Stage.
    params: what it exports, numpy.
    name: of a new bundle.
  """
  if stage.autoencoder is None:
    return bundle.make(name, stage.spec, params)
  return bundle.add_decoder(stage.autoencoder, stage.name, stage.spec, params)


def read_bundle(name: str) -> bundle.Bundle:
  """A bundle by pretrained:NAME or folder; one in a bucket is copied first."""
  name = name.removeprefix('pretrained:')
  if '://' not in name:
    return bundle.load(name)
  with tempfile.TemporaryDirectory() as folder:
    copy_files(name, folder)
    return bundle.load(folder)


def copy_files(source, target):
  """Copies every file below a folder; either may be of a bucket."""
  source, target = epath.Path(source), epath.Path(target)
  target.mkdir(parents=True, exist_ok=True)
  for path in source.iterdir():
    if path.is_dir():
      copy_files(path, target / path.name)
    else:
      (target / path.name).write_bytes(path.read_bytes())


def read_parameters(name: str, origins: dict[str, dict]):
  """Starting weights of a stage, from a bundle.

  Args:
    name: pretrained:NAME, or a bundle folder.
    origins: warm_starts of Stage.

  Raises:
    ValueError: the bundle has no such decoder, or it means something else.
  """
  start = read_bundle(name)
  if 'autoencoder' in origins:
    return start.autoencoder_params
  for entry, fields in origins.items():
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
    f'init_from {name!r} has no {" or ".join(origins)} decoder, only '
    f'{", ".join(start.decoders) or "the autoencoder"}.'
  )
