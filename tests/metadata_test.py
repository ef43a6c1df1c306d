"""EXIF and XMP: from files of every kind, upright, and to files again."""
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, TiffTags

from gdc import metadata
from gdc.codec import bitstream
from gdc.data import image_files

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
XMP = (
  b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8">'
  b'<tiff:Orientation>8</tiff:Orientation></rdf:Description></x:xmpmeta>'
)
SUFFIXES = ('.jpg', '.png', '.webp', '.avif', '.tif')


def _camera(orientation=None):
  exif = Image.Exif()
  exif.update({271: 'a camera', 305: 'its program'})
  if orientation:
    exif[ExifTags.Base.Orientation] = orientation
  exif.get_ifd(ExifTags.IFD.Exif).update({
    36867: '2024:01:02 03:04:05', 37500: b'note of the maker',
  })
  exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: 'N', 2: (47.0, 30.0, 15.5)})
  return exif


def _read(data):
  return image_files.read(io.BytesIO(data))


def _saved(name, **options):
  data = io.BytesIO()
  Image.fromarray(PIXELS).save(data, name, **options)
  return data.getvalue()


def _tags(exif):
  """All tags of EXIF, by Pillow."""
  found = Image.Exif()
  found.load(exif)
  tables = {
    tag: found.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
  }
  return {**found, **tables}


def _exif_by_hand(order, tags, after=b''):
  """EXIF with short tags, whose value is padded with 0xff, and a next IFD."""
  start = {'<': b'II*\0', '>': b'MM\0*'}[order]
  head = struct.pack(f'{order}IH', 8, len(tags))
  entries = b''.join(
    struct.pack(f'{order}HHIHH', tag, 3, 1, value, 0xffff)
    for tag, value in tags.items()
  )
  return start + head + entries + struct.pack(f'{order}I', 99) + after


# --- Upright ----------------------------------------------------------------


@pytest.mark.parametrize('order', '<>')
def test_nothing_but_the_orientation_changes(order):
  exif = _exif_by_hand(order, {256: 24, 274: 6, 41729: 7}, b'thumbnail 274')
  entry = struct.pack(f'{order}HHIHH', 274, 3, 1, 6, 0xffff)
  one = struct.pack(f'{order}HHIHH', 274, 3, 1, 1, 0)
  assert exif.count(entry) == 1
  assert metadata.upright(exif) == exif.replace(entry, one)
  assert metadata.orientation(exif) == 6
  without = metadata.without_orientation(exif)
  assert len(without) == len(exif) and without.endswith(b'thumbnail 274')
  assert without.startswith(
    _exif_by_hand(order, {256: 24, 41729: 7})
  )
  plain = _exif_by_hand(order, {256: 24})
  assert metadata.upright(plain) == plain
  assert metadata.without_orientation(plain) == plain


def test_an_orientation_alone_is_nothing():
  assert metadata.upright(_exif_by_hand('<', {274: 6})) == b''
  assert metadata.upright(b'') == b''


@pytest.mark.parametrize('before,after', [
  (b'<a tiff:Orientation="6" b="6"/>', b'<a tiff:Orientation="1" b="6"/>'),
  (b"<a tiff:Orientation = '3'/>", b"<a tiff:Orientation = '1'/>"),
  (b'<tiff:Orientation>8</tiff:Orientation>',
   b'<tiff:Orientation>1</tiff:Orientation>'),
  (b'<a xtiff:Orientation="6">8</a>', b'<a xtiff:Orientation="6">8</a>'),
])
def test_the_orientation_of_xmp(before, after):
  assert metadata.upright_xmp(before) == after


@pytest.mark.parametrize('exif,message', [
  (b'nothing', 'no TIFF header'), (b'II*\0', 'cut off'),
  (b'II*\0\x08\0\0\0\2\0' + bytes(20), 'cut off'),
  (b'MM\0*\xff\0\0\0' + bytes(20), 'cut off'),
])
def test_what_is_no_exif(exif, message):
  assert message in metadata.problem(exif)
  assert _read(_saved('JPEG', exif=b'Exif\0\0' + exif)).notices == [
    f'its EXIF is not kept: {metadata.problem(exif)}'
  ]


# --- Files ------------------------------------------------------------------


@pytest.mark.parametrize('name', ['JPEG', 'PNG', 'WEBP', 'AVIF', 'TIFF'])
@pytest.mark.parametrize('orientation', [1, 6, 7])
def test_read(name, orientation):
  exif = _camera(orientation)
  xmp = XMP.replace(b'8', b'%d' % orientation)
  options = {'exif': exif, 'xmp': xmp}
  if name == 'PNG':
    text = PngImagePlugin.PngInfo()
    text.add_itxt('XML:com.adobe.xmp', xmp.decode())
    options = {'exif': exif, 'pnginfo': text}
  elif name == 'TIFF':
    exif.load(exif.tobytes())  # else Pillow writes no IFDs
    exif[ExifTags.Base.XMLPacket] = xmp
    options = {'exif': exif}
  image = _read(_saved(name, **options))
  assert image.notices == []
  assert image.pixels.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))
  assert metadata.orientation(image.exif, image.xmp) == 1
  expected, found = _tags(_camera(1).tobytes()), _tags(image.exif)
  for tags in (expected, found):  # Pillow itself may take it out
    tags.pop(ExifTags.Base.Orientation, None)
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
      assert tags[tag]
  assert found == expected
  # Pillow takes the orientation out of a TIFF's XMP when it turns the image.
  if name != 'TIFF' or orientation == 1:
    assert image.xmp == XMP.replace(b'"8"', b'"1"').replace(b'>8<', b'>1<')
  else:
    assert image.xmp and b'%d' % orientation not in image.xmp


def test_exif_as_imagemagick_writes_it_in_a_png():
  exif = _camera().tobytes()
  text = PngImagePlugin.PngInfo()
  text.add_text(
    'Raw profile type exif', f'\nexif\n{len(exif):8}\n{exif.hex()}\n', zip=True
  )
  image = _read(_saved('PNG', pnginfo=text))
  assert image.exif == exif[6:] and image.notices == []


def test_xmp_of_a_tiff_that_is_no_text():
  tags = TiffImagePlugin.ImageFileDirectory_v2()
  tags[700] = 5
  tags.tagtype[700] = TiffTags.SHORT
  tags[274] = 1  # else Pillow looks for it in the XMP
  image = _read(_saved('TIFF', tiffinfo=tags))
  assert image.xmp == b''
  assert image.notices == ['its XMP is not kept: it is no text']


def test_content_that_is_too_long_is_left_out():
  exif = Image.Exif()
  exif.update({271: 'a camera', 37510: bytes(bitstream.MAX_EXIF_BYTES)})
  xmp = b' ' * (bitstream.MAX_XMP_BYTES + 1)
  image = _read(_saved('WEBP', exif=exif, xmp=xmp))
  assert image.exif == image.xmp == b''
  assert [n.split(' bytes')[0][:12] for n in image.notices] == [
    'its EXIF of ', 'its XMP of 1'
  ]
  most = b' ' * bitstream.MAX_XMP_BYTES
  assert _read(_saved('WEBP', xmp=most)).xmp == most


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_written_and_read(suffix):
  exif = _camera(1).tobytes()[6:]
  xmp = metadata.upright_xmp(XMP)
  for given in ((exif, b''), (b'', xmp), (exif, xmp)):
    assert image_files.fit(PIXELS, suffix, b'', *given).notices == []
    data = image_files.encode(PIXELS, suffix, b'', *given)
    image = _read(data)
    assert image.notices == [] and image.xmp == given[1]
    assert bool(image.exif) == bool(given[0])
    if given[0]:
      expected, found = _tags(exif), _tags(image.exif)
      for tags in (expected, found):
        tags.pop(ExifTags.Base.Orientation, None)
        for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
          tags[tag] = dict(tags[tag])
      assert found == expected
      if suffix in ('.jpg', '.png', '.webp'):
        assert image.exif == exif
      elif suffix == '.avif':  # which has its own orientation
        assert image.exif == metadata.without_orientation(exif)


def test_size_tags_of_another_file_do_not_change_a_tiff():
  exif = Image.Exif()
  exif.update({256: 9999, 257: 9999, 258: (16,), 259: 7, 271: 'a camera'})
  data = image_files.encode(PIXELS, '.tif', b'', exif.tobytes()[6:])
  image = _read(data)
  np.testing.assert_array_equal(image.pixels, PIXELS)
  assert _tags(image.exif)[271] == 'a camera'


@pytest.mark.parametrize('suffix', ['.bmp', '.ppm'])
def test_formats_without_metadata(suffix):
  fitted = image_files.fit(
    PIXELS, suffix, b'', _camera().tobytes()[6:], XMP
  )
  name = suffix[1:].upper()
  assert fitted.notices == [
    f'{name} holds no EXIF; it is left out', f'{name} holds no XMP; it is left '
    'out',
  ]
  assert fitted.exif == fitted.xmp == b''


def test_the_limits_of_jpeg():
  start = _exif_by_hand('<', {256: 1})
  for most, place in ((65_527, 0), (65_504, 1)):
    for size in (most, most + 1):
      given = [b'', b'']
      given[place] = start + bytes(size - len(start))
      fitted = image_files.fit(PIXELS, '.jpg', b'', *given)
      assert len(fitted.notices) == (size > most)
      image = _read(image_files.encode(PIXELS, '.jpg', b'', *given))
      assert [image.exif, image.xmp] == (given if size == most else [b'', b''])


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_damaged_exif_is_not_written(suffix):
  for exif in (b'nothing', b'II*\0\x08\0\0\0\2\0' + bytes(20)):
    fitted = image_files.fit(PIXELS, suffix, b'', exif)
    assert fitted.exif == b'' and 'its EXIF is left out' in fitted.notices[0]
    assert _read(image_files.encode(PIXELS, suffix, b'', exif)).exif == b''


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_any_damage_behind_the_table_can_be_written(suffix):
  rng = np.random.default_rng(0)
  whole = bytearray(_camera(1).tobytes()[6:])
  for _ in range(60):
    exif = whole.copy()
    for place in rng.integers(8, len(exif), 4):
      exif[place] = rng.integers(256)
    with warnings.catch_warnings(action='error'):
      data = image_files.encode(PIXELS, suffix, b'', bytes(exif))
      assert _read(data).pixels.size == PIXELS.size


def test_reading_damaged_exif_never_fails():
  rng = np.random.default_rng(1)
  data = _saved('PNG', exif=_camera(6))
  start = data.index(b'eXIf') + 4
  size, = struct.unpack('>I', data[start - 8:start - 4])
  for _ in range(100):
    exif = bytearray(data[start:start + size])
    for place in rng.integers(0, size, 3):
      exif[place] = rng.integers(256)
    crc = struct.pack('>I', zlib.crc32(b'eXIf' + exif))
    image = _read(data[:start] + exif + crc + data[start + size + 4:])
    assert image.exif == metadata.upright(image.exif)
