"""What a command says, to people and to programs."""
import json
import os
import pathlib

import pytest

from gdc import progress
from gdc.cli import files
from gdc.cli import report as report_lib


def _plan(*names, **options):
  return files.Plan(
    [files.Job(pathlib.Path(name), None) for name in names], **options
  )


def _work(job):
  if job.source_name == 'bad':
    raise ValueError('several\nlines')
  record = {'input': job.source_name, 'notices': ['half is lost']}
  return f'did {job.source_name}', record


def test_skipped_files_and_problems_are_reported(capsys):
  paths = [pathlib.Path(f'in/{name}') for name in 'abcde']
  plan = _plan(
    'a', others=paths, problems=[(pathlib.Path('lost.jpg'), 'is a link')]
  )
  report = report_lib.Report()
  report.begin(plan)
  assert capsys.readouterr().err.splitlines() == [
    'gdc: 5 files skipped, of other types: in/a, in/b, in/c and 2 more.',
    'gdc: lost.jpg: is a link.',
  ]
  assert report.each(plan, _work) == 1
  assert capsys.readouterr().err.endswith('gdc: 1 of 2 failed.\n')


def test_existing_outputs_are_left(tmp_path, capsys):
  target = tmp_path / 'c.gdc'
  job = files.Job(pathlib.Path('c.png'), target)
  done = files.Job(pathlib.Path('b.png'), tmp_path / 'b.gdc')
  plan = files.Plan([job], existing=[done], skip_existing=True)
  report_lib.Report().begin(plan)
  said = capsys.readouterr().err
  assert said == 'gdc: 1 of 2 outputs exist and are left as they are.\n'
  report = report_lib.Report(as_json=True)
  report.begin(plan)

  def work(job):
    target.touch()  # by another process
    files.write(job.target, b'ours')

  assert report.each(plan, work) == 0
  assert report.each(plan, None) == 0
  assert [json.loads(r) for r in capsys.readouterr().out.splitlines()] == [
    {'input': source, 'output': str(output), 'skipped': True}
    for source, output in (
      ('b.png', done.target), ('c.png', target), ('c.png', target)
    )
  ]
  assert target.read_bytes() == b''


def test_lines_for_people(capsys):
  assert report_lib.Report().each(_plan('a', 'bad', 'c'), _work) == 1
  out, err = capsys.readouterr()
  assert out == 'did a\ndid c\n'
  assert err == (
    'gdc: a: half is lost.\ngdc: bad: several lines\n'
    'gdc: c: half is lost.\ngdc: 1 of 3 failed.\n'
  )
  assert report_lib.Report().each(_plan('a'), _work) == 0


def test_json_for_programs(capsys):
  assert report_lib.Report(as_json=True).each(_plan('a', 'bad'), _work) == 1
  out, err = capsys.readouterr()
  assert [json.loads(line) for line in out.splitlines()] == [
    {'input': 'a', 'notices': ['half is lost']},
    {'input': 'bad', 'error': 'several lines'},
  ]
  assert err == 'gdc: 1 of 2 failed.\n'


@pytest.mark.parametrize('as_json', [False, True])
def test_standard_output_may_be_left_to_data(capsys, as_json):
  report = report_lib.Report(as_json, data_on_stdout=True)
  report.each(_plan('a'), _work)
  report.error(ValueError('x'))
  out, err = capsys.readouterr()
  assert not out and len(err.splitlines()) == 3 - as_json


def test_errors_name_their_input_once(capsys):
  report = report_lib.Report()
  report.error(ValueError('a.png is bad'), 'a.png')
  error = MemoryError()
  error.add_note('some\nadvice')
  report.error(error, 'b.png')
  report.error(MemoryError())
  report.error(ValueError('damaged: a part'), 'dam')
  report.error(ValueError('damaged in b/a.png'), 'a.png')
  report.error(ValueError('damaged: a.png'), 'a.png')
  assert capsys.readouterr().err.splitlines() == [
    'gdc: a.png is bad', 'gdc: b.png: MemoryError some advice',
    'gdc: MemoryError',
    'gdc: dam: damaged: a part', 'gdc: a.png: damaged in b/a.png',
    'gdc: a.png: damaged: a.png',
  ]


def test_system_errors_and_bugs(monkeypatch, capsys):
  report = report_lib.Report()
  report.error(PermissionError(13, 'Permission denied', 'a.png'), 'a.png')
  report.error(OSError(5, 'Input/output error'), 'a.png')
  report.error(AssertionError(), 'a\n\x1b[1mb.png')
  monkeypatch.setenv('GDC_TRACEBACK', '1')
  try:
    raise KeyError('x')
  except KeyError as e:
    report.error(e)
  lines = capsys.readouterr().err.splitlines()
  assert lines[:4] == [
    'gdc: a.png: Permission denied', 'gdc: a.png: Input/output error',
    r'gdc: a\n\x1b[1mb.png: AssertionError, which is a bug in gdc; '
    'GDC_TRACEBACK=1 prints the traceback.',
    'Traceback (most recent call last):',
  ]
  assert lines[-1].startswith("gdc: KeyError: 'x', which is")


def test_a_closed_pipe_stops_the_work():
  done = []

  def work(job):
    done.append(job)
    raise BrokenPipeError
  with pytest.raises(BrokenPipeError):
    report_lib.Report().each(_plan('a', 'b'), work)
  assert len(done) == 1


def test_undecodable_names_are_printed(capsys):
  name = os.fsdecode(b'a\xff.png')
  for names in ([name], [name, name]):
    assert report_lib.Report().each(_plan(*names), _work) == 0
  assert set(capsys.readouterr().out.splitlines()) == {r'did a\udcff.png'}


def test_work_is_counted_by_its_size(capsys):
  seen = []

  def work(job):
    bar = progress._active.get()
    seen.append((bar.label, bar.fraction()))
    return _work(job)

  sizes = {'folder/a': 1.0, 'bad': 3.0, 'c': 4.0}
  report = report_lib.Report()
  report.each(_plan(*sizes), work, lambda job: sizes[job.source_name])
  assert seen == [
    ('1 of 3 files', 0), ('2 of 3 files', 1 / 8), ('3 of 3 files', 4 / 8)
  ]
  report.each(_plan('folder/a'), work)
  assert seen[3:] == [('a', 0)]


def test_quiet_prints_errors_only(capsys):
  assert report_lib.Report(quiet=True).each(_plan('a', 'bad'), _work) == 1
  assert capsys.readouterr() == ('', 'gdc: bad: several lines\n')
