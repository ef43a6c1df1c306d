"""gdc: generative image compression with score-based decoders.

  codec = gdc.load('lean')
  data = codec.compress(image, quality=3.0)
  image = codec.decompress(data)

Importing this package is cheap: jax is imported when a codec is loaded.
"""
__version__ = '0.1.0'
__all__ = ['DEFAULT_MODEL', 'SUFFIX', 'codec', 'load']

DEFAULT_MODEL = 'lean'
SUFFIX = '.gdc'  # of compressed files


def __getattr__(name: str):
  if name == 'codec':  # imported on first use
    import gdc.codec
    return gdc.codec
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def load(name_or_path: str = DEFAULT_MODEL, score_decoders: bool = True):
  """Loads a codec: a bundled model by name, or a bundle folder by path.

  Args:
    name_or_path: 'lean', or the path of a folder exported by training.
    score_decoders: whether to load them, too; compressing needs none.

  Returns:
    gdc.codec.codec.Codec, with compress and decompress.
  """
  from gdc.codec import loading  # imports jax
  return loading.load(name_or_path, score_decoders)
