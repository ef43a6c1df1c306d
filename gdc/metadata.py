"""EXIF and XMP of an image: taken from files, set upright, fitted to formats.

EXIF is a TIFF structure (CIPA DC-008), here without the bytes `Exif\\0\\0` that
JPEG puts before it; XMP is an XML packet. Both stay as they came, byte by byte,
except for the orientation: offsets in maker notes stay valid.
"""
import re
import struct
import warnings

from PIL import ExifTags, Image

PREFIX = b'Exif\0\0'
_ORDERS = {b'II*\0': '<', b'MM\0*': '>'}
_ENTRY_BYTES = 12
_SHORT = 3
_XMP_ORIENTATION = re.compile(
  rb'(\btiff:Orientation(?:\s*=\s*["\']|\s*>)\s*)[0-9]+'
)
_IFDS = {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
_RESOLUTION = {
  ExifTags.Base.XResolution, ExifTags.Base.YResolution,
  ExifTags.Base.ResolutionUnit,
}
# Tags of a TIFF file that are metadata; the others say how samples are stored.
_TIFF_TAGS = _IFDS | _RESOLUTION | {
  ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model,
  ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist,
  ExifTags.Base.HostComputer, ExifTags.Base.Copyright,
}


def trim(exif: bytes) -> bytes:
  """Returns EXIF without the prefix, which some programs write twice."""
  return re.sub(rb'^(Exif\0\0){1,2}', b'', exif)


def problem(exif: bytes) -> str | None:
  """Says why bytes are not EXIF without a prefix; None if they are."""
  if exif[:4] not in _ORDERS:
    return f'it starts with {exif[:4]!r}, which is no TIFF header'
  try:
    _entries(exif)
  except struct.error:
    return 'its table of tags is cut off'
  return None


def orientation(exif: bytes, xmp: bytes = b'') -> int:
  """Returns the orientation, 1 to 8; 1, upright, if absent or damaged."""
  image = Image.new('L', (1, 1))
  image.info.update(exif=exif, xmp=xmp)
  return orientation_of(image)


def orientation_of(image: Image.Image) -> int:
  """Returns the orientation of an opened image, as `orientation` does."""
  try:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # damaged metadata must not prevent decoding
    return 1
  return value if value in range(1, 9) else 1


def upright(exif: bytes) -> bytes:
  """Returns EXIF with the orientation 1 if it has one; b'' if only that.

  Args:
    exif: without prefix and problem, or b''.
  """
  order, entries = _entries(exif) if exif else ('', [])
  if {tag for _, tag in entries} <= {ExifTags.Base.Orientation}:
    return b''
  found = bytearray(exif)
  for start, tag in entries:
    if tag == ExifTags.Base.Orientation:
      struct.pack_into(f'{order}HHIHH', found, start, tag, _SHORT, 1, 1, 0)
  return bytes(found)


def without_orientation(exif: bytes) -> bytes:
  """Returns EXIF without that tag; all beyond the table stays in its place."""
  order, entries = _entries(exif)
  places = [start for start, tag in entries
            if tag == ExifTags.Base.Orientation]
  if not places:
    return exif
  first = entries[0][0]
  end = first + len(entries) * _ENTRY_BYTES
  kept = b''.join(
    exif[start:start + _ENTRY_BYTES] for start, _ in entries
    if start not in places
  ) + exif[end:end + 4]  # with the offset of the next table
  count = struct.pack(f'{order}H', len(entries) - len(places))
  return exif[:first - 2] + count + kept + exif[first + len(kept):]


def upright_xmp(xmp: bytes) -> bytes:
  """Returns XMP with tiff:Orientation 1 if it has one."""
  return _XMP_ORIENTATION.sub(rb'\g<1>1', xmp)


def find(
  image: Image.Image, max_exif_bytes: int, max_xmp_bytes: int
) -> tuple[bytes, bytes, list[str]]:
  """Takes EXIF and XMP from an opened and loaded image.

  Args:
    image: as Pillow gives it.
    max_exif_bytes: EXIF of more is left out.
    max_xmp_bytes: XMP of more is left out.

  Returns:
    exif: upright and without prefix; b'' if it has the orientation alone.
    xmp: upright.
    notices: on what is left out.
  """
  notices = []
  exif, xmp = b'', image.info.get('xmp') or b''
  try:
    exif = trim(_exif(image))
    damage = exif and problem(exif)
  except Exception as e:  # Pillow raises errors of many kinds
    damage = str(e) or type(e).__name__
  if damage:
    notices.append(f'its EXIF is not kept: {damage}')
    exif = b''
  exif = upright(exif)
  if len(exif) > max_exif_bytes:
    notices.append(
      f'its EXIF of {len(exif):,} bytes is not kept: at most '
      f'{max_exif_bytes:,} are'
    )
    exif = b''
  if not isinstance(xmp, bytes):  # numbers, in a tag of a TIFF
    notices.append('its XMP is not kept: it is no text')
    xmp = b''
  if len(xmp) > max_xmp_bytes:
    notices.append(
      f'its XMP of {len(xmp):,} bytes is not kept: at most '
      f'{max_xmp_bytes:,} are'
    )
    xmp = b''
  return exif, upright_xmp(xmp), notices


def for_tiff(exif: bytes, xmp: bytes = b'') -> Image.Exif:
  """Returns what Pillow is to write into a TIFF file.

  Args:
    exif: without prefix and problem, or b''; what describes the samples of
      another file, such as ImageWidth, is left out.
    xmp: an XMP packet, or b''.

  Raises:
    Exception: whatever Pillow raises for damaged values.
  """
  found = Image.Exif()
  if exif:
    source = Image.Exif()
    with warnings.catch_warnings():  # on damaged values
      warnings.simplefilter('ignore')
      source.load(exif)
      kept = _metadata(source).tobytes()
    # From bytes: Pillow's writer looks its IFDs up in them.
    found.load(kept)
  if xmp:
    found[ExifTags.Base.XMLPacket] = xmp
  return found


def _exif(image) -> bytes:
  """Returns the EXIF of an image, with or without a prefix."""
  if image.format == 'TIFF':
    exif = _metadata(image.getexif())
    return exif.tobytes() if set(exif) - _RESOLUTION else b''
  # Where ImageMagick puts the EXIF of a PNG.
  if 'exif' not in image.info and 'Raw profile type exif' in image.info:
    lines = image.info['Raw profile type exif'].split('\n')
    return bytes.fromhex(''.join(lines[3:]))
  return bytes(image.info.get('exif') or b'')


def _metadata(exif: Image.Exif) -> Image.Exif:
  """Returns those tags that do not describe how a TIFF stores its samples."""
  kept = Image.Exif()
  for tag in sorted(_TIFF_TAGS & set(exif)):
    if tag in _IFDS:
      table = dict(exif.get_ifd(tag))
      table.pop(ExifTags.IFD.Interop, None)  # an offset into the other file
      if table:
        kept[tag] = table
    else:
      kept[tag] = exif[tag]
  return kept


def _entries(exif: bytes) -> tuple[str, list[tuple[int, int]]]:
  """Returns the byte order, and (place, tag) of the entries of the first IFD.

  Raises:
    struct.error: it is cut off.
  """
  order = _ORDERS[exif[:4]]
  start, = struct.unpack_from(f'{order}I', exif, 4)
  count, = struct.unpack_from(f'{order}H', exif, start)
  places = range(start + 2, start + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES)
  struct.unpack_from(f'{count * _ENTRY_BYTES}x', exif, start + 2)
  return order, [
    (place, *struct.unpack_from(f'{order}H', exif, place)) for place in places
  ]
