"""The one-step decoder: a flow whose first step is its last.

Its network is evaluated once, at t = 0; the answer is the image's residual.
gdc/training/stages/one_step.py trains it from the flow's weights.
"""
import dataclasses

from gdc.decoders import base, flow


@dataclasses.dataclass(frozen=True)
class OneStep(flow.ResidualFlow):
  """The one-step decoder's settings; the recorded ones are the flow's."""

  entry = 'one_step'
  description = 'the distilled flow'

  steps: int = base.setting(
    1, 'Number of steps.', kind='sampling', low=1, high=1
  )
  distortion: float = base.setting(
    1.0, 'Weight of the squared error.', kind='training', low=0.0
  )
  perceptual: float = base.setting(
    1.0, 'Weight of LPIPS on VGG16 features; 0: not loaded.', kind='training',
    low=0.0,
  )
  perceptual_dtype: str = base.setting(
    'float32', 'dtype of VGG16 in that LPIPS; bfloat16 is for accelerators.',
    kind='training', choices=('float32', 'bfloat16'),
  )
  statistics: float = base.setting(
    0.0, 'Weight of the distance of local statistics of VGG16 features; above '
    '0, window is 32 or more.', kind='training', low=0.0,
  )
  matching: float = base.setting(
    0.0, 'Experimental: weight of distribution matching; 0: no second network.',
    kind='training', low=0.0,
  )
  periodic: float = base.setting(
    1.0, "Weight of errors that repeat with the period of the network's "
    'patches or coarsest positions.', kind='training', low=0.0,
  )
  refine: int = base.setting(
    16, "Channels of the network's branch at full resolution; 0: none, as in "
    'the flow.', kind='training', low=0,
  )
  window: int = base.setting(
    64, 'Side in pixels of the window near the middle of a crop that LPIPS '
    'sees.', kind='training', low=1,
  )

  def warm_starts(self):
    return {'one_step': {}, 'flow': {}}
