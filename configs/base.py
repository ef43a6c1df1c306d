"""Fields and variants that all trainings share. Not run by itself.

configs/autoencoder.py, flow.py, diffusion.py and one_step.py start from this
and set the rest; configs/contexts.py takes a few fields. Each names its
command, hardware and expected results. The fields of a score decoder, with
their ranges and meanings, are those of its dataclass in gdc/decoders/;
`--config FILE --help` lists them.
"""
import ml_collections
from ml_collections import config_dict

from gdc.decoders import base as decoder_base


def get_config() -> ml_collections.ConfigDict:
  """The shared fields, each with its admissible values."""
  c = ml_collections.ConfigDict()
  # autoencoder, flow, diffusion, one_step; configs/contexts.py has contexts
  c.stage = config_dict.placeholder(str)
  c.seed = 0  # of initialisation, data order, crops and noise
  c.dtype = 'float32'  # float32, bfloat16: dtype of the networks' layers
  # float32, bfloat16: dtype of matmul inputs in gated blocks of float32 layers,
  # in frozen networks too; accumulation stays float32. For processors that
  # multiply bfloat16 faster.
  c.matmul_dtype = 'float32'
  c.fsdp = 1  # devices that share one copy of the state; divides their number

  # Warm start: '' (none, random weights), pretrained:NAME or a bundle folder.
  c.init_from = ''

  c.data = ml_collections.ConfigDict()
  # bundled:train, folder:PATH, tfds:NAME[:SPLIT]
  c.data.source = 'bundled:train'
  c.data.data_dir = ''  # where TFDS looks; '': its default, with download
  c.data.batch_size = 8  # global; a multiple of the number of devices
  c.data.crop = 128  # pixels, a multiple of 16
  c.data.min_scale = 0.5  # in (0, 1]: crops are scaled down by up to this
  c.data.transpose = 0.0  # share of crops whose rows become columns
  c.data.balance = False  # draw by group rather than by image (files only)
  # > 0: the whole source is cached on the devices, cut into squares of this
  # side in pixels, and crops are drawn there; 0: the host reads and crops
  c.data.cache_on_device = 0

  c.optimizer = ml_collections.ConfigDict()
  c.optimizer.learning_rate = 1e-3  # the peak
  c.optimizer.warmup_steps = 100  # linear, from 1 % of the peak
  c.optimizer.decay_fraction = 0.4  # last part of the run, cosine to 1 %
  c.optimizer.b2 = 0.99  # Adam's decay of squared gradients
  c.optimizer.clip = 1.0  # global norm of the gradient
  c.optimizer.fast_factor = 10.0  # times the rate, for the prior
  c.optimizer.ema_decay = 0.999  # of the averaged weights, a step

  c.steps = 1000  # of the whole run, resumed or not
  c.log_every = 20  # steps between metrics
  c.image_every = 200  # steps between images in TensorBoard
  c.checkpoint_every = 100  # steps
  c.checkpoints_kept = 2  # the newest

  c.evaluation = ml_collections.ConfigDict()
  c.evaluation.source = 'bundled:heldout'  # as data.source, files only
  c.evaluation.qualities = (1.0, 3.0, 5.0)  # from 1 to the last level
  c.evaluation.max_images = 10  # the first ones; 0 takes all

  c.name = 'model'  # of the exported bundle
  return c


def autoencoder(c: ml_collections.ConfigDict):
  """The networks of stage 1; stage 2 takes them from its bundle."""
  c.autoencoder = ml_collections.ConfigDict()
  c.autoencoder.transforms = 'lean'  # lean, elic
  c.autoencoder.widths = (192, 256)  # channels per resolution
  c.autoencoder.depths = (3, 3)  # blocks per resolution; lean only
  c.autoencoder.latent_channels = 256  # coded ones, at 1/16 resolution
  c.autoencoder.initial_gain = 1.5  # of level 1; images in [-1, 1]
  # Latents that are coded as differences from their neighbours', each once: the
  # three that start as means of 16 x 16 pixels in `lean`; () for none, and for
  # `elic`, whose channels have no meaning before training.
  c.autoencoder.predicted_channels = (0, 8, 18)
  # lambda of each quality level; the loss is bpp + lambda 255^2 MSE. In nearly
  # equal ratios, from half of CompressAI's first to its seventh.
  c.autoencoder.lambdas = (0.0009, 0.0023, 0.0057, 0.0144, 0.0366, 0.0932)


def contexts(c: ml_collections.ConfigDict):
  """What the coder's contexts are fitted on: crops of the data source."""
  c.contexts = ml_collections.ConfigDict()
  # 1 or more: 300 take a few minutes on two cores, and 2 GB of memory
  c.contexts.max_crops = 300
  # pixels, 16 or more: of a crop, which is not scaled; at most as many crops of
  # an image as fit side by side; a smaller image is taken whole
  c.contexts.crop = 512


def paper_data(c: ml_collections.ConfigDict):
  """Data and duration of the `paper` variants: a pod and a TFDS set."""
  c.data.source = 'tfds:imagenet2012:train'
  c.data.batch_size = 256
  c.data.crop = 256
  c.data.min_scale = 0.5
  c.dtype = 'bfloat16'
  c.optimizer.learning_rate = 1e-4
  c.optimizer.warmup_steps = 10_000
  c.optimizer.decay_fraction = 0.15
  c.optimizer.b2 = 0.999
  c.optimizer.ema_decay = 0.9999
  c.log_every = 100
  c.image_every = 5_000
  c.checkpoint_every = 5_000


def tiny(c: ml_collections.ConfigDict):
  """Compiles and runs in seconds; learns nothing of use."""
  if 'autoencoder' in c:
    c.autoencoder.widths = (16, 24)
    c.autoencoder.depths = (1, 1)
    c.autoencoder.latent_channels = 24
  if 'contexts' in c:
    c.contexts.max_crops = 2
    c.contexts.crop = 64
  if 'score_net' in c:
    c.score_net.widths = (8, 16)
    c.score_net.depths = (1, 1)
    c.score_net.condition_features = 16
  c.data.crop = 32
  c.steps = 4
  c.log_every = 1
  c.image_every = 2
  c.checkpoint_every = 2
  c.optimizer.warmup_steps = 1
  c.evaluation.max_images = 1
  c.evaluation.qualities = (3.0,)


def from_pretrained(c: ml_collections.ConfigDict):
  """A few more steps of the bundled decoder: minutes on a CPU."""
  c.init_from = 'pretrained:lean'
  c.optimizer.learning_rate = 1e-4
  c.optimizer.warmup_steps = 10
  c.optimizer.ema_decay = 0.99
  c.steps = 120
  c.log_every = 10
  c.image_every = 60
  c.checkpoint_every = 20


def accelerator(
  c: ml_collections.ConfigDict, *, batch_size: int, crop: int,
  learning_rate: float, steps: int,
):
  """The bundled networks trained further on a GPU or TPU, for minutes.

  docs/log.md tells how a script with these settings made the bundled weights.
  """
  c.init_from = 'pretrained:lean'
  c.dtype = 'bfloat16'
  c.data.batch_size = batch_size
  c.data.crop = crop
  c.data.transpose = 0.25
  c.data.balance = True
  c.data.cache_on_device = 512
  c.optimizer.learning_rate = learning_rate
  c.optimizer.warmup_steps = steps // 50
  c.optimizer.decay_fraction = 0.5
  c.steps = steps
  c.log_every = 100
  c.image_every = 2_000
  c.checkpoint_every = 2_000


def score_decoder(
  c: ml_collections.ConfigDict, decoder: type[decoder_base.Decoder]
):
  """The network, the autoencoder and the settings of a score decoder."""
  c.stage = decoder.entry
  # The frozen autoencoder: pretrained:NAME, a bundle folder, or
  # workdir:PATH, the newest checkpoint of a stage-1 run.
  c.autoencoder_from = 'pretrained:lean'
  c.score_net = ml_collections.ConfigDict()
  c.score_net.widths = (96, 192, 256)  # channels at 1/patch, half of it, ...
  c.score_net.depths = (1, 2, 4)  # blocks per resolution, down and up again
  c.score_net.patch = 4  # side of the input patches, pixels
  c.score_net.condition_features = 128  # of noise level and quality
  c[decoder.entry] = ml_collections.ConfigDict(
    decoder.defaults('model', 'training')
  )
  c.sampling = ml_collections.ConfigDict(decoder.defaults('sampling'))


def sweep(c: ml_collections.ConfigDict, *, learning_rate: float):
  """A short run from the bundled decoder, for sweeps: seconds on a GPU."""
  accelerator(
    c, batch_size=64, crop=128, learning_rate=learning_rate, steps=1_000
  )
  c.optimizer.decay_fraction = 0.6
  c.optimizer.ema_decay = 0.998
  c.image_every = 1_000
  c.checkpoint_every = 1_000
  c.evaluation.qualities = (1.0, 3.0)


def paper_score_net(c: ml_collections.ConfigDict):
  """The score network of the `paper` variants: 161 M parameters."""
  paper_data(c)
  c.autoencoder_from = config_dict.placeholder(str)  # workdir:PATH
  c.score_net.widths = (256, 512, 1024)
  c.score_net.depths = (2, 4, 12)
  c.score_net.condition_features = 512
  c.steps = 1_000_000
