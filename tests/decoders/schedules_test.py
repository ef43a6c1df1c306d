"""Schedules: variance preserving, monotone, shifted."""
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.decoders import schedules

SHIFTS = [0.125, 0.5, 1.0, 4.0]
SHAPES = schedules.SHAPES
TIMES = np.linspace(0, 1, 201)
ALL = pytest.mark.parametrize('schedule', [
  schedules.Schedule(shape, shift, bound)
  for shape in SHAPES for shift in SHIFTS for bound in (15.0, 8.0, 40.0)
], ids=str)


def test_alpha_and_sigma_preserve_variance_and_give_the_log_snr():
  log_snr = np.linspace(-20, 20, 401)
  alpha, sigma = schedules.alpha_sigma(log_snr)
  assert alpha.dtype == sigma.dtype == jnp.float32
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)
  np.testing.assert_allclose(
    2 * np.log(alpha / sigma), log_snr, rtol=1e-5, atol=1e-5
  )


@ALL
def test_log_snr_runs_between_the_shifted_bounds(schedule):
  ends = schedule.log_snr([0.0, 1.0])
  expected = schedule.bound * np.array([1, -1]) - 2 * np.log(
    schedule.noise_shift
  )
  np.testing.assert_allclose(ends, expected, atol=1e-4)


@ALL
def test_log_snr_falls(schedule):
  log_snr = schedule.log_snr(TIMES)
  assert log_snr.dtype == jnp.float32 and log_snr.shape == TIMES.shape
  assert np.all(np.diff(log_snr) < 0)


@pytest.mark.parametrize('noise_shift', SHIFTS)
def test_cosine_has_its_closed_form(noise_shift):
  cosine = schedules.Schedule('cosine', noise_shift)
  # In the middle the truncation is of no effect: tan(pi / 4) = 1.
  np.testing.assert_allclose(
    cosine.log_snr(0.5), -2 * np.log(noise_shift), atol=1e-5
  )
  # Elsewhere it stretches time by 7e-4.
  t = np.linspace(0.1, 0.9, 9)
  np.testing.assert_allclose(
    cosine.log_snr(t), -2 * np.log(np.tan(np.pi * t / 2) * noise_shift),
    atol=6e-3,
  )


def test_linear_is_even_in_log_snr():
  steps = np.diff(schedules.Schedule('linear', 0.5).log_snr(TIMES))
  np.testing.assert_allclose(steps, -30 / 200, rtol=1e-3)


@pytest.mark.parametrize('shape', SHAPES)
def test_a_smaller_shift_is_less_noise_at_every_time(shape):
  log_snrs = [
    np.asarray(schedules.Schedule(shape, s).log_snr(TIMES)) for s in SHIFTS
  ]
  sigmas = [schedules.alpha_sigma(log_snr)[1] for log_snr in log_snrs]
  for i in range(len(SHIFTS) - 1):
    np.testing.assert_allclose(
      log_snrs[i] - log_snrs[i + 1],
      2 * np.log(SHIFTS[i + 1] / SHIFTS[i]), atol=3e-3,
    )
    assert np.all(np.asarray(sigmas[i] <= sigmas[i + 1]))


def test_values_per_example_broadcast_from_the_left():
  value = schedules.per_example(np.arange(3.0), np.zeros((3, 4, 3, 3)))
  assert value.shape == (3, 1, 1, 1)
  assert schedules.per_example(2.0, np.zeros((3, 4))).shape == (1, 1)
