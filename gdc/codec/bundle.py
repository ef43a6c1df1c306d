"""A bundle: an exported model, all that a codec needs, in one folder.

  bundle.json             name, format, the networks' records, digests
  autoencoder.safetensors weights and the coder's integer tables
  flow.safetensors        a score decoder's weights, if there is one
  diffusion.safetensors
  one_step.safetensors

The digest is of the autoencoder alone: it decides what the bits mean. A file
made with a bundle stays decodable when a decoder is added or trained on.

The autoencoder's weights are float16, except for what scales or counts (gains,
prior, RMSE); those of score decoders have 8 bits (decoder_weights.py), or 16 if
they were exported in format 1. All are float32 once loaded. Exporting rounds
them, and the tables are made from the rounded ones, so that a saved bundle is
the one in memory.

The networks' code is imported when a network is built: a codec whose programs
are compiled already (programs.py) does without it.
"""
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np
import safetensors.numpy

from gdc import paths
from gdc.codec import bitstream, decoder_weights, tables
from gdc.decoders import base

FORMAT = 3
# 1: score decoders in float16 alone; 1, 2: no predicted channels
_FORMATS = (1, 2, 3)
PRETRAINED = pathlib.Path(__file__).parents[1] / 'pretrained'
_EXACT = ('prior', 'log_gain', 'log_inverse_gain', 'log_rmse')
_PROCESS_FIELDS = ('sampling', *itertools.chain(
  *base.PROCESS_FIELDS.values()
))


class BundleError(ValueError):
  """A bundle that is missing, damaged or of another format."""


@dataclasses.dataclass(frozen=True)
class Bundle:
  """An exported model.

  Attributes:
    name: for people.
    autoencoder_spec: fields of models.autoencoder.Autoencoder.
    autoencoder_params: its parameters, float32 numpy.
    tables: the coder's integer tables, a row per quality index and channel.
    decoders: entry (a key of base.ENTRIES) -> (record, parameters) of each
      score decoder.
  """

  name: str
  autoencoder_spec: dict[str, Any]
  autoencoder_params: Any
  tables: tables.Tables
  decoders: dict[str, tuple[dict[str, Any], Any]] = dataclasses.field(
    default_factory=dict
  )

  @property
  def predicted_channels(self) -> tuple[int, ...]:
    """Latents that are coded as differences, see codec/prediction.py."""
    return tuple(self.autoencoder_spec.get('predicted_channels', ()))

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of what the bits mean: autoencoder and tables, 64 hex digits."""
    return _digest(self.autoencoder_spec, {
      **_flatten(_narrow(self.autoencoder_params)),
      **_table_arrays(self.tables),
    })

  @functools.cached_property
  def decoder_digests(self) -> dict[str, str]:
    """SHA-256 of each score decoder, its record and weights as in its file."""
    return _decoder_digests(self.decoders)


# --- Networks from their records --------------------------------------------


def _fields(spec, *, without=()):
  return {
    k: tuple(v) if isinstance(v, list) else v
    for k, v in spec.items() if k not in without
  }


def build_autoencoder(spec, dtype=np.float32):
  """The models.autoencoder.Autoencoder that a record describes.

  Raises:
    BundleError: the record has fields that it does not know.
  """
  from gdc.models import autoencoder
  try:
    return autoencoder.Autoencoder(**_fields(spec), dtype=dtype)
  except TypeError as e:
    raise BundleError(f'Not the record of an autoencoder: {e}') from e


def build_score_net(spec, dtype=np.float32):
  """The models.score_net.ScoreNet that a decoder's record describes.

  Raises:
    BundleError: the record has fields that it does not know.
  """
  from gdc.models import score_net
  try:
    return score_net.ScoreNet(
      **_fields(spec, without=_PROCESS_FIELDS), dtype=dtype
    )
  except TypeError as e:
    raise BundleError(f'Not the record of a score network: {e}') from e


# --- Export -----------------------------------------------------------------


def make(name: str, spec: dict, params) -> Bundle:
  """Exports an autoencoder: rounds its weights and freezes its tables.

  Args:
    name: of the bundle.
    spec: fields of models.autoencoder.Autoencoder.
    params: its parameters (the inside of 'params').
  """
  spec = json.loads(_canonical(spec))  # as it will be read back
  params = _widen(_narrow(params))
  return Bundle(name, spec, params, _make_tables(params, spec['num_levels']))


def add_decoder(bundle: Bundle, entry: str, spec: dict, params) -> Bundle:
  """The bundle with a score decoder added or replaced.

  With another flow goes the one-step decoder that was made from the former.

  Args:
    bundle: is left as it is.
    entry: a key of base.ENTRIES.
    spec: the decoder's record: fields of models.score_net.ScoreNet, of its
      process, and 'sampling'.
    params: the network's parameters.

  Raises:
    ValueError: the record asks for what does not exist.
  """
  base.validate(entry, spec)
  spec = json.loads(_canonical(spec))
  others = {
    k: v for k, v in bundle.decoders.items()
    if not (k == 'one_step' and entry == 'flow')
  }
  params = decoder_weights.round_to_stored(_flatten(params))
  added = {entry: (spec, _unflatten(params))}
  return dataclasses.replace(bundle, decoders={**others, **added})


def _make_tables(params, num_levels: int) -> tables.Tables:
  from gdc.models import entropy, layers
  count = (num_levels - 1) * bitstream.QUALITY_STEPS + 1
  quality = 1 + np.arange(count) / bitstream.QUALITY_STEPS
  weights = np.asarray(layers.level_weights(quality, num_levels))
  pmfs, first = [], []
  for row in weights:
    # Wide enough that the tails beyond it are not worth a count.
    radius = 8
    while True:
      k = np.arange(-radius, radius + 1)
      pmf = entropy.bin_prob(params['prior'], row, k)
      if radius >= 4096 or pmf[[0, -1]].max() < 2.0 ** -(tables.PRECISION + 4):
        break
      radius *= 2
    pmfs.append(pmf)
    first.append(-radius)
  return tables.from_pmfs(pmfs, first)


# --- On disk ----------------------------------------------------------------


def save(bundle: Bundle, folder) -> pathlib.Path:
  """Writes a bundle, whole or not at all; two renames replace an old one."""
  folder = pathlib.Path(paths.expand(str(folder))).absolute()
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent)
  )
  old = temporary.with_name(temporary.name + '-old')
  try:
    safetensors.numpy.save_file(
      {
        **_flatten(_narrow(bundle.autoencoder_params)),
        **_table_arrays(bundle.tables),
      },
      temporary / 'autoencoder.safetensors',
    )
    for entry, (_, params) in bundle.decoders.items():
      safetensors.numpy.save_file(
        decoder_weights.store(_flatten(params)),
        temporary / f'{entry}.safetensors',
      )
    record = {
      'format': FORMAT,
      'name': bundle.name,
      'digest': bundle.digest,
      'autoencoder': bundle.autoencoder_spec,
      'decoders': {p: spec for p, (spec, _) in bundle.decoders.items()},
      # Of what is written now, which may be narrower than what was read.
      'decoder_digests': _decoder_digests(bundle.decoders),
    }
    (temporary / 'bundle.json').write_text(json.dumps(record, indent=2) + '\n')
    for path in (temporary, *temporary.iterdir()):
      with contextlib.suppress(OSError):  # where there are no permissions
        path.chmod(0o755 if path == temporary else 0o644)
    if folder.exists():
      os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)
  except BaseException:
    if old.exists() and not folder.exists():
      os.replace(old, folder)
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  return folder


def find(name_or_path) -> pathlib.Path:
  """The folder of a bundle in the box, by name, or at a path."""
  named = PRETRAINED / str(name_or_path)
  for folder in (pathlib.Path(paths.expand(str(name_or_path))), named):
    if (folder / 'bundle.json').is_file():
      return folder
  known = sorted(p.parent.name for p in PRETRAINED.glob('*/bundle.json'))
  raise BundleError(
    f'No model {str(name_or_path)!r}: it is neither a bundle folder nor one '
    f'of the models in the box ({", ".join(known) or "none"}).'
  )


def load(name_or_path, score_decoders: bool = True) -> Bundle:
  """Reads a bundle and checks it against its digests.

  Args:
    name_or_path: see find.
    score_decoders: whether to read them too; compressing needs none.

  Raises:
    BundleError: it is missing, damaged or of another format.
  """
  folder = find(name_or_path)
  try:
    record = json.loads((folder / 'bundle.json').read_text())
    if record['format'] not in _FORMATS:
      raise BundleError(
        f'{folder} has bundle format {record["format"]}; this version of gdc '
        f'reads formats {", ".join(map(str, _FORMATS))}.'
      )
    parts = ['autoencoder', *(record['decoders'] if score_decoders else ())]
    arrays = {}
    for part in parts:
      arrays[part] = safetensors.numpy.load_file(folder / f'{part}.safetensors')
      if part == 'autoencoder':
        spec, expected = record['autoencoder'], record['digest']
      else:
        spec = record['decoders'][part]
        expected = record['decoder_digests'][part]
        base.validate(part, _brought_up(part, spec))
      digest = _digest(spec, arrays[part])
      if digest != expected:
        raise BundleError(
          f'{folder} is damaged: the digest of its {part} is {digest[:8]}, '
          f'bundle.json says {str(expected)[:8]}.'
        )
    weights = arrays.pop('autoencoder')
    table_arrays = {
      k.removeprefix('tables/'): weights.pop(k)
      for k in list(weights) if k.startswith('tables/')
    }
    bundle = Bundle(
      record['name'],
      record['autoencoder'],
      _widen(_unflatten(weights)),
      tables.Tables.from_arrays(table_arrays),
      {
        entry: (
          _brought_up(entry, record['decoders'][entry]),
          _unflatten(decoder_weights.restore(stored)),
        )
        for entry, stored in arrays.items()
      },
    )
    unknown = set(bundle.predicted_channels) - set(
      range(bundle.tables.num_channels)
    )
    if unknown:
      raise BundleError(f'{folder} has no channels {sorted(unknown)}.')
    # Checked above: cached.
    vars(bundle)['digest'] = record['digest']
    vars(bundle)['decoder_digests'] = {
      entry: record['decoder_digests'][entry] for entry in arrays
    }
  except BundleError:
    raise
  except (
    OSError, LookupError, ValueError, TypeError, AttributeError,
    safetensors.SafetensorError,
  ) as e:
    raise BundleError(f'{folder} is not a readable bundle: {e}') from e
  return bundle


def _brought_up(entry: str, spec: dict) -> dict:
  """A decoder's record, with what earlier versions took for granted."""
  if entry == 'flow':
    return {**spec, 'sampling': {'eta': 0.0, **spec['sampling']}}
  if entry != 'diffusion':
    return spec
  return {
    'schedule': 'cosine', 'log_snr_bound': 15.0, 'prediction': 'v',
    'source_noise': 0.5,
    **{k: v for k, v in spec.items() if k != 'loss_space'},
    'sampling': {'grid': 'time', 'warp': 1.0, **spec['sampling']},
  }


def _decoder_digests(decoders) -> dict[str, str]:
  return {
    entry: _digest(spec, decoder_weights.store(_flatten(params)))
    for entry, (spec, params) in decoders.items()
  }


def _digest(spec, arrays: dict[str, np.ndarray]) -> str:
  """SHA-256 of a record and named arrays, in the order of their names."""
  h = hashlib.sha256(_canonical(spec).encode())
  for name in sorted(arrays):
    value = np.ascontiguousarray(arrays[name])
    h.update(f'{name} {value.dtype.str} {value.shape}'.encode())
    h.update(value.tobytes())
  return h.hexdigest()


def _canonical(spec) -> str:
  return json.dumps(spec, sort_keys=True, separators=(',', ':'))


def _table_arrays(value: tables.Tables) -> dict[str, np.ndarray]:
  return {f'tables/{k}': v for k, v in value.to_arrays().items()}


def _flatten(tree, prefix='') -> dict[str, np.ndarray]:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flatten(value, f'{prefix}{name}/'))
    else:
      flat[prefix + name] = np.asarray(value)
  return flat


def _unflatten(flat):
  tree = {}
  for path, value in flat.items():
    *parents, leaf = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def _narrow(params):
  """float16 where a rounding of 2^-11 costs nothing, float32 elsewhere."""
  return _unflatten({
    k: np.asarray(
      v, np.float32 if k.split('/')[0] in _EXACT else np.float16
    )
    for k, v in _flatten(params).items()
  })


def _widen(params):
  return _unflatten({
    k: np.asarray(v, np.float32) for k, v in _flatten(params).items()
  })
