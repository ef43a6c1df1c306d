"""A run, built but not started: what a config and a workdir stand for."""
import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from etils import epath

from gdc.codec import bundle, jax_settings
from gdc.data import device_cache, sources
from gdc.training import checkpoints, export, limits, sharding, stages
from gdc.training import state as train_state
from gdc.training.stages import base as stage_lib

CONFIG = 'config.json'  # beside a run's checkpoints
# The parts of a config that a trained network can not do without, or change.
_DECIDES = ('stage', 'autoencoder', 'score_net', 'flow', 'diffusion')
FROZEN = 'frozen'  # beside them: digests of the networks that it builds upon
# Of these, what only training looks at.
_MAY_CHANGE = {
  'flow': {'time_sampling', 'time_mean', 'time_std'},
  'diffusion': {'loss_weighting'},
}


@dataclasses.dataclass(frozen=True)
class Run:
  """All that a config stands for, built but not started.

  Attributes:
    stage: what is optimised.
    tx: the optimiser.
    schedule: step -> learning rate.
    mesh: of all devices.
    frozen: the stage's frozen parameters, on every device.
    data: the iterator that checkpoints keep the place of; None where batches
      depend on the step alone.
    batches: steps done -> an iterator of global batches; they begin where
      `data` is, if there is one.
    init: () -> TrainState, sharded.
    abstract_state: its shapes, with shardings.
  """

  stage: stage_lib.Stage
  tx: Any
  schedule: Any
  mesh: jax.sharding.Mesh
  frozen: Any
  data: Any
  batches: Any
  init: Any
  abstract_state: Any


def build(config: ml_collections.ConfigDict) -> Run:
  """Builds data, network, optimiser and shardings; trains nothing.

  Raises:
    ValueError: a field that is out of range or does not fit the others.
  """
  limits.check(config)

  # --- Mesh -----------------------------------------------------------------
  mesh = sharding.create_mesh(config.fsdp)
  if config.data.batch_size % mesh.size:
    raise ValueError(
      f'data.batch_size {config.data.batch_size} must be a multiple of the '
      f'{mesh.size} devices.'
    )

  # --- Network and state ----------------------------------------------------
  network = _network(config)
  frozen = jax.device_put(network.stage.frozen, sharding.replicated(mesh))
  shardings = sharding.parameters(network.shapes, mesh)

  # --- Data -----------------------------------------------------------------
  open_data = (_cached_data if config.data.cache_on_device else _host_data)(
    config, mesh
  )
  data, batches = open_data()

  def init():
    # Of its own: the training data starts at its first batch.
    _, first_batches = open_data()
    with jax.set_mesh(mesh):
      batch = next(first_batches(0))
    key = jax.random.key(config.seed)
    new = jax.jit(network.init, out_shardings=shardings)(key, batch)
    if config.init_from:
      exported = export.read_parameters(
        config.init_from, network.stage.warm_starts
      )
      start = network.stage.start(new.params, exported)
      # After it: what a stage adds to exported weights starts fresh.
      _check_same(
        network.stage.exported(start), network.stage.exported(new.params),
        config.init_from,
      )
      start = jax.device_put(start, shardings.params)
      copy = jax.device_put(start, shardings.params, may_alias=False)
      new = new.replace(params=start, ema_params=copy)
    return new

  return Run(
    stage=network.stage,
    tx=network.tx,
    schedule=network.schedule,
    mesh=mesh,
    frozen=frozen,
    data=data,
    batches=batches,
    init=init,
    abstract_state=_abstract(network.shapes, shardings),
  )


def _host_data(config, mesh):
  """() -> Run's data and batches, of a source that the host reads."""
  from gdc.data import pipeline  # late: grain and Pillow are not everywhere
  source = sources.build(config.data.source, config.data.data_dir or None)

  def open_data():
    iterator = pipeline.batches(
      source, **_drawing(config),
      rows=sharding.local_rows(mesh, config.data.batch_size),
    )
    return iterator, lambda first: (
      sharding.global_batch(batch, mesh) for batch in iterator
    )

  return open_data


def _cached_data(config, mesh):
  """() -> Run's data and batches, of a source that is on the devices."""
  source = sources.build(config.data.source, config.data.data_dir or None)
  batches = device_cache.batches(
    *device_cache.squares(source, config.data.cache_on_device, config.data.balance),
    **_drawing(config), whole=sharding.replicated(mesh),
    split=sharding.batch(mesh),
  )
  return lambda: (None, batches)


def _drawing(config) -> dict[str, Any]:
  """How batches are drawn, wherever that is."""
  return {
    'batch_size': config.data.batch_size,
    'crop': config.data.crop,
    'min_scale': config.data.min_scale,
    'seed': config.seed,
    'balance': config.data.balance,
  }


@dataclasses.dataclass(frozen=True)
class _Network:
  """The part of a Run that needs neither its data nor its devices."""

  stage: stage_lib.Stage
  tx: Any
  schedule: Any
  init: Any
  shapes: Any


def _network(config) -> _Network:
  try:
    return _build_network(config)
  except (ArithmeticError, AttributeError, LookupError, TypeError) as e:
    # Whatever is wrong with a network at this point its config asks for.
    raise ValueError(
      f'The networks of this config can not be built: {type(e).__name__}, {e}.'
    ) from e


def _build_network(config) -> _Network:
  autoencoder = None
  if config.stage != 'autoencoder' and config.get('autoencoder_from'):
    autoencoder = read_autoencoder(config.autoencoder_from)
  stage = stages.build(config, autoencoder)
  for quality in config.evaluation.qualities:
    if not 1 <= quality <= stage.num_levels:
      raise ValueError(
        f'evaluation.qualities must be from 1 to {stage.num_levels}, not '
        f'{quality}.'
      )
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
  shapes = jax.eval_shape(
    init,
    jax.random.key(0),
    {'image': jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)},
  )
  return _Network(stage, tx, schedule, init, shapes)


def _abstract(shapes, shardings):
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes, shardings,
  )


def _check_same(params, like, name):
  """Raises ValueError unless both are of one network."""
  def shapes(tree):
    return jax.tree.map(lambda a: tuple(a.shape), tree)
  if jax.tree.structure(params) != jax.tree.structure(like) or (
    shapes(params) != shapes(like)
  ):
    raise ValueError(
      f'init_from {name!r} holds another network than this config describes.'
    )


@jax_settings.defaults(debugging=True)
def restore(config: ml_collections.ConfigDict, workdir):
  """The stage, and of the newest whole checkpoint what a bundle keeps.

  Needs neither the data nor the devices that the run was trained with.

  Returns:
    stage: of the config.
    params: the averaged parameters, as the stage exports them, numpy.
    step: of the checkpoint.

  Raises:
    ValueError: workdir has no checkpoint, or one of another config.
  """
  network = _network(config)
  check_trained(config, workdir, frozen_digests(config, network.stage))
  whole = sharding.replicated(sharding.create_mesh())
  with checkpoints.opened(checkpoint_folder(workdir)) as store:
    shardings = jax.tree.map(lambda _: whole, network.shapes)
    step, state = store.restore(_abstract(network.shapes, shardings))
  params = network.stage.exported(state.ema_params)
  return network.stage, jax.device_get(params), step


def check(config: ml_collections.ConfigDict, workdir) -> None:
  """Finds what would stop a run, at little cost: no data, no compilation.

  Raises:
    ValueError: a field that is out of range or does not fit the others, or a
      workdir whose run was trained as something else.
  """
  limits.check(config)
  if config.data.cache_on_device:
    device_cache.check(
      config.data.cache_on_device, config.data.crop, config.data.min_scale
    )
  stage = _network(config).stage
  check_trained(config, workdir, frozen_digests(config, stage))


def frozen_digests(config, stage) -> dict[str, str]:
  """Digests of the networks that a stage is trained upon, by name."""
  if stage.autoencoder is None:
    return {}
  found = {'autoencoder': stage.autoencoder.digest}
  if config.stage == 'one_step' or (
    config.stage == 'flow' and config.flow.reflow_steps
  ):
    found['flow'] = stage.autoencoder.decoder_digests['flow']
  return found


def recorded(workdir) -> dict:
  """The config in a run's workdir; ValueError if that is damaged."""
  path = epath.Path(workdir) / CONFIG
  try:
    return dict(json.loads(path.read_text()))
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'{path} is damaged ({e}): copy it there again, or remove it to go on '
      'with the config that is asked for.'
    ) from e


def check_trained(config, workdir, frozen: dict[str, str] | None):
  """Raises ValueError where the run was trained as something else.

  Shapes alone do not tell: the same network may have been trained with other
  noise, or on another autoencoder.

  Args:
    config: that the run is to be gone on with, or read.
    workdir: of the run; a config that is not there is no error.
    frozen: of frozen_digests, with that config; None: not known.
  """
  path = epath.Path(workdir) / CONFIG
  if not path.exists():
    return
  trained = recorded(workdir)
  asked = json.loads(config.to_json_best_effort())
  names = list(_DECIDES)
  if FROZEN not in trained:  # of before digests were kept
    names.append('autoencoder_from')
  elif frozen is not None:
    asked[FROZEN] = frozen
    names.append(FROZEN)
  for name in names:
    before, now = trained.get(name), asked.get(name)
    if before and now and isinstance(now, dict):
      before, now = _comparable(name, before, now)
    if before == now:
      continue
    if isinstance(before, dict) and isinstance(now, dict):
      name, before, now = next(
        (f'{name}.{field}', before.get(field), now.get(field))
        for field in sorted({*before, *now})
        if before.get(field) != now.get(field)
      )
    if name.startswith(FROZEN):  # digests: as many digits as elsewhere
      before, now = (d[:8] if isinstance(d, str) else d for d in (before, now))
    raise ValueError(
      f'{workdir} was trained with {name} = {before}, not {now}: name another '
      '--workdir, or go on with what it was trained with.'
    )


def _comparable(name, before, now):
  """Sections of two configs, less what may change, with what one began with.

  A record may be from before there was a field.
  """
  began = {
    'autoencoder': {'predicted_channels': []},
    'diffusion': {'source_noise': now.get('source_noise')},
  }.get(name, {})
  return tuple(
    {k: v for k, v in (began | section).items()
     if k not in _MAY_CHANGE.get(name, ())}
    for section in (before, now)
  )


def read_config(workdir) -> ml_collections.ConfigDict:
  """What a run was started with.

  Raises:
    ValueError: it is not the workdir of a run.
  """
  record = epath.Path(workdir) / CONFIG
  if not record.exists():
    raise ValueError(f'{workdir} is not the workdir of a run: no {CONFIG}.')
  return ml_collections.ConfigDict(json.loads(record.read_text()))


def read_autoencoder(name: str) -> bundle.Bundle:
  """The frozen autoencoder of stage 2.

  Args:
    name: pretrained:NAME, a bundle folder, or workdir:PATH, the newest
      checkpoint of a stage-1 run, whose own config.json describes it. Paths
      may be of a bucket.
  """
  kind, _, path = name.partition(':')
  if kind != 'workdir':
    return export.read_bundle(name)
  config = read_config(path)
  stage, params, _ = restore(config, path)
  return export.bundle_of(stage, params, config.name)


def checkpoint_folder(workdir) -> str:
  """Where a run's checkpoints are."""
  return f'{str(workdir).rstrip("/")}/checkpoints'


def export_bundle(config, workdir, folder) -> tuple[pathlib.Path, int]:
  """Exports the newest checkpoint of a run as a bundle folder.

  All processes of a run call this together; process 0 writes.

  Returns:
    folder: of the bundle.
    step: of the checkpoint.
  """
  stage, params, step = restore(config, workdir)
  if jax.process_index() == 0:
    bundle.save(export.bundle_of(stage, params, config.name), folder)
  return pathlib.Path(folder), step
