"""What each stage optimises: batch and key -> scalar loss and metrics.

Stage 1 trains the autoencoder for bits per pixel + lambda 255^2 MSE. Stage 2
trains a score network, by diffusion or by flow, on images that the frozen
autoencoder has coded; frozen parameters are an argument of the loss. The
one-step decoder is in one_step.py.
Rates are summed over latents and divided by image pixels here, and only here.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gdc.codec import bundle
from gdc.data import transforms
from gdc.decoders import base, diffusion, flow, samplers
from gdc.models import quantization
from gdc.training.stages import base as stage_lib
from gdc.training.stages import frozen_autoencoder, one_step

# --- Stage 1 ----------------------------------------------------------------


def _autoencoder_stage(config) -> stage_lib.Stage:
  fields = config.autoencoder.to_dict()
  lambdas = fields.pop('lambdas')
  spec = {**fields, 'num_levels': len(lambdas)}
  model = bundle.build_autoencoder(spec, dtype=jnp.dtype(config.dtype))
  log_lambdas = jnp.log(jnp.asarray(lambdas, jnp.float32))

  def init(key, batch):
    image = transforms.to_float(batch['image'])
    quality = jnp.ones(image.shape[0])
    params = model.init(key, image, quality)['params']
    # The prior starts at the scale of what is coded at each level. A
    # logistic density of scale s has mean magnitude 2 log(2) s.
    scales = []
    for level in range(1, len(lambdas) + 1):
      y = model.apply(
        {'params': params}, image, level * quality, method='encode'
      )
      y = model.apply({'params': params}, y, method='coded')
      scales.append(jnp.mean(jnp.abs(y), axis=(0, 1, 2)) / (2 * np.log(2)))
    log_scale = jnp.log(jnp.maximum(jnp.stack(scales), 0.05))
    params['prior']['log_scale'] = log_scale
    return params

  def loss(params, frozen, batch, key):
    del frozen
    image = transforms.to_float(batch['image'])
    quality_key, noise_key = jax.random.split(key)
    quality = stage_lib.sample_quality(
      quality_key, image.shape[0], len(lambdas)
    )
    variables = {'params': params}
    y = model.apply(variables, image, quality, method='encode')
    coded = model.apply(variables, y, method='coded')
    bits = model.apply(
      variables, quantization.add_uniform_noise(noise_key, coded), quality,
      method='bin_bits',
    )
    x_hat = model.apply(
      variables, quantization.round_straight_through(y), quality,
      method='decode',
    )
    pixels = image.shape[1] * image.shape[2]
    bpp = jnp.sum(bits, axis=(1, 2, 3)) / pixels
    mse = stage_lib.mse_255(image, x_hat)
    weights = model.apply(variables, quality, method='level_weights')
    lambda_ = jnp.exp(weights @ log_lambdas)
    # Relative to the middle of the ladder, so that losses compare.
    balance = jnp.exp(
      config.level_balance * (jnp.mean(log_lambdas) - jnp.log(lambda_))
    )
    # The likelihood of the error under a Gaussian: its scale is the RMSE.
    rmse = model.apply(variables, quality, method='rmse')
    ratio = jax.lax.stop_gradient(mse) / 127.5**2 / rmse**2
    rmse_loss = jnp.mean(0.5 * ratio + jnp.log(rmse))
    total = jnp.mean(balance * (bpp + lambda_ * mse)) + 0.01 * rmse_loss
    metrics = {
      'bpp': jnp.mean(bpp),
      'psnr': jnp.mean(stage_lib.psnr(mse)),
      'rd': jnp.mean(bpp + lambda_ * mse),
      'rmse_ratio': jnp.sqrt(jnp.mean(ratio)),
    }
    return total, metrics

  def pictures(params, frozen, images):
    del frozen
    quality = jnp.full(images.shape[:1], (1 + len(lambdas)) / 2)
    x_hat = model.apply(
      {'params': params}, images, quality, method='reconstruct'
    )
    return {'original': images, 'autoencoder': x_hat}

  return stage_lib.Stage(
    'autoencoder', spec, init, loss, {}, len(lambdas), None, pictures,
    origins={'autoencoder': {}},
  )


# --- Stage 2 ----------------------------------------------------------------


def _score_stage(config, autoencoder: bundle.Bundle) -> stage_lib.Stage:
  """A score network on the frozen autoencoder's output."""
  process = config.stage
  dials = config[process]
  dtype = jnp.dtype(config.dtype)
  coder = frozen_autoencoder.FirstStage(autoencoder, dtype)
  spec = {
    **config.score_net.to_dict(),
    'num_levels': coder.num_levels,
    **{name: dials[name] for name in base.PROCESS_FIELDS[process]},
    'sampling': config.sampling.to_dict(),
  }
  base.validate(process, spec)
  net = bundle.build_score_net(spec, dtype=dtype)
  error = {'flow': _flow_error, 'diffusion': _diffusion_error}[process](
    dials, spec, coder
  )
  frozen = {'autoencoder': autoencoder.autoencoder_params}
  if process == 'flow' and dials.reflow_steps:
    if 'flow' not in autoencoder.decoders:
      raise ValueError(
        f'flow.reflow_steps {dials.reflow_steps} needs a flow decoder in '
        f'autoencoder_from; bundle {autoencoder.name!r} has '
        f'{", ".join(autoencoder.decoders) or "none"}.'
      )
    frozen['teacher'] = autoencoder.decoders['flow'][1]

  def loss(params, frozen, batch, key):
    image = transforms.to_float(batch['image'])
    quality_key, time_key, noise_key = jax.random.split(key, 3)
    quality = stage_lib.sample_quality(
      quality_key, image.shape[0], coder.num_levels
    )
    x_hat = coder.output(frozen['autoencoder'], image, quality)

    def predict(z, level):
      return net.apply({'params': params}, z, x_hat, level, quality)

    mean = jnp.mean(error(
      predict, frozen, image, x_hat, quality,
      stage_lib.stratified(time_key, image.shape[0]),
      jax.random.normal(noise_key, image.shape),
    ))
    return mean, {'loss': mean}

  def pictures(params, frozen, images):
    return coder.pictures(
      process, spec, net, params, frozen['autoencoder'], images
    )

  return stage_lib.Stage(
    process, spec, functools.partial(frozen_autoencoder.init, net), loss,
    frozen,
    coder.num_levels, autoencoder, pictures,
    origins=_origins(process, spec),
  )


def _origins(process: str, spec: dict) -> dict[str, dict]:
  """See stage.Stage."""
  if process == 'flow':
    return {'flow': {}}
  same = {'prediction': spec['prediction']}
  if spec['prediction'] != 'flow':
    return {'diffusion': same}
  path = {'source_noise': spec['source_noise']}
  return {'diffusion': same | path, 'flow': path}


# The two kinds' errors: (predict, frozen, image, x_hat, quality, u [b] uniform
# in [0, 1), noise) -> [b].


def _flow_error(dials, spec, coder):
  sample_time = functools.partial(
    flow.sample_time, sampling=dials.time_sampling, mean=dials.time_mean,
    std=dials.time_std,
  )
  sample_time(jnp.zeros(1))  # raises here, not while training
  teacher_spec, _ = coder.bundle.decoders.get('flow', ({}, None))
  if dials.reflow_steps:
    teacher = bundle.build_score_net(teacher_spec, dtype=coder.dtype)

  def error(predict, frozen, image, x_hat, quality, u, noise):
    r_0 = flow.source(noise, spec['source_noise'])
    if dials.reflow_steps:
      # The pairs are the teacher's own: where its paths end.
      def velocity(r, t):
        output = teacher.apply(
          {'params': frozen['teacher']}, r, x_hat, t, quality
        )
        return flow.velocity(output, r, t)

      steps = dials.reflow_steps
      r_1 = jax.lax.stop_gradient(samplers.loop(
        lambda r, i: samplers.euler(velocity, r, i, steps),
        flow.source(noise, teacher_spec['source_noise']), steps,
      ))
    else:
      rmse = coder.rmse(frozen['autoencoder'], quality)
      r_1 = flow.to_residual(image, x_hat, rmse)
    return flow.loss(
      lambda r, t: flow.velocity(predict(r, t), r, t), r_0, r_1,
      sample_time(u),
    )

  return error


def _diffusion_error(dials, spec, coder):
  prediction, weighting = spec['prediction'], dials.loss_weighting
  diffusion.loss_weight(jnp.zeros(1), weighting)  # raises here, not later
  schedule = base.schedule(spec)

  def error(predict, frozen, image, x_hat, quality, u, noise):
    predicted = prediction
    if prediction not in diffusion.PREDICTIONS:
      rmse = coder.rmse(frozen['autoencoder'], quality)
      predict = base.image_predictor(predict, spec, x_hat, rmse)
      predicted = 'x'
    return diffusion.loss(
      predict, image, noise, schedule.log_snr(u), predicted, weighting
    )

  return error


_STAGES = {
  'flow': _score_stage, 'diffusion': _score_stage, 'one_step': one_step.build
}


def build(
  config, autoencoder: bundle.Bundle | None = None
) -> stage_lib.Stage:
  """The stage that a config asks for.

  Args:
    config: from configs/.
    autoencoder: the bundle with the frozen autoencoder, for stage 2.

  Raises:
    ValueError: unknown stage, stage 2 without an autoencoder, or a field out
      of range.
  """
  if config.stage == 'autoencoder':
    return _autoencoder_stage(config)
  if config.stage not in _STAGES:
    raise ValueError(
      f'stage must be autoencoder, {", ".join(_STAGES)}, not '
      f'{config.stage!r}.'
    )
  if autoencoder is None:
    raise ValueError(
      f'Stage {config.stage!r} needs a trained autoencoder: set '
      '--config.autoencoder_from.'
    )
  return _STAGES[config.stage](config, autoencoder)
