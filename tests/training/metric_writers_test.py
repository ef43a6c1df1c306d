import json

import jax
import numpy as np

from gdc.training import metric_writers


def _rows(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_scalars_are_lines_that_can_be_read_at_once(tmp_path):
  writer = metric_writers.MetricWriter(tmp_path / 'deep' / 'run')
  writer.scalars(1, {'loss': np.float32(0.5)})
  writer.scalars(2, {'loss': 0.25, 'bpp': 1})
  assert _rows(tmp_path / 'deep' / 'run') == [
    {'step': 1, 'loss': 0.5}, {'step': 2, 'loss': 0.25, 'bpp': 1.0}
  ]
  writer.close()


def test_resuming_drops_what_comes_after_and_half_a_line(tmp_path):
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


def test_starting_anew_drops_every_line(tmp_path):
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


def test_tensorboard_has_the_scalars_and_images(tmp_path):
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
