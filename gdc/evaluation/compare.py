"""Codecs side by side on a folder of pictures: curves, and gains over JPEG.

Writes one results file per codec, in CompressAI's format (see sweep), and
returns a table. Codecs are named as on the command line: gdc:mse, gdc:flow,
gdc:flow@4 (a decoder of the model, with its steps), jpeg, webp, avif.
"""
import pathlib
from collections.abc import Sequence

from gdc.evaluation import baselines, rate, sweep

# Encoder qualities that span the codec's rates.
BASELINE_QUALITIES = {
  'jpeg': (3, 6, 10, 15, 22, 30, 40, 52, 65, 78, 88, 95),
  'webp': (0, 5, 15, 30, 45, 60, 72, 82, 90, 95),
  'avif': (10, 20, 30, 40, 50, 60, 70, 80, 88),
}


def parse(name: str) -> dict:
  """A codec's name -> {'baseline': ...} or arguments of decompress.

  Raises:
    ValueError: an unknown codec.
  """
  if name in baselines.BASELINES:
    return {'baseline': name}
  kind, _, decoder = name.partition(':')
  decoder, _, steps = decoder.partition('@')
  if kind == 'gdc' and decoder and (not steps or steps.isdigit()):
    return {'decoder': decoder, **({'steps': int(steps)} if steps else {})}
  raise ValueError(
    f'A codec is gdc:DECODER, gdc:DECODER@STEPS, or one of '
    f'{", ".join(baselines.BASELINES)}; not {name!r}.'
  )


def run(
  codec, images, names: Sequence[str], qualities: Sequence[float], out,
  on_row=None,
) -> tuple[list[dict], dict]:
  """Sweeps every codec, writes out/CODEC.json each.

  Args:
    codec: a loaded gdc codec.
    images: list of (name, uint8 [height, width, 3]).
    names: of the codecs; see the module's docstring.
    qualities: of the gdc codec.
    out: folder of the results files.
    on_row: called with every row of every sweep.

  Returns:
    rows: the means of each gdc decoder at each quality, and, where JPEG was
      among the codecs and reaches that rate, `jpeg_psnr` and `jpeg_lpips`:
      JPEG at equal bits, on its mean curve, linear in log bpp.
    results: label -> result, as sweep makes them.
  """
  out = pathlib.Path(out)
  parsed = [parse(name) for name in names]
  decoders = [p for p in parsed if 'decoder' in p]
  for decoder in decoders:
    if decoder['decoder'] not in codec.decoders:
      raise ValueError(
        f'The model has no decoder {decoder["decoder"]!r}, only '
        f'{", ".join(codec.decoders)}.'
      )
  results = {}
  for p in parsed:
    if 'baseline' in p:
      name = p['baseline']
      results |= sweep.baseline(
        name, images, BASELINE_QUALITIES[name], on_row=on_row
      )
      sweep.save(results[name], out / f'{name}.json')
  rows = []
  if decoders:
    own = sweep.evaluate(codec, images, qualities, decoders, on_row=on_row)
    for label, result in own.items():
      sweep.save(result, out / f'gdc-{codec.name}-{label}.json')
    results |= own
    rows = summary(own)
  if 'jpeg' in results:
    rows = [row | _at_rate(results['jpeg'], row['bpp']) for row in rows]
  return rows, results


def summary(results) -> list[dict]:
  """The means of a sweep, a row for each quality and decoder."""
  rows = []
  for name, result in results.items():
    means = result['results']
    rows += [
      {
        'quality': quality,
        'decoder': name,
        'bpp': means['bpp'][i],
        'psnr': means['psnr-rgb'][i],
        'lpips': means['lpips-alex'][i],
      }
      for i, quality in enumerate(means['quality'])
    ]
  return sorted(rows, key=lambda r: r['quality'])


def bd_rates(results) -> list[dict]:
  """BD-rate (PSNR) of curves against that of JPEG.

  Args:
    results: label -> result of a sweep, 'jpeg' among them.

  Returns:
    Rows codec, bd_rate_percent (negative: fewer bits than JPEG), and the
    PSNR range, in dB, over which the curves overlap; None where a curve has
    too few points or does not rise with its rate.
  """
  anchor = results['jpeg']['results']
  rows = []
  for name, result in results.items():
    if name == 'jpeg':
      continue
    curve = result['results']
    try:
      b = rate.bd_rate(
        anchor['bpp'], anchor['psnr-rgb'], curve['bpp'], curve['psnr-rgb']
      )
    except ValueError:
      b = rate.BDRate(None, None, None, None)
    rows.append({
      'codec': name, 'bd_rate_percent': b.percent,
      'from_db': b.quality_low, 'to_db': b.quality_high,
    })
  return rows


def _at_rate(result, bpp: float) -> dict:
  """A baseline's mean curve at a rate; None outside its range."""
  curve = result['results']
  return {
    f'jpeg_{name}': rate.at_rates(curve['bpp'], curve[key], [bpp])[0]
    for name, key in (('psnr', 'psnr-rgb'), ('lpips', 'lpips-alex'))
  }
