"""Studies: resumed, shared among processes, and added up exactly."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from gdc.codec import codec as codec_lib
from gdc.evaluation import baselines, overview, study, tables, workers
from gdc.metrics import frechet, patch_features

encode = baselines.encode

CODECS = ('gdc:mse', 'gdc:flow@1', 'jpeg', 'jpeg=gdc')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Five small images, of two sizes."""
  folder = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for i in range(5):
    coarse = rng.integers(0, 256, (4, 4 + i % 2, 3), np.uint8)
    image = Image.fromarray(coarse).resize((64 + 64 * (i % 2), 64))
    image.save(folder / f'photo{i}.png')
  return sorted(folder.iterdir())


@pytest.fixture(scope='module')
def codec(tiny_bundle):
  return codec_lib.Codec(
    tiny_bundle, autoencoder_tile=(64, 128), score_tile=(64, 128),
    score_block=None,
  )


@pytest.fixture(autouse=True)
def load_once(monkeypatch, codec):
  """Studies of this process share a codec of small tiles."""
  monkeypatch.setattr(study.loading, 'load', lambda path: codec)


@pytest.fixture
def plan(photos, tiny_bundle_path, tmp_path):
  return study.Plan(
    photos, CODECS, tmp_path / 'out', str(tiny_bundle_path), (1.0, 6.0),
    (6.0,), ('psnr', 'lpips'), None,
  )


class _MeanColours:
  """Features that are quick: the mean colour of a patch."""

  network = 'vgg16'
  digest = 'digest'

  def __call__(self, patches):
    return patches.mean((1, 2)).astype(np.float32)


@pytest.fixture
def patches(monkeypatch):
  """Patches of 16 pixels, and features that are quick."""
  def cut(image):
    rows, columns = (n // 16 for n in image.shape[:2])
    blocks = image[:16 * rows, :16 * columns].reshape(rows, 16, columns, 16, 3)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(-1, 16, 16, 3)

  monkeypatch.setattr(
    study, '_extractor', lambda features: features and _MeanColours()
  )
  monkeypatch.setattr(patch_features, 'patches', cut)


def _run(plan, **how):
  made = study.Study(plan)
  workers.run(made, **how)
  return made


def _figures(made):
  """Results without times and dates, which differ from run to run."""
  found = {}
  for label, result in made.results().items():
    means = {k: v for k, v in result['results'].items() if 'time' not in k}
    rows = [
      {k: v for k, v in row.items() if 'seconds' not in k}
      for row in result['images']
    ]
    found[label] = means, rows
  return found


def test_results_and_progress(plan):
  rows = []
  made = _run(plan, on_row=rows.append)
  assert len(rows) == 5 * len(made.rows)
  results = made.results()
  assert list(results) == list(CODECS)
  mse, flow, jpeg, matched = results.values()
  assert mse['meta']['num_images'] == 5
  assert mse['results']['bpp'] == flow['results']['bpp']
  assert [row['name'] for row in mse['images'][::2]] == [
    path.stem for path in plan.paths
  ]
  for own, other in zip(mse['images'][1::2], matched['images'], strict=True):
    assert own['quality'] == other['quality'] == 6.0
  assert len(jpeg['results']['quality']) >= 5


def test_a_second_run_does_nothing_again(plan, monkeypatch):
  first = _run(plan)
  monkeypatch.setattr(
    study.coding, 'versions', lambda *_, **__: pytest.fail('made again')
  )
  rows = []
  second = _run(
    plan, on_row=lambda row, skipped: rows.append((row, skipped))
  )
  assert all(skipped for _, skipped in rows)
  assert len(rows) == 5 * len(second.rows)
  assert second.results().keys() == first.results().keys()
  assert _figures(second) == _figures(first)
  # Times are those of the first run, too.
  assert [r['images'] for r in second.results().values()] == [
    r['images'] for r in first.results().values()
  ]


def test_a_killed_run_goes_on_and_only_what_changes_is_made(
  plan, monkeypatch
):
  class Killed(BaseException):
    pass

  made, kills = [], [('photo3', 'jpeg')]
  measure = study.Study._measure

  def spy(self, index, image, group, *args):
    labels = [coder.label for coder, _ in group]
    if (self.names[index], labels[0]) in kills:
      raise Killed
    made.append((self.names[index], labels))
    measure(self, index, image, group, *args)

  monkeypatch.setattr(study.Study, '_measure', spy)
  with pytest.raises(Killed):
    _run(plan)
  assert made[-2:] == [
    ('photo2', ['jpeg=gdc']), ('photo3', ['gdc:mse', 'gdc:flow@1']),
  ]
  del made[:], kills[:]
  _run(plan)
  # What the killed one had of the fourth image is not made again.
  assert made[:3] == [
    ('photo3', ['jpeg']), ('photo3', ['jpeg=gdc']),
    ('photo4', ['gdc:mse', 'gdc:flow@1']),
  ]
  del made[:]
  _run(plan._replace(codecs=(*CODECS, 'webp')))
  assert made == [(path.stem, ['webp']) for path in plan.paths]
  del made[:]
  _run(plan._replace(qualities=(2.0,)))
  assert made[0] == ('photo0', ['gdc:mse', 'gdc:flow@1'])


def test_a_measure_that_is_added_is_all_that_is_measured(
  plan, patches, monkeypatch
):
  plan = plan._replace(codecs=('gdc:mse', 'jpeg'), matched=())
  _run(plan._replace(metrics=('psnr',)))
  before = _run(plan._replace(metrics=('psnr',))).results()
  asked = []
  measure = study.Study._measure

  def spy(self, index, image, group, lacking, *args):
    asked.append((group[0][0].label, lacking))
    measure(self, index, image, group, lacking, *args)

  monkeypatch.setattr(study.Study, '_measure', spy)
  _run(plan)
  assert set(asked) == {('gdc:mse', ('lpips',)), ('jpeg', ('lpips',))}
  del asked[:]
  after = _run(plan._replace(features='vgg16')).results()
  assert set(asked) == {
    ('gdc:mse', ('features',)), ('jpeg', ('features',))
  }
  row = after['jpeg']['images'][0]
  assert list(row)[-4:] == [
    'psnr', 'lpips', 'encode_seconds', 'decode_seconds',
  ]
  # What was there is as it was, times and all.
  for label in before:
    assert [
      {k: v for k, v in row.items() if k != 'lpips'}
      for row in after[label]['images']
    ] == before[label]['images']
  # The one from scratch is the same.
  whole = _run(
    plan._replace(features='vgg16', out=plan.out / 'scratch')
  )
  grown = _run(plan._replace(features='vgg16'))
  assert _figures(whole) == _figures(grown)


def test_files_that_differ_from_those_of_another_machine_are_made_anew(
  plan, monkeypatch
):
  plan = plan._replace(codecs=('jpeg',), matched=(), metrics=('psnr',))
  _run(plan)
  monkeypatch.setattr(
    study.codecs.baselines, 'encode',
    lambda name, image, quality: encode(name, image, max(0, quality - 1)),
  )
  results = _run(plan._replace(metrics=('psnr', 'lpips'))).results()
  monkeypatch.undo()
  fresh = _run(plan._replace(out=plan.out / 'fresh')).results()
  rows, others = results['jpeg']['images'], fresh['jpeg']['images']
  assert [row['bytes'] for row in rows] != [row['bytes'] for row in others]
  # No row has figures of two files.
  for row, other in zip(rows, others, strict=True):
    assert row['lpips'] is not None
    if row['bytes'] != other['bytes']:
      assert row['psnr'] != other['psnr']


def test_shards_add_up_to_the_whole_to_the_last_bit(plan, patches, tmp_path):
  plan = plan._replace(features='vgg16', codecs=('gdc:mse', 'jpeg'), matched=())
  whole = _run(plan)
  parts = plan._replace(out=tmp_path / 'parts')
  _run(parts, shard=(2, 3))
  last = _run(parts, shard=(0, 3))
  with pytest.raises(ValueError, match='through 2 of 5'):
    last.results()
  _run(parts, shard=(1, 3))
  assert _figures(last) == _figures(whole)


def test_set_level_measures_are_of_all_patches_at_once(plan, patches):
  plan = plan._replace(features='vgg16', codecs=('jpeg',), matched=())
  made = _run(plan)
  (result,) = made.results().values()
  assert result['meta']['features'] == 'FD-VGG16/256'
  assert result['meta']['num_patches'] == 3 * 4 * 4 + 2 * 4 * 8
  # That of equal images is no 0, and the scale's own.
  assert result['meta']['kid_of_equal_sets'] < 0
  fd = result['results']['fd-vgg16-256']
  assert fd[0] > fd[-1] > 0
  (coder,) = made.coders
  real, decoded = [], []
  for path in plan.paths:
    image = np.asarray(Image.open(path).convert('RGB'))
    real.append(made.extractor(patch_features.patches(image)))
    data = coder.encode(image, coder.qualities[0])
    decoded.append(made.extractor(patch_features.patches(coder.decode(data))))
  real, decoded = np.concatenate(real), np.concatenate(decoded)
  assert fd[0] == pytest.approx(frechet.distance(real, decoded))
  assert result['results']['kid-vgg16-256'][0] == pytest.approx(
    frechet.kid(real, decoded)
  )


def test_processes_of_one_machine_make_what_one_makes(plan):
  plan = plan._replace(codecs=('gdc:mse', 'jpeg'), matched=())
  rows = []
  shared = _run(
    plan._replace(out=plan.out / 'shared'), jobs=2, on_row=rows.append
  )
  assert len(rows) == 5 * len(shared.rows)
  alone = _run(plan._replace(out=plan.out / 'alone'))
  shared, alone = _figures(shared), _figures(alone)
  assert shared['jpeg'] == alone['jpeg']
  # A process with one thread may add in another order inside a network.
  assert shared['gdc:mse'][0]['bpp'] == alone['gdc:mse'][0]['bpp']
  np.testing.assert_allclose(
    shared['gdc:mse'][0]['psnr-rgb'], alone['gdc:mse'][0]['psnr-rgb'],
    rtol=1e-4,
  )


_HOST = """
import sys
import jax
from gdc.cli import main
port, rank = sys.argv[1:3]
initialize = jax.distributed.initialize
jax.distributed.initialize = lambda **how: initialize(
  f'localhost:{port}', 2, int(rank), **how
)
sys.exit(main.main(sys.argv[3:]))
"""


def test_hosts_share_the_images(plan, tmp_path):
  """Two processes of jax.distributed, as on two hosts of a pod."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  out = tmp_path / 'hosts'
  arguments = [
    'eval', plan.paths[0].parent, '--out', out, '--codecs', 'gdc:mse,jpeg',
    '--qualities', '1,6', '--equal-bytes', '', '--measures', 'psnr,lpips',
    '--model', plan.model, '--distributed',
  ]
  hosts = [
    subprocess.Popen(
      [sys.executable, '-c', _HOST, port, str(rank), *map(str, arguments)],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {
        'JAX_PLATFORMS': 'cpu', 'JAX_NUMPY_RANK_PROMOTION': 'raise',
        'JAX_NUMPY_DTYPE_PROMOTION': 'strict', 'JAX_TRANSFER_GUARD': 'disallow',
      },
    )
    for rank in range(2)
  ]
  said = [host.communicate(timeout=240) for host in hosts]
  assert [host.returncode for host in hosts] == [0, 0], said
  assert 'page.html' in said[0][0] and 'page.html' not in said[1][0]
  assert sorted(path.name for path in out.glob('*.json')) == [
    'bd.json', 'gdc-tiny-mse.json', 'index.json', 'jpeg.json',
  ]
  shared = json.loads((out / 'jpeg.json').read_text())
  alone = _run(
    plan._replace(codecs=('jpeg',), matched=(), out=tmp_path / 'alone')
  ).results()['jpeg']
  for key in ('bpp', 'psnr-rgb', 'lpips-alex'):
    assert shared['results'][key] == alone['results'][key]


def test_an_image_that_a_codec_cannot_code_is_left_out_and_said(
  plan, patches, monkeypatch
):
  def fails(name, image, quality):
    if name == 'jpeg' and (broken is None or image.shape[1] == broken):
      raise RuntimeError('encoder\n-6')
    return encode(name, image, quality)

  monkeypatch.setattr(study.codecs.baselines, 'encode', fails)
  plan = plan._replace(
    codecs=('gdc:mse', 'jpeg', 'webp'), matched=(), features='vgg16',
    metrics=('psnr',),
  )
  broken = 128
  made = _run(plan)
  found = made.results()
  whole, part = found['webp'], found['jpeg']
  assert part['meta']['failed'] == {
    name: 'RuntimeError: encoder -6' for name in ('photo1', 'photo3')
  }
  assert (part['meta']['num_images'], whole['meta']['num_images']) == (3, 5)
  assert {row['name'] for row in part['images']} == {
    'photo0', 'photo2', 'photo4'
  }
  assert part['meta']['num_patches'] == 3 * 16
  assert part['results']['fd-vgg16-256'][0] > 0
  assert overview.notices(found) == [
    'jpeg could not code 2 of 5 images, such as photo1 (RuntimeError: encoder '
    '-6). Its means are over the others.'
  ]
  limits = {row['name']: row['bytes'] for row in whole['images']}
  assert tables.larger(found, 'jpeg', 1.0) == '' and len(limits) == 5
  # Nothing is tried again; and one that can code none is left out.
  with monkeypatch.context() as patch:
    patch.setattr(study.coding, 'versions', None)
    assert _run(plan).results()['jpeg']['meta']['failed']
  broken = None
  made = study.Study(plan._replace(
    codecs=('jpeg', 'webp'), out=plan.out / 'none', features=None
  ))
  workers.run(made)
  assert list(made.results()) == ['webp']
  assert made.failed_codecs == {'jpeg': 'RuntimeError: encoder -6'}
  made = study.Study(plan._replace(codecs=('jpeg',), out=plan.out / 'none'))
  workers.run(made)
  with pytest.raises(ValueError, match='could code any image: jpeg: Runtime'):
    made.results()


def test_a_small_study_raises_what_a_codec_raises(plan, codec, monkeypatch):
  def fails(data, **how):
    raise ArithmeticError('not a number')

  monkeypatch.setattr(codec, 'decompress', fails)
  with pytest.raises(ArithmeticError, match='not a number') as caught:
    study.evaluate(codec, ['gdc:mse'], plan.paths, (1.0,))
  assert caught.value.__notes__ == ["(image 'photo0')"]


def test_names_tell_folders_apart(plan, tmp_path):
  image = Image.open(plan.paths[0])
  for name in ('a/1.png', 'b/1.png'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    image.save(tmp_path / name)
  paths = [tmp_path / 'a' / '1.png', tmp_path / 'b' / '1.png']
  assert study.Study(plan._replace(paths=paths)).names == ['a/1', 'b/1']
  # Endings tell apart what else would have one name.
  for names, expected in (
    (['x.png', 'x.jpg', 'y.png'], ['x.png', 'x.jpg', 'y']),
    (['x.png', 'x.jpg', 'x.png.gif'], ['x.png', 'x.jpg', 'x.png.gif']),
  ):
    assert study._names([tmp_path / name for name in names]) == expected


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
  """Also while it waits for work, and also if that one was killed."""
  script = """
import multiprocessing, os, sys, threading, time
def work(theirs):
  from gdc.evaluation import workers
  threading.Thread(
    target=workers._end_with, args=(theirs,), daemon=True
  ).start()
  open(sys.argv[1], 'w').write(str(os.getpid()))
  time.sleep(600)
if __name__ == '__main__':
  context = multiprocessing.get_context('spawn')
  theirs, ours = context.Pipe(duplex=False)
  context.Process(target=work, args=(theirs,)).start()
  time.sleep(600)
"""
  pid_file = tmp_path / 'pid'
  (tmp_path / 'parent.py').write_text(script)
  parent = subprocess.Popen([sys.executable, tmp_path / 'parent.py', pid_file])
  while not pid_file.exists() or not pid_file.read_text():
    assert parent.poll() is None
    time.sleep(0.05)
  parent.kill()
  parent.wait()
  child = pathlib.Path('/proc') / pid_file.read_text()
  while child.exists() and 'Z' not in (child / 'stat').read_text().split()[2]:
    time.sleep(0.05)


class _TwoWords(Exception):
  def __init__(self, first, second):
    super().__init__(f'{first} {second}')


def test_errors_of_workers_are_sent_in_words_if_need_be():
  found = workers._portable(_TwoWords('not', 'portable'))
  assert type(found) is RuntimeError and str(found) == '_TwoWords: not portable'
  error = ValueError('as it is')
  error.add_note('(image 3)')
  found = workers._portable(error)
  assert (type(found), found.__notes__) == (ValueError, ['(image 3)'])


@pytest.mark.slow
def test_an_interrupt_ends_all_processes_in_one_line(plan, tmp_path):
  process = subprocess.Popen(
    [sys.executable, '-m', 'gdc', 'eval', plan.paths[0].parent, '--out',
     tmp_path / 'out', '--codecs', 'jpeg,webp,avif', '--measures', 'psnr',
     '--jobs', '2'],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    start_new_session=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )

  def workers_alive():
    found = subprocess.run(
      ['pgrep', '-s', str(process.pid), '-f', 'multiprocessing'],
      capture_output=True, text=True, check=False,
    )
    return found.stdout.split()

  while len(workers_alive()) < 3:  # of which one tracks resources
    assert process.poll() is None
    time.sleep(0.05)
  os.killpg(process.pid, signal.SIGINT)  # as a terminal does
  said = process.communicate(timeout=60)[1]
  assert process.returncode == 130
  assert said.count('interrupted') == 1 and 'Traceback' not in said
  while workers_alive():
    time.sleep(0.05)


def test_errors(plan, photos, monkeypatch):
  with pytest.raises(ValueError, match='measures are none'):
    _run(plan._replace(metrics=()))
  with pytest.raises(ValueError, match="no decoder 'one_step'"):
    _run(plan._replace(codecs=['gdc:one_step']))
  monkeypatch.setattr(workers.jax, 'default_backend', lambda: 'tpu')
  with pytest.raises(ValueError, match='jobs is 2: 1 is expected on a tpu'):
    _run(plan, jobs=2)
