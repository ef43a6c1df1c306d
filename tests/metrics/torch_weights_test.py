"""Files of torch, written here byte by byte, since torch isn't at hand."""
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from gdc.metrics import torch_weights

# --- Pickles, by opcodes ----------------------------------------------------


def _name(module, name):
  return f'c{module}\n{name}\n'.encode()


def _text(text):
  return b'X' + struct.pack('<I', len(text)) + text.encode()


def _tuple(*items):
  return b'(' + b''.join(items) + b't'


def _numbers(*values):
  return _tuple(*(b'J' + struct.pack('<i', v) for v in values))


def _storage(key, kind, module='torch'):
  return _tuple(
    _text('storage'), _name(module, kind), _text(key), _text('cpu'), b'K\x00'
  ) + b'Q'


def _tensor(storage, offset, shape, strides):
  hooks = _name('collections', 'OrderedDict') + b')R'
  return _name('torch._utils', '_rebuild_tensor_v2') + _tuple(
    storage, b'J' + struct.pack('<i', offset), _numbers(*shape),
    _numbers(*strides), b'\x89', hooks,
  ) + b'R'


def _pickle(obj):
  return b'\x80\x02' + obj + b'.'


def _dict(**items):
  pairs = b''.join(_text(name) + value for name, value in items.items())
  return _pickle(_name('collections', 'OrderedDict') + b')R(' + pairs + b'u')


# --- Files ------------------------------------------------------------------

A = np.arange(12, dtype='<f4') / 3
B = np.array([7, -9], '<i8')
C = np.array([0.5, 1.5], '<f2')
TENSORS = _dict(
  whole=_tensor(_storage('0', 'FloatStorage'), 0, (3, 4), (4, 1)),
  part=_tensor(_storage('0', 'FloatStorage'), 2, (4, 2), (1, 4)),
  count=_tensor(_storage('1', 'LongStorage'), 1, (), ()),
  half=_tensor(_storage('2', 'HalfStorage'), 0, (2,), (1,)),
)
BUFFERS = {'0': A, '1': B, '2': C}


def _write_zip(path, tensors=TENSORS):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('any/data.pkl', tensors)
    archive.writestr('any/version', '3\n')
    for key, array in BUFFERS.items():
      archive.writestr(f'any/data/{key}', array.tobytes())
  return path


def _write_older(path, tensors=TENSORS):
  parts = [
    pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2),
    pickle.dumps({'little_endian': True}, 2), tensors,
    pickle.dumps(list(BUFFERS), 2),
  ]
  for array in BUFFERS.values():
    parts += [struct.pack('<q', len(array)), array.tobytes()]
  path.write_bytes(b''.join(parts))
  return path


both = pytest.mark.parametrize('write', [_write_zip, _write_older])


@both
def test_views_are_read_as_torch_would(write, tmp_path):
  found = torch_weights.load(write(tmp_path / 'w.pth'))
  expected = {
    'whole': A.reshape(3, 4),
    'part': np.array([[2, 6], [3, 7], [4, 8], [5, 9]], '<f4') / 3,
    'count': np.array(-9, '<i8'),
    'half': C,
  }
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array, strict=True)


def test_safetensors_hold_the_same(tmp_path):
  path = tmp_path / 'w.safetensors'
  safetensors.numpy.save_file({'a.b': A.reshape(3, 4)}, path)
  found = torch_weights.load(path)
  np.testing.assert_array_equal(found['a.b'], A.reshape(3, 4), strict=True)


@both
@pytest.mark.parametrize('module,name', [
  ('os', 'system'), ('builtins', 'eval'), ('torch', 'load'),
  ('torch', 'ComplexFloatStorage'), ('collections', 'deque'),
])
def test_nothing_else_may_be_named(write, module, name, tmp_path):
  marker = tmp_path / 'ran'
  code = _pickle(
    _name(module, name) + _tuple(_text(f'touch {marker}')) + b'R'
  )
  with pytest.raises(ValueError, match=rf'w\.pth.*names {module}\.{name}'):
    torch_weights.load(write(tmp_path / 'w.pth', code))
  assert not marker.exists()


@both
@pytest.mark.parametrize('tensors,reason', [
  (_dict(a=_tensor(_storage('0', 'FloatStorage'), 1, (3, 4), (4, 1))), ''),
  (_dict(a=_tensor(_storage('0', 'FloatStorage'), -1, (2,), (1,))), ''),
  (_dict(a=_tensor(_storage('9', 'FloatStorage'), 0, (2,), (1,))), ''),
  (_dict(a=_tensor(b'K\x07', 0, (2,), (1,))), 'without a storage'),
  (_dict(a=_text('no tensor')), 'a dict of tensors alone'),
  (_pickle(_text('no dict')), 'a dict of tensors alone'),
  (_pickle(_text('module') + b'Q'), 'a storage is expected'),
], ids=[
  'beyond', 'before', 'absent', 'without', 'text', 'top', 'module',
])
def test_what_does_not_fit_is_refused(write, tensors, reason, tmp_path):
  with pytest.raises(ValueError, match=f'not a readable file.*{reason}'):
    torch_weights.load(write(tmp_path / 'w.pth', tensors))


@pytest.mark.parametrize('name,write', [
  ('w.pth', _write_zip), ('w.pth', _write_older),
  ('w.safetensors', lambda path: (
    safetensors.numpy.save_file({'a': A}, path), path)[1]),
])
def test_every_cut_is_refused(name, write, tmp_path):
  path = write(tmp_path / name)
  whole = path.read_bytes()
  for size in range(0, len(whole), 7):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match='not a readable file of weights'):
      torch_weights.load(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match='absent.pth is not a file'):
    torch_weights.load(tmp_path / 'absent.pth')
