"""Samplers against closed forms.

For Gaussian data the best prediction and the solution of the differential
equation are known, so the order of each sampler can be measured.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.processes import diffusion, samplers, schedules

MEAN, STD = 0.3, 0.4  # of the data


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def flow_velocity(z, t):
  """E[z_1 - z_0 | z_t] of a standard normal z_0 and Gaussian z_1."""
  t = t[:, None]
  variance = (1 - t) ** 2 + (t * STD) ** 2
  return MEAN + (t * STD**2 - (1 - t)) / variance * (z - t * MEAN)


def gaussian_v(z, log_snr, mean=MEAN, std=STD):
  """E[v | z] of Gaussian images."""
  alpha, sigma = (
    schedules.per_example(a, z) for a in schedules.alpha_sigma(log_snr)
  )
  variance = (alpha * std) ** 2 + sigma**2
  x = mean + alpha * std**2 / variance * (z - alpha * mean)
  eps = sigma / variance * (z - alpha * mean)
  return alpha * eps - sigma * x


def schedule(noise_shift=0.5):
  return functools.partial(schedules.cosine_log_snr, noise_shift=noise_shift)


def observe(sampler, predict, z, *args, **kwargs):
  """The states and times at which the network is asked, and the result."""
  seen = []

  def watched(state, time):
    seen.append((np.asarray(state), np.asarray(time)))
    return predict(state, time)

  with jax.disable_jit():
    result = sampler(watched, z, *args, **kwargs)
  states, times = (np.stack(a) for a in zip(*seen, strict=True))
  return states, times, np.asarray(result)


def orders(steps, errors):
  """Slopes of log error over log 1 / steps."""
  return -np.diff(np.log(errors)) / np.diff(np.log(steps))


# --- Grids ------------------------------------------------------------------


@pytest.mark.parametrize('warp', [0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize('steps', [1, 3, 50])
def test_grid_starts_at_zero_and_ends_at_one(steps, warp):
  times = np.array([samplers.grid(i, steps, warp) for i in range(steps + 1)])
  assert times[0] == 0 and times[-1] == 1
  widths = np.diff(times)
  assert np.all(widths > 0)
  if warp == 1:
    np.testing.assert_allclose(widths, 1 / steps, rtol=1e-6)
  else:
    assert np.all(np.diff(widths) * (warp - 1) < 0)


@pytest.mark.parametrize('warp', [1.0, 2.0])
def test_flow_samplers_ask_at_the_times_of_the_grid(warp):
  times = np.array([samplers.grid(i, 4, warp) for i in range(5)])
  z = normal(0, 2, 3)
  _, seen, _ = observe(samplers.euler, flow_velocity, z, 4, warp)
  np.testing.assert_allclose(seen, np.tile(times[:4, None], 2), rtol=1e-6)
  _, seen, _ = observe(samplers.heun, flow_velocity, z, 4, warp)
  expected = np.stack([times[:-1], times[1:]], 1).reshape(8, 1)
  np.testing.assert_allclose(seen, np.tile(expected, 2), rtol=1e-6)
  assert np.all(seen[0] == 0) and np.all(seen[-1] == 1)


@pytest.mark.parametrize('start', [1.0, 0.6])
def test_diffusion_samplers_ask_from_the_start_down_to_the_last_step(start):
  z, log_snr = normal(0, 2, 3), schedule()
  expected = log_snr(start * np.array([1, 0.75, 0.5, 0.25]))
  for sampler in (
    functools.partial(samplers.ddim, start=start),
    functools.partial(samplers.ddpm, noise_fn=lambda i: 0 * z, start=start),
  ):
    _, seen, _ = observe(sampler, gaussian_v, z, 4, log_snr)
    np.testing.assert_allclose(
      seen, np.tile(expected[:, None], 2), rtol=1e-5, atol=1e-5
    )


# --- Orders of convergence --------------------------------------------------


@pytest.mark.parametrize('sampler, order, warp', [
  (samplers.euler, 1, 1.0), (samplers.euler, 1, 2.0),
  (samplers.heun, 2, 1.0), (samplers.heun, 2, 2.0),
])
def test_flow_samplers_converge_at_their_order(sampler, order, warp):
  with jax.enable_x64(True):
    z = jnp.linspace(-2, 2, 9, dtype=jnp.float64)[:, None]
    exact = MEAN + STD * z
    steps = np.array([32, 64, 128, 256])
    run = jax.jit(lambda n: sampler(flow_velocity, z, n, warp))
    errors = [float(jnp.max(jnp.abs(run(n) - exact))) for n in steps]
  assert errors[-1] < (1e-2 if order == 1 else 1e-4)
  np.testing.assert_allclose(orders(steps, errors), order, atol=0.15)


@pytest.mark.parametrize('noise_shift', [0.5, 2.0])
@pytest.mark.parametrize('start', [1.0, 0.7])
def test_ddim_converges_at_first_order(noise_shift, start):
  log_snr = schedule(noise_shift)
  alpha, sigma = schedules.alpha_sigma(log_snr(start))
  u = jnp.linspace(-2, 2, 9)[:, None]
  # The flow keeps the place of a state in its own distribution.
  z = alpha * MEAN + jnp.sqrt((alpha * STD) ** 2 + sigma**2) * u
  exact = MEAN + STD * u
  run = jax.jit(lambda n: samplers.ddim(
    gaussian_v, z, n, log_snr, start=start, clip=None
  ))
  steps = np.array([16, 32, 64, 128])
  errors = [float(jnp.max(jnp.abs(run(n) - exact))) for n in steps]
  assert errors[-1] < 2e-2
  np.testing.assert_allclose(orders(steps, errors), 1, atol=0.2)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0])
def test_ddpm_converges_to_the_mean_and_variance_of_the_data(gamma):
  n, log_snr = 40_000, schedule()
  key = jax.random.key(3)
  x = MEAN + STD * normal(0, n, 1)
  z = samplers.start_state(x, normal(1, n, 1), log_snr)

  @jax.jit
  def run(steps):
    return samplers.ddpm(
      gaussian_v, z, steps, log_snr,
      lambda i: jax.random.normal(jax.random.fold_in(key, i), z.shape),
      gamma=gamma, clip=None,
    )

  error = 4 * STD / np.sqrt(n)  # of the mean; the spread's is 0.7 of it
  bias = []
  for steps in (4, 16, 64, 256):
    x = np.asarray(run(steps), np.float64)
    np.testing.assert_allclose(x.mean(), MEAN, atol=error)
    bias.append(abs(x.std() - STD))
  assert bias[0] > 5 * error  # few steps are seen to be biased
  assert bias[1] > bias[2] and bias[-1] < error + 0.005


# --- One step, exactly ------------------------------------------------------


def exact_v(x):
  """The v that implies the image x, whatever the state."""
  def predict(z, log_snr):
    alpha, sigma = (
      schedules.per_example(a, z) for a in schedules.alpha_sigma(log_snr)
    )
    return (alpha * z - x) / sigma
  return predict


def test_a_constant_velocity_is_integrated_exactly():
  z, velocity = normal(0, 2, 4), normal(1, 2, 4)
  for sampler in (samplers.euler, samplers.heun):
    for steps, warp in ((1, 1.0), (1, 2.0), (7, 1.0), (7, 2.5)):
      end = sampler(lambda z, t: velocity, z, steps, warp)
      np.testing.assert_allclose(end, z + velocity, atol=2e-6)


@pytest.mark.parametrize('steps', [1, 2, 9])
def test_a_known_image_is_returned_exactly(steps):
  x, z = 0.3 * normal(0, 2, 4), normal(1, 2, 4)
  for end in (
    samplers.ddim(exact_v(x), z, steps, schedule()),
    samplers.ddpm(exact_v(x), z, steps, schedule(), lambda i: 0 * z),
  ):
    np.testing.assert_allclose(end, x, atol=1e-5)


def test_ddim_stays_on_the_path_of_its_noise():
  x, noise, log_snr = 0.3 * normal(0, 2, 4), normal(1, 2, 4), schedule()
  z = samplers.start_state(x, noise, log_snr)
  states, times, _ = observe(samplers.ddim, exact_v(x), z, 5, log_snr)
  for state, time in zip(states, times, strict=True):
    np.testing.assert_allclose(
      state, diffusion.diffuse(x, noise, time), atol=1e-4
    )


def ddpm_states(predict, x, gamma, n=20_000, steps=4):
  """Of ddpm with fresh noise: mean, spread and log-SNR of each state."""
  log_snr = schedule()
  z = samplers.start_state(x, normal(1, n, 1), log_snr)
  states, times, _ = observe(
    samplers.ddpm, predict, z, steps, log_snr,
    lambda i: normal(10 + int(i), n, 1), gamma=gamma, clip=None,
  )
  return states.mean((1, 2)), states.std((1, 2)), times[:, 0]


def test_gamma_zero_is_exact_for_a_fixed_image():
  x = jnp.full((20_000, 1), MEAN)
  mean, std, log_snr = ddpm_states(exact_v(x), x, gamma=0.0)
  alpha, sigma = schedules.alpha_sigma(log_snr)
  np.testing.assert_allclose(std, sigma, rtol=0.03)
  np.testing.assert_allclose(mean, alpha * MEAN, atol=0.03)
  _, std, _ = ddpm_states(exact_v(x), x, gamma=1.0)
  assert np.all(std[1:] > 1.05 * sigma[1:])


def test_gamma_one_is_exact_for_white_noise():
  predict = functools.partial(gaussian_v, mean=0.0, std=1.0)
  x = normal(0, 20_000, 1)
  mean, std, _ = ddpm_states(predict, x, gamma=1.0)
  np.testing.assert_allclose(mean, 0, atol=0.03)
  np.testing.assert_allclose(std, 1, rtol=0.03)
  _, half, _ = ddpm_states(predict, x, gamma=0.5)
  _, none, _ = ddpm_states(predict, x, gamma=0.0)
  assert np.all(none[1:] < half[1:]) and np.all(half[1:] < std[1:])


def test_gamma_interpolates_the_variance_in_its_logarithm():
  z, log_snr = jnp.zeros((1, 1)), schedule()

  def spread(gamma):
    states, _, _ = observe(
      samplers.ddpm, exact_v(0.0), z, 2, log_snr, lambda i: jnp.ones_like(z),
      gamma=gamma,
    )
    return states[1].item()

  np.testing.assert_allclose(
    spread(0.3), spread(0.0) ** 0.7 * spread(1.0) ** 0.3, rtol=1e-5
  )


def test_images_are_clipped_where_asked():
  x, z, log_snr = jnp.full((1, 4), 3.0), normal(0, 1, 4), schedule()
  for sampler in (
    samplers.ddim, functools.partial(samplers.ddpm, noise_fn=lambda i: 0 * z)
  ):
    run = functools.partial(sampler, exact_v(x), z, 3, log_snr)
    np.testing.assert_array_equal(run(), np.ones((1, 4)))
    np.testing.assert_array_equal(run(clip=2.0), 2 * np.ones((1, 4)))
    np.testing.assert_allclose(run(clip=None), x, rtol=1e-4)


# --- The start --------------------------------------------------------------


@pytest.mark.parametrize('noise_shift', [0.01, 0.5, 1.0])
@pytest.mark.parametrize('start', [1.0, 0.4])
def test_start_has_the_statistics_of_training(noise_shift, start):
  log_snr = schedule(noise_shift)
  x, n = 0.8, 200
  # As training draws it, and the image instead of the autoencoder's output.
  trained = diffusion.diffuse(
    jnp.full((2, n, n), x), normal(0, 2, n, n), log_snr(jnp.full(2, start))
  )
  z = samplers.start_state(
    jnp.full((2, n, n), x), normal(1, 2, n, n), log_snr, start
  )
  alpha, sigma = schedules.alpha_sigma(log_snr(start))
  for state in (trained, z):
    np.testing.assert_allclose(
      jnp.mean(state), alpha * x, atol=5 * sigma / np.sqrt(2 * n * n)
    )
    np.testing.assert_allclose(jnp.std(state), sigma, rtol=0.02)
  if noise_shift < 0.1 and start == 1:
    assert alpha > 0.05  # there is signal left, and it is in the mean


# --- Compilation and randomness ---------------------------------------------


@pytest.mark.parametrize('name', ['euler', 'heun', 'ddim', 'ddpm'])
def test_one_program_serves_every_number_of_steps(name):
  z, log_snr = normal(0, 2, 3), schedule()
  traces = []

  def run(steps):
    traces.append(steps)
    if name in ('euler', 'heun'):
      return getattr(samplers, name)(flow_velocity, z, steps, 2.0)
    noise = (lambda i: jnp.sin(z + i),) if name == 'ddpm' else ()
    return getattr(samplers, name)(gaussian_v, z, steps, log_snr, *noise)

  compiled = jax.jit(run)
  ends = {steps: compiled(steps) for steps in (1, 2, 5)}
  assert len(traces) == 1 and compiled._cache_size() == 1
  for steps, end in ends.items():
    np.testing.assert_allclose(end, run(steps), rtol=1e-5, atol=1e-5)
  assert np.max(np.abs(ends[1] - ends[5])) > 1e-3


def test_sampling_is_reproducible_from_its_key():
  z, log_snr = normal(0, 2, 3), schedule()

  @jax.jit
  def run(key):
    return samplers.ddpm(
      gaussian_v, z, 4, log_snr,
      lambda i: jax.random.normal(jax.random.fold_in(key, i), z.shape),
    )

  asked = []
  observe(
    samplers.ddpm, gaussian_v, z, 3, log_snr,
    lambda i: asked.append(int(i)) or z,
  )
  assert asked == [0, 1, 2]  # each step has its own noise
  first = run(jax.random.key(0))
  np.testing.assert_array_equal(first, run(jax.random.key(0)))
  assert np.all(np.asarray(first != run(jax.random.key(1))))
