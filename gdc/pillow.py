"""Door 3: a plugin for Pillow, so that its users need no other name.

  import gdc.pillow
  from PIL import Image

  Image.open('photo.png').save('photo.gdc', quality=3)
  image = Image.open('photo.gdc')  # the file is checked, nothing is decoded
  image.decoder = 'mse'            # settings, before the pixels are asked for
  image.show()

Importing it registers format GDC, ending .gdc, type image/x-gdc, and costs no
jax: that is imported where pixels are first coded or decoded. A model is loaded
once for each name or path and stays loaded.

Opening gives the size, the mode (L, LA, RGB or RGBA, as it was saved) and in
`info`: bpp, lossless (whether the image is kept losslessly), else quality and
model_digest (8 hex digits), and, if there is one, icc_profile.

Saving over a file that is there loses it where the options are refused, such as
a quality of 75 or a target that can not be met: Pillow empties the file before
any plugin is asked. Save under another name and rename.

Saving takes modes L, LA, RGB and RGBA as they are, and 1, P, PA and RGBX, which
become one of them without loss; others raise OSError, as everywhere in Pillow,
and so does save_all of several frames.
Transparency is kept; an EXIF orientation is not, so apply
ImageOps.exif_transpose first. The options:

  quality        1 (smallest) to 6 (best), continuous; default 3
  target_bytes, target_bpp, min_psnr   one of them in place of quality, not
                 beside it
  lossless       'auto' (default), 'never' or 'always': whether to keep the
                 image losslessly; auto where that is smaller, or the network
                 fails
  seed           of a score decoder's noise, written into the file
  model          a name in the box or a bundle folder; default that of
                 GdcImageFile
  icc_profile    default the image's own, from its info, if it is not sRGB,
                 which is what a file without one is; None leaves it out

A profile must be of the colours that are saved: RGB, or GRAY for L and LA. One
from info that is not (Pillow keeps a profile when it converts an image) is left
out with a warning; one that is given as icc_profile is a ValueError. A file
that holds such a profile opens without it, with a warning.

What is wrong with a file is said by GdcError, when it is opened if its bytes
are damaged, when it is loaded if it is of another model. What does not start as
a gdc file is none of this plugin's, and Pillow raises UnidentifiedImageError.
"""
import math
import warnings

import numpy as np
from PIL import Image, ImageFile

import gdc
from gdc import icc as icc_lib
from gdc.codec import bitstream, forks, lossless

FORMAT = 'GDC'

# Modes that are saved, and as which colours; transparency adds an A.
_COLOURS = {
  'L': 'L', 'LA': 'L', '1': 'L', 'RGB': 'RGB', 'RGBA': 'RGB', 'RGBX': 'RGB',
  'P': 'RGB', 'PA': 'RGB',
}
_SCALED = 'L, its samples scaled to 0 to 255,'
_ADVICE = {
  'RGBa': 'RGBA', 'La': 'LA',
  **dict.fromkeys(('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N'), _SCALED),
}
_CODEC_OPTIONS = (
  'quality', 'target_bytes', 'target_bpp', 'min_psnr', 'seed', 'lossless',
)


# Threads may ask for the pixels of one image at once.
_lock = forks.lock()


class GdcError(bitstream.BitstreamError, OSError):
  """A damaged file, or one of another model.

  A BitstreamError, as everywhere in gdc, and an OSError, which is what Pillow's
  own plugins raise and what its users catch.
  """


class GdcImageFile(ImageFile.ImageFile):
  """What Image.open returns for a gdc file.

  The settings are read when the pixels are first needed (load, show, convert,
  numpy.asarray, ...); afterwards they change nothing, like those of draft().
  Set on a picture they are its own; set on this class, everyone's default.

  Attributes:
    model: a name in the box or a bundle folder; also the default for saving.
    decoder: 'mse', 'one_step', 'flow' or 'diffusion'; None: the model's
      default, see Codec.decompress.
    steps: sampling steps of a score decoder; None: the model's own.
    seed: of a score decoder's noise, 0 to 2^32 - 1; None: the file's.
    realism: 0 (the picture of mse) to 1 (the score decoder's); None: 1.

  With mse, steps and realism above 0 are refused.
  """

  format = FORMAT
  format_description = 'Generative image codec'

  model = gdc.DEFAULT_MODEL
  decoder: str | None = None
  steps: int | None = None
  seed: int | None = None
  realism: float | None = None

  def _open(self):
    data = self.fp.read()
    # Pillow looks at the size only after this, and alpha is inflated here.
    most = bitstream.MAX_PIXELS
    if Image.MAX_IMAGE_PIXELS is not None:
      most = min(most, 2 * Image.MAX_IMAGE_PIXELS)
    try:
      header, _, _ = bitstream.unpack(data, most)
    except bitstream.BitstreamError as e:
      raise GdcError(str(e)) from e
    # What is decoded has sides of whole latents: of a row, sixteen rows.
    whole = math.prod(-(-n // 16) * 16 for n in (header.width, header.height))
    if whole > 2 * most:
      raise GdcError(
        f'too large: {header.width} x {header.height} pixels take the latents '
        f'of {whole}, where {2 * most} are allowed'
      )
    self._data = data
    self._size = header.width, header.height
    self._mode = 'L' if header.grey else 'RGB'
    if header.alpha is not None:
      self._mode += 'A'
    self.info['bpp'] = 8 * len(data) / (header.width * header.height)
    self.info['lossless'] = header.lossless
    if not header.lossless:
      self.info['quality'] = bitstream.index_to_quality(header.quality_index)
      self.info['model_digest'] = header.digest.hex()
    problem = header.icc and icc_lib.problem(
      header.icc, icc_lib.space(len(self._mode))
    )
    if problem:
      _warn(problem)
    elif header.icc:
      self.info['icc_profile'] = header.icc

  def load(self):
    """Decodes the file, the first time.

    Raises:
      GdcError: the file is of another model, or cannot be decoded.
      ValueError: a setting that is out of range or that the model lacks.
    """
    with _lock:
      if self._im is None:
        try:
          pixels = self._pixels()
        except bitstream.BitstreamError as e:
          raise GdcError(str(e)) from e
        # Complete before another thread finds it.
        made = Image.frombytes(self.mode, self.size, pixels.tobytes())
        self.im = made.im
        self.readonly = 0
        del self._data
        if self._exclusive_fp and self.fp:
          self.fp.close()
        self.fp = None
      return super().load()

  def _pixels(self) -> np.ndarray:
    header, payload, _ = bitstream.unpack(self._data)
    if header.lossless:  # of no model
      return lossless.decode(payload, header)
    return _codec(str(self.model)).decompress(
      self._data, self.decoder, self.steps, self.seed, self.realism
    )


def _accept(prefix: bytes) -> bool:
  return prefix.startswith(bitstream.MAGIC)


def _save(image, fp, filename):
  options = image.encoderinfo
  if image.mode not in _COLOURS:
    raise OSError(
      f'cannot write mode {image.mode} as {FORMAT}; convert the image to '
      f'{_ADVICE.get(image.mode, "RGB")} first'
    )
  if not all(image.size):
    raise ValueError(f'cannot write an image of {image.size} pixels')
  mode = _COLOURS[image.mode] + 'A' * image.has_transparency_data
  if 'icc_profile' in options:
    icc = options['icc_profile']
  else:
    icc = _own_profile(image, mode)
  pixels = np.asarray(image if image.mode == mode else image.convert(mode))
  fp.write(
    _codec(str(options.get('model', GdcImageFile.model))).compress(
      pixels.reshape(*pixels.shape[:2], -1),
      icc=icc,
      **{k: options[k] for k in _CODEC_OPTIONS if k in options},
    )
  )


def _save_all(image, fp, filename):
  frames = getattr(image, 'n_frames', 1)
  frames += len(list(image.encoderinfo.get('append_images') or []))
  if frames > 1:
    raise OSError(
      f'{FORMAT} holds one image, not {frames} frames; save each to a file'
    )
  _save(image, fp, filename)


def _own_profile(image, mode: str) -> bytes:
  """The ICC profile of an image that is saved in a mode, b'' if it is sRGB."""
  from gdc.data import profiles
  icc = icc_lib.trim(image.info.get('icc_profile') or b'')
  if not icc:
    return b''
  try:
    if icc_lib.problem(icc, 'RGB') is None and profiles.is_srgb(icc):
      return b''  # a grey image's samples are sRGB then, too
    if mode[0] == 'L':
      profiles.grey_to_srgb(icc)  # can be read
    else:
      profiles.to_srgb(icc, 'RGB')
  except profiles.ProfileError as e:
    _warn(e)
    return b''
  return icc


def _warn(problem):
  warnings.warn(
    f'the ICC profile is not used: {problem}; the colours are taken for sRGB',
    stacklevel=5,
  )


def _codec(model: str):
  from gdc.codec import loading  # imports jax
  return loading.load_once(model)


Image.register_open(FORMAT, GdcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, '.gdc')
Image.register_mime(FORMAT, 'image/x-gdc')
