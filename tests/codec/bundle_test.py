"""Bundles: what is saved is what is loaded, and damage is noticed."""
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from gdc.codec import bundle


def _leaves(tree):
  return jax.tree_util.tree_leaves_with_path(tree)


def test_save_and_load_are_inverse(tiny_bundle, tiny_bundle_path):
  loaded = bundle.load(tiny_bundle_path)
  assert loaded.digest == tiny_bundle.digest
  assert loaded.name == tiny_bundle.name
  assert loaded.autoencoder_spec == tiny_bundle.autoencoder_spec
  assert set(loaded.decoders) == {'flow', 'diffusion'}
  for (path, a), (_, b) in zip(
    _leaves(loaded.autoencoder_params),
    _leaves(tiny_bundle.autoencoder_params),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b, err_msg=str(path))
  for name, value in tiny_bundle.tables.to_arrays().items():
    np.testing.assert_array_equal(value, loaded.tables.to_arrays()[name])
  for process, (spec, params) in tiny_bundle.decoders.items():
    assert loaded.decoders[process][0] == spec
    for (_, a), (_, b) in zip(
      _leaves(loaded.decoders[process][1]), _leaves(params), strict=True
    ):
      np.testing.assert_array_equal(a, b)


def test_exporting_twice_gives_the_same_digest(tiny_bundle):
  again = bundle.make(
    'other name', tiny_bundle.autoencoder_spec, tiny_bundle.autoencoder_params
  )
  assert again.digest == tiny_bundle.digest


def test_digest_depends_on_what_the_bits_mean(tiny_bundle):
  bare = dataclasses.replace(tiny_bundle, name='x', decoders={})
  assert bare.digest == tiny_bundle.digest
  params = jax.tree.map(np.copy, tiny_bundle.autoencoder_params)
  params['log_gain'][0, 0] += 1e-3
  changed = dataclasses.replace(tiny_bundle, autoencoder_params=params)
  assert changed.digest != tiny_bundle.digest


def test_weights_are_half_precision_and_densities_are_not(tiny_bundle_path):
  arrays = safetensors.numpy.load_file(
    tiny_bundle_path / 'autoencoder.safetensors'
  )
  assert arrays['prior/log_scale'].dtype == np.float32
  assert arrays['log_gain'].dtype == np.float32
  kernels = [v for k, v in arrays.items() if k.endswith('kernel')]
  assert kernels and all(k.dtype == np.float16 for k in kernels)


def test_matrices_of_decoders_have_8_bits_and_scales(tiny_bundle_path):
  arrays = safetensors.numpy.load_file(tiny_bundle_path / 'flow.safetensors')
  kernels = {k for k in arrays if k.endswith('kernel')}
  assert any(arrays[k].ndim > 2 for k in kernels)
  for name in kernels:
    assert arrays[name].dtype == np.int8
    scale = arrays[f'{name}:scale']
    assert scale.dtype == np.float32
    assert scale.shape == arrays[name].shape[-1:]
  others = [v for k, v in arrays.items() if k.partition(':')[0] not in kernels]
  assert others and all(v.dtype == np.float16 for v in others)


def test_integers_without_their_scales_are_no_bundle(tiny_bundle, tmp_path):
  """Even where the digests were made for them."""
  folder = bundle.save(tiny_bundle, tmp_path / 'b')
  path = folder / 'flow.safetensors'
  arrays = {
    k: v for k, v in safetensors.numpy.load_file(path).items() if ':' not in k
  }
  safetensors.numpy.save_file(arrays, path)
  record = json.loads((folder / 'bundle.json').read_text())
  record['decoder_digests']['flow'] = bundle._digest(
    record['decoders']['flow'], arrays
  )
  (folder / 'bundle.json').write_text(json.dumps(record))
  with pytest.raises(bundle.BundleError, match='not a readable bundle'):
    bundle.load(folder)


def test_tables_have_a_row_for_every_sixteenth_of_a_quality(tiny_bundle):
  levels = tiny_bundle.autoencoder_spec['num_levels']
  assert tiny_bundle.tables.num_qualities == 16 * (levels - 1) + 1
  channels = tiny_bundle.autoencoder_spec['latent_channels']
  assert tiny_bundle.tables.num_channels == channels


def test_saving_replaces_and_leaves_nothing_behind(tiny_bundle, tmp_path):
  bundle.save(tiny_bundle, tmp_path / 'b')
  renamed = dataclasses.replace(tiny_bundle, name='renamed')
  bundle.save(renamed, tmp_path / 'b')
  assert bundle.load(tmp_path / 'b').name == 'renamed'
  assert [p.name for p in tmp_path.iterdir()] == ['b']


def test_a_failed_save_keeps_the_old_bundle(tiny_bundle, tmp_path, monkeypatch):
  bundle.save(tiny_bundle, tmp_path / 'b')

  def fail(*args):
    raise OSError('disk full')
  monkeypatch.setattr(bundle.safetensors.numpy, 'save_file', fail)
  with pytest.raises(OSError, match='disk full'):
    bundle.save(tiny_bundle, tmp_path / 'b')
  monkeypatch.undo()
  assert [p.name for p in tmp_path.iterdir()] == ['b']
  assert bundle.load(tmp_path / 'b').digest == tiny_bundle.digest


def _copy(path, tmp_path):
  return shutil.copytree(path, tmp_path / 'copy')


def test_unknown_names_say_what_there_is():
  with pytest.raises(bundle.BundleError, match="No model 'nothing'.*lean"):
    bundle.load('nothing')


def test_changed_weights_are_noticed(tiny_bundle_path, tmp_path):
  folder = _copy(tiny_bundle_path, tmp_path)
  data = bytearray((folder / 'autoencoder.safetensors').read_bytes())
  data[-100] ^= 1
  (folder / 'autoencoder.safetensors').write_bytes(data)
  with pytest.raises(bundle.BundleError):
    bundle.load(folder)


def test_predicted_channels_must_be_there(tiny_bundle, tmp_path):
  spec = {**tiny_bundle.autoencoder_spec, 'predicted_channels': [0, 24]}
  made = bundle.make('other', spec, tiny_bundle.autoencoder_params)
  folder = bundle.save(made, tmp_path / 'other')
  with pytest.raises(bundle.BundleError, match=r'has no channels \[24\]'):
    bundle.load(folder)


@pytest.mark.parametrize('damage', ['cut', 'gone', 'json', 'format'])
def test_damaged_bundles_raise_one_error(tiny_bundle_path, tmp_path, damage):
  folder = _copy(tiny_bundle_path, tmp_path)
  record = folder / 'bundle.json'
  weights = folder / 'flow.safetensors'
  if damage == 'cut':
    weights.write_bytes(weights.read_bytes()[:-10])
  elif damage == 'gone':
    weights.unlink()
  elif damage == 'json':
    record.write_text(record.read_text()[:-20])
  else:
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, 'format': 99}))
  with pytest.raises(bundle.BundleError):
    bundle.load(folder)


def test_contexts_make_another_model(
  tiny_bundle, bundle_with_contexts, tmp_path
):
  assert bundle_with_contexts.digest != tiny_bundle.digest
  assert bundle_with_contexts.entropy_model is bundle_with_contexts.contexts
  assert tiny_bundle.entropy_model is tiny_bundle.tables
  folder = bundle.save(bundle_with_contexts, tmp_path / 'b')
  record = json.loads((folder / 'bundle.json').read_text())
  assert record['format'] == 4
  assert record['contexts'] == {'source': 'none', 'crops': 0}
  loaded = bundle.load(folder)
  assert loaded.digest == bundle_with_contexts.digest
  assert loaded.fitted_on == record['contexts']
  np.testing.assert_array_equal(
    loaded.contexts.weights, bundle_with_contexts.contexts.weights
  )
  assert set(loaded.autoencoder_params) == set(tiny_bundle.autoencoder_params)
  # Decoders are added without a change to what the bits mean.
  again = bundle.add_decoder(loaded, 'flow', *loaded.decoders['flow'])
  assert again.digest == loaded.digest
  # Without contexts, a bundle is as readers of format 3 know it.
  folder = bundle.save(tiny_bundle, tmp_path / 'bare')
  record = json.loads((folder / 'bundle.json').read_text())
  assert record['format'] == 3 and 'contexts' not in record


def test_contexts_must_fit_the_model(
  tiny_bundle, bundle_with_contexts, golden_contexts, tmp_path
):
  with pytest.raises(ValueError, match='24 channels and 81 .* have 7 and 17'):
    bundle.with_contexts(tiny_bundle, golden_contexts, {})
  folder = bundle.save(bundle_with_contexts, tmp_path / 'b')
  path = folder / 'autoencoder.safetensors'
  arrays = safetensors.numpy.load_file(path)
  arrays['contexts/order'] = np.zeros(24, np.int16)
  safetensors.numpy.save_file(arrays, path)
  record = json.loads((folder / 'bundle.json').read_text())
  record['digest'] = bundle._digest(record['autoencoder'], arrays)
  (folder / 'bundle.json').write_text(json.dumps(record))
  with pytest.raises(bundle.BundleError, match='order must hold each of 0 to'):
    bundle.load(folder)
  record['format'] = 3
  (folder / 'bundle.json').write_text(json.dumps(record))
  with pytest.raises(bundle.BundleError, match='format 3: .* 3 has none'):
    bundle.load(folder)


def test_unknown_decoder_and_sampler(tiny_bundle):
  spec, params = tiny_bundle.decoders['flow']
  with pytest.raises(ValueError, match="not 'gan'"):
    bundle.add_decoder(tiny_bundle, 'gan', spec, params)
  wrong = {**spec, 'sampling': {**spec['sampling'], 'sampler': 'ddpm'}}
  with pytest.raises(ValueError, match="not 'ddpm'"):
    bundle.add_decoder(tiny_bundle, 'flow', wrong, params)


def test_another_flow_takes_its_one_step_decoder_with_it(tiny_bundle):
  spec, params = tiny_bundle.decoders['flow']
  once = {**spec, 'sampling': {**spec['sampling'], 'steps': 1}}
  made = bundle.add_decoder(tiny_bundle, 'one_step', once, params)
  assert made.decoders.keys() == {'flow', 'diffusion', 'one_step'}
  diffusion = tiny_bundle.decoders['diffusion']
  assert 'one_step' in bundle.add_decoder(
    made, 'diffusion', *diffusion
  ).decoders
  assert 'one_step' not in bundle.add_decoder(made, 'flow', *made.decoders[
    'flow'
  ]).decoders
  with pytest.raises(ValueError, match='steps must be from 1 to 1, not'):
    bundle.add_decoder(tiny_bundle, 'one_step', spec, params)


@pytest.mark.parametrize('entry, change, message', [
  ('flow', {'source_noise': -1.0}, 'source_noise must be 0 or more, not -1'),
  ('flow', {'sampling': {'eta': -0.5}}, 'eta must be from 0 to 100, not -0.5'),
  ('diffusion', {'schedule': 'sigmoid'}, "schedule must be.*not 'sigmoid'"),
  ('diffusion', {'noise_shift': 0.0}, 'noise_shift must be above 0, not 0'),
  ('diffusion', {'prediction': 'flow', 'source_noise': 0.0},
   'must be above 0 for prediction flow, not 0'),
  ('diffusion', {'prediction': 'score'}, "prediction must be.*not 'score'"),
  ('diffusion', {'sampling': {'grid': 'sigma'}}, "grid must be.*not 'sigma'"),
  ('diffusion', {'sampling': {'gamma': 1.5}}, 'gamma must be from 0 to 1, not'),
])
def test_records_that_make_no_sense(tiny_bundle, entry, change, message):
  spec, params = tiny_bundle.decoders[entry]
  sampling = {**spec['sampling'], **change.get('sampling', {})}
  wrong = {**spec, **change, 'sampling': sampling}
  with pytest.raises(ValueError, match=message):
    bundle.add_decoder(tiny_bundle, entry, wrong, params)


def test_a_record_that_lacks_a_field_says_which(tiny_bundle):
  spec, params = tiny_bundle.decoders['diffusion']
  sampling = {k: v for k, v in spec['sampling'].items() if k != 'steps'}
  wrong = {k: v for k, v in spec.items() if k != 'prediction'}
  with pytest.raises(ValueError, match='lacks prediction, sampling.steps'):
    bundle.add_decoder(
      tiny_bundle, 'diffusion', {**wrong, 'sampling': sampling}, params
    )
