"""Times gdc against CompressAI's factorized-prior codec, pixels to file bytes.

  python benchmarks/codec_speed.py --peer-python PATH [--json OUT]

PATH is the Python of a separate environment with compressai, as torch is not a
dependency of gdc. Without it gdc is timed alone.

Timed on both sides: compress, from uint8 pixels in memory to the bytes of a
file in memory, and decompress, from those bytes to uint8 pixels. gdc uses the
weights of --model at --quality, lossless='never' and decoder mse; for
information also the default lossless='auto', which checks the file by decoding
it, the other decoders, and the coder alone: predictions, contexts, if the model
has any, and range coder, from integer latents to the payload and back. The peer
is bmshj2018_factorized(quality=5, pretrained=False) with
net.update(force=True), in torch's inference mode with a thread on every core.
Its weights are random, as nothing is downloaded: its file sizes mean nothing.
Its coder codes a symbol for every latent whatever its value; that its times are
those of trained weights is assumed, not measured.

The images are 768 x 512: bundled held-out photographs (512 x 512) extended to
the right by their mirror image. Both sides take turns, image by image. The peer
is one process that reads commands from a pipe and reports its own times.
Medians over images and rounds, after one uncounted round.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

WIDTH, HEIGHT = 768, 512
SERVE = '--serve-peer'


def parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    description='Times gdc against CompressAI on the same images.'
  )
  made.add_argument(
    '--peer-python', metavar='PATH',
    help='a Python that has compressai; without it gdc is timed alone',
  )
  made.add_argument(
    '--model', default='lean', help='of gdc; default %(default)s'
  )
  made.add_argument('--quality', type=float, default=3.0, help='of gdc')
  made.add_argument('--images', type=int, default=4, help='default 4')
  made.add_argument('--rounds', type=int, default=5, help='default 5')
  made.add_argument('--json', metavar='OUT', type=pathlib.Path)
  made.add_argument(SERVE, action='store_true', help=argparse.SUPPRESS)
  return made


# --- Peer: runs in the other Python -----------------------------------------


def serve():
  """Answers commands, a line of JSON each, until the pipe is closed.

  Commands are {"compress": PATH} or {"decompress": PATH}, PATH being a .npy of
  pixels; decompress takes the bytes of that path's last compress.
  """
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # keeps what libraries print out of the answers
  import compressai
  import torch
  from compressai import zoo

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  net = zoo.bmshj2018_factorized(quality=5, pretrained=False).eval()
  net.update(force=True)

  def compress(image: np.ndarray) -> bytes:
    # As torchvision's ToTensor does.
    x = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    x = x.float() / 255
    out = net.compress(x)
    return struct.pack('<HH', *out['shape']) + out['strings'][0][0]

  def decompress(data: bytes) -> np.ndarray:
    shape = struct.unpack_from('<HH', data)
    x = net.decompress([[data[4:]]], shape)['x_hat']
    return (x * 255).round().byte()[0].permute(1, 2, 0).contiguous().numpy()

  def answer(record):
    print(json.dumps(record), file=answers, flush=True)

  answer({
    'python': platform.python_version(),
    'torch': torch.__version__,
    'compressai': compressai.__version__,
    'threads': torch.get_num_threads(),
    'entropy_coder': compressai.get_entropy_coder(),
  })
  files = {}
  with torch.inference_mode():
    for line in sys.stdin:
      [(what, path)] = json.loads(line).items()
      if what == 'compress':
        image = np.load(path)
        start = time.perf_counter()
        files[path] = compress(image)
      else:
        start = time.perf_counter()
        image = decompress(files[path])
      seconds = time.perf_counter() - start
      assert image.shape == (HEIGHT, WIDTH, 3), image.shape
      answer({'seconds': seconds, 'bytes': len(files[path])})


class Peer:
  """The peer's process; `about` has its versions."""

  def __init__(self, python: str):
    self._process = subprocess.Popen(
      [python, os.path.abspath(__file__), SERVE],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    self.about = self._answer()

  def ask(self, what: str, path) -> dict:
    """Returns the seconds and bytes of one command."""
    print(json.dumps({what: str(path)}), file=self._process.stdin, flush=True)
    return self._answer()

  def _answer(self):
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit(
        f'The peer ended with status {self._process.wait()}; is compressai '
        'installed for the Python at --peer-python?'
      )
    return json.loads(line)

  def close(self):
    self._process.stdin.close()
    self._process.wait()


# --- This side --------------------------------------------------------------


def test_images(count: int) -> list[np.ndarray]:
  """Returns images, uint8 [512, 768, 3], see the module's docstring."""
  from gdc.data import sources
  images = sources.bundled('heldout')
  if not 1 <= count <= len(images):
    raise SystemExit(
      f'--images must be from 1 to {len(images)}, not {count}.'
    )
  return [
    np.pad(
      images[i]['image'], ((0, 0), (0, WIDTH - HEIGHT), (0, 0)), 'symmetric'
    )
    for i in range(count)
  ]


def cpu_name() -> str:
  """Returns the CPU's name, as the system calls it."""
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    for line in info.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def measure(arguments) -> dict:
  """Returns all seconds, by side and by operation."""
  import flax
  import jax

  import gdc
  from gdc.codec import bitstream, slices
  peer = Peer(arguments.peer_python) if arguments.peer_python else None
  codec = gdc.load(arguments.model)
  model, predicted = codec.bundle.entropy_model, codec.bundle.predicted_channels
  index = bitstream.quality_to_index(arguments.quality, model.num_qualities)
  decoders = {
    'mse': ('mse', None), 'one_step': ('one_step', None), 'flow@4': ('flow', 4)
  }
  seconds, sizes = {}, {'gdc': [], 'peer': []}

  def note(side, what, value, counted):
    if counted:
      seconds.setdefault(side, {}).setdefault(what, []).append(value)

  with tempfile.TemporaryDirectory() as folder:
    images = {}
    for i, image in enumerate(test_images(arguments.images)):
      path = pathlib.Path(folder) / f'{i}.npy'
      np.save(path, image)
      images[path] = image
    for number in range(arguments.rounds + 1):
      for path, image in images.items():
        start = time.perf_counter()
        data = codec.compress(image, arguments.quality, lossless='never')
        note('gdc', 'compress', time.perf_counter() - start, number)
        start = time.perf_counter()
        codec.compress(image, arguments.quality)
        note('gdc', 'compress, checked', time.perf_counter() - start, number)
        if peer:
          told = peer.ask('compress', path)
          note('peer', 'compress', told['seconds'], number)
          sizes['peer'].append(told['bytes'])
        for name, (decoder, steps) in decoders.items():
          start = time.perf_counter()
          decoded = codec.decompress(data, decoder, steps)
          note(
            'gdc', f'decompress {name}', time.perf_counter() - start, number
          )
          assert decoded.shape == image.shape and decoded.dtype == np.uint8
          if peer and name == 'mse':
            told = peer.ask('decompress', path)
            note('peer', 'decompress', told['seconds'], number)
        sizes['gdc'].append(len(data))
        latents = np.moveaxis(codec.encode(image, arguments.quality), -1, 0)
        start = time.perf_counter()
        payload = slices.encode(latents, model, index, predicted)
        note('gdc', 'coder, encode', time.perf_counter() - start, number)
        start = time.perf_counter()
        decoded = slices.decode(
          payload, model, index, latents.shape[1:], predicted
        )
        note('gdc', 'coder, decode', time.perf_counter() - start, number)
        assert (decoded == latents).all()
  about = {
    'cpu': cpu_name(),
    'cores': len(os.sched_getaffinity(0)),
    'device': jax.devices()[0].device_kind,
    'python': platform.python_version(),
    'gdc': gdc.__version__,
    'model': codec.digest[:8],
    'jax': jax.__version__,
    'flax': flax.__version__,
    'numpy': np.__version__,
    'quality': arguments.quality,
    'pictures': arguments.images,
    'rounds': arguments.rounds,
  }
  if peer:
    about['peer'] = peer.about
    peer.close()
  return {
    'about': about,
    'mean_bytes': {k: statistics.mean(v) for k, v in sizes.items() if v},
    'seconds': seconds,
  }


def report(result: dict):
  """Prints medians and ratios; adds both to the result."""
  medians = {
    side: {what: statistics.median(v) for what, v in times.items()}
    for side, times in result['seconds'].items()
  }
  result['medians'] = medians
  for name, value in result['about'].items():
    print(f'{name:10} {value}')
  print()
  for side, times in medians.items():
    for what, median in times.items():
      all_times = result['seconds'][side][what]
      print(
        f'{side:5} {what:18} {1e3 * median:9.1f} ms   (from '
        f'{1e3 * min(all_times):.1f} to {1e3 * max(all_times):.1f})'
      )
  checked = medians['gdc']['compress, checked'] / medians['gdc']['compress']
  result['checked'] = checked
  print(f'\ncompress, checked: {checked:.2f} times the seconds without')
  if 'peer' in medians:
    result['ratios'] = {
      'compress': medians['peer']['compress'] / medians['gdc']['compress'],
      'decompress':
        medians['peer']['decompress'] / medians['gdc']['decompress mse'],
    }
    print()
    for what, ratio in result['ratios'].items():
      print(f'{what:10} peer seconds / gdc seconds = {ratio:.2f}')


def main():
  arguments = parser().parse_args()
  if arguments.serve_peer:
    serve()
    return
  if arguments.rounds < 1:
    raise SystemExit(f'--rounds must be 1 or more, not {arguments.rounds}.')
  result = measure(arguments)
  report(result)
  if arguments.json:
    arguments.json.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
  main()
