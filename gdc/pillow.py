"""Pillow plugin: Image.open and Image.save for .gdc files.

  import gdc.pillow
  from PIL import Image

  Image.open('photo.png').save('photo.gdc', quality=3)
  image = Image.open('photo.gdc')  # checks the file, decodes nothing yet
  image.decoder = 'mse'            # settings, before the pixels are needed
  image.show()

Importing it registers format GDC without importing jax. A model is loaded once
for each name or path.

Opening gives the size, the mode (L, LA, RGB or RGBA) and in `info`: bpp;
lossless; if it is not lossless, quality and model_digest (8 hex digits);
icc_profile, exif and xmp if there are any.

Saving takes modes L, LA, RGB and RGBA, and 1, P, PA and RGBX, which become one
of them without loss. Others raise OSError, as does save_all of several frames.
Transparency is kept. Options are those of Codec.compress (quality or
target_bytes, target_bpp, min_psnr; lossless; seed) and

  model          a bundled model or a bundle folder; default GdcImageFile.model
  icc_profile    default the image's own, unless it is sRGB; None leaves it out
  exif           bytes or Image.Exif; default none, as for Pillow's formats
  xmp            bytes; default none

The orientation that exif (or else xmp) gives is applied to the pixels and set
to 1, as by `gdc compress`. That of info alone is not: apply
ImageOps.exif_transpose first, or give exif.

Pillow empties an existing file before it calls a plugin, so saving over one
loses it if an option is refused: save under another name and rename.

A profile of other colours than those saved (RGB, or GRAY for L and LA) is left
out with a warning if it comes from info, where Pillow keeps it on conversion,
and is a ValueError as icc_profile. A file with such a profile, or with damaged
EXIF, opens without it.

Errors in a file are GdcError: on opening if its bytes are damaged, on loading
if it is of another model.
"""
import warnings

import numpy as np
from PIL import Image, ImageFile

import gdc
from gdc import icc as icc_lib
from gdc import metadata
from gdc.codec import bitstream, forks, lossless
from gdc.models import receptive_field

FORMAT = 'GDC'

# Mode of the colours that each mode is saved as; transparency adds an A.
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
# How an image of each EXIF orientation becomes upright.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_lock = forks.lock()  # threads may load one image at once


class GdcError(bitstream.BitstreamError, OSError):
  """A damaged file, or one of another model.

  It is a BitstreamError, as everywhere in gdc, and an OSError, as Pillow's own
  plugins raise.
  """


class GdcImageFile(ImageFile.ImageFile):
  """A gdc file, opened by Image.open.

  The settings are read when the pixels are first needed (load, show, convert,
  numpy.asarray, ...) and change nothing afterwards. Set on the class, they are
  the default of all images. They are those of Codec.decompress.

  Attributes:
    model: a bundled model or a bundle folder; also the default for saving.
    decoder: 'mse', 'one_step', 'flow' or 'diffusion'; None: the model's
      default.
    steps: sampling steps of a score decoder; None: the model's own.
    seed: seed of a score decoder's noise, 0 to 2^32 - 1; None: the file's.
    realism: 0 (the image of mse) to 1 (the score decoder's); None: 1.
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
    # Alpha is inflated here, before Pillow checks the size.
    most = bitstream.MAX_PIXELS
    if Image.MAX_IMAGE_PIXELS is not None:
      most = min(most, 2 * Image.MAX_IMAGE_PIXELS)
    try:
      header, _, _ = bitstream.unpack(data, most)
    except bitstream.BitstreamError as e:
      raise GdcError(str(e)) from e
    # Decoded sides are multiples of the stride: one row takes sixteen.
    rows, columns = header.grid
    whole = rows * columns * receptive_field.STRIDE**2
    if whole > 2 * most:
      raise GdcError(
        f'too large: {header.width} x {header.height} pixels take the latents '
        f'of {whole}, where {2 * most} are allowed'
      )
    self._data = data
    self._size = header.width, header.height
    self._mode = header.mode
    self.info['bpp'] = 8 * len(data) / (header.width * header.height)
    self.info['lossless'] = header.lossless
    if not header.lossless:
      self.info['quality'] = bitstream.index_to_quality(header.quality_index)
      self.info['model_digest'] = header.digest.hex()
    problem = header.icc and icc_lib.problem(header.icc, header.mode)
    if problem:
      _warn(problem)
    elif header.icc:
      self.info['icc_profile'] = header.icc
    problem = header.exif and metadata.problem(header.exif)
    if problem:
      warnings.warn(f'its EXIF is left out: {problem}', stacklevel=4)
    elif header.exif:
      self.info['exif'] = metadata.PREFIX + header.exif
    if header.xmp:
      self.info['xmp'] = header.xmp

  def load(self):
    """Decodes the file when first called.

    Raises:
      GdcError: the file is of another model, or cannot be decoded.
      ValueError: a setting is out of range, or the model lacks the decoder.
    """
    with _lock:
      if self._im is None:
        try:
          pixels = self._pixels()
        except bitstream.BitstreamError as e:
          raise GdcError(str(e)) from e
        # Complete before another thread can see it.
        self.im = Image.frombytes(self.mode, self.size, pixels.tobytes()).im
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
  image, exif, xmp = _upright(image, options.get('exif'), options.get('xmp'))
  pixels = np.asarray(image if image.mode == mode else image.convert(mode))
  fp.write(
    _codec(str(options.get('model', GdcImageFile.model))).compress(
      pixels.reshape(*pixels.shape[:2], -1),
      icc=icc,
      exif=exif,
      xmp=xmp,
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


def _upright(image, exif, xmp):
  """Turns an image upright, and its metadata: (image, exif, xmp)."""
  from gdc.codec import arguments  # imports jax
  if isinstance(exif, Image.Exif):
    exif = exif.tobytes()
  if isinstance(xmp, str):
    xmp = xmp.encode()
  exif, xmp = arguments.as_exif(exif), arguments.as_xmp(xmp)
  orientation = metadata.orientation(exif, xmp)
  if orientation != 1:
    image = image.transpose(_UPRIGHT[orientation])
  return image, metadata.upright(exif), metadata.upright_xmp(xmp)


def _own_profile(image, mode: str) -> bytes:
  """Returns an image's ICC profile, for saving in a mode; b'' if sRGB."""
  icc = icc_lib.trim(image.info.get('icc_profile'))
  if not icc:
    return b''
  try:
    if icc_lib.problem(icc, 'RGB') is None and icc_lib.is_srgb(icc):
      return b''  # also of an image that was converted to grey
    icc_lib.to_srgb(icc, mode.removesuffix('A'))  # raises if unusable
  except icc_lib.ProfileError as e:
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
Image.register_extension(FORMAT, gdc.SUFFIX)
Image.register_mime(FORMAT, 'image/x-gdc')
