"""Every supported layout of samples, against known values.

The files are written here, byte by byte, or by imagecodecs; expected values are
computed from the samples or decoded by imagecodecs. A layout that is not read
correctly must be refused by name.
"""
import io
import itertools
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from gdc.data import image_files, layouts

H, W = 19, 21
Y, X = np.mgrid[:32, :48]
PHOTO = np.stack([X * 5, Y * 7, 255 - X * 3], -1).clip(0, 255).astype(np.uint8)


def _noise(top, *shape):
  return np.random.default_rng(0).integers(0, top, shape)


def _bits(samples, bits):
  """Packs rows of samples of 1 to 16 bits, each row padded to a byte."""
  found = samples[..., None] >> np.arange(bits)[::-1] & 1
  found = found.reshape(len(samples), -1).astype(np.uint8)
  return np.packbits(found, axis=1)


def _narrow(samples, bits):
  return np.round(np.asarray(samples, float) * 255 / (2**bits - 1))


def _check(data, expected, tolerance=1, notices=None):
  found = image_files.read(io.BytesIO(data))
  expected = np.asarray(expected, float)
  assert found.pixels.shape == expected.shape
  assert np.abs(found.pixels - expected).max() <= tolerance
  if notices is not None:
    assert found.notices == notices


def _refused(data, message):
  with pytest.raises(image_files.ImageError, match=message):
    image_files.read(io.BytesIO(data))


# --- TIFF -------------------------------------------------------------------

CODES = {
  1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress,
  32773: imagecodecs.packbits_encode, 50000: imagecodecs.zstd_encode,
}
TURNED = bytes(int(f'{byte:08b}'[::-1], 2) for byte in range(256))
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}


def _tiff(
  samples, bits, photometric, extra=(), order='<', planar=1, fill=1,
  compression=1, predictor=1, tile=None, palette=None, kind=1, tags=(),
):
  """Returns the bytes of a TIFF; samples are [height, width, channels]."""
  def code(block):
    if predictor == 2:
      block = np.diff(block, axis=1, prepend=0) % 2**bits
    block = block.reshape(len(block), -1)
    data = block.astype(f'{order}u{bits // 8}') if bits in (8, 16, 32) else (
      _bits(block, bits)
    )
    data = CODES[compression](data.tobytes())
    return data.translate(TURNED) if fill == 2 else data

  height, width, channels = samples.shape
  planes = [samples] if planar == 1 else np.split(samples, channels, -1)
  step = tile or 7
  blocks = []
  for plane, y in itertools.product(planes, range(0, height, step)):
    rows = plane[y:y + step]
    if tile:
      margin = (-len(rows) % tile, -width % tile)
      rows = np.pad(rows, ((0, margin[0]), (0, margin[1]), (0, 0)))
      blocks += [
        code(rows[:, x:x + tile]) for x in range(0, rows.shape[1], tile)
      ]
    else:
      blocks.append(code(rows))
  starts = list(np.cumsum([8] + [len(b) for b in blocks]))
  end = starts.pop()
  places = (
    [(322, 3, [tile]), (323, 3, [tile]), (324, 4, starts), (325, 4, None)]
    if tile else [(273, 4, starts), (278, 4, [step]), (279, 4, None)]
  )
  entries = {
    tag: (type_, [len(b) for b in blocks] if values is None else values)
    for tag, type_, values in [
      (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * channels),
      (259, 3, [compression]), (262, 3, [photometric]), (266, 3, [fill]),
      (277, 3, [channels]), (284, 3, [planar]), (317, 3, [predictor]),
      (320, 3, palette), (338, 3, extra), (339, 3, [kind] * channels),
      *places, *tags,
    ] if values is None or len(values)
    if values is not None or tag in (279, 325)
  }
  directory, more = struct.pack(f'{order}H', len(entries)), b''
  beyond = end + 2 + 12 * len(entries) + 4
  for tag in sorted(entries):
    type_, values = entries[tag]
    letter = {1: 'B', 3: 'H', 4: 'I', 5: 'I'}[type_]
    data = struct.pack(f'{order}{len(values)}{letter}', *values)
    number = len(values) // (2 if type_ == 5 else 1)  # fractions
    directory += struct.pack(f'{order}HHI', tag, type_, number)
    if len(data) > 4:
      directory += struct.pack(f'{order}I', beyond + len(more))
      more += data
    else:
      directory += data.ljust(4, b'\0')
  return (
    {'<': b'II', '>': b'MM'}[order] + struct.pack(f'{order}HI', 42, end)
    + b''.join(blocks) + directory + bytes(4) + more
  )


def _expected(samples, bits, photometric, extra, palette):
  colours = COLOURS[photometric]
  made = _narrow(samples[..., :colours], bits)
  if photometric == 0:
    made = 255 - made
  elif photometric == 3:
    made = np.reshape(palette, (3, -1)).T[samples[..., 0]] / 257
  elif photometric == 5:
    made = (255 - made[..., :3]) * (255 - made[..., 3:]) / 255
  if extra[:1] in ((1,), (2,)):
    alpha = _narrow(samples[..., colours:colours + 1], bits)
    if extra[0] == 1:  # premultiplied
      made = np.minimum(255, made * 255 / np.maximum(alpha, 1))
    made = np.concatenate([made, alpha], -1)
  return made


# Photometric, ExtraSamples, and the bit depths that are supported.
LAYOUTS = [
  (0, (), (1, 2, 4, 8, 16)), (1, (), (1, 2, 4, 8, 12, 16)),
  (1, (0,), (8,)), (1, (1,), (8,)), (1, (2,), (8,)), (0, (2,), ()),
  (2, (), (8, 16)), (2, (0,), (8, 16)), (2, (1,), (8, 16)), (2, (2,), (8, 16)),
  (2, (2, 0), (8,)), (2, (0, 2), ()), (3, (), (1, 2, 4, 8)), (3, (2,), (8,)),
  (3, (0,), (8,)), (5, (), (8, 16)), (5, (0,), (8,)), (5, (2,), ()),
]


@pytest.mark.parametrize('photometric,extra,known', LAYOUTS, ids=str)
def test_tiff_is_read_rightly_or_refused(photometric, extra, known):
  """At least the plainest file of a supported depth is read, all correctly.

  Byte orders, planes, fill orders and compressions are tried in all
  combinations.
  """
  channels = COLOURS[photometric] + len(extra)
  for bits in (1, 2, 4, 8, 12, 16):
    if photometric == 3 and bits > 8:
      continue
    samples = _noise(2**bits, H, W, channels)
    if extra[:1] == (1,):
      colours = COLOURS[photometric]
      # Low alpha leaves colours inexact.
      samples[..., colours] = samples[..., colours] // 2 + 2**(bits - 1)
      samples = np.minimum(samples, samples[..., colours:colours + 1])
    palette = _noise(256, 3 * 2**bits) * 257 if photometric == 3 else ()
    expected = _expected(samples, bits, photometric, extra, palette)
    tolerance = 4 if photometric == 5 or extra[:1] == (1,) else 1
    read = []
    for order, planar, fill, (compression, predictor, tile) in (
      itertools.product('<>', (1, 2), (1, 2), (
        (1, 1, None), (1, 1, 16), (8, 1, None), (8, 2, 16), (5, 2, None),
        (32773, 1, 16), (50000, 1, None),
      ))
    ):
      if predictor == 2 and bits not in (8, 16) or channels < planar:
        continue
      layout = {
        'order': order, 'planar': planar, 'fill': fill, 'tile': tile,
        'compression': compression, 'predictor': predictor,
      }
      data = _tiff(
        samples, bits, photometric, extra, palette=palette, **layout
      )
      try:
        found = image_files.read(io.BytesIO(data)).pixels
      except image_files.ImageError as e:
        assert f'-bit {layouts._PHOTOMETRICS[photometric]} samples' in str(e)
        continue
      read.append(layout)
      assert found.shape == expected.shape, (bits, layout)
      assert np.abs(found - expected).max() <= tolerance, (bits, layout)
    plain = {
      'order': '<', 'planar': 1, 'fill': 1, 'tile': None, 'compression': 1,
      'predictor': 1,
    }
    assert (plain in read) == (bits in known), bits
    if (photometric, extra, bits) == (2, (), 16):
      assert {**plain, 'planar': 2} not in read
      assert {**plain, 'order': '>'} in read


@pytest.mark.parametrize('options,message', [
  ({'bits': 16, 'photometric': 2, 'planar': 2},
   'a TIFF of 16-bit RGB samples, 3 per pixel, in planes, which is not read; '
   'save it as PNG'),
  ({'bits': 8, 'photometric': 1, 'kind': 2}, 'signed 8-bit grey'),
  ({'bits': 32, 'photometric': 1, 'kind': 3}, 'floating-point 32-bit grey'),
  ({'bits': 32, 'photometric': 2, 'kind': 3}, 'floating-point 32-bit RGB'),
  ({'bits': 32, 'photometric': 1}, '32-bit grey'),
  ({'bits': 8, 'photometric': 9}, '8-bit ICCLab'),
  ({'bits': 16, 'photometric': 8}, '16-bit CIELab'),
  ({'bits': 8, 'photometric': 32803}, '8-bit raw camera'),
  ({'bits': 1, 'photometric': 4}, '1-bit mask'),
  ({'bits': 8, 'photometric': 2, 'tags': [(254, 4, [1])]}, 'a preview, as raw'),
  ({'bits': 8, 'photometric': 2, 'tags': [(50706, 1, [1, 4, 0, 0])]},
   'a preview, as raw'),
  ({'bits': 8, 'photometric': 5, 'tags': [(332, 3, [2])]}, 'of other inks'),
  ({'bits': 8, 'photometric': 6, 'tags': [
    (530, 3, [1, 1]), (532, 5, [15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]),
  ]}, 'of unusual coefficients'),
  ({'bits': 8, 'photometric': 6}, 'subsampled and uncompressed'),
], ids=str)
def test_tiffs_of_other_kinds_are_refused_by_name(options, message):
  channels = COLOURS.get(options['photometric'], 3)
  if options['photometric'] in (4, 32803):
    channels = 1
  samples = _noise(2**min(8, options['bits']), H, W, channels)
  _refused(_tiff(samples, **options), message)


def test_tiff_says_what_its_extra_channels_become():
  samples = _noise(256, H, W, 5)
  _check(_tiff(samples, 8, 2, (0, 0)), samples[..., :3], 0,
         ['2 extra channels are not kept'])
  _check(_tiff(samples, 8, 2, (2, 0)), samples[..., :4], 0,
         ['1 extra channel is not kept'])
  _check(_tiff(samples[..., :4], 8, 2), samples[..., :4], 0,
         ['its fourth channel, of no said meaning, is taken as transparency'])


@pytest.mark.parametrize('mode', ['L', 'RGB', 'YCbCr', 'CMYK'])
def test_jpeg_within_tiff(mode):
  image = Image.fromarray(PHOTO).convert(mode)
  data = io.BytesIO()
  image.save(data, 'TIFF', compression='jpeg', quality=95)
  decoded = imagecodecs.tiff_decode(data.getvalue()).astype(float)
  decoded = decoded.reshape(32, 48, -1)[..., :3]  # CMYK is RGBA by now
  _check(data.getvalue(), decoded, 2)


def test_ycbcr_within_tiff():
  samples = np.asarray(Image.fromarray(PHOTO).convert('YCbCr'), int)
  for compression in (1, 8):
    data = _tiff(
      samples, 8, 6, compression=compression, tags=[(530, 3, [1, 1])]
    )
    _check(data, imagecodecs.tiff_decode(data)[..., :3], 2, [])


@pytest.mark.parametrize('compression', ['group3', 'group4'])
def test_fax_within_tiff(compression):
  data = io.BytesIO()
  Image.fromarray(PHOTO[..., 0] > 99).save(
    data, 'TIFF', compression=compression
  )
  _check(data.getvalue(), 255 * (PHOTO[..., :1] > 99), 0, [])


@pytest.mark.parametrize('orientation', [3, 6, 8])
@pytest.mark.parametrize(
  'layout', [{}, {'compression': 8}, {'tile': 16}], ids=str
)
def test_orientation_of_tiffs(layout, orientation):
  samples = _noise(256, H, W, 3)
  data = _tiff(samples, 8, 2, tags=[(274, 3, [orientation])], **layout)
  _check(data, np.rot90(samples, {3: 2, 6: -1, 8: 1}[orientation]), 0, [])


def test_a_damaged_tiff_is_refused_and_libtiff_is_silent(capfd):
  data = bytearray(_tiff(_noise(256, H, W, 3), 8, 2, compression=8))
  data[99] ^= 255
  _refused(bytes(data), 'the input is a damaged TIFF')
  assert capfd.readouterr().err == ''


def test_a_tiff_that_is_cut_off_is_refused():
  data = _tiff(_noise(256, H, W, 3), 8, 2)
  for short in (data[:-40], data[:900], data[:4]):
    _refused(short, 'the input is a damaged')
  _refused(data[:8] + data[300:], 'the input is a damaged TIFF')


# --- PNG --------------------------------------------------------------------


# First row and column, and their steps, of Adam7.
PASSES = [
  (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
  (0, 1, 2, 2), (1, 0, 2, 1),
]


def _png(samples, depth, colour_type, interlaced=False, **chunks):
  def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack(
      '>I', zlib.crc32(name + data)
    )

  height, width = samples.shape[:2]
  header = struct.pack(
    '>IIBBBBB', width, height, depth, colour_type, 0, 0, interlaced
  )
  rows = b''
  for top, left, down, right in PASSES if interlaced else [(0, 0, 1, 1)]:
    part = samples[top::down, left::right]
    part = _bits(part.reshape(len(part), -1), depth)
    rows += np.pad(part, ((0, 0), (1, 0))).tobytes()
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(
    chunk(name.encode(), data) for name, data in chunks.items()
  ) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('transparent', [False, True])
@pytest.mark.parametrize('colour_type,depth', [
  *((0, d) for d in (1, 2, 4, 8, 16)), (2, 8), (2, 16),
  *((3, d) for d in (1, 2, 4, 8)), (4, 8), (4, 16), (6, 8), (6, 16),
])
def test_png(colour_type, depth, transparent):
  channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
  samples = _noise(2**depth, H, W, channels)
  chunks, expected = {}, _narrow(samples, depth)
  if colour_type == 3:
    palette = _noise(256, 2**depth, 3).astype(np.uint8)
    chunks['PLTE'], expected = palette.tobytes(), palette[samples[..., 0]]
  if transparent and colour_type in (0, 2):
    key = samples[3, 4]
    chunks['tRNS'] = key.astype('>u2').tobytes()
    alpha = 255 * (samples != key).any(-1, keepdims=True)
    # Pillow narrows 16 bits of colour to 8, where the key cannot be found.
    if (colour_type, depth) != (2, 16):
      expected = np.concatenate([expected, alpha], -1)
  elif transparent and colour_type == 3:
    alpha = _noise(256, 2**depth).astype(np.uint8)
    chunks['tRNS'] = alpha.tobytes()
    expected = np.concatenate([expected, alpha[samples]], -1)
  notices = ['16 bits per channel become 8'] * (depth == 16)
  if (colour_type, depth, transparent) == (2, 16, True):
    notices.append('its transparent colour is not kept')
  for interlaced in (False, True):
    data = _png(samples, depth, colour_type, interlaced, **chunks)
    _check(data, expected, 1, notices)


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('colour_type,depth', [(0, 1), (2, 8), (3, 4), (6, 16)])
def test_a_png_whose_samples_end_early_is_refused(
  colour_type, depth, interlaced
):
  channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour_type]
  palette = {'PLTE': bytes(range(48))} if colour_type == 3 else {}
  # Pillow makes missing samples black; here black is intended.
  black = np.zeros((H, W, channels), int)
  data = _png(black, depth, colour_type, interlaced, **palette)
  image_files.read(io.BytesIO(data))
  start = data.index(b'IDAT') - 4
  length, = struct.unpack('>I', data[start:start + 4])
  rows = zlib.decompress(data[start + 8:start + 8 + length])
  row = black[0, ::8 if interlaced else 1].reshape(1, -1)
  row = 1 + _bits(row, depth).size
  # Pillow itself refuses a file that ends within a row.
  for kept in (row, 2 * row):
    body = b'IDAT' + zlib.compress(rows[:kept])
    body = struct.pack('>I', len(body) - 4) + body + struct.pack(
      '>I', zlib.crc32(body)
    )
    _refused(data[:start] + body + data[start + 12 + length:], 'end early')


def test_a_png_without_its_palette_is_refused():
  _refused(_png(np.ones((H, W, 1), int), 8, 3), 'its palette is missing')


# --- PPM, PGM, PBM ----------------------------------------------------------


@pytest.mark.parametrize('top', [1, 3, 100, 255, 256, 1023, 65535])
def test_portable_maps(top):
  samples = _noise(top + 1, H, W, 3)
  binary = samples.astype('u1' if top < 256 else '>u2')
  bits = top.bit_length()
  notices = [f'{bits} bits per channel become 8'] * (bits > 8)
  for kind, channels in ((b'5', 1), (b'6', 3)):
    raw = np.ascontiguousarray(binary[..., :channels])
    words = b' '.join(b'%d' % v for v in raw.ravel())
    head = b'\n# a comment 9\n%d %d\n%d\n' % (W, H, top)
    expected = _narrow(samples[..., :channels], 1) / top
    _check(b'P' + kind + head + raw.tobytes(), expected, 1, notices)
    plain = b'P%d' % (int(kind) - 3)
    _check(plain + head + words, expected, 1, notices)
  _refused(b'P6 21 19 %d\n' % top + binary.tobytes()[:-1], 'damaged PPM')


def test_bitmaps_of_ink():
  ink = _noise(2, H, W)
  expected = 255 * (1 - ink[..., None])
  _check(b'P4 21 19\n' + _bits(ink, 1).tobytes(), expected, 0, [])
  _check(b'P1 21 19\n' + b''.join(b'%d' % v for v in ink.ravel()), expected, 0)


# --- BMP --------------------------------------------------------------------


def _bmp(rows, bits, compression=0, down=False, palette=b'', masks=(), size=40):
  """Returns the bytes of a BMP, of rows from the top or a coded stream."""
  if not isinstance(rows, bytes):
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    rows = (rows if down else rows[::-1]).tobytes()
  header = struct.pack(
    '<IiiHHIIiiII', size, W, -H if down else H, 1, bits, compression,
    len(rows), 0, 0, 0, 0,
  ) + struct.pack(f'<{len(masks)}I', *masks)
  header = header.ljust(size, b'\0')
  start = 14 + len(header) + len(palette)
  return b'BM' + struct.pack(
    '<IHHI', start + len(rows), 0, 0, start
  ) + header + palette + rows


@pytest.mark.parametrize('down', [False, True])
def test_bmp_of_true_colour(down):
  colours = _noise(256, H, W, 4).astype(np.uint8)
  swapped = colours[..., [2, 1, 0, 3]]
  rgb, all_four = colours[..., :3], (0xff0000, 0xff00, 0xff, 0xff000000)
  _check(_bmp(swapped[..., :3].reshape(H, -1), 24, down=down), rgb, 0, [])
  rows = swapped.reshape(H, -1)
  # Without a mask, the fourth byte means nothing.
  _check(_bmp(rows, 32, down=down), rgb, 0)
  _check(_bmp(rows, 32, 3, down, masks=all_four[:3]), rgb, 0)
  for size in (56, 108, 124):
    _check(_bmp(rows, 32, 3, down, masks=all_four, size=size), colours, 0)
  other = (0xff, 0xff00, 0xff0000, 0xff000000)
  _check(
    _bmp(colours.reshape(H, -1), 32, 3, down, masks=other, size=108), colours, 0
  )
  _refused(_bmp(rows, 32, 3, down, masks=(0x3ff00000, 0xffc00, 0x3ff, 0)),
           'damaged BMP')


@pytest.mark.parametrize('down', [False, True])
def test_bmp_of_sixteen_bits(down):
  words = _noise(2**16, H, W).astype('<u2')
  rows = words.view(np.uint8).reshape(H, -1)
  for green, options in (
    (5, {}), (6, {'compression': 3, 'masks': (0xf800, 0x7e0, 0x1f)}),
  ):
    fields = [words >> 5 + green, words >> 5 & 2**green - 1, words & 31]
    expected = np.stack([
      _narrow(fields[0] & 31, 5), _narrow(fields[1], green),
      _narrow(fields[2], 5),
    ], -1)
    _check(_bmp(rows, 16, down=down, **options), expected, 1, [])


@pytest.mark.parametrize('bits', [1, 4, 8])
def test_bmp_of_palettes(bits):
  palette = _noise(256, 2**bits, 4).astype(np.uint8)
  indices = _noise(2**bits, H, W)
  expected = palette[indices][..., 2::-1]
  for down in (False, True):
    _check(
      _bmp(_bits(indices, bits), bits, down=down, palette=palette.tobytes()),
      expected, 0, [],
    )
  if bits == 1:
    return
  # Run lengths: a run for each sample, and absolute rows.
  runs = absolute = b''
  for row in indices[::-1]:
    runs += b''.join(
      bytes([1, v << 4 if bits == 4 else v]) for v in row
    ) + b'\0\0'
    row = _bits(row[None], bits).tobytes()
    absolute += bytes([0, W]) + row + b'\0' * (len(row) % 2) + b'\0\0'
  for stream in (runs, absolute):
    data = _bmp(
      stream + b'\0\1', bits, 3 - bits // 4, palette=palette.tobytes()
    )
    _check(data, expected, 0, [])
  _refused(data[:-W], 'damaged BMP')


# --- GIF --------------------------------------------------------------------


@pytest.mark.parametrize('options', [
  {}, {'transparency': 3}, {'interlace': 0}, {'screen': (30, 40)},
  {'screen': (30, 40), 'transparency': 3},
], ids=str)
def test_gif(options):
  image = Image.fromarray(PHOTO[:H, :W]).quantize(16)
  screen = options.pop('screen', None)
  data = io.BytesIO()
  image.save(data, 'GIF', **options)
  data = bytearray(data.getvalue())
  if screen:  # larger than its first frame
    data[6:10] = struct.pack('<HH', *screen)
  expected = imagecodecs.gif_decode(bytes(data)).copy()
  if screen and not options:  # which the other decoder leaves black
    expected[H:] = expected[:, W:] = image.getpalette()[:3]
  found = image_files.read(io.BytesIO(bytes(data)))
  assert found.pixels.shape == expected.shape and not found.notices
  seen = expected[..., 3:] > 0 if 'transparency' in options else True
  assert ((found.pixels == expected) | ~np.asarray(seen)).all()
  if 'transparency' in options:
    np.testing.assert_array_equal(found.pixels[..., 3], expected[..., 3])


# --- JPEG, WebP, AVIF -------------------------------------------------------


def _jpeg(**options):
  data = io.BytesIO()
  image = Image.fromarray(PHOTO)
  image.convert(options.pop('mode', 'RGB')).save(
    data, 'JPEG', **{'quality': 95, 'subsampling': 0} | options
  )
  return data.getvalue()


@pytest.mark.parametrize('options', [
  {}, {'progressive': True}, {'subsampling': 2}, {'mode': 'L'},
  {'keep_rgb': True}, {'restart_marker_blocks': 3},
], ids=str)
def test_jpeg(options):
  data = _jpeg(**options)
  decoded = imagecodecs.jpeg8_decode(data)
  _check(data, decoded.reshape(32, 48, -1), 3, [])
  expected = Image.fromarray(PHOTO).convert(options.get('mode', 'RGB'))
  _check(data, np.asarray(expected).reshape(32, 48, -1), 24)


@pytest.mark.parametrize('space', ['CMYK', 'YCCK'])
def test_jpeg_of_inks(space):
  inks = np.dstack([PHOTO, (X + Y) * 2]).clip(0, 255).astype(np.uint8)
  # As Adobe does, inverted.
  data = imagecodecs.jpeg8_encode(
    255 - inks, level=98, colorspace='CMYK', outcolorspace=space
  )
  expected = (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
  _check(data, expected, 8, ['CMYK becomes sRGB'])
  marker = data.index(b'\xff\xee')
  plain = data[:marker] + data[marker + 16:]
  if space == 'CMYK':
    _refused(plain, 'without an Adobe marker')


def test_jpeg_of_twelve_bits_is_refused():
  data = imagecodecs.jpeg8_encode(PHOTO.astype(np.uint16), bitspersample=12)
  _refused(data, 'a damaged JPEG, or one of a kind that is not read')


@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_without_an_end(progressive):
  data = _jpeg(progressive=progressive)
  whole = image_files.read(io.BytesIO(data)).pixels
  said = 'its end marker is missing' + (
    ', perhaps with some of its detail' * progressive
  )
  _check(data[:-2], whole, 0, [said])
  assert image_files.read_rgb(io.BytesIO(data[:-1]))[1] == [said]
  start = data.index(b'\xff\xda') + 20
  rows = []
  for end in range(start, len(data) - 2, 9):
    found = image_files.read(io.BytesIO(data[:end]))
    assert found.pixels.shape == whole.shape and len(found.notices) == 1
    if progressive:
      continue
    row = int(found.notices[0].split()[-4])
    rows.append(row)
    np.testing.assert_array_equal(found.pixels[:row], whole[:row])
    with pytest.raises(image_files.ImageError, match='damaged JPEG'):
      image_files.read_rgb(io.BytesIO(data[:end]))
  assert rows == sorted(rows) and (progressive or rows[-1] == 24)
  _refused(data[:100], 'damaged JPEG')


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('lossless', [False, True])
def test_webp(channels, lossless):
  pixels = np.dstack([PHOTO, 255 - PHOTO[..., 0]])[..., :channels]
  data = imagecodecs.webp_encode(
    np.ascontiguousarray(pixels), lossless=lossless, level=90
  )
  _check(data, imagecodecs.webp_decode(data), 2, [])
  _refused(data[:-30], 'damaged WebP')


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('bits', [8, 10, 12])
def test_avif(channels, bits):
  pixels = np.dstack([PHOTO, 255 - PHOTO[..., 0]])[..., :channels].squeeze()
  if bits > 8:
    pixels = pixels.astype(np.uint16) << bits - 8
  data = imagecodecs.avif_encode(
    np.ascontiguousarray(pixels), level=95, bitspersample=bits, speed=9,
    pixelformat='400' if channels == 1 else '444',
  )
  expected = _narrow(imagecodecs.avif_decode(data), bits)
  _check(data, expected.reshape(32, 48, -1)[..., :channels], 4,
         [f'{bits} bits per channel become 8'][:bits > 8])
  _refused(data[:-30], 'damaged AVIF')


# --- Names ------------------------------------------------------------------


@pytest.mark.parametrize('head,name', [
  (b'\0\0\0\x18ftypheic', 'HEIC'), (b'\xff\x0a', 'JPEG XL'), (b'P7\n', 'PAM'),
  (b'\0\0\0\x0cjP  \r\n', 'JPEG 2000'), (b'%PDF-1.7', 'PDF'),
  (b'<svg xmlns', 'SVG'), (b'8BPS', 'Photoshop'), (b'GDC\1', 'gdc'),
])
def test_other_formats_are_named(head, name):
  _refused(head.ljust(99, b'\0'), f'is a {name} file, not an image of a')


def test_grey_in_floating_point_is_refused():
  _refused(b'Pf\n1 1\n-1.0\n' + bytes(4), 'PFM of F pixels')
