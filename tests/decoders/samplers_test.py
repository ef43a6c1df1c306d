"""Samplers against closed forms.

For Gaussian data the best prediction and the solution of the differential
equation are known, so the order of each sampler can be measured.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.decoders import samplers, schedules

MEAN, STD = 0.3, 0.4  # of the data
SOURCE = 0.8  # the flow's source noise
FLOW, DIFFUSION = tuple(samplers.FLOW), tuple(samplers.DIFFUSION)
SCHEDULE = schedules.Schedule('cosine', 0.5)


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def fresh(like, seed=3):
  """Noise of each step, drawn from its index."""
  key = jax.random.key(seed)
  return lambda i: jax.random.normal(
    jax.random.fold_in(key, i), like.shape, like.dtype
  )


def flow_velocity(z, t):
  """E[z_1 - z_0 | z_t] of Gaussian source and data."""
  t = t[:, None]
  variance = ((1 - t) * SOURCE) ** 2 + (t * STD) ** 2
  slope = (t * STD**2 - (1 - t) * SOURCE**2) / variance
  return MEAN + slope * (z - t * MEAN)


def gaussian_x(z, log_snr, mean=MEAN, std=STD):
  """E[x | z] of Gaussian images."""
  alpha, sigma = (
    schedules.per_example(a, z) for a in schedules.alpha_sigma(log_snr)
  )
  variance = (alpha * std) ** 2 + sigma**2
  return mean + alpha * std**2 / variance * (z - alpha * mean)


def state_of(z, sampler):
  """The state before the first step."""
  return z, jnp.zeros_like(z if sampler.memory else z[..., :0])


def integrate(sampler, predict, z, steps, grid, **more):
  """z after all steps of a sampler."""
  more = {'noise_fn': fresh(z)} | more
  return jax.lax.fori_loop(
    0, steps, lambda i, state: sampler.step(
      predict, state, i=i, steps=steps, grid=grid, **more
    ), state_of(z, sampler),
  )[0]


def run_flow(name, predict, z, steps, warp=1.0, **more):
  grid = functools.partial(samplers.time_left, steps=steps, warp=warp)
  more = {'source_noise': SOURCE, 'eta': 1.0} | more
  return integrate(samplers.FLOW[name], predict, z, steps, grid, **more)


def run_diffusion(
  name, predict, z, steps, schedule=SCHEDULE, start=1.0, warp=1.0,
  space='time', **more,
):
  grid = samplers.noise_levels(schedule, steps, start, warp, space)
  return integrate(samplers.DIFFUSION[name], predict, z, steps, grid, **more)


def start(x, noise, schedule=SCHEDULE, time=1.0):
  return schedules.diffuse(
    x, noise, jnp.full(x.shape[:1], schedule.log_snr(time))
  )


def observe(run, name, predict, z, *args, **kwargs):
  """The states and times at which the network is asked, and the result."""
  seen = []

  def watched(state, time):
    seen.append((np.asarray(state), np.asarray(time)))
    return predict(state, time)

  with jax.disable_jit():
    result = run(name, watched, z, *args, **kwargs)
  states, times = (np.stack(a) for a in zip(*seen, strict=True))
  return states, times, np.asarray(result)


def orders(steps, errors):
  """Slopes of log error over log 1 / steps."""
  return -np.diff(np.log(errors)) / np.diff(np.log(steps))


# --- Grids ------------------------------------------------------------------


def times_of(steps, warp):
  return 1 - np.array([
    samplers.time_left(i, steps, warp) for i in range(steps + 1)
  ])


@pytest.mark.parametrize('warp', [0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize('steps', [1, 3, 50])
def test_grid_starts_at_zero_and_ends_at_one(steps, warp):
  times = times_of(steps, warp)
  assert times[0] == 0 and times[-1] == 1
  widths = np.diff(times)
  assert np.all(widths > 0)
  if warp == 1:
    np.testing.assert_allclose(widths, 1 / steps, rtol=1e-6)
  else:
    assert np.all(np.diff(widths) * (warp - 1) < 0)


@pytest.mark.parametrize('warp', [1.0, 2.0])
def test_flow_samplers_ask_at_the_times_of_the_grid(warp):
  times = times_of(4, warp)
  first, last = times[:-1], times[1:]
  expected = {
    'euler': first[:, None],
    'stochastic': first[:, None],
    'heun': np.stack([first, last], 1),
    'midpoint': np.stack([first, (first + last) / 2], 1),
  }
  for name in FLOW:
    _, seen, _ = observe(
      run_flow, name, flow_velocity, normal(0, 2, 3), 4, warp
    )
    np.testing.assert_allclose(
      seen, np.tile(expected[name].reshape(-1, 1), 2), rtol=1e-6
    )


@pytest.mark.parametrize('time', [1.0, 0.6])
@pytest.mark.parametrize('warp', [1.0, 2.0])
def test_diffusion_samplers_ask_from_the_start_down_to_the_last_step(
  time, warp
):
  left = (1 - np.arange(4) / 4) ** warp
  first, last = SCHEDULE.log_snr(time), SCHEDULE.log_snr(0.0)
  expected = {
    'time': SCHEDULE.log_snr(time * left),
    'log_snr': last + left * (first - last),
  }
  for name in DIFFUSION:
    for space in samplers.GRIDS:
      _, seen, _ = observe(
        run_diffusion, name, gaussian_x, normal(0, 2, 3), 4, start=time,
        warp=warp, space=space,
      )
      np.testing.assert_allclose(
        seen, np.tile(expected[space][:, None], 2), rtol=1e-4, atol=1e-4
      )


@pytest.mark.parametrize('name', [*FLOW, *DIFFUSION])
@pytest.mark.parametrize('steps, warp', [
  (6, 10.0), (50, 10.0), (70, 5.0), (1000, 3.0), (10_000, 10.0),
])
def test_the_finest_grids_still_give_images(name, steps, warp):
  z = normal(0, 20, 1)
  if name in FLOW:
    ends = [jax.jit(lambda n: run_flow(name, flow_velocity, z, n, warp))(steps)]
  else:
    ends = [
      jax.jit(lambda n, s=space: run_diffusion(
        name, gaussian_x, z, n, warp=warp, space=s
      ))(steps) for space in samplers.GRIDS
    ]
  assert np.all(np.isfinite(ends)) and np.max(np.abs(ends)) < 10


@pytest.mark.parametrize('shift, bound, space', [
  (0.5, 40.0, 'log_snr'), (0.125, 15.0, 'time'), (0.01, 40.0, 'time'),
])
def test_levels_that_are_the_same_still_give_images(shift, bound, space):
  """Where the signal is so strong that the noise is hardly a float32."""
  schedule = schedules.Schedule('cosine', shift, bound)
  z = normal(0, 20, 1)
  sample = jax.jit(lambda gamma: run_diffusion(
    'ddpm', gaussian_x, z, 500, warp=10.0, space=space, schedule=schedule,
    gamma=gamma,
  ))
  for gamma in (0.0, 1.0):
    end = sample(gamma)
    assert np.all(np.isfinite(end)) and np.max(np.abs(end)) < 10


def test_an_unknown_grid_is_named():
  with pytest.raises(ValueError, match="grid must be.*not 'sigma'"):
    samplers.noise_levels(SCHEDULE, 4, grid='sigma')


# --- Orders of convergence --------------------------------------------------


def mixture_velocity(z, t):
  """E[z_1 - z_0 | z_t] where z_1 is Gaussian around one of two values."""
  t = t[:, None]
  variance = ((1 - t) * SOURCE) ** 2 + (t * STD) ** 2
  slope = (t * STD**2 - (1 - t) * SOURCE**2) / variance
  means = jnp.array([-0.5, 0.9])
  logits = -0.5 * (z - t * means) ** 2 / variance + jnp.log(
    jnp.array([0.3, 0.7])
  )
  velocities = means + slope * (z - t * means)
  return jnp.sum(jax.nn.softmax(logits) * velocities, -1, keepdims=True)


@pytest.mark.parametrize('name, order', [
  ('euler', 1), ('midpoint', 2), ('heun', 2),
])
@pytest.mark.parametrize('warp', [1.0, 2.0])
def test_flow_samplers_converge_at_their_order(name, order, warp):
  with jax.enable_x64(True):
    u = jnp.linspace(-2, 2, 9, dtype=jnp.float64)[:, None]
    steps = np.array([32, 64, 128, 256])

    def errors(velocity, exact):
      run = jax.jit(lambda n: run_flow(name, velocity, SOURCE * u, n, warp))
      return [float(jnp.max(jnp.abs(run(n) - exact))) for n in steps]

    gaussian = errors(flow_velocity, MEAN + STD * u)
    curved = errors(
      mixture_velocity, run_flow('heun', mixture_velocity, SOURCE * u, 8192)
    )
  assert gaussian[-1] < (1e-2 if order == 1 else 1e-4)
  # On this very problem the midpoint's leading error cancels.
  assert np.all(orders(steps, gaussian) > order - 0.15)
  if name != 'midpoint':
    assert np.all(orders(steps, gaussian) < order + 0.15)
  np.testing.assert_allclose(orders(steps, curved), order, atol=0.2)


@pytest.mark.parametrize('name, order', [('ddim', 1), ('dpmpp_2m', 2)])
@pytest.mark.parametrize('shape', schedules.SHAPES)
@pytest.mark.parametrize('noise_shift', [0.5, 2.0])
@pytest.mark.parametrize('time', [1.0, 0.7])
def test_diffusion_samplers_converge_at_their_order(
  name, order, shape, noise_shift, time
):
  schedule = schedules.Schedule(shape, noise_shift)
  steps = np.array([64, 128, 256])
  with jax.enable_x64(True):
    alpha, sigma = schedules.alpha_sigma(schedule.log_snr(time))
    u = jnp.linspace(-2, 2, 9, dtype=jnp.float64)[:, None]
    # The flow keeps the place of a state in its own distribution.
    z = alpha * MEAN + jnp.sqrt((alpha * STD) ** 2 + sigma**2) * u
    exact = MEAN + STD * u
    run = jax.jit(lambda n: run_diffusion(
      name, gaussian_x, z, n, schedule, time, space='log_snr', clip=None
    ))
    errors = [float(jnp.max(jnp.abs(run(n) - exact))) for n in steps]
  assert errors[-1] < (3e-2 if order == 1 else 1e-3)
  np.testing.assert_allclose(orders(steps, errors), order, atol=0.15)


@pytest.mark.parametrize('space', samplers.GRIDS)
def test_the_second_order_is_worth_it_with_few_steps(space):
  z = start(MEAN + STD * normal(0, 500, 1), normal(1, 500, 1))
  exact = run_diffusion('ddim', gaussian_x, z, 2000, clip=None)
  errors = {
    name: float(jnp.max(jnp.abs(run_diffusion(
      name, gaussian_x, z, 16, space=space, clip=None
    ) - exact)))
    for name in ('ddim', 'dpmpp_2m')
  }
  assert errors['dpmpp_2m'] < 0.5 * errors['ddim']


@pytest.mark.parametrize('name, setting', [
  *(('ddpm', {'gamma': gamma}) for gamma in (0.0, 0.5, 1.0)),
  *(('stochastic', {'eta': eta}) for eta in (0.0, 0.5, 1.0, 4.0)),
])
def test_stochastic_samplers_converge_to_the_mean_and_variance_of_the_data(
  name, setting
):
  n = 40_000
  if name == 'ddpm':
    z = start(MEAN + STD * normal(0, n, 1), normal(1, n, 1))
    run = jax.jit(lambda steps: run_diffusion(
      name, gaussian_x, z, steps, clip=None, **setting
    ))
  else:
    z = SOURCE * normal(0, n, 1)
    run = jax.jit(lambda steps: run_flow(
      name, flow_velocity, z, steps, **setting
    ))
  error = 4 * STD / np.sqrt(n)  # of the mean; the spread's is 0.7 of it
  bias = []
  for steps in (4, 16, 64, 256):
    x = np.asarray(run(steps), np.float64)
    np.testing.assert_allclose(x.mean(), MEAN, atol=error)
    bias.append(abs(x.std() - STD))
  assert bias[0] > 3 * error  # few steps are seen to be biased
  assert bias[1] > bias[2] and bias[-1] < error + 0.005
  # First order: sixteen times the steps, a sixteenth of the bias.
  if setting.get('eta', 0) <= 1:
    assert bias[2] < bias[0] / 8 + error


# --- Noise injected, and the marginals ---------------------------------------


@pytest.mark.parametrize('eta', [0.0, 1.0, 3.0])
def test_marginals_of_the_stochastic_flow_are_the_deterministic_ones(eta):
  steps, z = 300, SOURCE * normal(0, 20_000, 1)
  grid = functools.partial(samplers.time_left, steps=steps)
  step = jax.jit(lambda z, i: samplers.stochastic(
    flow_velocity, (z, z[..., :0]), i, grid, fresh(z), SOURCE, eta
  )[0])
  for i in range(steps):
    z = step(z, i)
    if (i + 1) % 50 == 0:
      t = (i + 1) / steps
      exact = np.sqrt(((1 - t) * SOURCE) ** 2 + (t * STD) ** 2)
      np.testing.assert_allclose(jnp.mean(z), t * MEAN, atol=0.02)
      np.testing.assert_allclose(jnp.std(z), exact, atol=0.02)


def test_the_stochastic_flow_forgets_its_start():
  z = SOURCE * normal(0, 5_000, 1)

  def kept(eta):
    end = run_flow('stochastic', flow_velocity, z, 100, eta=eta)
    return np.corrcoef(z[:, 0], end[:, 0])[0, 1]

  assert kept(0.0) > 0.999
  assert 0.5 < kept(0.2) < 0.95
  assert abs(kept(5.0)) < 0.1


def test_without_injected_noise_the_stochastic_flow_is_euler():
  z = normal(0, 5, 2)
  np.testing.assert_allclose(
    run_flow('stochastic', flow_velocity, z, 7, 2.0, eta=0.0),
    run_flow('euler', flow_velocity, z, 7, 2.0), atol=1e-6,
  )


@pytest.mark.parametrize('steps', [1, 2, 5])
def test_a_step_of_the_stochastic_flow_is_exact_for_fixed_ends(steps):
  # The image is known: every state is on the path from a source to it.
  x, n = 0.7, 20_000

  def predict(z, t):
    return (x - z) / (1 - t[:, None])

  states, times, end = observe(
    run_flow, 'stochastic', predict, SOURCE * normal(0, n, 1), steps, eta=1.0
  )
  np.testing.assert_allclose(end, x, atol=1e-5)
  times = times[:, 0]
  np.testing.assert_allclose(states.mean((1, 2)), times * x, atol=0.03)
  np.testing.assert_allclose(
    states.std((1, 2)), (1 - times) * SOURCE, rtol=0.03
  )


# --- One step, exactly ------------------------------------------------------


def test_a_constant_velocity_is_integrated_exactly():
  z, velocity = normal(0, 2, 4), normal(1, 2, 4)
  for name in ('euler', 'midpoint', 'heun'):
    for steps, warp in ((1, 1.0), (1, 2.0), (7, 1.0), (7, 2.5)):
      end = run_flow(name, lambda z, t: velocity, z, steps, warp)
      np.testing.assert_allclose(end, z + velocity, atol=2e-6)


@pytest.mark.parametrize('name', DIFFUSION)
@pytest.mark.parametrize('steps', [1, 2, 9])
def test_a_known_image_is_returned_exactly(name, steps):
  x, z = 0.3 * normal(0, 2, 4), normal(1, 2, 4)
  states, log_snr, end = observe(
    run_diffusion, name, lambda z, log_snr: x, z, steps
  )
  np.testing.assert_allclose(end, x, atol=1e-5)
  if steps == 9:  # and the states come to it: alpha x, but for little noise
    alpha, sigma = schedules.alpha_sigma(log_snr[-1, 0])
    assert np.max(np.abs(states[-1] - alpha * x)) < 5 * sigma < 0.5


@pytest.mark.parametrize('name', ['ddim', 'dpmpp_2m'])
def test_deterministic_diffusion_stays_on_the_path_of_its_noise(name):
  x, noise = 0.3 * normal(0, 2, 4), normal(1, 2, 4)
  states, times, _ = observe(
    run_diffusion, name, lambda z, log_snr: x, start(x, noise), 5
  )
  for state, time in zip(states, times, strict=True):
    np.testing.assert_allclose(
      state, schedules.diffuse(x, noise, time), atol=1e-4
    )


def test_dpmpp_extrapolates_in_half_the_log_snr():
  # An image that is linear in the log-SNR is extrapolated to the middle of
  # the step ahead, as the multistep formula has it.
  z, asked = normal(0, 2, 4), []

  def predict(state, log_snr):
    asked.append(np.asarray(state))
    return jnp.broadcast_to(0.01 * log_snr[:, None], state.shape)

  levels = np.asarray(
    samplers.noise_levels(SCHEDULE, 4)(np.arange(5)), np.float64
  )
  with jax.disable_jit():
    run_diffusion('dpmpp_2m', predict, z, 4)
  alpha, sigma = (
    np.asarray(a, np.float64) for a in schedules.alpha_sigma(levels)
  )
  for i in (1, 2):
    middle = 0.01 * (levels[i] + (levels[i + 1] - levels[i]) / 2)
    decay = sigma[i + 1] / sigma[i]
    expected = decay * asked[i] + (
      alpha[i + 1] - decay * alpha[i]
    ) * middle
    np.testing.assert_allclose(asked[i + 1], expected, atol=1e-4)


def ddpm_states(predict, x, gamma, n=20_000, steps=4):
  """Of ddpm with fresh noise: mean, spread and log-SNR of each state."""
  states, times, _ = observe(
    run_diffusion, 'ddpm', predict, start(x, normal(1, n, 1)), steps,
    gamma=gamma, clip=None,
  )
  return states.mean((1, 2)), states.std((1, 2)), times[:, 0]


def test_gamma_zero_is_exact_for_a_fixed_image():
  x = jnp.full((20_000, 1), MEAN)
  mean, std, log_snr = ddpm_states(lambda z, log_snr: x, x, gamma=0.0)
  alpha, sigma = schedules.alpha_sigma(log_snr)
  np.testing.assert_allclose(std, sigma, rtol=0.03)
  np.testing.assert_allclose(mean, alpha * MEAN, atol=0.03)
  _, std, _ = ddpm_states(lambda z, log_snr: x, x, gamma=1.0)
  assert np.all(std[1:] > 1.05 * sigma[1:])


def test_gamma_one_is_exact_for_white_noise():
  predict = functools.partial(gaussian_x, mean=0.0, std=1.0)
  x = normal(0, 20_000, 1)
  mean, std, _ = ddpm_states(predict, x, gamma=1.0)
  np.testing.assert_allclose(mean, 0, atol=0.03)
  np.testing.assert_allclose(std, 1, rtol=0.03)
  _, half, _ = ddpm_states(predict, x, gamma=0.5)
  _, none, _ = ddpm_states(predict, x, gamma=0.0)
  assert np.all(none[1:] < half[1:]) and np.all(half[1:] < std[1:])


def test_gamma_interpolates_the_variance_in_its_logarithm():
  z = jnp.zeros((1, 1))

  def spread(gamma):
    states, _, _ = observe(
      run_diffusion, 'ddpm', lambda z, log_snr: jnp.zeros_like(z), z, 2,
      noise_fn=lambda i: jnp.ones_like(z), gamma=gamma,
    )
    return states[1].item()

  np.testing.assert_allclose(
    spread(0.3), spread(0.0) ** 0.7 * spread(1.0) ** 0.3, rtol=1e-5
  )


@pytest.mark.parametrize('name', DIFFUSION)
def test_images_are_clipped_where_asked(name):
  x, z = jnp.full((1, 4), 3.0), normal(0, 1, 4)
  run = functools.partial(run_diffusion, name, lambda z, log_snr: x, z, 3)
  np.testing.assert_array_equal(run(), np.ones((1, 4)))
  np.testing.assert_array_equal(run(clip=2.0), 2 * np.ones((1, 4)))
  np.testing.assert_allclose(run(clip=None), x, rtol=1e-4)


# --- The start --------------------------------------------------------------


@pytest.mark.parametrize('shape', schedules.SHAPES)
@pytest.mark.parametrize('noise_shift', [0.01, 0.5, 1.0])
@pytest.mark.parametrize('time', [1.0, 0.4])
def test_start_has_the_statistics_of_training(shape, noise_shift, time):
  schedule = schedules.Schedule(shape, noise_shift)
  x, n = 0.8, 200
  # As training draws it, and the image instead of the autoencoder's output.
  trained = schedules.diffuse(
    jnp.full((2, n, n), x), normal(0, 2, n, n),
    schedule.log_snr(jnp.full(2, time)),
  )
  z = start(jnp.full((2, n, n), x), normal(1, 2, n, n), schedule, time)
  alpha, sigma = schedules.alpha_sigma(schedule.log_snr(time))
  for state in (trained, z):
    np.testing.assert_allclose(
      jnp.mean(state), alpha * x, atol=5 * sigma / np.sqrt(2 * n * n)
    )
    np.testing.assert_allclose(jnp.std(state), sigma, rtol=0.02)
  if noise_shift < 0.1 and time == 1:
    assert alpha > 0.05  # there is signal left, and it is in the mean


@pytest.mark.parametrize('noise_shift', [0.125, 0.5, 4.0])
@pytest.mark.parametrize('time', [1.0, 0.5])
def test_a_start_from_the_autoencoder_lacks_its_error_and_no_more(
  noise_shift, time
):
  rmse, n = 0.1, 400
  schedule = schedules.Schedule('cosine', noise_shift)
  x_hat = 0.5 * normal(0, 1, n, n)
  x = x_hat + rmse * normal(1, 1, n, n)
  alpha, sigma = (
    float(a) for a in schedules.alpha_sigma(schedule.log_snr(time))
  )
  trained = schedules.diffuse(
    x, normal(2, 1, n, n), jnp.full(1, schedule.log_snr(time))
  )
  z = start(x_hat, normal(3, 1, n, n), schedule, time)
  short = jnp.var(trained - alpha * x_hat) - jnp.var(z - alpha * x_hat)
  error = 5 * sigma**2 * np.sqrt(4 / n**2) + 1e-4
  np.testing.assert_allclose(short, (alpha * rmse) ** 2, atol=error)
  if time == 1:
    assert (alpha * rmse) ** 2 < 1e-3 * sigma**2


# --- Compilation and randomness ---------------------------------------------


@pytest.mark.parametrize('name', [*FLOW, *DIFFUSION])
def test_one_program_serves_every_number_of_steps(name):
  z, traces = normal(0, 2, 3), []

  def run(steps):
    traces.append(steps)
    if name in FLOW:
      return run_flow(name, flow_velocity, z, steps, 2.0)
    return run_diffusion(name, gaussian_x, z, steps)

  compiled = jax.jit(run)
  ends = {steps: compiled(steps) for steps in (1, 2, 5)}
  assert len(traces) == 1 and compiled._cache_size() == 1
  for steps, end in ends.items():
    np.testing.assert_allclose(end, run(steps), rtol=1e-5, atol=1e-5)
  assert np.max(np.abs(ends[1] - ends[5])) > 1e-3


@pytest.mark.parametrize('name', ['ddpm', 'stochastic'])
def test_sampling_is_reproducible_from_its_key(name):
  z, asked = normal(0, 2, 3), []
  run, predict = {
    'ddpm': (run_diffusion, gaussian_x),
    'stochastic': (run_flow, flow_velocity),
  }[name]
  observe(
    run, name, predict, z, 3, noise_fn=lambda i: asked.append(int(i)) or z
  )
  assert asked == [0, 1, 2]  # each step has its own noise
  first = run(name, predict, z, 4, noise_fn=fresh(z, 0))
  np.testing.assert_array_equal(
    first, run(name, predict, z, 4, noise_fn=fresh(z, 0))
  )
  other = run(name, predict, z, 4, noise_fn=fresh(z, 1))
  assert np.all(np.asarray(first != other))
