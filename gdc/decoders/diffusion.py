"""Forward process, predictions and loss of the diffusion decoder.

A network may predict any of three things (Salimans & Ho 2022, arXiv
2202.00512, section 4 and appendix D), each of which gives the image x:

  v = alpha eps - sigma x:  x = alpha z - sigma v
  eps:                      x = (z - sigma eps) / alpha
  x

`around` adds a fourth: what x_hat and z together leave undone of x.
`along_flow` adds what the network of a flow answers.

An error e in v is an error of sigma e in x and of alpha e in eps. So the three
squared errors are one, weighed differently over the noise levels, and what is
predicted and how it is weighed are chosen apart.
x is an image in [-1, 1]. log_snr is [b].
"""
import jax
import jax.numpy as jnp

from gdc.decoders import flow, schedules

PREDICTIONS = ('v', 'eps', 'x')
WEIGHTINGS = ('v', 'eps', 'x', 'sigmoid')
# Of the sigmoid weighting: the log-SNR around which eps stops to count.
SIGMOID_BIAS = 0.0


def _coefficients(log_snr, like):
  alpha, sigma = schedules.alpha_sigma(log_snr)
  return (
    schedules.per_example(alpha, like), schedules.per_example(sigma, like)
  )


def _check(name, value, known):
  if value not in known:
    raise ValueError(f'{name} must be one of {known}, not {value!r}.')


def diffuse(x, noise, log_snr):
  """z_t = alpha x + sigma noise."""
  alpha, sigma = _coefficients(log_snr, x)
  return alpha * x + sigma * noise


def target(x, noise, log_snr, prediction: str = 'v'):
  """What a network of this prediction should answer; x's shape."""
  _check('prediction', prediction, PREDICTIONS)
  if prediction == 'x':
    return x
  if prediction == 'eps':
    return noise
  alpha, sigma = _coefficients(log_snr, x)
  return alpha * noise - sigma * x


def image(output, z, log_snr, prediction: str = 'v'):
  """The image x that a network's output for the state z implies."""
  _check('prediction', prediction, PREDICTIONS)
  if prediction == 'x':
    return output
  alpha, sigma = _coefficients(log_snr, z)
  if prediction == 'eps':
    return (z - sigma * output) / alpha
  return alpha * z - sigma * output


def around(predict, x_hat, rmse):
  """A predictor of x, from a network that knows how far x is from x_hat.

  With x taken for Gaussian around x_hat, of deviation rmse, the best linear
  estimate of x from the state z = alpha x + sigma eps is

    x_hat + alpha rmse^2 / s^2 (z - alpha x_hat),
    s^2 = (alpha rmse)^2 + sigma^2,

  and what it leaves undone has the deviation rmse sigma / s. The network is
  given the state as (z - alpha x_hat) / s and answers in units of the latter:
  both have unit scale at every noise level and quality, and a network that says
  nothing is already that estimate. It is the preconditioning of Karras et al.
  2022 (EDM, arXiv 2206.00364, section 5), around x_hat instead of zero.

  Args:
    predict: (state [b, h, w, 3], log_snr [b]) -> [b, h, w, 3].
    x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.
    rmse: [b] its expected error.

  Returns:
    (z, log_snr [b]) -> x.
  """
  rmse = schedules.per_example(rmse, x_hat)

  def predict_x(z, log_snr):
    alpha, sigma = _coefficients(log_snr, z)
    scale = jnp.sqrt((alpha * rmse) ** 2 + sigma**2)
    state = (z - alpha * x_hat) / scale
    linear = x_hat + alpha * rmse**2 / scale * state
    return linear + rmse * sigma / scale * predict(state, log_snr)

  return predict_x


def along_flow(predict, x_hat, rmse, source_noise: float):
  """A predictor of x, from the network of a flow.

  Around x_hat, in units of rmse and up to a factor, the state z = alpha x +
  sigma eps is the flow's r_t = t r + (1 - t) s eps, s its source_noise, at

    t = s alpha rmse / (sigma + s alpha rmse):

  the flow's path goes once through every ratio of picture and noise. A flow is
  thus a denoiser at all noise levels, and a diffusion may start from its
  weights.

  Args:
    predict: (r_t [b, h, w, 3], t [b]) -> [b, h, w, 3], see flow.velocity.
    x_hat: [b, h, w, 3] in [-1, 1], the autoencoder's output.
    rmse: [b] its expected error.
    source_noise: of the flow, positive.

  Returns:
    (z, log_snr [b]) -> x.
  """

  def predict_x(z, log_snr):
    alpha, sigma = schedules.alpha_sigma(log_snr)
    scale = source_noise / (sigma + source_noise * alpha * rmse)
    t = alpha * rmse * scale
    r_t = schedules.per_example(scale, z) * (
      z - schedules.per_example(alpha, z) * x_hat
    )
    r_1 = flow.end(predict(r_t, t), r_t, t)
    return flow.from_residual(r_1, x_hat, rmse)

  return predict_x


def noise_of(x, z, log_snr):
  """The noise that an image x within the state z implies."""
  alpha, sigma = _coefficients(log_snr, z)
  return (z - alpha * x) / sigma


def loss_weight(
  log_snr: jax.Array, weighting: str, prediction: str = 'v'
) -> jax.Array:
  """What turns a squared error of a prediction into one of a weighting.

  'v', 'eps' and 'x' are squared errors of these. 'sigmoid' is that of eps
  times sigmoid(bias - log_snr): like eps where there is noise, vanishing where
  there is hardly any (Kingma & Gao 2023, arXiv 2303.00848, appendix; Hoogeboom
  et al. 2024, arXiv 2410.19324, section 3.1).

  Args:
    log_snr: [b].
    weighting: one of WEIGHTINGS.
    prediction: one of PREDICTIONS, whose squared error is weighed.

  Returns:
    [b] positive weights.
  """
  _check('loss_weighting', weighting, WEIGHTINGS)
  _check('prediction', prediction, PREDICTIONS)
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


def loss(
  predict, x, noise, log_snr, prediction: str = 'v', weighting: str = 'eps'
) -> jax.Array:
  """Weighed squared error per example of a prediction at one noise level each.

  Args:
    predict: (z [b, ...], log_snr [b]) -> what is predicted [b, ...].
    x: [b, h, w, 3] in [-1, 1].
    noise: standard normal, x's shape.
    log_snr: [b].
    prediction: what the network predicts, one of PREDICTIONS.
    weighting: of the noise levels, one of WEIGHTINGS.

  Returns:
    [b] mean over pixels and channels, float32.
  """
  output = predict(diffuse(x, noise, log_snr), log_snr)
  error = output - target(x, noise, log_snr, prediction)
  axes = tuple(range(1, x.ndim))
  square = jnp.mean(error.astype(jnp.float32) ** 2, axis=axes)
  return loss_weight(log_snr, weighting, prediction) * square
