"""The plots of an evaluation."""
import math
import re
import warnings

import pytest

from gdc.evaluation import curves, figures, published


def _result(bpp, psnr, lpips, ssim, kid):
  return {
    'meta': {'features': 'FD-VGG16/256'},
    'results': {
      'quality': [1.0, 2.0], 'bpp': bpp, 'psnr-rgb': psnr, 'ms-ssim-rgb': ssim,
      'lpips-alex': lpips, 'kid-vgg16-256': kid, 'encoding_time': [1, 1],
    },
  }


@pytest.fixture
def results():
  return {
    'gdc:mse': _result(
      [0.2, 0.4], [28.0, 31.0], [0.3, 0.2], [0.9, 0.99], [0.002, 0.001]
    ),
    'gdc:flow': _result(
      [0.2, 0.4], [27.0, 30.0], [0.2, 0.1], [0.9, None], [0.001, 0.0]
    ),
    'jpeg': _result(
      [0.3, 0.8], [25.0, 29.0], [0.4, 0.2], [0.8, 1.0], [0.004, 0.003]
    ),
  }


def test_a_panel_for_each_measure_and_a_line_for_each_codec(results):
  panels = curves.rate_panels(results)
  assert [panel.y_label for panel in panels] == [
    'PSNR ↑, dB', 'MS-SSIM ↑, -10 log10(1 - x), dB', 'LPIPS ↓',
    'KID-VGG16/256 x 1000 ↓',
  ]
  psnr, ssim, _, kid = (panel.lines for panel in panels)
  assert [line.label for line in psnr] == list(results)
  assert len({line.colour for line in psnr}) == 3
  assert (psnr[2].x, psnr[2].y) == ([0.3, 0.8], [25.0, 29.0])
  assert ssim[0].y == pytest.approx([10.0, 20.0])
  assert ssim[1].y[1] is None and ssim[2].y[1] is None
  assert kid[0].y == pytest.approx([2.0, 1.0])


def test_a_legend_of_long_names_leaves_one_panel_its_room(results):
  lines = curves.rate_panels({'n' * 60: results['jpeg']})[0].lines
  panel = figures.Panel('x', 'y', lines)
  with warnings.catch_warnings():
    warnings.simplefilter('error')  # axes of no size are but a warning
    alone, named = (
      figures.svg([panel], 1, legend=legend).decode()
      for legend in (None, 'outside right upper')
    )
  alone, named = (
    float(re.search(r'width="([\d.]+)pt"', text)[1]) for text in (alone, named)
  )
  assert named > alone + 60 * 3


def test_no_two_codecs_look_alike(results):
  many = {f'codec{i}': results['jpeg'] for i in range(12)}
  references = [
    published.Curve(f'r{i}', 'kodak', {'bpp': [0.5], 'psnr-rgb': [30.0]})
    for i in range(3)
  ]
  lines = curves.rate_panels(many, references)[0].lines
  styles = {(line.colour, line.style) for line in lines}
  assert len(styles) == len(lines) == 15


def test_published_curves_are_marked_and_kept_to_our_rates(results):
  vtm = published.Curve('vtm', 'kodak', {
    'bpp': [0.1, 0.5, 2.0], 'psnr-rgb': [26.0, 32.0, 40.0],
  })
  psnr, *others = curves.rate_panels(results, [vtm])
  line = psnr.lines[-1]
  assert line.label == 'vtm (published, kodak)'
  assert (line.x, line.y) == ([0.1, 0.5], [26.0, 32.0])
  assert line.kind == 'published'
  for panel in others:
    assert all('vtm' not in line.label for line in panel.lines)


def test_the_plane_joins_decoders_of_equal_bits(results):
  lpips, kid = curves.plane_panels(results)
  assert (lpips.x_label, lpips.y_label) == ('PSNR ↑, dB', 'LPIPS ↓')
  joined = [line for line in lpips.lines if line.label == 'equal bits']
  assert [(line.x, line.y) for line in joined] == [
    ([27.0, 28.0], [0.2, 0.3]), ([30.0, 31.0], [0.1, 0.2]),
  ]
  assert kid.lines[0].y == [2.0, 1.0]
  results['gdc:mse+0.15'] = results['gdc:mse']
  control = curves.plane_panels(results)[0].lines
  assert [line for line in control if line.label == 'equal bits'] == joined
  del results['gdc:flow'], results['gdc:mse+0.15']
  assert curves.plane_panels(results) == []


def test_of_many_published_curves_the_best_are_drawn_at_first(
  results, tmp_path
):
  def curve(name, psnr):
    values = {'bpp': [0.1, 0.9], 'lpips-alex': [0.5, 0.1]}
    if psnr is not None:
      values['psnr-rgb'] = [psnr, psnr + 6.0]
    return published.Curve(name, 'kodak', values)

  order = [30.0, None, 24.0, 33.0, 26.0, 31.0, 32.0]
  references = [curve(f'r{i}', psnr) for i, psnr in enumerate(order)]
  best = {f'r{i} (published, kodak)' for i in (0, 3, 5, 6)}
  assert curves.drawn(results, references) == best
  few = references[:4]
  assert len(curves.drawn(results, few)) == 4
  charts, legend = curves.charts(results, references)
  assert len(charts) == 4 + 2
  assert {c.label for c in legend if c.thin and c.drawn} == {
    *best, curves.EQUAL_BITS
  }
  assert len({(c.colour, c.dashes) for c in legend}) == len(legend) == 3 + 7 + 1
  # Each is a group of its own, also of those that are not drawn at first.
  found = set(re.findall(r'id="(curve-\d+)"', charts[2].svg))
  assert found == {f'curve-{i}' for i in range(10)}
  text = curves.write(tmp_path, results, references)[0].read_text()
  assert 'r3 (published' in text and 'r2 (published' not in text


def test_files_are_drawn_and_the_same_data_gives_the_same_bytes(
  results, tmp_path
):
  paths = curves.write(tmp_path, results)
  assert [path.name for path in paths] == ['curves.svg', 'plane.svg']
  first = [path.read_bytes() for path in paths]
  assert b'gdc:flow' in first[0] and b'KID-VGG16/256' in first[0]
  assert 'PSNR ↑, dB'.encode() in first[1]
  assert [path.read_bytes() for path in curves.write(tmp_path, results)] == (
    first
  )
  # A plane that there is no longer does not stay.
  assert curves.write(tmp_path, {'jpeg': results['jpeg']}) == paths[:1]
  assert not paths[1].exists()


def test_an_infinite_measure_is_left_out_not_drawn(results, tmp_path):
  results['jpeg']['results']['psnr-rgb'][1] = None
  results['gdc:mse']['results']['lpips-alex'] = [None, None]
  paths = curves.write(tmp_path, results)
  assert all(str(math.nan) not in path.read_text() for path in paths)
