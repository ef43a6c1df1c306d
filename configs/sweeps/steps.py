"""Flow or diffusion: which is better after how many steps?

The claim of arXiv 2305.18231: flows win with few steps, diffusion catches up or
overtakes with many. Samplers are compared at equal evaluations of the network,
which is what time goes into: a Heun step takes two, all others one. Realism is
bought with PSNR, so each curve is also drawn in the distortion-perception plane
(Blau & Michaeli 2018, arXiv 1711.06077).

Every point samples from one of two trained networks of the same size; the
diffusion's steps are equal in log-SNR, which the sweep of noise_shift shows to
be much the better grid.
"""
from configs.sweeps import base, noise_shift, source_noise

AXIS = 'sampling.steps'  # and sampling.sampler; value counts evaluations
VALUES = (1, 2, 4, 8, 16, 32)
EVALUATIONS = {
  'flow': {'euler': 1, 'heun': 2},
  'diffusion': {'ddim': 1, 'dpmpp_2m': 1, 'ddpm': 1},
}


def runs():
  """One Run per sampler and number of evaluations that it can have."""
  trained = {
    'flow': source_noise.run(source_noise.SAMPLED),
    'diffusion': noise_shift.run(noise_shift.SAMPLED),
  }
  for process, samplers in EVALUATIONS.items():
    for sampler, evaluations in samplers.items():
      for value in VALUES:
        if value % evaluations == 0:
          more = {'grid': 'log_snr'} if process == 'diffusion' else {}
          yield base.sample(
            'steps', value, trained[process], f'{process}-{sampler}',
            sampler=sampler, steps=value // evaluations, **more,
          )
