"""Sweeps: every point can be run, and is found again on its axis."""
import importlib
import pathlib
import subprocess
import sys

import pytest

from gdc import decoders
from launch import sweep
from tools import points

ROOT = pathlib.Path(__file__).parents[1]
SWEEPS = sweep.SWEEPS


def _config(run):
  """The config that a run's command line stands for."""
  path, _, variant = run.config.partition(':')
  name = path.removesuffix('.py').replace('/', '.')
  config = importlib.import_module(name).get_config(variant)
  config.update_from_flattened_dict(run.overrides)  # raises on unknown fields
  return config


def test_every_module_is_a_sweep_that_is_launched_and_drawn():
  files = {p.stem for p in (ROOT / 'configs' / 'sweeps').glob('*.py')}
  assert files - {'base'} == set(SWEEPS) == set(points.SWEEPS)


@pytest.mark.parametrize('name', SWEEPS)
def test_every_point_is_a_decoder_that_exists(name):
  for run in SWEEPS[name].runs():
    config = _config(run)
    stage = config.stage
    decoders.DECODERS[stage](
      **config[stage].to_dict(), **config.sampling.to_dict()
    )


@pytest.mark.parametrize('name', SWEEPS)
def test_the_page_finds_each_point_where_it_belongs(name):
  layout = points.SWEEPS[name]
  runs = list(SWEEPS[name].runs())
  places = []
  for run in runs:
    record = _config(run).to_dict()
    assert layout.value(record) == run.value, run.name
    places.append((layout.series(record), run.value))
  assert len(set(places)) == len(places) == len(runs) > 3
  assert len({run.out for run in runs}) == len(runs)
  assert SWEEPS[name].AXIS in layout.varies
  # Beside what varies, all points of a stage set the same.
  rest = {
    (run.config, *(
      (k, v) for k, v in run.overrides.items() if k not in layout.varies
    ))
    for run in runs
  }
  assert len(rest) == len({run.config for run in runs})


def test_samples_are_of_runs_that_another_sweep_trains():
  trained = {
    run.workdir: run for module in SWEEPS.values() for run in module.runs()
    if run.mode == 'train'
  }
  assert len(trained) == 11  # six shifts, five sources
  for module in SWEEPS.values():
    for run in module.runs():
      if run.mode == 'eval':
        assert run.trained == trained[run.workdir]
        assert run.trained.overrides.items() - {
          ('sampling.grid', 'time')
        } <= run.overrides.items()


def test_steps_are_compared_at_equal_evaluations():
  by_name = {run.name: run for run in SWEEPS['steps'].runs()}
  assert by_name['flow-heun-8'].overrides['sampling.steps'] == 4
  assert by_name['flow-euler-8'].overrides['sampling.steps'] == 8
  assert 'flow-heun-1' not in by_name
  assert len(by_name) == 4 * 6 + 5


def test_sweeps_import_no_jax():
  code = (
    'import sys\nfrom launch import sweep\nsweep.main([])\n'
    'assert not {"jax", "gdc"} & set(sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
