"""Builds an experiment from a config: networks, optimizer, data, shardings."""
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from gdc import paths
from gdc.codec import bundle, jax_settings
from gdc.data import device_cache, pipeline, sources
from gdc.training import (
  checkpoints,
  contexts_step,
  export,
  limits,
  resume,
  sharding,
  stages,
)
from gdc.training import state as train_state
from gdc.training.stages import base as stage_lib


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that a config describes, ready to train.

  Attributes:
    stage: the networks and their loss.
    tx: the optimizer, an optax.GradientTransformation.
    schedule: maps a step to its learning rate.
    mesh: all devices.
    frozen: the stage's frozen parameters, replicated on every device.
    digests: names the networks that are trained upon, by their digests.
    data: the iterator whose position checkpoints keep; None if batches are a
      function of the step.
    batches: maps the number of steps done to an iterator of global batches;
      if there is `data`, it starts where that is.
    init: returns the initial TrainState, sharded.
    abstract_state: the TrainState's shapes, with shardings.
  """

  stage: stage_lib.Stage
  tx: Any
  schedule: Callable[[int], float]
  mesh: jax.sharding.Mesh
  frozen: Any
  digests: dict[str, str]
  data: Any
  batches: Callable[[int], Iterator]
  init: Callable[[], train_state.TrainState]
  abstract_state: train_state.TrainState


def build(config: ml_collections.ConfigDict) -> Experiment:
  """Builds an experiment; compiles nothing.

  Raises:
    ValueError: a field is out of range, or does not fit the others.
  """
  limits.check(config)
  mesh = sharding.create_mesh(config.fsdp)
  if config.data.batch_size % mesh.size:
    raise ValueError(
      f'data.batch_size {config.data.batch_size} must be a multiple of the '
      f'{mesh.size} devices.'
    )
  networks = build_networks(config)
  shardings = sharding.parameters(networks.shapes, mesh)
  open_data = _data(config, mesh)
  data, batches = open_data()

  def init():
    # From data of its own: the first batch is also the first to train on.
    _, first_batches = open_data()
    with jax.set_mesh(mesh):
      batch = next(first_batches(0))
    key = jax.random.key(config.seed)
    new = jax.jit(networks.init, out_shardings=shardings)(key, batch)
    if not config.init_from:
      return new
    start = jax.device_put(
      _read_start(config.init_from, networks.stage, new.params),
      shardings.params,
    )
    copy = jax.device_put(start, shardings.params, may_alias=False)
    return new.replace(params=start, ema_params=copy)

  return Experiment(
    stage=networks.stage,
    tx=networks.tx,
    schedule=networks.schedule,
    mesh=mesh,
    frozen=jax.device_put(networks.stage.frozen, sharding.replicated(mesh)),
    digests=frozen_digests(networks.stage),
    data=data,
    batches=batches,
    init=init,
    abstract_state=abstract(networks.shapes, shardings),
  )


# --- Data -------------------------------------------------------------------


def _data(config, mesh):
  """Returns a function that returns an Experiment's (data, batches)."""
  source = sources.build(config.data.source, config.data.data_dir or None)
  drawn = {
    'batch_size': config.data.batch_size,
    'crop': config.data.crop,
    'min_scale': config.data.min_scale,
    'transpose': config.data.transpose,
    'seed': config.seed,
    'balance': config.data.balance,
  }
  if side := config.data.cache_on_device:
    batches = device_cache.batches(
      *device_cache.squares(source, side, config.data.balance), **drawn,
      whole=sharding.replicated(mesh), split=sharding.batch(mesh),
    )
    return lambda: (None, batches)

  rows = sharding.local_rows(mesh, config.data.batch_size)

  def open_data():
    iterator = pipeline.batches(source, **drawn, rows=rows)
    return iterator, lambda first: (
      sharding.global_batch(batch, mesh) for batch in iterator
    )

  return open_data


# --- Networks ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Networks:
  """The part of an experiment that needs neither data nor devices.

  Attributes:
    stage: as in Experiment.
    tx: as in Experiment.
    schedule: as in Experiment.
    init: (key, batch) -> the initial TrainState.
    shapes: the TrainState's shapes.
  """

  stage: stage_lib.Stage
  tx: Any
  schedule: Callable[[int], float]
  init: Callable
  shapes: train_state.TrainState


def build_networks(config, autoencoder=None) -> Networks:
  """Builds networks and optimizer; takes or reads the frozen autoencoder."""
  o = config.optimizer
  schedule = train_state.learning_rate(
    o.learning_rate, config.steps, o.warmup_steps, o.decay_fraction
  )
  tx = train_state.optimizer(
    schedule, clip=o.clip, b2=o.b2, fast_factor=o.fast_factor
  )

  def init(key, batch):
    init_key, run_key = jax.random.split(key)
    return train_state.create(stage.init(init_key, batch), tx, run_key)

  crop = config.data.crop
  try:
    wanted = config.stage != 'autoencoder' and config.autoencoder_from
    if autoencoder is None and wanted:
      autoencoder = read_autoencoder(config.autoencoder_from)
    stage = stages.build(config, autoencoder)
    shapes = jax.eval_shape(
      init, jax.random.key(0),
      {'image': jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)},
    )
  except (ArithmeticError, AttributeError, LookupError, TypeError) as e:
    # Whatever flax or jax raise at this point, the config caused.
    raise ValueError(
      'The networks of this config cannot be built: '
      f'{type(e).__name__}, {e}.'
    ) from e
  for quality in config.evaluation.qualities:
    if not 1 <= quality <= stage.num_levels:
      raise ValueError(
        f'evaluation.qualities must be from 1 to {stage.num_levels}, not '
        f'{quality}.'
      )
  return Networks(stage, tx, schedule, init, shapes)


def abstract(shapes, shardings):
  """Returns a tree of shapes that carry their shardings."""
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes, shardings,
  )


def frozen_digests(stage: stage_lib.Stage) -> dict[str, str]:
  """Returns the digests of the networks that a stage is trained upon.

  Contexts do not count: they change files, and no image.
  """
  if stage.autoencoder is None:
    return {}
  networks = dataclasses.replace(stage.autoencoder, contexts=None)
  digests = stage.autoencoder.decoder_digests
  return {
    'autoencoder': networks.digest, **{n: digests[n] for n in stage.teachers}
  }


def _read_start(name: str, stage: stage_lib.Stage, params):
  """Returns parameters that start from a bundle's weights."""
  start = stage.start(params, export.read_parameters(name, stage.warm_starts))
  # What a stage adds to exported weights starts afresh, and always fits.
  found, expected = (
    jax.tree_util.tree_flatten(jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float32), stage.exported(tree)
    )) for tree in (start, params)
  )
  if found != expected:
    raise ValueError(
      f'init_from {name!r} holds another network than this config describes.'
    )
  return start


# --- Trained runs -----------------------------------------------------------


@jax_settings.defaults(debugging=True)
def restore(config: ml_collections.ConfigDict, workdir):
  """Restores the trained parameters of a run's newest whole checkpoint.

  Needs neither the data nor the devices that the run was trained with.

  Returns:
    stage: of the config.
    params: the averaged parameters, as the stage exports them, numpy.
    step: of the checkpoint.

  Raises:
    ValueError: workdir has no checkpoint, or one of another config.
  """
  networks = build_networks(config)
  resume.check(config, workdir, frozen_digests(networks.stage))
  whole = sharding.replicated(sharding.create_mesh())
  with checkpoints.opened(workdir) as store:
    shardings = jax.tree.map(lambda _: whole, networks.shapes)
    step, state = store.restore(abstract(networks.shapes, shardings))
  params = networks.stage.exported(state.ema_params)
  return networks.stage, jax.device_get(params), step


def restore_bundle(
  config: ml_collections.ConfigDict, workdir
) -> tuple[bundle.Bundle, int | None]:
  """Returns the bundle of a run, without contexts that are to be fitted.

  Returns:
    bundle: of the newest checkpoint; to fit contexts, that of autoencoder_from.
    step: of the checkpoint; None without one.

  Raises:
    ValueError: see restore.
  """
  if config.stage == 'contexts':
    resume.check(config, workdir, {})
    return read_autoencoder(config.autoencoder_from), None
  stage, params, step = restore(config, workdir)
  return export.bundle_of(stage, params, config.name), step


def read_autoencoder(name: str) -> bundle.Bundle:
  """Reads the frozen autoencoder of stage 2.

  Args:
    name: pretrained:NAME, a bundle folder, or workdir:PATH for the newest
      checkpoint of a stage-1 run, which its own config.json describes; with
      the contexts that were fitted to it, if they were. Paths may be in a
      bucket.
  """
  kind, _, path = name.partition(':')
  if kind != 'workdir':
    return export.read_bundle(name)
  path = paths.expand(path)
  config = ml_collections.ConfigDict(resume.read(path))
  stage, params, _ = restore(config, path)
  found = export.bundle_of(stage, params, config.name)
  return contexts_step.kept(found, path) or found


def with_contexts(
  config: ml_collections.ConfigDict, bundle: bundle.Bundle, workdir,
  fit: bool = True,
) -> bundle.Bundle:
  """Returns an autoencoder's bundle with contexts.

  The step that only fits contexts also records its config in the workdir.

  Args:
    config: of stage 1, or of the step that fits contexts.
    bundle: of the autoencoder.
    workdir: whose bundle may have contexts of the same autoencoder.
    fit: whether to fit them again although the workdir has some.

  Raises:
    ValueError: see contexts_step.add; or the step is not to fit, and the
      workdir has no contexts.
  """
  if not fit:
    if found := contexts_step.kept(bundle, workdir):
      return found
    if config.stage == 'contexts':
      raise ValueError(
        f'{workdir} has no contexts of this autoencoder: --mode=train fits '
        'them.'
      )
  found = contexts_step.add(
    bundle, contexts_step.Settings(
      config.data.source, config.contexts.max_crops, config.contexts.crop,
      config.seed,
    ), config.data.data_dir or None,
  )
  if config.stage == 'contexts':
    resume.write(config, workdir, {})
  return found
