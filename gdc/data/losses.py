"""What an image file holds besides its pixels, and is not kept: as notices."""
import re
import struct

from PIL import ExifTags

_HEAD_BYTES = 1 << 16
# Colour primaries and transfer functions, in the numbers of CICP, that are sRGB
# or not said.
_SRGB_PRIMARIES = (1, 2)
_SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)
_GAIN_MAPS = (
  b'hdrgm:', b'HDRGainMap', b'urn:iso:std:iso:ts:21496', b'\x04tmap', b'tmap\0',
)
_TIFF_EXIF = (
  ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.Base.Make,
  ExifTags.Base.Model, ExifTags.Base.DateTime, ExifTags.Base.Artist,
  ExifTags.Base.Copyright,
)
_ADOBE_RGB = 2  # EXIF's ColorSpace, as some cameras write it


def find(picture, file, frames: int) -> list[str]:
  """Notices on what is lost, each of a few words.

  Args:
    picture: as Pillow opened and loaded it.
    file: the file, which can seek; its position is changed.
    frames: their number.
  """
  file.seek(0)
  head = file.read(_HEAD_BYTES)
  found = []
  gain_map = picture.format in ('JPEG', 'MPO', 'AVIF') and any(
    mark in head for mark in _GAIN_MAPS
  )
  if gain_map:
    found.append('its HDR gain map is not kept')
  if frames > 1 and not (gain_map and frames == 2):
    found.append(f'only the first of {frames} frames is taken')
  if picture.format == 'PPM' and _goes_on(picture, file, head):
    found.append('only the first of several images is taken')
  found += _colours(picture, file, head)
  kinds = _metadata(picture)
  if kinds:
    found.append(f'not kept: {", ".join(kinds)}')
  return found


def _goes_on(picture, file, head) -> bool:
  """Whether another portable map follows the first, as some programs write."""
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
  width, height = picture.size
  row = -(-width // 8) if kind == 4 else width * wide * (3 if kind == 6 else 1)
  file.seek(header.end() + row * height)
  return re.match(rb'\s*P[1-7]\s', file.read(9)) is not None


def _metadata(picture) -> list[str]:
  """Names of the metadata that a file has."""
  info, kinds = picture.info, []
  if _exif(picture):
    kinds.append('EXIF')
  tags = picture.tag_v2 if picture.format == 'TIFF' else {}
  if any(k in info for k in ('xmp', 'XML:com.adobe.xmp')) or 700 in tags:
    kinds.append('XMP')
  photoshop = info.get('photoshop')
  if 33723 in tags or isinstance(photoshop, dict) and 0x404 in photoshop:
    kinds.append('IPTC')
  text = set(getattr(picture, 'text', {})) - {'XML:com.adobe.xmp'}
  if info.get('comment') or text or 270 in tags:
    kinds.append('comments')
  return kinds


def _exif(picture) -> bool:
  """Whether there is more than the orientation, which is applied."""
  try:
    exif = picture.getexif()
    if picture.format == 'TIFF':  # all of its own tags count as EXIF there
      return any(tag in exif for tag in _TIFF_EXIF)
    return bool(set(exif) - {ExifTags.Base.Orientation})
  except Exception:  # damaged metadata
    return 'exif' in picture.info


def _colours(picture, file, head) -> list[str]:
  """Colours that are given otherwise than by an ICC profile."""
  said = None
  if picture.format == 'PNG':
    chunks = _png_chunks(file)
    cicp = chunks.get(b'cICP', b'')
    if len(cicp) == 4:
      # Over an ICC profile it has precedence.
      said = _cicp(*cicp[:2])
    elif not {b'sRGB', b'iCCP'} & set(chunks) and len(
      gamma := chunks.get(b'gAMA', b'')
    ) == 4:
      gamma, = struct.unpack('>I', gamma)
      if abs(gamma - 45455) > 2000:
        said = f'gamma {100_000 / max(gamma, 1):.2f}'
  elif picture.info.get('icc_profile'):
    pass
  elif picture.format == 'AVIF':
    start = head.find(b'colrnclx') + 8
    if 7 < start <= len(head) - 4:
      said = _cicp(*struct.unpack_from('>HH', head, start))
  elif picture.format == 'BMP':
    if head[14] == 124 and head[70:74] == b'DEBM':
      said = 'an embedded profile'
  else:
    try:
      exif = picture.getexif()
      if exif.get_ifd(ExifTags.IFD.Exif).get(0xA001) == _ADOBE_RGB or (
        exif.get_ifd(ExifTags.IFD.Interop).get(1) == 'R03'
      ):
        said = 'Adobe RGB by EXIF'
    except Exception:  # damaged metadata
      pass
  if said and picture.info.get('icc_profile'):
    return [f'its {said} is not used, its ICC profile is']
  lost = picture.format == 'PNG' and b'iCCP' in chunks and (
    not picture.info.get('icc_profile')
  )
  return ['its colour profile is not used: it is damaged'] * lost + (
    [f'its colours ({said}) are taken for sRGB'] if said else []
  )


def _cicp(primaries: int, transfer: int) -> str | None:
  if primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS:
    return None
  return f'cICP {primaries}/{transfer}'


def _png_chunks(file) -> dict[bytes, bytes]:
  """The first bytes of each kind of chunk of a PNG."""
  found = {}
  file.seek(8)
  while len(start := file.read(8)) == 8:
    length, name = struct.unpack('>I4s', start)
    data = file.read(min(length, 32))
    found.setdefault(name, data)
    if name == b'IEND':
      break
    file.seek(length - len(data) + 4, 1)
  return found
