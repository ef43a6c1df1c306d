"""Notices about contents of an image file that are not kept."""
import re
import struct

from PIL import ExifTags

from gdc.data import layouts

_HEAD_BYTES = 1 << 16
# CICP numbers of colour primaries and transfer functions that are sRGB or
# unspecified.
_SRGB_PRIMARIES = (1, 2)
_SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)
_GAIN_MAPS = (
  b'hdrgm:', b'HDRGainMap', b'urn:iso:std:iso:ts:21496', b'\x04tmap', b'tmap\0',
)
_TIFF_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # channels by photometric; else 1
_IPTC = 33723  # TIFF tag
# PNG texts that are not comments; metadata.py keeps them.
_KEPT_TEXTS = {'XML:com.adobe.xmp', 'Raw profile type exif'}
_ADOBE_RGB = 2  # EXIF ColorSpace, as some cameras write it


def find(image, file, frames: int) -> list[str]:
  """Returns notices of a few words each about losses.

  Args:
    image: the image as Pillow opened and loaded it.
    file: the seekable file; its position is changed.
    frames: number of frames in the file.
  """
  file.seek(0)
  head = file.read(_HEAD_BYTES)
  found = []
  gain_map = image.format in ('JPEG', 'MPO', 'AVIF') and any(
    mark in head for mark in _GAIN_MAPS
  )
  if gain_map:
    found.append('its HDR gain map is not kept')
  if frames > 1 and not (gain_map and frames == 2):
    found.append(f'only the first of {frames} frames is taken')
  if image.format == 'PPM' and _is_followed(image, file, head):
    found.append('only the first of several images is taken')
  found += _colours(image, file, head)
  metadata = _metadata(image)
  if metadata:
    found.append(f'not kept: {", ".join(metadata)}')
  return found


def tiff_channels(tags) -> list[str]:
  """Returns notices on the channels of a TIFF besides its colours."""
  colours = _TIFF_COLOURS.get(tags.get(262), 1)
  extra = tags.get(277, 1) - colours
  kinds = layouts.values(tags, 338, 0) if 338 in tags else ()
  if extra == 1 and not kinds and colours == 3:
    return ['its fourth channel, of no said meaning, is taken as transparency']
  lost = extra - (kinds[:1] in ((1,), (2,), (999,)))
  if lost < 1:
    return []
  return [f'{lost} extra {"channel is" if lost == 1 else "channels are"} not '
          'kept']


def _is_followed(image, file, head) -> bool:
  """Whether another portable map follows, as some programs write."""
  if not head[1:2].isdigit():
    return False
  kind = int(head[1:2])
  number = rb'(?:\s|#[^\r\n]*[\r\n])+(\d+)'
  header = re.match(
    rb'P[456]' + number * (2 if kind == 4 else 3) + rb'\s', head
  )
  if not header:
    return False
  wide = 1 if kind == 4 or int(header[3]) < 256 else 2
  width, height = image.size
  row = -(-width // 8) if kind == 4 else width * wide * (3 if kind == 6 else 1)
  file.seek(header.end() + row * height)
  return re.match(rb'\s*P[1-7]\s', file.read(9)) is not None


def _metadata(image) -> list[str]:
  """Returns the names of the kinds of metadata that are not kept."""
  info = image.info
  tags = image.tag_v2 if image.format == 'TIFF' else {}
  photoshop = info.get('photoshop')
  text = set(getattr(image, 'text', {})) - _KEPT_TEXTS
  found = {
    'IPTC': _IPTC in tags or (
      isinstance(photoshop, dict) and 0x404 in photoshop
    ),
    'comments': info.get('comment') or text,
  }
  return [name for name, is_there in found.items() if is_there]


def _colours(image, file, head) -> list[str]:
  """Returns notices on colours that no ICC profile describes."""
  icc, chunks, said = image.info.get('icc_profile'), {}, None
  if image.format == 'PNG':
    for name, length in layouts.png_chunks(file):
      chunks.setdefault(name, file.read(min(length, 5)))
    cicp, gamma = chunks.get(b'cICP', b''), chunks.get(b'gAMA', b'')
    if len(cicp) == 4:  # takes precedence over an ICC profile
      said = _cicp(*cicp[:2])
    elif not {b'sRGB', b'iCCP'} & set(chunks) and len(gamma) == 4:
      gamma = int.from_bytes(gamma, 'big')
      if abs(gamma - 45455) > 2000:
        said = f'gamma {100_000 / max(gamma, 1):.2f}'
  elif icc:
    return []
  elif image.format == 'AVIF':
    start = head.find(b'colrnclx') + 8
    if 7 < start <= len(head) - 4:
      said = _cicp(*struct.unpack_from('>HH', head, start))
  elif image.format == 'BMP':
    if head[14] == 124 and head[70:74] == b'DEBM':
      said = 'an embedded profile'
  elif _is_adobe_rgb(image):
    said = 'Adobe RGB by EXIF'
  if said and icc:
    return [f'its {said} is not used, its ICC profile is']
  lost = b'iCCP' in chunks and not icc
  return ['its colour profile is not used: it is damaged'] * lost + (
    [f'its colours ({said}) are taken for sRGB'] if said else []
  )


def _is_adobe_rgb(image) -> bool:
  try:
    exif = image.getexif()
    return exif.get_ifd(ExifTags.IFD.Exif).get(0xA001) == _ADOBE_RGB or (
      exif.get_ifd(ExifTags.IFD.Interop).get(1) == 'R03'
    )
  except Exception:  # damaged metadata
    return False


def _cicp(primaries: int, transfer: int) -> str | None:
  if primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS:
    return None
  return f'cICP {primaries}/{transfer}'
