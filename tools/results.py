"""What the docs show of results/: their tables, and docs/figures/.

  python -m tools.results           redraws what is generated
  python -m tools.results --check   says what is stale; 1 if anything

Run from the repository's root. Generated is what stands in a page between
<!-- begin NAME --> and <!-- end NAME -->; all else is written by hand, and
kept.
"""
import argparse
import difflib
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

from gdc.evaluation import records
from tools import blocks

PAGES = ('README.md', 'docs/model_card.md', 'docs/results.md')
MISSING = 'Not measured yet.'
FIGURES = 'figures'  # beside the page
_WHERE = "defaults are those of the repository's root"
_BLOCK = re.compile(
  r'(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)', re.DOTALL
)
Blocks = Mapping[str, blocks.Block | None]


def divide(pages: Sequence[pathlib.Path], made: Blocks) -> list[Blocks]:
  """The blocks of each page.

  Args:
    pages: files.
    made: of blocks.build.

  Raises:
    ValueError: a block's markers are missing, doubled, or of no such block.
  """
  names = [
    [match[2] for match in _BLOCK.finditer(page.read_text())] for page in pages
  ]
  found = sum(names, [])
  if sorted(found) != sorted(made):
    raise ValueError(
      f'{", ".join(map(str, pages))} have blocks {", ".join(found)}; each of '
      f'{", ".join(made)} is expected once.'
    )
  return [{name: made[name] for name in own} for own in names]


def fill(page: str, made: Blocks) -> str:
  """The text of a page with every block as the data gives it."""

  def text(match):
    block = made[match[2]]
    inside = MISSING if block is None else block.text
    if block and block.panels:
      inside = f'![{match[2]}]({FIGURES}/{match[2]}.svg)\n\n{inside}'
    return f'{match[1]}{inside}\n{match[3]}'

  return _BLOCK.sub(text, page)


def stale(page: pathlib.Path, made: Blocks) -> list[str]:
  """What is not as the data gives it: lines of the page, figures.

  A figure carries the digest of what was drawn.
  """
  now = page.read_text()
  wrong = [
    line for line in difflib.unified_diff(
      now.splitlines(), fill(now, made).splitlines(), str(page), 'data',
      lineterm='', n=0,
    )
  ]
  for name, block in made.items():
    path = page.parent / FIGURES / f'{name}.svg'
    if path.exists() != bool(block and block.panels):
      wrong.append(f'{path}: {"not wanted" if path.exists() else "missing"}')
    elif path.exists() and _digest(block) not in path.read_text():
      wrong.append(f'{path}: of other data')
  return wrong


def _digest(block: blocks.Block) -> str:
  """Of a figure's data."""
  drawn = json.dumps([block.panels, block.columns])
  return hashlib.sha256(drawn.encode()).hexdigest()


def draw(page: pathlib.Path, made: Blocks) -> None:
  """Writes a page and its figures."""
  from gdc.evaluation import figures  # matplotlib, which --check goes without
  filled = fill(page.read_text(), made)
  for name, block in made.items():
    path = page.parent / FIGURES / f'{name}.svg'
    if not (block and block.panels):
      path.unlink(missing_ok=True)
      continue
    figures.draw(path, block.panels, block.columns, _digest(block))
  records.write(page, filled)


def main(argv: Sequence[str] | None = None) -> int:
  """The command; returns its exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m tools.results', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--check', action='store_true', help='write nothing')
  parser.add_argument(
    '--results', type=pathlib.Path, default='results', metavar='FOLDER',
    help='default: results',
  )
  parser.add_argument(
    '--pages', type=pathlib.Path, nargs='+', metavar='FILE',
    default=[pathlib.Path(page) for page in PAGES],
    help=f'default: {" ".join(PAGES)}; figures/ is beside a page',
  )
  arguments = parser.parse_args(argv)
  for page in arguments.pages:
    if not page.is_file():
      parser.error(f'{page}: there is no such page; {_WHERE}')
  if not arguments.results.is_dir():
    parser.error(f'{arguments.results}: there is no such folder; {_WHERE}')
  made = blocks.build(arguments.results)
  wrong = []
  for page, own in zip(
    arguments.pages, divide(arguments.pages, made), strict=True
  ):
    if arguments.check:
      wrong += stale(page, own)
    else:
      draw(page, own)
  if wrong:
    print('\n'.join(wrong), file=sys.stderr)
  return bool(wrong)


if __name__ == '__main__':
  sys.exit(main())
