"""Loads codecs, and makes pickled ones again."""
import functools

from gdc.codec import bundle, codec, forks

_lock = forks.lock()


def load(name_or_path, score_decoders: bool = True) -> codec.Codec:
  """Loads a codec: a bundled model by name, or a bundle folder by path.

  It is pickled as that name or path.

  Args:
    name_or_path: see bundle.find.
    score_decoders: whether to load them too; without, the only decoder is
      'mse'.

  Raises:
    BundleError: the bundle is missing, damaged or of another format.
    RuntimeError: JAX was already running when this process was forked.
  """
  forks.check()
  folder = bundle.find(name_or_path)
  loaded = codec.Codec(bundle.load(folder, score_decoders))
  is_bundled = folder.parent == bundle.PRETRAINED
  path = folder.name if is_bundled else str(folder.absolute())
  loaded._origin = load_once, (path, score_decoders, _digests(loaded))
  return loaded


def load_once(
  name_or_path, score_decoders: bool = True, digests=None
) -> codec.Codec:
  """Loads a codec once per process.

  Args:
    name_or_path: see load.
    score_decoders: see load.
    digests: expected digests, of a pickled codec; None accepts any.

  Raises:
    BundleError: see load; or the digests differ.
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
