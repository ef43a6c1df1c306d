"""Codecs by name, with one interface: image -> bytes -> image.

  gdc:DECODER, gdc:DECODER@STEPS   a decoder of the model: gdc:mse, gdc:flow@4
  gdc:mse+AMOUNT                   a control: the image of mse with white noise
                                   of AMOUNT times its expected error; a score
                                   decoder that measures no better makes noise
  jpeg, webp, ...                  other codecs, see baselines
  jpeg=gdc                         the same, each file the best of at most the
                                   bytes that gdc needs for that image
"""
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdc.codec import bitstream
from gdc.evaluation import baselines


class Coder(NamedTuple):
  """One codec, as a study sees it.

  Attributes:
    label: its name, as above.
    file: stem of its results file.
    name: the curve's name.
    description: the curve's description.
    qualities: qualities to evaluate, in order.
    encode: (uint8 [height, width, 3], quality) -> bytes of the whole file.
    decode: those bytes -> uint8 [height, width, 3].
    writer: coders with the same writer read the same bytes.
    record: all that its figures depend on, for results files.
    compiles: whether the first call for an image size takes longer.
  """

  label: str
  file: str
  name: str
  description: str
  qualities: tuple[float, ...]
  encode: Callable[[np.ndarray, float], bytes]
  decode: Callable[[bytes], np.ndarray]
  writer: str
  record: Mapping[str, Any]
  compiles: bool


class _Name(NamedTuple):
  """The parts of a codec's name."""

  baseline: str | None = None
  matched: bool = False
  decoder: str | None = None
  steps: int | None = None
  noise: float | None = None


def parse(name: str) -> _Name:
  """Parses a codec's name; ValueError if it is unknown."""
  baseline, matched, partner = name.partition('=')
  if baseline in baselines.BASELINES and (not matched or partner == 'gdc'):
    return _Name(baseline=baseline, matched=bool(matched))
  found = re.fullmatch(
    r'gdc:(?:mse\+(\d+\.?\d*|\.\d+)|mse|(?!mse@)([a-z_]+)(?:@([1-9]\d*))?)',
    name,
  )
  if not found:
    raise ValueError(
      f'a codec is gdc:DECODER, gdc:DECODER@STEPS, gdc:mse+NOISE, or one of '
      f'{", ".join(baselines.BASELINES)}, not {name!r}'
    )
  noise, decoder, steps = found.groups()
  return _Name(
    decoder=decoder or 'mse',
    steps=int(steps) if steps else None,
    noise=float(noise) if noise else None,
  )


def with_matched(
  names: Sequence[str],
  qualities: Sequence[float],
  matched: Sequence[float] | None,
) -> tuple[list[str], list[float]]:
  """Adds the codecs that are held to the bytes of gdc.

  Args:
    names: names of codecs.
    qualities: qualities of the gdc codecs among them.
    matched: those of qualities at which others are held to the bytes; None
      takes the first and the middle one.

  Returns:
    names, followed by NAME=gdc for each of another codec, and matched; names
    and [] without a gdc codec to be held to.

  Raises:
    ValueError: an unknown name, or a matched quality that is not one of gdc.
  """
  names = list(names)
  others = [n for n in names if (p := parse(n)).baseline and not p.matched]
  if not any(parse(name).decoder for name in names) or not qualities:
    if matched:
      raise ValueError(
        f'there are no bytes of gdc at qualities {list(matched)}: a gdc codec '
        'and qualities of it are expected'
      )
    return names, []
  if matched is None:
    middle = (len(qualities) - 1) // 2
    matched = dict.fromkeys((qualities[0], qualities[middle]))
  wrong = [quality for quality in matched if quality not in qualities]
  if wrong:
    raise ValueError(
      f'there are no bytes of gdc at quality {wrong[0]:g}: some of '
      f'{", ".join(f"{q:g}" for q in qualities)} are expected'
    )
  if matched:
    names += [f'{n}=gdc' for n in others if f'{n}=gdc' not in names]
  return names, list(matched)


def build(
  names: Sequence[str],
  codec=None,
  qualities: Sequence[float] = (),
  matched: Sequence[float] = (),
) -> list[Coder]:
  """Makes codecs by their names.

  Args:
    names: see the module's docstring.
    codec: a loaded gdc codec, for the names that need it.
    qualities: qualities of the gdc codec.
    matched: qualities of the gdc codec for `jpeg=gdc` and its like.

  Raises:
    ValueError: an unknown or repeated name, a decoder that the model does not
      have, or no or repeated qualities.
    RuntimeError: an encoder that is not installed.
  """
  if not names or len(set(names)) < len(names):
    raise ValueError(
      f'codecs are {list(names)}: at least one, all different, are expected'
    )
  made = []
  for label in names:
    name = parse(label)
    if name.baseline and not name.matched:
      made.append(_baseline(name.baseline))
      continue
    values = matched if name.matched else qualities
    if not values or len(set(values)) < len(values):
      raise ValueError(
        f'the qualities of {label} are {list(values)}: at least one, all '
        'different, are expected'
      )
    build_one = _matched if name.matched else _own
    made.append(build_one(label, name, codec, tuple(values)))
  return made


def _own(label, name, codec, qualities) -> Coder:
  """Makes a decoder of the model, or the control."""
  if name.decoder not in codec.decoders:
    raise ValueError(
      f'the model has no decoder {name.decoder!r}, only '
      f'{", ".join(codec.decoders)}'
    )
  decode = functools.partial(
    codec.decompress, decoder=name.decoder, steps=name.steps
  )
  if name.noise is not None:
    decode = functools.partial(_noisy, codec, name.noise)
  entry, steps = codec.resolve(name.decoder, name.steps)
  short = label.removeprefix('gdc:')
  return Coder(
    label=label,
    file=f'gdc-{codec.name}-{short}',
    name=f'gdc-{codec.name}:{short}',
    description=f'gdc, model {codec.name}, decoder {short}',
    qualities=qualities,
    encode=functools.partial(codec.compress, lossless='never'),
    decode=decode,
    writer='gdc',
    record={
      'model': codec.name,
      'digest': codec.digest,
      'decoder': name.decoder,
      'entry': entry,
      'decoder_digest': codec.decoder_digests.get(entry),
      'steps': steps,
      **({} if name.noise is None else {'noise': name.noise}),
    },
    compiles=True,
  )


def _baseline(name) -> Coder:
  settings = baselines.BASELINES[name]
  library = baselines.library(name)
  return Coder(
    label=name,
    file=name,
    name=name,
    description=library,
    qualities=settings.sweep,
    encode=functools.partial(baselines.encode, name),
    decode=baselines.decode,
    writer=name,
    record={'model': name, 'digest': None, 'library': library},
    compiles=False,
  )


def _matched(label, name, codec, qualities) -> Coder:
  """Makes a baseline at the bytes of gdc."""
  plain = _baseline(name.baseline)
  length = _length_of(codec)

  def encode(image, quality):
    limit = length(image.tobytes(), image.shape, quality)
    return baselines.at_most_bytes(name.baseline, image, limit)[0]

  return plain._replace(
    label=label,
    file=label,
    name=label,
    description=f'{plain.description}, at most the bytes of gdc-{codec.name} '
    'at that quality, image by image, or else the smallest file; encoding '
    'times are of the whole search',
    qualities=qualities,
    encode=encode,
    writer=label,
    record={**plain.record, 'matches': codec.digest},
  )


@functools.lru_cache(maxsize=1)
def _length_of(codec):
  """Returns a function to the number of bytes, which keeps its last results."""
  @functools.lru_cache(maxsize=8)
  def length(samples, shape, quality):
    image = np.frombuffer(samples, np.uint8).reshape(shape)
    return len(codec.compress(image, quality, lossless='never'))
  return length


def _noisy(codec, amount: float, data: bytes) -> np.ndarray:
  """Decodes with mse; adds noise of `amount` times its expected error."""
  image = codec.decompress(data, decoder='mse')
  header, _, seed = bitstream.unpack(data)
  rmse = codec.rmse(bitstream.index_to_quality(header.quality_index))
  noise = np.random.default_rng(seed).standard_normal(image.shape)
  y = np.rint(image + 127.5 * amount * rmse * noise)
  return np.clip(y, 0, 255).astype(np.uint8)
