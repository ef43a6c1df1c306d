"""Measures what the rounded weights of a bundle cost.

  python benchmarks/precision.py WORKDIR

Compares the averaged weights of a run's newest checkpoint, in float32, with
those its bundle stores: float16 for an autoencoder, 8 bits for a score decoder.
Prints bits per pixel, PSNR in dB and LPIPS (AlexNet) by quality, as means over
the bundled held-out images, from real files, and writes
results/precision/STAGE.json. Run it from the repository's root, where the run's
config finds its autoencoder.
"""
import argparse
import dataclasses
import pathlib

import ml_collections

from gdc.codec import codec as codec_lib
from gdc.data import sources
from gdc.evaluation import records, study, tables
from gdc.training import experiment, export, resume

OUT = pathlib.Path(__file__).parents[1] / 'results' / 'precision'
QUALITIES = (1.0, 3.0, 5.0)
# Codec label of each stage.
LABELS = {
  'autoencoder': 'gdc:mse', 'flow': 'gdc:flow', 'diffusion': 'gdc:diffusion',
  'one_step': 'gdc:one_step',
}


def bundles(config, workdir):
  """Returns the bundle as stored, and with the weights as they were trained."""
  stage, params, _ = experiment.restore(config, workdir)
  stored = export.bundle_of(stage, params, config.name)
  if config.stage == 'autoencoder':
    trained = dataclasses.replace(stored, autoencoder_params=params)
  else:
    spec, _ = stored.decoders[config.stage]
    decoders = {**stored.decoders, config.stage: (spec, params)}
    trained = dataclasses.replace(stored, decoders=decoders)
  return {'stored': stored, 'trained': trained}


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('workdir', help='of a run of gdc.main')
  workdir = parser.parse_args().workdir
  try:
    config = ml_collections.ConfigDict(resume.read(workdir))
  except ValueError as error:
    parser.error(str(error))
  images = sources.bundled('heldout').paths
  label = LABELS[config.stage]
  rows = []
  made = bundles(config, workdir)
  for name, bundle in made.items():
    curves = study.evaluate(
      codec_lib.Codec(bundle), [label], images, QUALITIES
    )
    print(f'{name}\n{tables.summary(curves).text}')
    curve = curves[label]['results']
    rows += [
      {
        'weights': name, 'quality': quality, 'bpp': curve['bpp'][i],
        'psnr': curve['psnr-rgb'][i], 'lpips': curve['lpips-alex'][i],
      }
      for i, quality in enumerate(QUALITIES)
    ]
  meta = {
    'stage': config.stage, 'digest': made['stored'].digest,
    'decoder_digests': made['stored'].decoder_digests,
    'pictures': f'bundled:heldout, {len(images)}',
  }
  records.save({'meta': meta, 'rows': rows}, OUT / f'{config.stage}.json')


if __name__ == '__main__':
  main()
