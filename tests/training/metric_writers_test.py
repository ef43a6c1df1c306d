import builtins
import json
import sys

import jax
import numpy as np
import pytest

from gdc.training import metric_writers


def _rows(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture
def no_tensorflow(monkeypatch):
  """As where clu can't be imported, because TensorFlow isn't there."""
  found = builtins.__import__

  def without(name, *args, **kwargs):
    if name.partition('.')[0] in ('clu', 'tensorflow'):
      raise ImportError(f'No module named {name!r}')
    return found(name, *args, **kwargs)

  for name in list(sys.modules):
    if name.partition('.')[0] == 'clu':
      monkeypatch.delitem(sys.modules, name)
  monkeypatch.setattr(builtins, '__import__', without)


def test_scalars_are_lines_that_can_be_read_at_once(tmp_path, no_tensorflow):
  writer = metric_writers.MetricWriter(tmp_path / 'deep' / 'run')
  writer.scalars(1, {'loss': np.float32(0.5)})
  writer.scalars(2, {'loss': 0.25, 'bpp': 1})
  assert _rows(tmp_path / 'deep' / 'run') == [
    {'step': 1, 'loss': 0.5}, {'step': 2, 'loss': 0.25, 'bpp': 1.0}
  ]
  writer.close()


def test_without_tensorflow_lines_are_written_all_the_same(
  tmp_path, no_tensorflow
):
  writer = metric_writers.MetricWriter(tmp_path)
  writer.scalars(1, {'loss': 0.5})
  writer.images(1, {'x': np.zeros((1, 8, 8, 3))})
  writer.close()
  assert _rows(tmp_path) == [{'step': 1, 'loss': 0.5}]
  assert not (tmp_path / 'tensorboard').exists()


def test_resuming_drops_what_comes_after_and_half_a_line(
  tmp_path, no_tensorflow
):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    '{"step": 10, "loss": 3.0}\n'
    '{"step": 20, "loss": 2.0}\n'
    '{"step": 30, "loss": 1.0}\n'
    '{"step": 40, "lo'
  )
  writer = metric_writers.MetricWriter(tmp_path, resumed_step=20)
  writer.scalars(30, {'loss': 1.5})
  writer.close()
  assert [(r['step'], r['loss']) for r in _rows(tmp_path)] == [
    (10, 3.0), (20, 2.0), (30, 1.5)
  ]


def test_starting_anew_drops_every_line(tmp_path, no_tensorflow):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "loss": 3.0}\n')
  metric_writers.MetricWriter(tmp_path, resumed_step=0).close()
  assert _rows(tmp_path) == []


def test_only_process_0_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  writer = metric_writers.MetricWriter(tmp_path / 'run')
  writer.scalars(1, {'loss': 0.5})
  writer.images(1, {'x': np.zeros((1, 8, 8, 3))})
  writer.close()
  assert not (tmp_path / 'run').exists()


def test_tensorboard_has_the_scalars_and_pictures(tmp_path):
  pytest.importorskip('tensorflow')
  from tensorboard.backend.event_processing import event_accumulator
  writer = metric_writers.MetricWriter(tmp_path)
  writer.scalars(3, {'loss': 0.5})
  writer.images(3, {'flow': np.full((2, 8, 8, 3), 0.5, np.float32)})
  writer.close()
  events = event_accumulator.EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  tags = events.Tags()
  assert 'loss' in tags['tensors'] + tags['scalars']
  assert any('flow' in t for t in tags['tensors'] + tags['images'])
  assert {e.step for e in events.Tensors('loss')} == {3}
