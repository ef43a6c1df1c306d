"""Flow or diffusion: which is better at which number of steps?

Claim of arXiv 2305.18231: flows are better with few steps, and diffusion
catches up or overtakes with many. Samplers are compared at an equal number of
function evaluations (NFE), which determines the time: a Heun step takes two,
all others one. Realism costs PSNR, so each curve is also drawn in the
distortion-perception plane (Blau & Michaeli 2018, arXiv 1711.06077).

Every point samples from one of two trained networks of the same size. The
diffusion's steps are equal in log-SNR, the grid with the higher PSNR at quality
1 in the sweep of noise_shift.
"""
from configs.sweeps import base, noise_shift, source_noise

AXIS = 'sampling.steps'  # and sampling.sampler; values are NFE
VALUES = (1, 2, 4, 8, 16, 32)
NFE = {  # per step
  'flow': {'euler': 1, 'heun': 2},
  'diffusion': {'ddim': 1, 'dpmpp_2m': 1, 'ddpm': 1},
}


def runs():
  """Yields a Run per sampler and NFE that it can have."""
  trained = {
    'flow': source_noise.run(source_noise.SAMPLED),
    'diffusion': noise_shift.run(noise_shift.SAMPLED),
  }
  for decoder, samplers in NFE.items():
    for sampler, nfe in samplers.items():
      for value in VALUES:
        if value % nfe == 0:
          more = {'grid': 'log_snr'} if decoder == 'diffusion' else {}
          yield base.sample(
            'steps', value, trained[decoder], f'{decoder}-{sampler}',
            sampler=sampler, steps=value // nfe, **more,
          )
