"""A codec inside other programs: threads, forks, pickles, settings of JAX."""
import concurrent.futures
import contextlib
import copy
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdc
from gdc.codec import bundle, codec, loading, networks, programs

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'python.md'
TILES = {
  'autoencoder_tile': (96, 96), 'score_tile': (96, 96), 'score_block': None,
}
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.fixture(scope='module')
def tiny(tiny_bundle):
  return codec.Codec(tiny_bundle, **TILES)


def _results(tiny, image=IMAGE):
  data = tiny.compress(image, lossless='never')
  return data, *(
    tiny.decompress(data, decoder).tobytes() for decoder in ('mse', 'flow')
  )


@pytest.fixture(scope='module')
def expected(tiny):
  return _results(tiny)


def _run(script, *arguments):
  return subprocess.run(
    [sys.executable, script, *map(str, arguments)], capture_output=True,
    text=True, check=False,
    env=os.environ | {'PYTHONPATH': ':'.join(p for p in sys.path if p)},
  )


# --- Threads ----------------------------------------------------------------


def test_first_calls_of_eight_threads(tiny_bundle, expected, monkeypatch):
  """Of one codec and of others: compiled once, computed one at a time."""
  compile_, compiled = programs._compile, []
  monkeypatch.setattr(programs, '_in_use', {})
  monkeypatch.setattr(
    programs, '_compile', lambda *a: compiled.append(a) or compile_(*a)
  )
  inside, most = [], []
  for name in ('analyse', 'synthesise', 'sample'):
    method = getattr(networks.Networks, name)

    def counted(*arguments, method=method, **options):
      inside.append(1)
      most.append(len(inside))
      result = method(*arguments, **options)
      inside.pop()
      return result
    monkeypatch.setattr(networks.Networks, name, counted)

  shared = codec.Codec(tiny_bundle, **TILES)
  start = threading.Barrier(8)

  def work(i):
    start.wait()
    mine = shared if i % 2 else codec.Codec(tiny_bundle, **TILES)
    return _results(mine, IMAGE if i % 4 else IMAGE[::-1])

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(work, range(8)))
  assert len(compiled) == 4  # analyse, pixels, synthesise, flow
  assert len(most) == 8 * 4 and max(most) == 1
  other = _results(shared, IMAGE[::-1])
  assert found == [expected if i % 4 else other for i in range(8)]


def test_devices_that_are_not_shared_are_not_waited_for():
  """Accelerators have turns of their own; the CPU's devices are one."""
  one, other = (
    networks.runner.Runner([jax.devices()[n]]) for n in (0, 1)
  )

  def waits(other, seconds=0.1):
    entered = threading.Event()

    def enter():
      with other.turn():
        entered.set()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, one.turn():
      pool.submit(enter)
      return not entered.wait(seconds)

  assert waits(one) and waits(other)
  one.platform = other.platform = 'tpu'
  assert waits(one) and not waits(other, seconds=60)


# --- Forks ------------------------------------------------------------------

_FORKS = '''
import io, os, pickle, signal, sys, threading, warnings
import numpy as np
import gdc
from gdc.codec import bundle, loading, codec as codec_lib
warnings.simplefilter('ignore')

def forked(function):
  """What it returns in a forked child, or its error; '' if that hangs."""
  reader, writer = os.pipe()
  child = os.fork()
  if not child:
    signal.alarm(60)
    try:
      said = str(function())
    except RuntimeError as e:
      said = f'refused: {e}'
    os.write(writer, said.encode())
    os._exit(0)
  os.close(writer)
  with open(reader) as f:
    said = f.read()
  os.waitpid(child, 0)
  return said

path, image = sys.argv[1], np.arange(720, dtype=np.uint8).reshape(12, 20, 3)
codec = gdc.load(path)

# Before JAX is used, with a lock that another thread holds.
held, done = threading.Event(), threading.Event()
def hold():
  with loading._lock:
    held.set()
    done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
print(forked(lambda: codec.compress(image, lossless="never").hex()))
print(forked(
  lambda: loading.load_once(path).compress(image, lossless="never").hex()
))
done.set()
thread.join()

data = codec.compress(image, lossless="never")
print(data.hex())
import gdc.pillow
from PIL import Image
gdc.pillow.GdcImageFile.model = path
opened = Image.open(io.BytesIO(data))
sent = [pickle.dumps(c) for c in (codec, codec_lib.Codec(codec.bundle))]
for pickled in sent:  # a pool would wait for a worker that this ends
  assert "_Forked" in forked(lambda: type(pickle.loads(pickled)))
for use in (
  lambda: pickle.loads(sent[0]).compress(image),
  lambda: pickle.loads(sent[1]).decompress(data),
  lambda: codec.compress(image), lambda: codec.decompress(data, 'mse'),
  lambda: codec.encode(image, 3), lambda: gdc.load(path),
  lambda: codec_lib.Codec(codec.bundle), opened.load,
  lambda: opened.save(io.BytesIO(), 'GDC'),
  lambda: forked(lambda: codec.compress(image)),
):
  said = forked(use)
  assert said.startswith('refused: ') and 'spawn' in said, (use, said)
# What needs no JAX is done, and the parent goes on.
print(forked(lambda: codec.read(data)[0].shape))
print(codec.compress(image, lossless="never").hex())
'''


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='without fork')
def test_forked_children_work_before_and_refuse_after(
  tiny_bundle_path, tmp_path
):
  (tmp_path / 'forks.py').write_text(_FORKS)
  done = _run(tmp_path / 'forks.py', tiny_bundle_path)
  assert not done.returncode, done.stderr
  before, other, data, shape, after = done.stdout.split('\n')[:-1]
  assert before == other == data == after and shape == '(1, 2, 24)'


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='without fork')
def test_a_child_that_imports_gdc_after_the_fork_refuses(tmp_path):
  (tmp_path / 'late.py').write_text('''
import os, signal, warnings
import jax
warnings.simplefilter('ignore')
jax.devices()
if not os.fork():
  signal.alarm(60)
  import gdc
  try:
    gdc.load('lean')
  except RuntimeError as e:
    print(e, flush=True)
  os._exit(0)
os.wait()
import gdc.codec.forks
gdc.codec.forks.check()  # the parent is none
''')
  done = _run(tmp_path / 'late.py')
  assert not done.returncode, done.stderr
  assert 'forked after its parent had started JAX' in done.stdout


# --- Pickles ----------------------------------------------------------------


def test_a_loaded_codec_is_pickled_as_its_path(
  tiny_bundle_path, tmp_path, monkeypatch
):
  folder = shutil.copytree(tiny_bundle_path, tmp_path / 'model')
  monkeypatch.chdir(tmp_path)
  pickled = pickle.dumps(gdc.load('model').compress)
  assert len(pickled) < 1000
  monkeypatch.chdir('/')
  one, two = pickle.loads(pickled), pickle.loads(pickled)
  assert one.__self__ is two.__self__ is copy.deepcopy(one.__self__)
  assert one.__self__.digest == gdc.load(folder).digest
  assert pickle.loads(pickle.dumps(gdc.load('lean', False)))._origin[1][:2] == (
    'lean', False
  )
  # Another model in its place is not taken for it.
  loading._cached.cache_clear()
  changed = bundle.load(folder)
  del changed.decoders['flow']
  bundle.save(changed, folder)
  with pytest.raises(bundle.BundleError, match='changed since .* pickled'):
    pickle.loads(pickled)


def test_another_codec_is_pickled_with_its_weights(tiny, expected, monkeypatch):
  monkeypatch.setattr(programs, '_compile', None)  # nothing is compiled again
  for same in (
    pickle.loads(pickle.dumps(tiny)), copy.copy(tiny), copy.deepcopy(tiny),
  ):
    assert same.digest == tiny.digest and _results(same) == expected


def test_the_documented_programs_run(tiny_bundle_path, tmp_path):
  """Those of docs/python.md: here, and with workers made by spawn."""
  here, workers = (
    block.replace("'lean'", repr(str(tiny_bundle_path)))
    for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
  )
  names = {}
  exec(here, names)
  assert names['back'].shape == names['image'].shape
  (tmp_path / 'workers.py').write_text(workers)
  done = _run(tmp_path / 'workers.py')
  assert not done.returncode, done.stderr
  assert done.stdout.count('(48, 64, 3)') == 4
  # What one of them compiled is there for the others.
  assert any(pathlib.Path(os.environ['GDC_CACHE_DIR'], 'programs').iterdir())


# --- Settings of JAX --------------------------------------------------------

STRICT = {
  'check_tracer_leaks': True, 'debug_infs': True, 'debug_key_reuse': True,
  'debug_nans': True, 'default_matmul_precision': 'bfloat16',
  'default_prng_impl': 'rbg', 'disable_jit': True, 'enable_checks': True,
  'enable_custom_prng': True, 'enable_x64': True, 'legacy_prng_key': 'error',
  'no_execution': True, 'no_tracing': True, 'numpy_dtype_promotion': 'strict',
  'numpy_rank_promotion': 'raise', 'random_seed_offset': 7,
  'threefry_partitionable': False,
  'transfer_guard_device_to_host': 'disallow_explicit',
  'transfer_guard_host_to_device': 'disallow_explicit',
}


@contextlib.contextmanager
def _set(**settings):
  """Sets these of jax for all threads, and puts them back."""
  before = {name: getattr(jax.config, f'jax_{name}') for name in settings}
  for name, value in settings.items():
    jax.config.update(f'jax_{name}', value)
  try:
    yield
  finally:
    for name, value in before.items():
      jax.config.update(f'jax_{name}', value)


@pytest.mark.parametrize('name', STRICT)
def test_no_setting_of_jax_changes_a_result(tiny, expected, name):
  with _set(**{name: STRICT[name]}):
    assert _results(tiny) == expected
    assert getattr(jax.config, f'jax_{name}') == STRICT[name]


def test_nor_do_all_together_where_it_is_compiled(
  tiny_bundle, expected, monkeypatch
):
  monkeypatch.setattr(programs, '_in_use', {})
  with _set(**STRICT):
    assert _results(codec.Codec(tiny_bundle, **TILES)) == expected


def test_contexts_of_the_caller_come_back(tiny, expected):
  mesh = jax.make_mesh((2,), ('x',), devices=jax.devices()[:2])
  with jax.set_mesh(mesh):
    assert _results(tiny) == expected
    assert jax.sharding.get_mesh() == mesh
  device = jax.devices()[3]
  with jax.default_device(device), jax.debug_nans(True):
    assert _results(tiny) == expected
    assert jnp.ones(1).devices() == {device}
    with pytest.raises(FloatingPointError):
      jnp.log(-jnp.ones(1))
  array = jnp.ones(2)
  with jax.transfer_guard('disallow'):
    assert _results(tiny) == expected
    with pytest.raises(Exception, match='[Dd]isallowed.*transfer'):
      array + np.ones(2)
