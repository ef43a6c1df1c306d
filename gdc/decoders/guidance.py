"""Guidance to the data: decoded pictures that code to the file's own integers.

A file says of its picture x that round(E(x)) = k, with the analysis E of the
autoencoder: every latent lies in its quantisation cell. A score decoder need
not keep to that. The two steps here take a picture back towards the set of
those that do, and leave one that is in it as it is.

For transform codecs, where E is orthonormal, the projection onto this set is
classic: Zakhor 1992 (IEEE Trans. Circuits and Systems for Video Technology,
vol. 2, no. 1) for JPEG, and onto narrower cells Park & Kim 1999 (IEEE Trans.
Image Processing, vol. 8, no. 10). With diffusion models as the prior, DDNM
(Wang et al. 2022, arXiv 2212.00490) replaces what the data determine in every
predicted image, and DPS (Chung et al. 2022, arXiv 2209.14687) takes a
normalised gradient step on the data's error, through the network as well; the
steps here act on a picture or a predicted image and know of no network.

Images are [b, h, w, 3]; latents [b, rows, columns, channels], in units of the
quantiser's step. `width` is that of the cells in the same units: 1 are those
of rounding, less keeps clear of their borders (rounding a picture to 8 bits
moves its latents a little), 0 leaves their centres, the integers, alone.

No decoder takes these steps. benchmarks/guidance.py measures what they gain:
with cells of half the width they lower LPIPS and keep PSNR, with whole cells
less of both, and towards the centres (0) they cost PSNR. results/guidance.json
has the figures.
"""
import jax
import jax.numpy as jnp

from gdc.decoders import schedules


def excess(latents, symbols, width: float = 1.0):
  """How far latents are outside of their cells, with sign; 0 inside.

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
  """A step by what the synthesis makes of the excess.

  x + strength (D(E(x) - excess) - D(E(x))). Where E is linear and D its right
  inverse, strength 1 lands in the cells; if D is E transposed as well, at the
  nearest picture that lies in them. At width 0 this is x + x_hat - D(E(x)),
  DDNM's step: the detail that the latents do not see is kept and all else is
  the autoencoder's. D(round(E(x))) in place of D(E(x)) would step by whole
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
  """A step down the gradient of half the squared excess.

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
  # No excess, no gradient: the step is nought, not 0 / 0.
  length = jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)
  return image - strength * schedules.per_example(length, image) * gradient
