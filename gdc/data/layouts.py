"""Which kinds of image files are read: those that Pillow decodes correctly.

The tests compare each of them with samples of known values or with another
decoder. Every other kind is refused by name.
"""
import re
import struct
import zlib

from PIL import TiffImagePlugin

_PHOTOMETRICS = {
  0: 'grey', 1: 'grey', 2: 'RGB', 3: 'palette', 4: 'mask', 5: 'CMYK',
  6: 'YCbCr', 8: 'CIELab', 9: 'ICCLab', 10: 'ITULab', 32803: 'raw camera',
  32844: 'LogL', 32845: 'LogLuv', 34892: 'raw camera',
}
_FORMATS = {1: '', 2: 'signed ', 3: 'floating-point ', 5: 'complex '}
# First row and column of each pass over an interlaced PNG, and their steps.
_ADAM7 = (
  (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
  (0, 1, 2, 2), (1, 0, 2, 1),
)
# (offset, bytes, name) of common formats.
_SIGNATURES = (
  (0, b'\x89PNG', 'PNG'), (0, b'\xff\xd8', 'JPEG'), (0, b'GIF8', 'GIF'),
  (8, b'WEBP', 'WebP'), (4, b'ftypavi', 'AVIF'), (0, b'BM', 'BMP'),
  *((0, b'P%d' % n, 'PPM') for n in range(1, 7)),
  (0, b'II*\0', 'TIFF'), (0, b'MM\0*', 'TIFF'), (0, b'II+\0', 'TIFF'),
  (0, b'MM\0+', 'TIFF'), (0, b'P7', 'PAM'), (0, b'Pf', 'PFM'),
  (0, b'PF', 'PFM'), (4, b'ftyphe', 'HEIC'), (4, b'ftypmif', 'HEIF'),
  (0, b'\xff\x0a', 'JPEG XL'), (4, b'JXL ', 'JPEG XL'),
  (4, b'jP  ', 'JPEG 2000'), (0, b'\xff\x4f\xff\x51', 'JPEG 2000'),
  (0, b'8BPS', 'Photoshop'), (0, b'qoif', 'QOI'), (0, b'v/1\1', 'OpenEXR'),
  (0, b'#?', 'Radiance HDR'), (0, b'DDS ', 'DDS'), (0, b'\0\0\1\0', 'ICO'),
  (0, b'%PDF', 'PDF'), (0, b'<svg', 'SVG'), (0, b'<?xml', 'XML'),
  (0, b'GDC', 'gdc'),
)


def kind(head: bytes) -> str | None:
  """Returns the name of the format that a file's first bytes are of."""
  return next((
    name for start, signature, name in _SIGNATURES
    if head[start:].startswith(signature)
  ), None)


def tiff(file) -> tuple[str, bool]:
  """Returns a description of a TIFF's samples, and whether they are read.

  Args:
    file: the file; its position is changed.

  Raises:
    Exception: whatever Pillow raises for a damaged file.
  """
  file.seek(0)
  head = file.read(16)
  tags = TiffImagePlugin.ImageFileDirectory_v2(
    head if head[2:4] in (b'+\0', b'\0+') else head[:8]
  )
  file.seek(tags.next)
  tags.load(file)
  if 256 not in tags or not {273, 324} & set(tags):
    raise ValueError('its tags are cut off')
  # Raw camera files: Canon's, DNG, or with a small preview first.
  if head[8:10] == b'CR' or 50706 in tags or tags.get(254, 0) & 1:
    return 'a preview, as raw camera files have', False
  bits = sorted(set(values(tags, 258, 1)))
  samples = tags.get(277, 1)
  formats = set(values(tags, 339, 1))
  photometric = tags.get(262)
  planes = tags.get(284, 1) == 2 and samples > 1
  kinds = ' or '.join(_FORMATS.get(f, 'unknown ') for f in sorted(formats))
  said = (
    f'{kinds}{"/".join(map(str, bits))}-bit '
    f'{_PHOTOMETRICS.get(photometric, "unknown")} samples, {samples} per pixel'
    + (', in planes' if planes else '')
  )
  if formats != {1} or len(bits) > 1 or bits[0] > 16 or samples > 6 or (
    photometric not in (0, 1, 2, 3, 5, 6, 8)
  ):
    return said, False
  if photometric == 5 and tags.get(332, 1) != 1:
    return f'{said}, of other inks', False
  if photometric == 6 and not (
    _near(tags.get(529), (0.299, 0.587, 0.114))
    and _near(tags.get(532), (0, 255, 128, 255, 128, 255))
  ):
    return f'{said}, of unusual coefficients', False
  # Pillow would read on into whatever follows.
  if photometric == 6 and tags.get(259, 1) == 1 and (
    tags.get(530, (2, 2)) != (1, 1)
  ):
    return f'{said}, subsampled and uncompressed', False
  # Pillow misreads all other planar files.
  return said, not planes or photometric in (2, 5) and samples <= 4 and (
    tags.get(266, 1) == 1 and (bits == [8] or tags.get(259, 1) != 1)
  )


def values(tags, tag: int, default) -> tuple:
  """Returns the values of a TIFF tag that may have one or several."""
  value = tags.get(tag, default)
  return value if isinstance(value, tuple) else (value,)


def png_chunks(file):
  """Yields (name, length) of a PNG's chunks, the file at the chunk's data."""
  position = 8
  while True:
    file.seek(position)
    start = file.read(8)
    if len(start) < 8:
      return
    length, name = struct.unpack('>I4s', start)
    yield name, length
    position += 12 + length
    if name == b'IEND':
      return


def png_problem(image, file) -> str | None:
  """Returns what a loaded PNG lacks, unnoticed by Pillow; None if nothing.

  Args:
    image: the image as Pillow loaded it.
    file: the file; its position is changed.
  """
  width, height = image.size
  interlaced = bool(image.info.get('interlace'))
  last = image.crop((0, height - 1, width, height)).tobytes()
  # Pillow leaves missing samples at zero.
  blank = interlaced or not last.strip(b'\0')
  if image.mode != 'P' and not blank:
    return None
  has_palette, inflated, inflater = False, 0, zlib.decompressobj()
  file.seek(24)
  depth, colours = file.read(2)
  for name, length in png_chunks(file):
    has_palette |= name == b'PLTE'
    if name == b'IDAT' and not blank:
      break
    data = file.read(length) if name == b'IDAT' else b''
    while data and not inflater.eof:
      inflated += len(inflater.decompress(data, 1 << 20))
      data = inflater.unconsumed_tail
  if colours == 3 and not has_palette:
    return 'its palette is missing'
  bits = depth * {2: 3, 4: 2, 6: 4}.get(colours, 1)
  expected = 0
  for top, left, down, right in _ADAM7 if interlaced else ((0, 0, 1, 1),):
    rows, columns = -(-(height - top) // down), -(-(width - left) // right)
    if columns > 0:
      expected += max(rows, 0) * (1 + -(-columns * bits // 8))
  if blank and inflated < expected:
    return 'it is cut off: its samples end early'
  return None


def depth(format: str, head: bytes) -> int:
  """Returns the bits per channel, 8 or more unless a PNG has fewer.

  Args:
    format: Pillow's name; not TIFF.
    head: the file's first bytes.
  """
  if format == 'PNG':
    return head[24]
  if format == 'PPM':
    numbers = re.sub(rb'#[^\n\r]*', b' ', head[2:]).split(None, 3)[:3]
    if head[1:2] in b'14' or len(numbers) < 3 or not numbers[2].isdigit():
      return 8
    return max(8, int(numbers[2]).bit_length())
  if format == 'AVIF':
    # Third byte of each AV1 configuration: high_bitdepth and twelve_bit.
    kinds = re.findall(rb'(?s)av1C..(.)', head)
    return max(
      ({0x40: 10, 0x60: 12}.get(kind[0] & 0x60, 8) for kind in kinds),
      default=8,
    )
  return 8


def _near(found, expected) -> bool:
  """Whether a tag has its default values or is absent."""
  return found is None or len(found) == len(expected) and all(
    abs(float(f) - e) < 0.002 for f, e in zip(found, expected, strict=True)
  )
