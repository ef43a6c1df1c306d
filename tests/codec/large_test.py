"""A large image through every decoder of the bundled model; slow."""
import numpy as np
import pytest

import gdc


@pytest.mark.slow
def test_an_image_of_six_megapixels():
  y, x = np.mgrid[:2000, :3000] / 50
  planes = [np.sin(x + i) * np.cos(y - i) * 100 + 128 for i in range(3)]
  noise = np.random.default_rng(0).normal(0, 8, (2000, 3000, 3))
  image = (np.stack(planes, -1) + noise).clip(0, 255).astype(np.uint8)
  codec = gdc.load('lean')
  data = codec.compress(image)
  for decoder in codec.decoders:
    steps = None if decoder == 'mse' else 1
    decoded = codec.decompress(data, decoder, steps)
    assert decoded.shape == image.shape
    error = np.mean((decoded.astype(float) - image) ** 2)
    assert 10 * np.log10(255**2 / error) > 20
