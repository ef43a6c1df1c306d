"""ICC profiles: whether one fits the samples that it comes with.

By its header and its table of tags alone; colours are for gdc.data.profiles.
"""
import struct

# A header and the number of tags.
_LEAST_BYTES = 132
# Classes of profiles that say what samples mean: input, display, output and
# colour space; not links, abstract profiles or named colours.
_CLASSES = (b'scnr', b'mntr', b'prtr', b'spac')
_SPACES = {1: 'GRAY', 2: 'GRAY', 3: 'RGB', 4: 'RGB'}
# Each of these sets of tags leads from the samples to colours.
_WAYS = {
  'GRAY': ({'kTRC'}, {'A2B0'}),
  'RGB': (
    {'rXYZ', 'gXYZ', 'bXYZ', 'rTRC', 'gTRC', 'bTRC'}, {'A2B0'}, {'D2B0'},
  ),
  'CMYK': ({'A2B0'}, {'D2B0'}),
}


def space(channels: int) -> str:
  """The colour space of an image of 1 to 4 channels, alpha included."""
  return _SPACES[channels]


def problem(icc: bytes, expected: str) -> str | None:
  """Why a profile does not fit samples; None if it does.

  Args:
    icc: the profile.
    expected: the colour space of the samples: GRAY, RGB or CMYK.
  """
  if len(icc) < _LEAST_BYTES or icc[36:40] != b'acsp':
    return f'these {len(icc)} bytes are not an ICC profile'
  size, tags = struct.unpack('>I', icc[:4])[0], _tags(icc)
  if size != len(icc):
    return f'it is damaged: {size} bytes by its header, {len(icc)} in fact'
  if icc[12:16] not in _CLASSES:
    kind = icc[12:16].decode('ascii', 'replace')
    return f'it is of class {kind!r}, which describes no image'
  found = icc[16:20].decode('ascii', 'replace').strip()
  if found != expected:
    return f'it is of {found} colours, the image is {expected}'
  if icc[20:24] not in (b'XYZ ', b'Lab '):
    return 'it is damaged: it leads to no known colour space'
  if tags is None:
    return 'it is damaged: its tags lie outside of it'
  if not any(way <= tags for way in _WAYS[expected]):
    return 'it is incomplete: tags that give its colours are missing'
  return None


def trim(icc: bytes) -> bytes:
  """A profile without bytes that follow its end by its header's size."""
  size = int.from_bytes(icc[:4], 'big')
  return icc[:size] if _LEAST_BYTES <= size < len(icc) else icc


def _tags(icc: bytes) -> set[str] | None:
  """Names of the tags; None where one lies outside of the profile."""
  count, = struct.unpack_from('>I', icc, 128)
  if _LEAST_BYTES + 12 * count > len(icc):
    return None
  names = set()
  for k in range(count):
    name, start, length = struct.unpack_from('>4sII', icc, 132 + 12 * k)
    if start < _LEAST_BYTES or start + length > len(icc):
      return None
    names.add(name.decode('ascii', 'replace'))
  return names
