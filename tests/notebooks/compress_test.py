"""The notebook runs from top to bottom, and is stored without outputs."""
import copy
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / 'notebooks' / 'compress.ipynb'
SECONDS = 300

nbclient = pytest.importorskip('nbclient')
nbformat = pytest.importorskip('nbformat')


def _read():
  return nbformat.read(NOTEBOOK, as_version=4)


def test_is_valid_and_stored_without_outputs():
  notebook = _read()
  nbformat.validate(notebook)
  for cell in notebook.cells:
    if cell.cell_type == 'code':
      assert cell.outputs == [] and cell.execution_count is None


def _append_own_photograph(notebook, path):
  """Adds the last cell once more, with a user's image in it."""
  pixels = np.arange(40 * 64 * 4, dtype=np.uint8).reshape(40, 64, 4)
  Image.fromarray(pixels).save(path)  # RGBA, as many screenshots are
  cell = copy.deepcopy(next(c for c in notebook.cells if c.id == 'own'))
  assert cell.source.count("PHOTOGRAPH = ''") == 1
  cell.source = cell.source.replace(
    "PHOTOGRAPH = ''", f'PHOTOGRAPH = {str(path)!r}'
  )
  cell.id = 'own-set'
  notebook.cells.append(cell)


def test_runs_on_cpu(monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, paths)))
  notebook = _read()
  _append_own_photograph(notebook, tmp_path / 'mine.png')
  nbclient.NotebookClient(
    notebook,
    timeout=SECONDS,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  ).execute()

  text = {}
  images = {}
  for cell in notebook.cells:
    outputs = cell.get('outputs', [])
    text[cell.id] = ''.join(o.text for o in outputs if 'text' in o)
    images[cell.id] = sum('image/png' in o.get('data', {}) for o in outputs)
  bpps = [float(b) for b in re.findall(r'([\d.]+) bpp', text['compress'])]
  assert len(bpps) == 2 and 0 < bpps[0] < bpps[1] < 8
  assert images['decode'] == 2
  # A JPEG is shown at both qualities, with a remark if it is larger.
  assert images['jpeg'] == 2
  sizes = re.findall(r'gdc (\d+) .*JPEG (\d+)', text['jpeg'])
  larger = sum(int(theirs) > int(ours) for ours, theirs in sizes)
  assert len(sizes) == 2
  assert text['jpeg'].count('no JPEG is that small') == larger
  assert 'nothing to do' in text['own']
  size = int(re.match(r'(\d+) bytes', text['own-set']).group(1))
  assert images['own-set'] == 1
  assert (tmp_path / 'photograph.gdc').stat().st_size == size
