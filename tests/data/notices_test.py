"""Notices about what a file loses, and none for other files."""
import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gdc.data import image_files

IMAGE = Image.fromarray(
  np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
GAIN_MAP = (
  b'http://ns.adobe.com/xap/1.0/\0'
  b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1"/>'
)


def _notices(data):
  return image_files.read(io.BytesIO(data)).notices


def _save(name, **options):
  data = io.BytesIO()
  IMAGE.save(data, name, **options)
  return data.getvalue()


def _exif(**tags):
  exif = Image.Exif()
  exif.update({int(k[1:], 16): v for k, v in tags.items()})
  return exif


def _segment(data, marker, content):
  """Adds a segment to a JPEG."""
  return data[:2] + bytes([255, marker]) + struct.pack(
    '>H', len(content) + 2
  ) + content + data[2:]


def _chunks(**chunks):
  """Returns a PNG with these chunks before its samples."""
  data = _save('PNG')
  return data[:33] + b''.join(
    struct.pack('>I', len(v)) + k.encode() + v
    + struct.pack('>I', zlib.crc32(k.encode() + v)) for k, v in chunks.items()
  ) + data[33:]


@pytest.mark.parametrize('name', ['JPEG', 'PNG', 'WEBP', 'AVIF', 'TIFF'])
def test_exif(name):
  for exif in (_exif(x10f='a camera', x112=1), _exif(x112=6)):
    assert _notices(_save(name, exif=exif)) == []


@pytest.mark.parametrize('name', ['JPEG', 'WEBP', 'AVIF'])
def test_xmp(name):
  both = _save(name, xmp=XMP, exif=_exif(x110='a camera'))
  assert _notices(both) == []


def test_other_metadata():
  text = PngImagePlugin.PngInfo()
  text.add_itxt('XML:com.adobe.xmp', XMP.decode())
  assert _notices(_save('PNG', pnginfo=text)) == []
  text.add_text('Author', 'somebody')
  assert _notices(_save('PNG', pnginfo=text)) == ['not kept: comments']
  for name in ('JPEG', 'GIF'):
    assert _notices(_save(name, comment=b'text')) == ['not kept: comments']
  iptc = b'Photoshop 3.0\0008BIM\x04\x04\0\0' + struct.pack('>I', 8) + (
    b'\x1c\x02\x05\0\x03abc'
  )
  assert _notices(_segment(_save('JPEG'), 0xed, iptc)) == ['not kept: IPTC']
  tiff = _save('TIFF', tiffinfo={700: XMP, 33723: b'1234'})
  assert _notices(tiff) == ['not kept: IPTC']


def test_gain_maps():
  data = io.BytesIO()
  IMAGE.save(data, 'MPO', save_all=True, append_images=[IMAGE])
  assert _notices(data.getvalue()) == ['only the first of 2 frames is taken']
  for jpeg in (data.getvalue(), _save('JPEG')):
    assert _notices(_segment(jpeg, 0xe1, GAIN_MAP)) == [
      'its HDR gain map is not kept',
    ]


def test_a_profile_that_cannot_be_read():
  assert _notices(_chunks(iCCP=b'name\0\0damaged')) == [
    'its colour profile is not used: it is damaged'
  ]


@pytest.mark.parametrize('chunks,said', [
  ({'cICP': bytes([9, 16, 0, 1])}, 'cICP 9/16'),
  ({'cICP': bytes([1, 13, 0, 1])}, None),
  ({'gAMA': struct.pack('>I', 100_000)}, 'gamma 1.00'),
  ({'gAMA': struct.pack('>I', 45_455)}, None),
  ({'gAMA': struct.pack('>I', 100_000), 'sRGB': b'\0'}, None),
], ids=str)
def test_colours_of_png_without_a_profile(chunks, said):
  assert _notices(_chunks(**chunks)) == (
    [f'its colours ({said}) are taken for sRGB'] if said else []
  )


def test_cicp_beside_a_profile(rgb_profile):
  profile = b'name\0\0' + zlib.compress(rgb_profile)
  data = _chunks(iCCP=profile, cICP=bytes([9, 16, 0, 1]))
  found = image_files.read(io.BytesIO(data))
  assert found.icc == rgb_profile
  assert found.notices == ['its cICP 9/16 is not used, its ICC profile is']


def test_colours_of_other_files_without_a_profile():
  pixels = np.asarray(IMAGE)
  for primaries, transfer, known in ((9, 16, False), (1, 13, True)):
    data = imagecodecs.avif_encode(
      pixels, level=90, primaries=primaries, transfer=transfer, matrix=6
    )
    assert _notices(data) == [
      f'its colours (cICP {primaries}/{transfer}) are taken for sRGB'
    ][known:]
  exif = Image.Exif()
  exif.get_ifd(0x8769)[0xa001] = 2
  assert _notices(_save('JPEG', exif=exif))[0] == (
    'its colours (Adobe RGB by EXIF) are taken for sRGB'
  )


@pytest.mark.parametrize('head,size', [
  (b'P6 4 2\n255\n', 24), (b'P5\n4 2 255 ', 8), (b'P5 4 2 999\n', 16),
  (b'P4 # a comment\n9 2\n', 4),
])
def test_portable_maps_one_after_another(head, size):
  data = head + bytes(size)
  said = 'only the first of several images is taken'
  assert said not in _notices(data)
  assert said not in _notices(data + b'\n\n')
  assert said in _notices(data + data)
