"""A bundle: an exported model, all that a codec needs, in one folder.

  bundle.json             name, format, the networks' records, digests
  autoencoder.safetensors weights, the coder's integer tables and contexts
  NAME.safetensors        weights of each score decoder

The digest is of the autoencoder alone: it decides what the bits mean. A file
made with a bundle stays decodable when a decoder is added or trained further.

Weights of the autoencoder are float16, except gains, prior and RMSE; those of
score decoders have 8 bits (decoder_weights.py). All are float32 once loaded.
Exporting rounds them, and the tables are made from the rounded ones, so a saved
bundle equals the one in memory.

Contexts are fitted to latents after the export. They change what the bits mean:
the bundle with them is another model, with another digest.

Networks and flax are imported only to export: a codec whose programs are
compiled already (programs.py) works without them.
"""
import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from gdc import atomic, paths
from gdc import decoders as decoders_lib
from gdc.codec import bitstream, decoder_weights, entropy_model, tables
from gdc.codec import contexts as contexts_lib

FORMAT = 3
CONTEXTS_FORMAT = 4  # of bundles that have contexts
PRETRAINED = pathlib.Path(__file__).parents[1] / 'pretrained'
_EXACT = ('prior', 'log_gain', 'log_inverse_gain', 'log_rmse')


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
    decoders: entry (a key of decoders.DECODERS) -> (record, parameters) of each
      score decoder; see decoders.from_record.
    contexts: what chooses the table of a symbol; None: `tables` alone.
    fitted_on: a record of what the contexts were fitted on.

  Raises:
    ValueError: the contexts are of another number of channels or qualities.
  """

  name: str
  autoencoder_spec: dict[str, Any]
  autoencoder_params: Any
  tables: tables.Tables
  decoders: dict[str, tuple[dict[str, Any], Any]] = dataclasses.field(
    default_factory=dict
  )
  contexts: contexts_lib.Contexts | None = None
  fitted_on: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.contexts is None:
      return
    found, expected = (
      (m.num_channels, m.num_qualities) for m in (self.contexts, self.tables)
    )
    if found != expected:
      raise ValueError(
        f'the model has {expected[0]} channels and {expected[1]} qualities, '
        f'its contexts have {found[0]} and {found[1]}'
      )

  @property
  def entropy_model(self) -> entropy_model.EntropyModel:
    """What the range coder codes symbols with: contexts, or else tables."""
    return self.tables if self.contexts is None else self.contexts

  @property
  def predicted_channels(self) -> tuple[int, ...]:
    """Latents that are coded as differences, see codec/prediction.py."""
    return tuple(self.autoencoder_spec['predicted_channels'])

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of what the bits mean: all but the score decoders, 64 hex digits.
    """
    return _digest(self.autoencoder_spec, self._autoencoder_arrays())

  @functools.cached_property
  def decoder_digests(self) -> dict[str, str]:
    """SHA-256 of each score decoder: its record and stored weights."""
    return {
      entry: _digest(spec, decoder_weights.store(_flatten(params)))
      for entry, (spec, params) in self.decoders.items()
    }

  def _autoencoder_arrays(self) -> dict[str, np.ndarray]:
    """Returns the contents of autoencoder.safetensors."""
    arrays = {
      **_narrow(self.autoencoder_params), 'tables': self.tables.to_arrays()
    }
    if self.contexts is not None:
      arrays['contexts'] = self.contexts.to_arrays()
    return _flatten(arrays)


# --- Export -----------------------------------------------------------------


def make(name: str, spec: dict, params) -> Bundle:
  """Exports an autoencoder: rounds its weights and makes its tables.

  Args:
    name: of the bundle.
    spec: fields of models.autoencoder.Autoencoder.
    params: its parameters (the inside of 'params').
  """
  spec = json.loads(_canonical(spec))  # as it will be read back
  params = _widen(_narrow(params))
  return Bundle(name, spec, params, _make_tables(params, spec['num_levels']))


def add_decoder(bundle: Bundle, entry: str, spec: dict, params) -> Bundle:
  """Returns the bundle with a score decoder added or replaced.

  Replacing the flow removes the one-step decoder that was made from it.

  Args:
    bundle: is left as it is.
    entry: a key of decoders.DECODERS.
    spec: the decoder's record: fields of models.score_net.ScoreNet and
      Decoder.record().
    params: the network's parameters.

  Raises:
    ValueError: an unknown entry, or a setting that is missing or out of range.
  """
  decoders_lib.from_record(entry, spec)
  spec = json.loads(_canonical(spec))
  others = {
    k: v for k, v in bundle.decoders.items()
    if not (k == 'one_step' and entry == 'flow')
  }
  rounded = decoder_weights.restore(decoder_weights.store(_flatten(params)))
  added = {entry: (spec, _unflatten(rounded))}
  return dataclasses.replace(bundle, decoders={**others, **added})


def with_contexts(
  bundle: Bundle, contexts: contexts_lib.Contexts, fitted_on: dict[str, Any]
) -> Bundle:
  """Returns the bundle with contexts added or replaced: another model.

  Args:
    bundle: is left as it is.
    contexts: fitted to the bundle's symbols.
    fitted_on: a record of what they were fitted on, for bundle.json.

  Raises:
    ValueError: the contexts do not fit the bundle, or JSON has no such record.
  """
  record = json.loads(json.dumps(fitted_on, allow_nan=False))
  return dataclasses.replace(bundle, contexts=contexts, fitted_on=record)


def _make_tables(params, num_levels: int) -> tables.Tables:
  from gdc.models import entropy, layers
  count = (num_levels - 1) * bitstream.QUALITY_STEPS + 1
  quality = 1 + np.arange(count) / bitstream.QUALITY_STEPS
  weights = np.asarray(layers.level_weights(quality, num_levels))
  pmfs, first = [], []
  for row in weights:
    # Wide enough that the tails beyond it are below a count.
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
  """Writes a bundle, whole or not at all; returns its folder."""
  folder = pathlib.Path(paths.expand(str(folder))).absolute()
  with atomic.replaced_folder(folder) as temporary:
    safetensors.numpy.save_file(
      bundle._autoencoder_arrays(), temporary / 'autoencoder.safetensors'
    )
    for entry, (_, params) in bundle.decoders.items():
      safetensors.numpy.save_file(
        decoder_weights.store(_flatten(params)),
        temporary / f'{entry}.safetensors',
      )
    has_contexts = bundle.contexts is not None
    record = {
      'format': CONTEXTS_FORMAT if has_contexts else FORMAT,
      'name': bundle.name,
      'digest': bundle.digest,
      'autoencoder': bundle.autoencoder_spec,
      **({'contexts': bundle.fitted_on} if has_contexts else {}),
      'decoders': {p: spec for p, (spec, _) in bundle.decoders.items()},
      'decoder_digests': bundle.decoder_digests,
    }
    (temporary / 'bundle.json').write_text(json.dumps(record, indent=2) + '\n')
  return folder


def find(name_or_path) -> pathlib.Path:
  """Returns the folder of a bundle at a path, or of a bundled one by name."""
  named = PRETRAINED / str(name_or_path)
  for folder in (pathlib.Path(paths.expand(str(name_or_path))), named):
    if (folder / 'bundle.json').is_file():
      return folder
  known = sorted(p.parent.name for p in PRETRAINED.glob('*/bundle.json'))
  raise BundleError(
    f'No model {str(name_or_path)!r}: it is neither a bundle folder nor one '
    f'of the bundled models ({", ".join(known) or "none"}).'
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
    return _load(folder, score_decoders)
  except BundleError:
    raise
  except (
    OSError, LookupError, ValueError, TypeError, AttributeError,
    safetensors.SafetensorError,
  ) as e:
    raise BundleError(f'{folder} is not a readable bundle: {e}') from e


def _load(folder, score_decoders) -> Bundle:
  record = json.loads((folder / 'bundle.json').read_text())
  if record['format'] not in (FORMAT, CONTEXTS_FORMAT):
    raise BundleError(
      f'{folder} has bundle format {record["format"]}; this version of gdc '
      f'reads formats {FORMAT} and {CONTEXTS_FORMAT}.'
    )

  def read(part, spec, expected):
    arrays = safetensors.numpy.load_file(folder / f'{part}.safetensors')
    digest = _digest(spec, arrays)
    if digest != expected:
      raise BundleError(
        f'{folder} is damaged: the digest of its {part} is {digest[:8]}, '
        f'bundle.json says {str(expected)[:8]}.'
      )
    return arrays

  spec = record['autoencoder']
  weights = _unflatten(read('autoencoder', spec, record['digest']))
  decoders, digests = {}, {}
  for entry, decoder in record['decoders'].items() if score_decoders else ():
    decoders_lib.from_record(entry, decoder)
    digests[entry] = record['decoder_digests'][entry]
    stored = read(entry, decoder, digests[entry])
    decoders[entry] = decoder, _unflatten(decoder_weights.restore(stored))
  contexts = weights.pop('contexts', None)
  if (contexts is not None) != (record['format'] == CONTEXTS_FORMAT):
    raise BundleError(
      f'{folder} has bundle format {record["format"]}: format '
      f'{CONTEXTS_FORMAT} has contexts, format {FORMAT} has none.'
    )
  if contexts is not None:
    contexts = contexts_lib.Contexts.from_arrays(contexts)
  bundle = Bundle(
    record['name'], spec,
    tables=tables.Tables.from_arrays(weights.pop('tables')),
    autoencoder_params=_widen(weights), decoders=decoders, contexts=contexts,
    fitted_on={} if contexts is None else record['contexts'],
  )
  unknown = set(bundle.predicted_channels) - set(
    range(bundle.tables.num_channels)
  )
  if unknown:
    raise BundleError(f'{folder} has no channels {sorted(unknown)}.')
  # Cached: they were checked above.
  vars(bundle).update(digest=record['digest'], decoder_digests=digests)
  return bundle


def _digest(spec, arrays: dict[str, np.ndarray]) -> str:
  """Returns the SHA-256 of a record and named arrays, in order of names."""
  h = hashlib.sha256(_canonical(spec).encode())
  for name in sorted(arrays):
    value = np.ascontiguousarray(arrays[name])
    h.update(f'{name} {value.dtype.str} {value.shape}'.encode())
    h.update(value.tobytes())
  return h.hexdigest()


def _canonical(spec) -> str:
  return json.dumps(spec, sort_keys=True, separators=(',', ':'))


def _flatten(tree) -> dict[str, np.ndarray]:
  """Returns the leaves of nested dicts by their paths, such as 'a/b/c'."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(value)
    for path, value in jax.tree_util.tree_leaves_with_path(tree)
  }


def _unflatten(flat):
  """Inverts _flatten, as flax.traverse_util does; flax is not imported here."""
  tree = {}
  for path, value in flat.items():
    *parents, leaf = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def _narrow(params):
  """Casts to float16 where a rounding of 2^-11 costs nothing."""
  return {
    name: jax.tree.map(
      lambda a, name=name: np.asarray(
        a, np.float32 if name in _EXACT else np.float16
      ), value,
    )
    for name, value in params.items()
  }


def _widen(params):
  return jax.tree.map(lambda a: np.asarray(a, np.float32), params)
