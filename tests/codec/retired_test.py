"""Files of models that are no longer bundled."""
import json
import pathlib
import subprocess
import zlib

import numpy as np
import pytest

from gdc.codec import bitstream, bundle, retired
from gdc.codec import codec as codec_lib

pytestmark = pytest.mark.usefixtures('by_the_network')

ROOT = pathlib.Path(__file__).parents[2]
LISTED = json.loads(retired.LIST.read_text())


def _git(*words):
  done = subprocess.run(
    ['git', *words], cwd=ROOT, capture_output=True, check=False
  )
  return done.stdout if done.returncode == 0 else None


def test_a_file_of_a_retired_model_is_refused_with_where_it_is(tiny_bundle):
  codec = codec_lib.Codec(tiny_bundle)
  data = bytearray(codec.compress(np.zeros((16, 16, 3), np.uint8)))
  assert data[8:12].hex() == codec.digest[:8]
  for digest, words in (
    ('d8ded15d', "'lean', which was bundled until 2026-11-22: .* 7333724"),
    ('00000000', r'--model FOLDER .in Python, gdc.load'),
  ):
    data[8:12] = bytes.fromhex(digest)
    signed = data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, 'little')
    with pytest.raises(
      bitstream.BitstreamError, match=f'model {digest}; .*{words}'
    ):
      codec.decompress(bytes(signed))


def test_the_box_holds_no_former_model():
  for path in bundle.PRETRAINED.glob('*/bundle.json'):
    assert json.loads(path.read_text())['digest'][:8] not in LISTED


@pytest.mark.skipif(
  _git('rev-parse', '--is-shallow-repository') != b'false\n',
  reason='not a whole clone',
)
@pytest.mark.parametrize('digest', LISTED)
def test_former_models_are_where_it_is_said(digest):
  model = LISTED[digest]
  content = _git(
    'show', f"{model['commit']}:gdc/pretrained/{model['name']}/bundle.json"
  )
  assert content, 'no such commit'
  assert json.loads(content)['digest'].startswith(digest)
