"""Loads codecs: anew, or one for all of a process; also what pickles call."""
import functools

import gdc
from gdc.codec import bundle, codec, forks

_lock = forks.lock()


def load(
  name_or_path=gdc.DEFAULT_MODEL, score_decoders: bool = True
) -> codec.Codec:
  """Loads a codec: a bundle in the box by name, or a bundle folder by path.

  It is pickled as that name or path.

  Args:
    name_or_path: see bundle.find.
    score_decoders: whether to load them too; without, the only decoder is
      'mse', and less is read.

  Raises:
    BundleError: it is missing, damaged or of another format.
    RuntimeError: JAX was running when this process was forked.
  """
  forks.check()
  folder = bundle.find(name_or_path)
  loaded = codec.Codec(bundle.load(folder, score_decoders))
  in_box = folder.parent == bundle.PRETRAINED
  path = folder.name if in_box else str(folder.absolute())
  loaded._origin = load_once, (path, score_decoders, _digests(loaded))
  return loaded


def load_once(
  name_or_path=gdc.DEFAULT_MODEL, score_decoders: bool = True, digests=None
) -> codec.Codec:
  """As load, but all threads of a process get the same codec.

  Args:
    name_or_path: see load.
    score_decoders: see load.
    digests: that it must have, as of a pickled codec; None takes any.

  Raises:
    BundleError: see load; or the digests are others.
  """
  forks.check()
  with _lock:
    return _cached(str(name_or_path), score_decoders, digests)


@functools.lru_cache(maxsize=4)
def _cached(name_or_path, score_decoders, digests):
  loaded = load(name_or_path, score_decoders)
  if digests is not None and digests != _digests(loaded):
    raise bundle.BundleError(
      f'{name_or_path} has changed since its codec was pickled: it is '
      f'{loaded.digest[:8]}, not {digests[0][:8]}, or has other score decoders.'
    )
  return loaded


def _digests(loaded: codec.Codec) -> tuple:
  return loaded.digest, *sorted(loaded.decoder_digests.items())
