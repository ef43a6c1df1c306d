"""Whether a run may be resumed with a config."""
import json
import logging

import ml_collections
import pytest

from configs import autoencoder, flow
from gdc.training import resume


@pytest.fixture
def trained(tmp_path):
  """The workdir of a flow on an autoencoder, and its config."""
  config = flow.get_config('tiny')
  resume.write(config, tmp_path, {'autoencoder': 'a' * 40})
  return tmp_path, config


def test_the_config_of_a_run_may_resume_it(trained):
  workdir, config = trained
  resume.check(config, workdir, {'autoencoder': 'a' * 40})
  record = resume.read(workdir)
  assert record['frozen'] == {'autoencoder': 'a' * 40}
  resume.check(ml_collections.ConfigDict(record), workdir, record['frozen'])


@pytest.mark.parametrize('changes', [
  {'flow.time_sampling': 'logit_normal'},  # only the loss reads it
  {'steps': 9, 'optimizer.learning_rate': 0.5, 'data.crop': 64},
  {'autoencoder_from': 'elsewhere'},  # known by its digest
  {'sampling.steps': 2},
])
def test_fields_that_may_change(trained, changes):
  workdir, config = trained
  config.update_from_flattened_dict(changes)
  resume.check(config, workdir, {'autoencoder': 'a' * 40})


@pytest.mark.parametrize('changes, words', [
  ({'flow.source_noise': 2.0}, 'flow.source_noise = 0.5, not 2.0'),
  ({'score_net.widths': (8, 17)}, r'score_net.widths = \[8, 16\], not \[8, 17'),
])
def test_fields_that_may_not_change(trained, changes, words):
  workdir, config = trained
  before = (workdir / resume.NAME).read_bytes()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=f'{words}.*: name another --workdir'):
    resume.check(config, workdir, {'autoencoder': 'a' * 40})
  assert (workdir / resume.NAME).read_bytes() == before


@pytest.mark.parametrize('frozen, words', [
  ({'autoencoder': 'b' * 40}, 'frozen.autoencoder = aaaaaaaa, not bbbbbbbb: '),
  ({'autoencoder': 'a' * 40, 'flow': 'c' * 40},
   'frozen.flow = None, not cccccccc: '),
])
def test_other_frozen_networks_are_refused(trained, frozen, words):
  workdir, config = trained
  with pytest.raises(ValueError, match=words):
    resume.check(config, workdir, frozen)


def test_another_stage_is_named_first(trained):
  with pytest.raises(ValueError, match='stage = flow, not autoencoder'):
    resume.check(autoencoder.get_config('tiny'), trained[0], {})


@pytest.mark.parametrize('text', ['{"stage": ', '[1]', '7'])
def test_a_damaged_record_is_named_and_the_advice_works(trained, text):
  workdir, config = trained
  (workdir / resume.NAME).write_text(text)
  with pytest.raises(ValueError, match='config.json is damaged .*remove'):
    resume.check(config, workdir, {})
  (workdir / resume.NAME).unlink()
  resume.check(config, workdir, {})
  with pytest.raises(ValueError, match='not the workdir of a run'):
    resume.read(workdir)


def test_what_changed_is_logged(trained, caplog):
  workdir, config = trained
  config.steps = 9
  with caplog.at_level(logging.WARNING):
    resume.write(config, workdir, {'autoencoder': 'a' * 40})
  assert caplog.messages == ['Resumed with steps = 9, which was 4.']
  assert json.loads((workdir / resume.NAME).read_text())['steps'] == 9
