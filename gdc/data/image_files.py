"""Picture files, as people have them, to and from arrays. No jax.

A picture is uint8 [height, width, channels]: 1 grey, 2 grey and alpha, 3 RGB,
4 RGB and alpha. Its colours are sRGB unless an ICC profile goes with it: the
samples of a file are not converted where its profile can be kept.

Memory: the array and what Pillow decodes to; all between them is done in bands
of rows.
"""
import dataclasses
import io

import numpy as np
from PIL import Image

from gdc import icc as icc_lib
from gdc.data import formats, profiles, readers

PictureError = readers.PictureError

# How each format is written; a decoded picture should not lose more.
_WRITES = {
  'PNG': {},
  'JPEG': {'quality': 95, 'subsampling': 0},
  'WEBP': {'lossless': True, 'exact': True},
  'AVIF': {'quality': 95, 'subsampling': '4:4:4'},
  'TIFF': {},
  'BMP': {},
  'PPM': {},
}
_MOST_PIXELS = {'JPEG': 65_500, 'WEBP': 16_383}  # a side
_WITHOUT_ALPHA = ('JPEG', 'BMP', 'PPM')
_WITHOUT_PROFILE = ('BMP', 'PPM')
# Formats that hold grey as RGB, with the numbers of channels where they do.
_WRITTEN_AS_COLOURS = {'WEBP': (1, 2), 'AVIF': (2,)}
# The mode that samples are taken from, by Pillow's; RGB from all others.
_SAMPLES = {
  '1': 'L', 'L': 'L', 'LA': 'LA', 'La': 'LA',
  'PA': 'RGBA', 'RGBA': 'RGBA', 'RGBa': 'RGBA',
}
_BAND_PIXELS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, and what was lost on the way to it."""

  pixels: np.ndarray  # uint8 [height, width, 1 to 4]
  icc: bytes = b''  # the ICC profile of its colours; empty: sRGB
  notices: list[str] = dataclasses.field(default_factory=list)


# --- Reading ----------------------------------------------------------------


def read(source, srgb: bool = False, incomplete: bool = True) -> Picture:
  """Reads a picture.

  The EXIF orientation is applied. Grey stays grey, a palette becomes RGB,
  transparency is kept, except where everything is opaque. More than 8 bits
  become 8; CMYK, and grey of another profile, become sRGB; of several frames
  the first is taken: each is said in a notice, as is each kind of metadata that
  the file has. Of those only a profile of RGB is kept.

  Args:
    source: a path, or a binary file object, such as sys.stdin.buffer.
    srgb: whether RGB of another profile is converted to sRGB, too; otherwise
      its samples are left as they are, and the profile goes with them.
    incomplete: see readers.decode.

  Returns:
    Picture; without a profile where that is sRGB within one step of 8 bits.

  Raises:
    PictureError, OSError: see readers.decode.
  """
  decoded = readers.decode(source, incomplete)
  picture, bits, notices = decoded.picture, decoded.bits, decoded.notices
  if picture.mode[0] == 'I':
    channels, convert = _from_wide_grey(picture, bits, notices)
    icc = b''
  else:
    channels, convert, icc = _conversion(picture, bits, srgb, notices)
  width, height = picture.size
  size = (height, width) if decoded.orientation < 5 else (width, height)
  pixels = np.empty((*size, channels), np.uint8)
  stored = _as_stored(pixels, decoded.orientation)
  for rows in _bands(stored):
    band = convert(picture.crop((0, rows.start, width, rows.stop)))
    stored[rows] = np.asarray(band).reshape(stored[rows].shape)
  # Its memory, before there may be a second array.
  del decoded, picture, convert
  if channels in (2, 4) and pixels[..., -1].min() == 255:
    pixels = np.ascontiguousarray(pixels[..., :-1])
  return Picture(pixels, icc, list(dict.fromkeys(notices)))


def read_rgb(path) -> tuple[np.ndarray, list[str]]:
  """Reads a picture as it is seen: in sRGB, transparency laid on white.

  Returns:
    uint8 [height, width, 3], and a list of notices for the user.

  Raises:
    PictureError: see read; also a JPEG that is cut off.
    OSError: the file cannot be read.
  """
  picture = read(path, srgb=True, incomplete=False)
  pixels, notices = picture.pixels, picture.notices
  if pixels.shape[-1] in (2, 4):
    notices.append('transparency is not kept; it is laid on white')
    pixels = _on_white(pixels)
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  return pixels, notices


def _conversion(picture, bits, srgb, notices):
  """How a picture of 8-bit samples is taken from Pillow.

  Returns:
    channels: 1 to 4.
    convert: of a band of rows, to samples.
    icc: the profile to keep.
  """
  icc = icc_lib.trim(picture.info.get('icc_profile') or b'')
  mode = _SAMPLES.get(picture.mode, 'RGB')
  if mode in ('L', 'RGB') and 'transparency' in picture.info:
    if bits > 8:
      # Given in 16 bits, it cannot be found among 8.
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

  source = 'CMYK' if picture.mode == 'CMYK' else mode
  if picture.mode in ('CMYK', 'LAB'):
    notices.append(f'{picture.mode} becomes sRGB')
  transform = None
  if picture.mode == 'LAB':
    icc = b''  # not of what Pillow converts it to
  if icc:
    try:
      if source != 'CMYK' and profiles.is_srgb(icc):
        icc = b''
      else:
        transform = profiles.to_srgb(icc, source)
    except profiles.ProfileError as e:
      notices.append(f'its colour profile is not used: {e}')
      icc = b''
  if len(icc) > readers.MAX_ICC_BYTES:
    notices.append(
      f'its colour profile of {len(icc):,} bytes is too long; converted to '
      'sRGB'
    )
  elif transform and not srgb and source != 'CMYK':
    return len(mode), lambda band: _in_mode(band, mode), icc
  if transform:
    return len(mode), lambda band: transform(_in_mode(band, source)), b''
  return len(mode), lambda band: _in_mode(band, mode), b''


def _in_mode(band, mode):
  return band if band.mode == mode else band.convert(mode)


def _from_wide_grey(picture, bits, notices):
  """How grey of up to 16 bits is taken from Pillow; see _conversion."""
  # Pillow scales that of a PPM.
  top = 2**(16 if picture.format == 'PPM' else bits) - 1
  table = ((np.arange(2**16) * 255 + top // 2) // top).clip(0, 255)
  if picture.format == 'TIFF' and picture.tag_v2.get(262) == 0:
    table = 255 - table  # white is zero, which Pillow leaves so
  icc = icc_lib.trim(picture.info.get('icc_profile') or b'')
  levels = _grey_levels(icc, notices)[table]
  key = picture.info.get('transparency')

  def narrow(band):
    wide = np.asarray(band)
    if key is None:
      return levels[wide]
    alpha = np.where(wide == key, 0, 255).astype(np.uint8)
    return np.stack([levels[wide], alpha], -1)

  return 1 + (key is not None), narrow


def _grey_levels(icc, notices) -> np.ndarray:
  """uint8 [256]: the grey of sRGB for each grey of a picture."""
  same = np.arange(256, dtype=np.uint8)
  try:
    if not icc or icc_lib.problem(icc, 'RGB') is None and (
      profiles.is_srgb(icc)
    ):
      return same
    levels = profiles.grey_to_srgb(icc)
  except profiles.ProfileError as e:
    notices.append(f'its colour profile is not used: {e}')
    return same
  if (levels != same).any():
    notices.append('grey of another profile becomes sRGB')
  return levels


def _as_stored(pixels, orientation):
  """The view of an upright picture that a file of this orientation stores."""
  if orientation == 6:
    return np.rot90(pixels)
  if orientation == 8:
    return np.rot90(pixels, -1)
  if orientation in (3, 4, 7):
    pixels = pixels[::-1]
  if orientation in (2, 3, 7):
    pixels = pixels[:, ::-1]
  return pixels.swapaxes(0, 1) if orientation in (5, 7) else pixels


def _bands(pixels):
  """Slices of the rows of a picture, about _BAND_PIXELS each."""
  height, width = pixels.shape[:2]
  step = max(1, _BAND_PIXELS // width)
  for top in range(0, height, step):
    yield slice(top, min(top + step, height))


# --- Writing ----------------------------------------------------------------


def fit(pixels: np.ndarray, suffix: str, icc: bytes = b'') -> Picture:
  """What a format can hold of a picture.

  JPEG, BMP and PPM have no transparency: it is laid on white. BMP and PPM have
  no profile, WebP none of grey: colours become sRGB. A profile that does not
  fit the channels is left out. Each is said in a notice.

  Args:
    pixels: uint8 [height, width, 1 to 4].
    suffix: a file name ending, see encode.
    icc: the profile of the colours; empty: sRGB.

  Raises:
    PictureError: an unknown ending.
  """
  name = format_of(suffix)
  notices = []
  problem = icc and icc_lib.problem(icc, icc_lib.space(pixels.shape[-1]))
  if problem:
    notices.append(f'its colour profile is not used: {problem}')
    icc = b''
  # What has no grey would give a profile of grey to colours.
  as_colours = pixels.shape[-1] in _WRITTEN_AS_COLOURS.get(name, ())
  if icc and (name in _WITHOUT_PROFILE or as_colours):
    kind = 'profile of grey' if as_colours else 'colour profile'
    notices.append(f'{name} holds no {kind}; converted to sRGB')
    try:
      pixels = _to_srgb(pixels, icc)
    except profiles.ProfileError as e:
      notices[-1] = f'its colour profile is not used: {e}'
    icc = b''
  if pixels.shape[-1] in (2, 4) and name in _WITHOUT_ALPHA:
    notices.append(f'{name} holds no transparency; it is laid on white')
    pixels = _on_white(pixels)
  return Picture(pixels, icc, notices)


def encode(pixels: np.ndarray, suffix: str, icc: bytes = b'') -> bytes:
  """A picture file's bytes, in the format of a file name ending.

  Args:
    pixels: uint8 [height, width, 1 to 4].
    suffix: such as '.png'. PNG, TIFF, BMP, PPM and WebP are lossless here;
      JPEG and AVIF are of quality 95 without colour subsampling.
    icc: the profile of the colours, attached to the file; empty: sRGB.

  Raises:
    PictureError: an unknown ending, or a size that the format cannot hold.
  """
  name = format_of(suffix)
  fitted = fit(pixels, suffix, icc)
  pixels = fitted.pixels
  height, width, channels = pixels.shape
  check_size(width, height, suffix, channels < 3)
  options = dict(_WRITES[name])
  if fitted.icc:
    options['icc_profile'] = fitted.icc
  if name == 'AVIF' and channels == 1:
    del options['subsampling']  # or it would be written in colour
  image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
  out = io.BytesIO()
  try:
    image.save(out, format=name, **options)
  except (OSError, ValueError, RuntimeError) as e:
    raise PictureError(
      f'{width} x {height} pixels cannot be written as {name}: {e}'
    ) from e
  return out.getvalue()


def check_size(
  width: int, height: int, suffix: str, grey: bool = True
) -> None:
  """Raises PictureError where a format cannot hold so many pixels a side.

  Or colours, if the image is not grey.
  """
  name = format_of(suffix)
  if suffix.lower() == '.pgm' and not grey:
    raise PictureError('.pgm holds grey only; .ppm holds colours.')
  most = _MOST_PIXELS.get(name, max(width, height))
  if max(width, height) > most:
    raise PictureError(
      f'{width} x {height} pixels are more than {name} holds, {most} a side.'
    )


def format_of(suffix: str) -> str:
  """The format of a file name ending, as Pillow calls it; see encode."""
  if suffix.lower() not in formats.WRITTEN:
    raise PictureError(
      f'No image format that is written ends in {suffix!r}; one of '
      f'{formats.SUFFIXES_WRITTEN} is expected.'
    )
  return formats.WRITTEN[suffix.lower()]


def _to_srgb(pixels, icc):
  """Colours of a profile to sRGB; alpha stays."""
  made = pixels.copy()
  if pixels.shape[-1] < 3:
    levels = profiles.grey_to_srgb(icc)
    for rows in _bands(pixels):
      made[rows, :, 0] = levels[pixels[rows, :, 0]]
    return made
  transform = profiles.to_srgb(icc, 'RGB')
  for rows in _bands(pixels):
    band = Image.fromarray(np.ascontiguousarray(pixels[rows, :, :3]))
    made[rows, :, :3] = np.asarray(transform(band))
  return made


def _on_white(pixels):
  """uint8 [height, width, 2 or 4] -> [height, width, 1 or 3]."""
  made = np.empty((*pixels.shape[:2], pixels.shape[2] - 1), np.uint8)
  for rows in _bands(pixels):
    colours = pixels[rows, :, :-1].astype(np.uint16)
    alpha = pixels[rows, :, -1:].astype(np.uint16)
    # At most 255^2 + 127, which 16 bits hold.
    made[rows] = (colours * alpha + 255 * (255 - alpha) + 127) // 255
  return made
