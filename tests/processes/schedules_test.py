"""Schedules: variance preserving, monotone, shifted, and their inverse."""
import jax.numpy as jnp
import numpy as np
import pytest

from gdc.processes import schedules

SHIFTS = [0.125, 0.5, 1.0, 4.0]
TIMES = np.linspace(0, 1, 201)


def test_alpha_and_sigma_preserve_variance_and_give_the_log_snr():
  log_snr = np.linspace(-20, 20, 401)
  alpha, sigma = schedules.alpha_sigma(log_snr)
  assert alpha.dtype == sigma.dtype == jnp.float32
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)
  np.testing.assert_allclose(
    2 * np.log(alpha / sigma), log_snr, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('noise_shift', SHIFTS)
def test_log_snr_runs_between_the_shifted_bounds(noise_shift):
  ends = schedules.cosine_log_snr([0.0, 1.0], noise_shift)
  expected = np.array([15, -15]) - 2 * np.log(noise_shift)
  # At t = 1 float32 angles end close to a pole.
  np.testing.assert_allclose(ends, expected, atol=2e-3)


@pytest.mark.parametrize('noise_shift', SHIFTS)
def test_log_snr_falls(noise_shift):
  log_snr = schedules.cosine_log_snr(TIMES, noise_shift)
  assert log_snr.dtype == jnp.float32 and log_snr.shape == TIMES.shape
  assert np.all(np.diff(log_snr) < 0)


@pytest.mark.parametrize('noise_shift', SHIFTS)
def test_log_snr_has_its_closed_form(noise_shift):
  # In the middle the truncation is of no effect: tan(pi / 4) = 1.
  middle = schedules.cosine_log_snr(0.5, noise_shift)
  np.testing.assert_allclose(middle, -2 * np.log(noise_shift), atol=1e-5)
  # Elsewhere it stretches time by 7e-4.
  t = np.linspace(0.1, 0.9, 9)
  np.testing.assert_allclose(
    schedules.cosine_log_snr(t, noise_shift),
    -2 * np.log(np.tan(np.pi * t / 2) * noise_shift), atol=6e-3,
  )


@pytest.mark.parametrize('noise_shift', SHIFTS)
def test_time_inverts_log_snr(noise_shift):
  log_snr = schedules.cosine_log_snr(TIMES, noise_shift)
  np.testing.assert_allclose(
    schedules.cosine_time(log_snr, noise_shift), TIMES, atol=1e-6
  )


def test_a_smaller_shift_is_less_noise_at_every_time():
  sigmas = [
    schedules.alpha_sigma(schedules.cosine_log_snr(TIMES, s))[1]
    for s in SHIFTS
  ]
  log_snrs = [schedules.cosine_log_snr(TIMES, s) for s in SHIFTS]
  for i in range(len(SHIFTS) - 1):
    assert np.all(np.asarray(log_snrs[i] > log_snrs[i + 1]))
    assert np.all(np.asarray(sigmas[i] <= sigmas[i + 1]))


@pytest.mark.parametrize('noise_shift', [0, -0.5])
def test_a_shift_that_is_not_positive_is_named(noise_shift):
  with pytest.raises(ValueError, match=f'positive, not {noise_shift}'):
    schedules.cosine_log_snr(0.5, noise_shift)


def test_values_per_example_broadcast_from_the_left():
  value = schedules.per_example(np.arange(3.0), np.zeros((3, 4, 3, 3)))
  assert value.shape == (3, 1, 1, 1)
  assert schedules.per_example(2.0, np.zeros((3, 4))).shape == (1, 1)
