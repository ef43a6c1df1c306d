"""The step that fits the coder's contexts to a trained autoencoder.

It codes crops of a source of images at every quality level and fits
(fit_contexts.py). The result is a bundle that also records what its contexts
were fitted on. It runs by itself (configs/contexts.py) or at the end of
stage 1.
"""
import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from gdc import progress
from gdc.codec import bundle as bundle_lib
from gdc.codec import codec as codec_lib
from gdc.codec import jax_settings, prediction
from gdc.data import sources
from gdc.training import export, fit_contexts

# Work of fitting a level, in crops that are analysed.
_FIT_COST = 0.5


@dataclasses.dataclass(frozen=True)
class Settings:
  """What contexts are fitted on.

  Attributes:
    source: name of a source of images, see data.sources.
    max_crops: largest number of crops.
    crop: side of a crop in pixels; a smaller image is taken whole.
    seed: of the choice of crops.
  """

  source: str
  max_crops: int
  crop: int
  seed: int

  def record(self) -> dict[str, Any]:
    """Returns the settings as a bundle records them, without folders."""
    kind, colon, rest = self.source.partition(':')
    if kind == 'folder':
      rest = pathlib.PurePath(rest).name
    return {**dataclasses.asdict(self), 'source': f'{kind}{colon}{rest}'}


@jax_settings.defaults()
def add(
  bundle: bundle_lib.Bundle, settings: Settings, data_dir: str | None = None,
  hidden: bool = False,
) -> bundle_lib.Bundle:
  """Returns the bundle with contexts that are fitted to it.

  Shows progress. On the same machine and software, the same images and settings
  give the same contexts.

  Args:
    bundle: with a trained autoencoder; contexts that it has are replaced.
    settings: what to fit on.
    data_dir: where TFDS looks.
    hidden: whether to show no progress.

  Raises:
    ValueError: there is no such source, or it has no images.
  """
  source = sources.build(settings.source, data_dir)
  num_levels = bundle.autoencoder_spec['num_levels']
  with progress.Bar(1, 'fitting contexts', hidden, tiles=False) as bar:
    with bar.pause('reading images'):
      images = draw(source, settings.max_crops, settings.crop, settings.seed)
    coder = codec_lib.Codec(
      bundle, autoencoder_tile=(settings.crop, settings.crop)
    )
    unit = 1 / (num_levels * len(images) * (1 + _FIT_COST))

    def latents(level: int) -> list[np.ndarray]:
      found = []
      for image in images:
        # Fewer bytes than int32; clipped to far beyond any table.
        found.append(np.clip(
          symbols(coder, image, 1.0 + level), 1 - 2**15, 2**15 - 1
        ).astype(np.int16))
        bar.advance(unit)
        bar.note = f'quality {1 + level} of {num_levels}'
      return found

    fitted = fit_contexts.fit(
      latents, num_levels,
      lambda share: bar.advance(share * unit * len(images) * _FIT_COST),
    )
  return bundle_lib.with_contexts(bundle, fitted, {
    **settings.record(), 'crops': len(images),
    'qualities': list(range(1, num_levels + 1)), 'sha256': digest(images),
  })


def draw(source, count: int, side: int, seed: int) -> list[np.ndarray]:
  """Draws windows of a source's images, one of each image in random order.

  Large images give further ones if that is not enough: at most as many as fit
  into them side by side.

  Args:
    source: see data.sources.
    count: largest number of windows.
    side: of a window in pixels; a smaller image is taken whole.
    seed: of order and positions.

  Returns:
    uint8 [at most side, at most side, 3] each, at least one.
  """
  rng = np.random.default_rng(seed)
  order, found = rng.permutation(len(source)), []
  for turn in itertools.count():
    before = len(found)
    for index in order:
      image = source[int(index)]['image']
      size = image.shape[:2]
      if turn < max(1, (size[0] // side) * (size[1] // side)):
        top, left = (int(rng.integers(max(1, n - side + 1))) for n in size)
        found.append(np.ascontiguousarray(
          image[top:top + side, left:left + side]
        ))
        if len(found) == count:
          return found
    if len(found) == before:
      return found


def symbols(coder, image: np.ndarray, quality: float) -> np.ndarray:
  """Returns what is coded of an image, int32 [channels, rows, columns].

  Args:
    coder: codec.codec.Codec.
    image: uint8 [height, width, 3].
    quality: a multiple of 1/16.
  """
  latents = np.moveaxis(coder.encode(image, quality), -1, 0)
  channels, rows, _ = latents.shape
  return prediction.to_differences(
    latents.reshape(channels, -1).copy(), rows,
    coder.bundle.predicted_channels,
  ).reshape(latents.shape)


def digest(images: Sequence[np.ndarray]) -> str:
  """Returns the SHA-256 of images, 64 hex digits."""
  found = hashlib.sha256()
  for image in images:
    found.update(f'{image.shape}'.encode())
    found.update(image.tobytes())
  return found.hexdigest()


def kept(bundle: bundle_lib.Bundle, workdir) -> bundle_lib.Bundle | None:
  """Returns the bundle with the contexts of a workdir's bundle.

  None if that has no contexts, or another autoencoder.
  """
  folder = f'{workdir}/bundle'
  if not epath.Path(f'{folder}/bundle.json').exists():
    return None
  try:
    found = export.read_bundle(folder)
  except bundle_lib.BundleError:
    return None  # it will be replaced
  if found.contexts is None or not _same_autoencoder(found, bundle):
    return None
  return bundle_lib.with_contexts(bundle, found.contexts, found.fitted_on)


def _same_autoencoder(a: bundle_lib.Bundle, b: bundle_lib.Bundle) -> bool:
  return a.autoencoder_spec == b.autoencoder_spec and (
    jax.tree.structure(a.autoencoder_params)
    == jax.tree.structure(b.autoencoder_params)
  ) and all(jax.tree.leaves(jax.tree.map(
    np.array_equal, a.autoencoder_params, b.autoencoder_params
  )))
