"""Draws what the docs show of results/: tables, and docs/figures/.

  python -m tools.results           draws it anew
  python -m tools.results --check   names what is stale; exit status 1 if any

Run it from the repository's root. It replaces what stands in a page between
<!-- begin NAME --> and <!-- end NAME -->, and keeps the rest.
"""
import argparse
import difflib
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

from gdc.evaluation import figures, records
from tools import blocks

PAGES = ('README.md', 'docs/model_card.md', 'docs/results.md')
MISSING = 'Not measured yet.'
FIGURES = 'figures'  # beside the page
_BLOCK = re.compile(
  r'(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)', re.DOTALL
)
Blocks = Mapping[str, blocks.Block | None]


def divide(pages: Sequence[pathlib.Path], made: Blocks) -> list[Blocks]:
  """Returns the blocks of each page.

  Args:
    pages: files.
    made: see blocks.build.

  Raises:
    ValueError: the markers of a block are missing, doubled or unknown.
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
  """Returns the text of a page with every block made anew."""

  def text(match):
    block = made[match[2]]
    if block and block.text is None:
      return match[0]
    inside = block.text if block else MISSING
    if block and block.panels:
      inside = f'![{match[2]}]({FIGURES}/{match[2]}.svg)\n\n{inside}'
    return f'{match[1]}{inside}\n{match[3]}'

  return _BLOCK.sub(text, page)


def stale(page: pathlib.Path, made: Blocks) -> list[str]:
  """Returns what is not as the data says, and what is stale in the data.

  That is lines of the page, figures, and files that blocks call wrong. A figure
  holds the digest of the data that it was drawn from.
  """
  now = page.read_text()
  wrong = list(difflib.unified_diff(
    now.splitlines(), fill(now, made).splitlines(), str(page), 'data',
    lineterm='', n=0,
  ))
  for name, block in made.items():
    wrong += block.wrong if block else ()
    path = page.parent / FIGURES / f'{name}.svg'
    if path.exists() != bool(block and block.panels):
      wrong.append(f'{path}: {"not wanted" if path.exists() else "missing"}')
    elif path.exists() and _digest(block) not in path.read_text():
      wrong.append(f'{path}: drawn from other data')
  return wrong


def _digest(block: blocks.Block) -> str:
  """A digest of a figure's data."""
  drawn = json.dumps([block.panels, block.columns])
  return hashlib.sha256(drawn.encode()).hexdigest()


def draw(page: pathlib.Path, made: Blocks) -> None:
  """Writes a page and its figures."""
  filled = fill(page.read_text(), made)
  for name, block in made.items():
    path = page.parent / FIGURES / f'{name}.svg'
    if block and block.panels:
      figures.draw(path, block.panels, block.columns, _digest(block))
    else:
      path.unlink(missing_ok=True)
  records.write(page, filled)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
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
  for path, is_there in (
    *((page, page.is_file()) for page in arguments.pages),
    (arguments.results, arguments.results.is_dir()),
  ):
    if not is_there:
      parser.error(
        f"{path} does not exist; the defaults are relative to the repository's "
        'root'
      )
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
