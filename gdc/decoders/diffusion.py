"""The diffusion decoder: what its network predicts, its loss, its settings.

A network may predict any of three things (Salimans & Ho 2022, arXiv
2202.00512, section 4 and appendix D), each of which gives the image x:

  v = alpha eps - sigma x:  x = alpha z - sigma v
  eps:                      x = (z - sigma eps) / alpha
  x

`residual_denoiser` adds a fourth, the error of the best linear estimate from
x_hat and z; `flow_denoiser` a fifth, the output of a flow's network.

An error e in v is an error of sigma e in x and of alpha e in eps. So the
squared errors differ only in their weights over noise levels, and prediction
and loss weighting are independent settings.
x is an image in [-1, 1], log_snr [b]. schedules.py has the forward process.
"""
import dataclasses

import jax
import jax.numpy as jnp

from gdc.decoders import base, flow, samplers, schedules

PREDICTIONS = ('v', 'eps', 'x')
WEIGHTINGS = ('v', 'eps', 'x', 'sigmoid')
SIGMOID_BIAS = 0.0  # log-SNR where the sigmoid weighting falls to a half


def target(x, noise, log_snr, prediction: str) -> jax.Array:
  """Returns the training target of a prediction, of x's shape."""
  alpha, sigma = schedules.coefficients(log_snr, x)
  return {'x': x, 'eps': noise, 'v': alpha * noise - sigma * x}[prediction]


def image(output, z, log_snr, prediction: str) -> jax.Array:
  """Converts a network's output for the state z to the image x."""
  alpha, sigma = schedules.coefficients(log_snr, z)
  if prediction == 'x':
    return output
  if prediction == 'eps':
    return (z - sigma * output) / alpha
  return alpha * z - sigma * output


def residual_denoiser(network, x_hat, rmse):
  """Returns a denoiser whose network predicts what a linear estimate leaves.

  With x taken for Gaussian around x_hat, of deviation rmse, the best linear
  estimate of x from the state z = alpha x + sigma eps is

    x_hat + alpha rmse^2 / s^2 (z - alpha x_hat),
    s^2 = (alpha rmse)^2 + sigma^2,

  and its error has the deviation rmse sigma / s. The network sees the state as
  (z - alpha x_hat) / s and answers in units of that error: both have unit scale
  at every noise level and quality, and an output of zero is the linear
  estimate. It is the preconditioning of Karras et al. 2022 (EDM, arXiv
  2206.00364, section 5), around x_hat instead of zero.

  Args:
    network: (state [b, h, w, 3], log_snr [b]) -> [b, h, w, 3].
    x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.
    rmse: [b] its expected error.

  Returns:
    (z, log_snr [b]) -> x.
  """
  rmse = schedules.per_example(rmse, x_hat)

  def denoise(z, log_snr):
    alpha, sigma = schedules.coefficients(log_snr, z)
    scale = jnp.sqrt((alpha * rmse) ** 2 + sigma**2)
    state = (z - alpha * x_hat) / scale
    linear = x_hat + alpha * rmse**2 / scale * state
    return linear + rmse * sigma / scale * network(state, log_snr)

  return denoise


def flow_denoiser(network, x_hat, rmse, source_noise: float):
  """Returns a denoiser that evaluates a flow's network.

  Around x_hat, in units of rmse and up to a factor, the state z = alpha x +
  sigma eps is the flow's r_t = t r + (1 - t) s eps, s its source_noise, at

    t = s alpha rmse / (sigma + s alpha rmse):

  the flow's path passes once through every ratio of image and noise. A flow is
  thus a denoiser at all noise levels, and a diffusion may start from its
  weights.

  Args:
    network: (r_t [b, h, w, 3], t [b]) -> [b, h, w, 3], see flow.velocity.
    x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.
    rmse: [b] its expected error.
    source_noise: the flow's, positive.

  Returns:
    (z, log_snr [b]) -> x.
  """

  def denoise(z, log_snr):
    alpha, sigma = schedules.alpha_sigma(log_snr)
    scale = source_noise / (sigma + source_noise * alpha * rmse)
    t = alpha * rmse * scale
    r_t = schedules.per_example(scale, z) * (
      z - schedules.per_example(alpha, z) * x_hat
    )
    r_1 = flow.end(network(r_t, t), r_t, t)
    return flow.from_residual(r_1, x_hat, rmse)

  return denoise


def loss_weight(log_snr, weighting: str, prediction: str) -> jax.Array:
  """Returns the factor from a prediction's squared error to a weighting's.

  'v', 'eps' and 'x' are squared errors of these. 'sigmoid' is that of eps
  times sigmoid(bias - log_snr): like eps where there is noise, vanishing where
  there is hardly any (Kingma & Gao 2023, arXiv 2303.00848, appendix; Hoogeboom
  et al. 2024, arXiv 2410.19324, section 3.1).

  Args:
    log_snr: [b].
    weighting: one of WEIGHTINGS.
    prediction: one of PREDICTIONS, whose squared error is weighted.

  Returns:
    [b] positive weights.
  """
  log_snr = jnp.asarray(log_snr, jnp.float32)
  # Logarithms of the squares of alpha and sigma: their ratios are extreme.
  log_share = {
    'v': jnp.zeros_like(log_snr),
    'eps': jax.nn.log_sigmoid(log_snr),
    'x': jax.nn.log_sigmoid(-log_snr),
  }
  log_share['sigmoid'] = (
    log_share['eps'] + jax.nn.log_sigmoid(SIGMOID_BIAS - log_snr)
  )
  return jnp.exp(log_share[weighting] - log_share[prediction])


def loss(predict, x, noise, log_snr, prediction: str, weighting: str):
  """Returns the weighted squared error of a prediction, for each example.

  Args:
    predict: (z [b, ...], log_snr [b]) -> the prediction [b, ...].
    x: [b, h, w, 3] in [-1, 1].
    noise: standard normal, x's shape.
    log_snr: [b].
    prediction: what the network predicts, one of PREDICTIONS.
    weighting: one of WEIGHTINGS.

  Returns:
    [b] mean over pixels and channels, float32.
  """
  output = predict(schedules.diffuse(x, noise, log_snr), log_snr)
  error = output - target(x, noise, log_snr, prediction)
  axes = tuple(range(1, x.ndim))
  square = jnp.mean(error.astype(jnp.float32) ** 2, axis=axes)
  return loss_weight(log_snr, weighting, prediction) * square


@dataclasses.dataclass(frozen=True)
class Diffusion(base.Decoder):
  """The diffusion decoder."""

  entry = 'diffusion'
  description = "a diffusion model conditioned on the autoencoder's image"
  SAMPLERS = samplers.DIFFUSION

  schedule: str = base.setting(
    'cosine', 'Noise schedule, in log-SNR.', choices=schedules.SHAPES
  )
  noise_shift: float = base.setting(
    0.5, 'Below 1: less noise than the schedule; above 1: more.', above=0.0
  )
  log_snr_bound: float = base.setting(
    15.0, 'Largest log-SNR before the shift.', above=0.0
  )
  prediction: str = base.setting(
    'residual', 'What the network predicts: v, eps, x; residual, the error of '
    'a linear estimate; flow, what the network of a flow predicts.',
    choices=(*PREDICTIONS, 'residual', 'flow'),
  )
  source_noise: float = base.setting(
    0.5, 'For prediction flow: source_noise of the flow that its network '
    'started from, positive.', low=0.0,
  )
  loss_weighting: str = base.setting(
    'eps', 'Whose squared error counts; sigmoid: that of eps, less where there '
    'is little noise.', kind='training', choices=WEIGHTINGS,
  )
  sampler: str = base.setting('ddpm', 'Name of the sampler.', kind='sampling')
  steps: int = base.setting(
    32, 'Default number of steps.', kind='sampling', low=1,
    high=base.MAX_STEPS,
  )
  grid: str = base.setting(
    'log_snr', 'What is divided into equal steps.', kind='sampling',
    choices=samplers.GRIDS,
  )
  gamma: float = base.setting(
    0.0, 'Noise injected by ddpm.', kind='sampling', low=0.0, high=1.0
  )
  start: float = base.setting(
    1.0, 'Time of the first state; below 1, sampling starts from x_hat with '
    'less noise.', kind='sampling', low=1e-3, high=1.0,
  )

  def __post_init__(self):
    super().__post_init__()
    if self.prediction == 'flow' and not self.source_noise > 0:
      raise ValueError(
        'diffusion.source_noise must be above 0 for prediction flow, not '
        f'{self.source_noise}.'
      )

  def warm_starts(self):
    same = {'prediction': self.prediction}
    if self.prediction != 'flow':
      return {'diffusion': same}
    path = {'source_noise': self.source_noise}
    return {'diffusion': same | path, 'flow': path}

  def loss(self, network, image, x_hat, rmse, u, noise):
    prediction, predict = self.prediction, network
    if prediction not in PREDICTIONS:
      prediction = 'x'
      predict = self._prediction(network, x_hat, rmse)
    return loss(
      predict, image, noise, self._schedule.log_snr(u), prediction,
      self.loss_weighting,
    )

  @property
  def _schedule(self):
    return schedules.Schedule(
      self.schedule, self.noise_shift, self.log_snr_bound
    )

  def _start(self, noise, x_hat):
    # A shifted schedule has some signal left even at t = 1, and training saw
    # it: starting from noise alone would not match. Training diffuses the
    # original image, so the match is up to alpha^2 times the autoencoder's
    # square error: nothing at t = 1, and what a start below 1, the late start
    # of DIRAC (Ghouse et al., arXiv 2301.05489), trades for fewer steps.
    log_snr = self._schedule.log_snr(self.start)
    return schedules.diffuse(
      x_hat, noise, jnp.full(x_hat.shape[:1], log_snr)
    )

  def _grid(self, steps):
    return samplers.noise_levels(
      self._schedule, steps, self.start, self.warp, self.grid
    )

  def _prediction(self, network, x_hat, rmse):
    """Returns the denoiser, (z, log_snr [b]) -> x."""
    if self.prediction == 'residual':
      return residual_denoiser(network, x_hat, rmse)
    if self.prediction == 'flow':
      return flow_denoiser(network, x_hat, rmse, self.source_noise)
    return lambda z, log_snr: image(
      network(z, log_snr), z, log_snr, self.prediction
    )
