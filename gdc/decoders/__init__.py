"""Score decoders: x_hat, the autoencoder's output -> realistic image.

One file per decoder. To add one, write its file and add it to DECODERS.
"""
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from gdc.decoders import base, diffusion, flow, one_step

# In order of preference for the default, best LPIPS for its time first
# (docs/performance.md).
DECODERS: dict[str, type[base.Decoder]] = {
  decoder.entry: decoder
  for decoder in (one_step.OneStep, flow.Flow, diffusion.Diffusion)
}


def max_steps(entry: str) -> int:
  """Returns the largest number of sampling steps of a decoder."""
  fields = {field.name: field for field in dataclasses.fields(DECODERS[entry])}
  return fields['steps'].metadata['high']


def default(names: Collection[str], steps: int | None = None) -> str:
  """Returns the decoder to use where none is named.

  Args:
    names: decoders of the model, and 'mse'.
    steps: requested number of sampling steps; with more than one, decoders of
      a single step are passed over.
  """
  return next((
    name for name in DECODERS
    if name in names and (steps in (None, 1) or max_steps(name) > 1)
  ), 'mse')


def from_record(entry: str, record: Mapping[str, Any]):
  """Reads a decoder's record in a bundle, see Decoder.from_record.

  Raises:
    ValueError: an unknown entry, or a setting that is missing or out of range.
  """
  if entry not in DECODERS:
    raise ValueError(
      f'a decoder must be one of {tuple(DECODERS)}, not {entry!r}.'
    )
  return DECODERS[entry].from_record(record)
