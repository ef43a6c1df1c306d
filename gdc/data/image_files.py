"""Image files to and from arrays.

An image is uint8 [height, width, channels]: 1 grey, 2 grey and alpha, 3 RGB,
4 RGB and alpha. Its colours are sRGB unless an ICC profile goes with it: where
a file's profile can be kept, its samples are not converted.

Conversions go by bands of rows, so memory is that of the array and of the
decoded Pillow image.
"""
import dataclasses
import io
import warnings

import numpy as np
from PIL import Image, PngImagePlugin

from gdc import icc as icc_lib
from gdc import metadata
from gdc.codec import bitstream
from gdc.data import decoding, formats

ImageError = decoding.ImageError

# Pillow's options for each format: lossless or nearly so.
_OPTIONS = {
  'PNG': {},
  'JPEG': {'quality': 95, 'subsampling': 0},
  'WEBP': {'lossless': True, 'exact': True},
  'AVIF': {'quality': 95, 'subsampling': '4:4:4'},
  'TIFF': {},
  'BMP': {},
  'PPM': {},
}
_MAX_SIDE = {'JPEG': 65_500, 'WEBP': 16_383}
_WITHOUT_ALPHA = ('JPEG', 'BMP', 'PPM')
_WITHOUT_PROFILE = _WITHOUT_METADATA = ('BMP', 'PPM')
# A JPEG segment has 65,533 bytes, of which a name takes 6 or 29.
_MAX_METADATA = {('JPEG', 'EXIF'): 65_527, ('JPEG', 'XMP'): 65_504}
# Numbers of channels that a format writes as RGB or RGBA.
_WRITTEN_AS_COLOURS = {'WEBP': (1, 2), 'AVIF': (2,)}
# Mode that samples are read in, by Pillow's mode of the file; else RGB.
_SAMPLES = {
  '1': 'L', 'L': 'L', 'LA': 'LA', 'La': 'LA',
  'PA': 'RGBA', 'RGBA': 'RGBA', 'RGBa': 'RGBA',
}
# View of an upright image as a file of each EXIF orientation stores it.
_AS_STORED = {
  1: lambda pixels: pixels,
  2: lambda pixels: pixels[:, ::-1],
  3: lambda pixels: pixels[::-1, ::-1],
  4: lambda pixels: pixels[::-1],
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: np.rot90,
  7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
  8: lambda pixels: np.rot90(pixels, -1),
}
_BAND_PIXELS = 1 << 20


@dataclasses.dataclass(frozen=True)
class ImageData:
  """An image, with notices of what was lost."""

  pixels: np.ndarray  # uint8 [height, width, 1 to 4]
  icc: bytes = b''  # ICC profile of its colours; empty: sRGB
  notices: list[str] = dataclasses.field(default_factory=list)
  exif: bytes = b''  # without prefix; empty: none
  xmp: bytes = b''  # empty: none


# --- Reading ----------------------------------------------------------------


def read(source, srgb: bool = False, incomplete: bool = True) -> ImageData:
  """Reads an image file.

  The EXIF orientation is applied. Grey stays grey, a palette becomes RGB, and
  transparency is kept unless everything is opaque. More than 8 bits become 8;
  CMYK, and grey with a profile of its own, become sRGB; of several frames the
  first is taken. Each of these gives a notice, as does metadata that is not
  kept: EXIF and XMP are, with the orientation set to 1.

  Args:
    source: a path, or a binary file object, such as sys.stdin.buffer.
    srgb: whether RGB of another profile is converted to sRGB too, rather than
      kept together with its profile.
    incomplete: see decoding.decode.

  Returns:
    ImageData; without a profile if it is sRGB within one step of 8 bits.

  Raises:
    ImageError, OSError: see decoding.decode.
  """
  decoded = decoding.decode(source, incomplete)
  image, notices = decoded.image, decoded.notices
  exif, xmp = decoded.exif, decoded.xmp
  icc = icc_lib.trim(image.info.get('icc_profile'))
  if image.mode[0] == 'I':
    channels, convert = _wide_grey(image, decoded.bits, icc, notices)
    icc = b''
  else:
    channels, convert, icc = _conversion(
      image, decoded.bits, icc, srgb, notices
    )
  width, height = image.size
  size = (height, width) if decoded.orientation < 5 else (width, height)
  pixels = np.empty((*size, channels), np.uint8)
  stored = _AS_STORED[decoded.orientation](pixels)
  for rows in _bands(stored):
    band = convert(image.crop((0, rows.start, width, rows.stop)))
    stored[rows] = np.asarray(band).reshape(stored[rows].shape)
  # Free the decoded image before there may be a second array.
  del decoded, image, convert
  if channels in (2, 4) and pixels[..., -1].min() == 255:
    pixels = np.ascontiguousarray(pixels[..., :-1])
  return ImageData(pixels, icc, list(dict.fromkeys(notices)), exif, xmp)


def read_rgb(path) -> tuple[np.ndarray, list[str]]:
  """Reads an image as it is seen: in sRGB, transparency laid on white.

  Returns:
    uint8 [height, width, 3], and a list of notices for the user.

  Raises:
    ImageError: see read; also for a JPEG that is cut off.
    OSError: the file cannot be read.
  """
  image = read(path, srgb=True, incomplete=False)
  pixels, notices = image.pixels, image.notices
  if pixels.shape[-1] in (2, 4):
    notices.append('transparency is not kept; it is laid on white')
    pixels = _on_white(pixels)
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  return pixels, notices


def _conversion(image, bits, icc, srgb, notices):
  """Decides how samples of 8 bits are taken from Pillow.

  Returns:
    channels: 1 to 4.
    convert: function of a band of rows that returns its samples.
    icc: the profile to keep.
  """
  mode = _SAMPLES.get(image.mode, 'RGB')
  if mode in ('L', 'RGB') and 'transparency' in image.info:
    if bits > 8:  # a key of 16 bits cannot be found among 8
      notices.append('its transparent colour is not kept')
    else:
      mode += 'A'
  if mode[0] == 'L':
    levels = _grey_levels(icc, notices)

    def grey(band):
      samples = np.array(band.convert(mode)).reshape(*band.size[::-1], -1)
      samples[..., 0] = levels[samples[..., 0]]
      return samples

    return len(mode), grey, b''

  source = 'CMYK' if image.mode == 'CMYK' else mode
  if image.mode in ('CMYK', 'LAB'):
    notices.append(f'{image.mode} becomes sRGB')
  transform = None
  if image.mode == 'LAB':
    icc = b''  # Pillow converts LAB to sRGB
  if icc:
    try:
      if source != 'CMYK' and icc_lib.is_srgb(icc):
        icc = b''
      else:
        transform = icc_lib.to_srgb(icc, source)
    except icc_lib.ProfileError as e:
      notices.append(f'its colour profile is not used: {e}')
      icc = b''
  if len(icc) > bitstream.MAX_ICC_BYTES:
    notices.append(
      f'its colour profile of {len(icc):,} bytes is too long; converted to '
      'sRGB'
    )
  elif not srgb and source != 'CMYK':
    transform = None
  if transform:
    return len(mode), lambda band: transform(_in_mode(band, source)), b''
  return len(mode), lambda band: _in_mode(band, mode), icc


def _in_mode(band, mode):
  return band if band.mode == mode else band.convert(mode)


def _wide_grey(image, bits, icc, notices):
  """Decides how grey of up to 16 bits is taken: (channels, convert)."""
  # Pillow scales that of a PPM to 16 bits.
  top = 2**(16 if image.format == 'PPM' else bits) - 1
  table = ((np.arange(2**16) * 255 + top // 2) // top).clip(0, 255)
  if image.format == 'TIFF' and image.tag_v2.get(262) == 0:
    table = 255 - table  # white is zero, which Pillow ignores here
  levels = _grey_levels(icc, notices)[table]
  key = image.info.get('transparency')

  def narrow(band):
    wide = np.asarray(band)
    if key is None:
      return levels[wide]
    alpha = np.where(wide == key, 0, 255).astype(np.uint8)
    return np.stack([levels[wide], alpha], -1)

  return 1 + (key is not None), narrow


def _grey_levels(icc, notices) -> np.ndarray:
  """Returns the sRGB grey of each grey of an image, uint8 [256]."""
  same = np.arange(256, dtype=np.uint8)
  try:
    if not icc or icc_lib.problem(icc, 'RGB') is None and (
      icc_lib.is_srgb(icc)
    ):
      return same
    levels = icc_lib.grey_to_srgb(icc)
  except icc_lib.ProfileError as e:
    notices.append(f'its colour profile is not used: {e}')
    return same
  if (levels != same).any():
    notices.append('grey of another profile becomes sRGB')
  return levels


def _bands(pixels):
  """Yields slices of an image's rows, about _BAND_PIXELS each."""
  height, width = pixels.shape[:2]
  step = max(1, _BAND_PIXELS // width)
  for top in range(0, height, step):
    yield slice(top, min(top + step, height))


# --- Writing ----------------------------------------------------------------


def fit(
  pixels: np.ndarray, suffix: str, icc: bytes = b'', exif: bytes = b'',
  xmp: bytes = b'',
) -> ImageData:
  """Reduces an image to what a format can hold.

  JPEG, BMP and PPM have no transparency: it is laid on white. BMP and PPM have
  no profile, WebP none of grey: colours become sRGB. A profile that does not
  fit the channels is left out, as are EXIF and XMP that the format does not
  hold. Each gives a notice.

  Args:
    pixels: uint8 [height, width, 1 to 4].
    suffix: a file name ending, see encode.
    icc: profile of the colours; empty: sRGB.
    exif: without prefix; empty: none.
    xmp: empty: none.

  Raises:
    ImageError: the ending is unknown.
  """
  name = format_of(suffix)
  channels = pixels.shape[-1]
  notices = []
  problem = icc and icc_lib.problem(icc, bitstream.MODES[channels - 1])
  if problem:
    notices.append(f'its colour profile is not used: {problem}')
    icc = b''
  as_colours = channels in _WRITTEN_AS_COLOURS.get(name, ())
  if icc and (name in _WITHOUT_PROFILE or as_colours):
    kind = 'profile of grey' if as_colours else 'colour profile'
    notices.append(f'{name} holds no {kind}; converted to sRGB')
    try:
      pixels = _to_srgb(pixels, icc)
    except icc_lib.ProfileError as e:
      notices[-1] = f'its colour profile is not used: {e}'
    icc = b''
  if channels in (2, 4) and name in _WITHOUT_ALPHA:
    notices.append(f'{name} holds no transparency; it is laid on white')
    pixels = _on_white(pixels)
  exif = _fit_metadata('EXIF', exif, name, notices)
  xmp = _fit_metadata('XMP', xmp, name, notices)
  return ImageData(pixels, icc, notices, exif, xmp)


def _fit_metadata(kind, content, name, notices) -> bytes:
  """Returns EXIF or XMP, or b'' and a notice if a format does not hold it."""
  if not content:
    return b''
  most = _MAX_METADATA.get((name, kind), len(content))
  damage = kind == 'EXIF' and metadata.problem(content)
  if kind == 'EXIF' and name == 'TIFF' and not damage:
    try:
      metadata.for_tiff(content)
    except Exception as e:  # Pillow raises errors of many kinds
      damage = str(e) or type(e).__name__
  if damage:
    notices.append(f'its EXIF is left out: {damage}')
  elif name in _WITHOUT_METADATA:
    notices.append(f'{name} holds no {kind}; it is left out')
  elif len(content) > most:
    notices.append(
      f'{name} holds at most {most:,} bytes of {kind}; the {len(content):,} of '
      'this image are left out'
    )
  else:
    return content
  return b''


def encode(
  pixels: np.ndarray, suffix: str, icc: bytes = b'', exif: bytes = b'',
  xmp: bytes = b'',
) -> bytes:
  """Returns the bytes of an image file.

  Args:
    pixels: uint8 [height, width, 1 to 4].
    suffix: file name ending that chooses the format, such as '.png'. PNG, TIFF,
      BMP, PPM and WebP are lossless; JPEG and AVIF have quality 95 without
      colour subsampling.
    icc: profile of the colours, stored in the file; empty: sRGB.
    exif: without prefix, stored where the format holds it; empty: none.
    xmp: the same.

  Raises:
    ImageError: the ending is unknown, or the format cannot hold the size.
  """
  name = format_of(suffix)
  fitted = fit(pixels, suffix, icc, exif, xmp)
  pixels = fitted.pixels
  height, width, channels = pixels.shape
  check_size(width, height, suffix, channels < 3)
  options = _OPTIONS[name] | _metadata_options(name, fitted.exif, fitted.xmp)
  if fitted.icc:
    options['icc_profile'] = fitted.icc
  if name == 'AVIF' and channels == 1:
    del options['subsampling']  # would write grey as colours
  image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
  out = io.BytesIO()
  try:
    with warnings.catch_warnings():  # of Pillow, on EXIF with damaged values
      warnings.simplefilter('ignore')
      image.save(out, format=name, **options)
  except (OSError, ValueError, RuntimeError) as e:
    raise ImageError(
      f'{width} x {height} pixels cannot be written as {name}: {e}'
    ) from e
  return out.getvalue()


def _metadata_options(name, exif, xmp) -> dict:
  """Returns Pillow's options that store EXIF and XMP in a file."""
  if name == 'TIFF' and (exif or xmp):
    return {'exif': metadata.for_tiff(exif, xmp)}
  options = {}
  if exif and name == 'AVIF':
    # AVIF has an orientation of its own; Pillow would write EXIF anew, without
    # the thumbnail, to move it there.
    exif = metadata.without_orientation(exif)
  if exif:
    options['exif'] = metadata.PREFIX + exif
  if xmp and name == 'PNG':
    options['pnginfo'] = PngImagePlugin.PngInfo()
    options['pnginfo'].add_itxt('XML:com.adobe.xmp', xmp)
  elif xmp:
    options['xmp'] = xmp
  return options


def check_size(
  width: int, height: int, suffix: str, grey: bool = True
) -> None:
  """Raises ImageError if a format cannot hold the size, or colours."""
  name = format_of(suffix)
  if suffix.lower() == '.pgm' and not grey:
    raise ImageError('.pgm holds grey only; .ppm holds colours.')
  most = _MAX_SIDE.get(name, max(width, height))
  if max(width, height) > most:
    raise ImageError(
      f'{width} x {height} pixels are more than {name} holds, {most} a side.'
    )


def format_of(suffix: str) -> str:
  """Returns Pillow's name of the format that a file name ending means."""
  if suffix.lower() not in formats.WRITTEN:
    raise ImageError(
      f'No image format that is written ends in {suffix!r}; one of '
      f'{formats.SUFFIXES_WRITTEN} is expected.'
    )
  return formats.WRITTEN[suffix.lower()]


def _to_srgb(pixels, icc):
  """Converts the colours of a profile to sRGB; alpha stays."""
  converted = pixels.copy()
  if pixels.shape[-1] < 3:
    converted[..., 0] = icc_lib.grey_to_srgb(icc)[pixels[..., 0]]
    return converted
  transform = icc_lib.to_srgb(icc, 'RGB')
  for rows in _bands(pixels):
    band = Image.fromarray(np.ascontiguousarray(pixels[rows, :, :3]))
    converted[rows, :, :3] = np.asarray(transform(band))
  return converted


def _on_white(pixels):
  """uint8 [height, width, 2 or 4] -> [height, width, 1 or 3]."""
  opaque = np.empty((*pixels.shape[:2], pixels.shape[2] - 1), np.uint8)
  for rows in _bands(pixels):
    colours = pixels[rows, :, :-1].astype(np.uint16)
    alpha = pixels[rows, :, -1:].astype(np.uint16)
    # At most 255^2 + 127, which 16 bits hold.
    opaque[rows] = (colours * alpha + 255 * (255 - alpha) + 127) // 255
  return opaque
