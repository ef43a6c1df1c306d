"""Tile by tile is the same as all at once."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.codec import tiles
from gdc.models import autoencoder, receptive_field, score_net, tiling

LEAN = autoencoder.Autoencoder(
  widths=(8, 12), depths=(1, 2), latent_channels=8, num_levels=3
)
ELIC = autoencoder.Autoencoder(
  transforms='elic', widths=(4, 4, 4), latent_channels=4, num_levels=3
)
SCORE = score_net.ScoreNet(
  widths=(8, 8, 12), depths=(1, 1, 2), patch=2, num_levels=3,
  condition_features=8,
)
SCORE_RADIUS = receptive_field.score_net(vars(SCORE))
QUALITY = np.float32([2.25])


def _params(module, *arguments):
  """Random everywhere: what starts at zero would hide what is wrong."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda a: rng.normal(0, 0.2, a.shape).astype(np.float32), shapes
  )


def _radius(net, method):
  return (
    receptive_field.analysis if method == 'features'
    else receptive_field.synthesis
  )(vars(net))


def _image(height, width, channels=3):
  rng = np.random.default_rng(height + width)
  return rng.normal(0, 1, (height, width, channels)).astype(np.float32)


def _tiled(run, halo, inputs, size, tile, stride, block=None):
  """The whole image by tiles, as codec/networks.py goes about it."""
  out = None
  for t in tiles.cover(size, tile, halo):
    cut = [
      t.cut(tiles.Plane.of(x, size[0] // x.shape[0]))[None] for x in inputs
    ]
    # Values beyond the image must not matter.
    for c, x in zip(cut, inputs, strict=True):
      scale = size[0] // x.shape[0]
      c[:, t.extent[0] // scale:] = 1e3
      c[:, :, t.extent[1] // scale:] = -1e3
    y = run(*cut, t.extent)[0]
    if out is None:
      out = np.full((*(n // stride for n in size), y.shape[-1]), np.nan)
    t.paste(y, tiles.Plane.of(out, stride))
  return out


# --- The networks, at sizes that suit no tile ---------------------------------

SIZES = [(16, 32), (208, 336)]


@pytest.mark.parametrize('net,method,block', [
  (LEAN, 'features', 32), (LEAN, 'decode', 32), (LEAN, 'decode', None),
  (ELIC, 'features', 32), (ELIC, 'decode', None),
], ids=lambda value: getattr(value, 'transforms', str(value)))
def test_autoencoder(net, method, block):
  params = _params(net, jnp.zeros((1, 32, 32, 3)), QUALITY)
  halo = _radius(net, method)
  tile = (2 * halo + 32, 2 * halo + 64)
  run = jax.jit(lambda x, extent: tiling.evaluate(
    net, params, x, QUALITY, tile=tile, extent=extent, block=block,
    method=method,
  ))
  for size in SIZES:
    if method == 'features':
      x, stride = _image(*size), 16
    else:
      x, stride = _image(size[0] // 16, size[1] // 16, net.latent_channels), 1
    whole = jax.jit(functools.partial(net.apply, method=method))(
      params, x[None], QUALITY
    )[0]
    np.testing.assert_allclose(
      _tiled(run, halo, [x], size, tile, stride, block), whole,
      rtol=0, atol=1e-5 * float(np.abs(whole).max()),
    )
  assert run._cache_size() == 1


@pytest.mark.parametrize('block', [None, 64])
def test_score_net(block):
  size = (32, 32, 3)
  level = np.float32([0.4])
  params = _params(
    SCORE, jnp.zeros((1, *size)), jnp.zeros((1, *size)), level, QUALITY
  )
  tile = (2 * SCORE_RADIUS + 64 - 2 * SCORE_RADIUS % 64 + 64, 256)
  run = jax.jit(lambda z, x_hat, extent: tiling.evaluate(
    SCORE, params, z, x_hat, level, QUALITY, tile=tile, extent=extent,
    block=block,
  ))
  for size in SIZES:
    z, x_hat = _image(*size), _image(*size)[::-1].copy()
    whole = jax.jit(SCORE.apply)(
      params, z[None], x_hat[None], level, QUALITY
    )[0]
    np.testing.assert_allclose(
      _tiled(run, SCORE_RADIUS, [z, x_hat], size, tile, 1, block), whole,
      rtol=0, atol=1e-5 * float(np.abs(whole).max()),
    )
  assert run._cache_size() == 1


# --- Receptive fields ---------------------------------------------------------


@pytest.mark.parametrize('net,method', [
  (LEAN, 'features'), (LEAN, 'decode'), (ELIC, 'features'), (ELIC, 'decode'),
], ids=lambda value: getattr(value, 'transforms', value))
def test_receptive_field_of_a_transform(net, method):
  """A change that far away does not show; a little nearer, it does."""
  params = _params(net, jnp.zeros((1, 32, 32, 3)), QUALITY)
  if method == 'features':
    scale_in, scale_out = 1, 16
    x = _image(512, 16)
  else:
    scale_in, scale_out = 16, 1
    x = _image(32, 1, net.latent_channels)
  radius = _radius(net, method)
  run = jax.jit(functools.partial(net.apply, method=method))
  changed = x.copy()
  changed[256 // scale_in:] += 1  # all of the lower half
  before, after = (run(params, a[None], QUALITY)[0] for a in (x, changed))
  rows = np.abs(before - after).max(axis=(1, 2))
  first = np.flatnonzero(rows)[0] * scale_out
  assert 256 - radius <= first, 'it sees further than it says'
  if net is LEAN:  # ELIC's last units may be dead
    assert first < 256 - radius + 32, 'it says more than it sees'


def test_receptive_field_of_the_score_net():
  level = np.float32([0.4])
  z = _image(256, 8)
  params = _params(SCORE, z[None], z[None], level, QUALITY)
  run = jax.jit(SCORE.apply)
  changed = z.copy()
  changed[128:] += 1
  before, after = (
    run(params, a[None], z[None], level, QUALITY)[0] for a in (z, changed)
  )
  first = np.flatnonzero(np.abs(before - after).max(axis=(1, 2)))[0]
  nearest = 128 - SCORE_RADIUS
  stride = receptive_field.score_stride(vars(SCORE))
  assert nearest <= first < nearest + 2 * stride


def test_every_transform_is_measured_above():
  assert {LEAN.transforms, ELIC.transforms} == {*receptive_field.TRANSFORMS}


@pytest.mark.parametrize('path,expected', [
  ([(16, 3), (8, 3)], 80),  # 48, then 24 more: 72, to whole positions 80
  ([(8, 3), (16, 3)], 80),  # 24 is 32 at the coarser resolution, and 48
  ([(4, 1), (8, 2), (16, 4), (8, 2), (4, 1)], 128),
  ([(16, 0)], 0),
])
def test_radius_by_hand(path, expected):
  assert receptive_field.radius(path) == expected
