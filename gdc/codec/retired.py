"""Retired bundled models, and where to find them.

See docs/model_card.md, "Old files".
"""
import json
import pathlib

LIST = pathlib.Path(__file__).parents[1] / 'pretrained' / 'retired.json'


def where(digest: str) -> str:
  """Returns the end of an error message: how to decode another model's file.

  Args:
    digest: first eight hex digits of the model's digest.
  """
  found = json.loads(LIST.read_text()).get(digest)
  if found is None:
    return (
      ': name the folder of the model that made it with --model FOLDER (in '
      'Python, gdc.load(FOLDER)).'
    )
  name, until, commit = (found[key] for key in ('name', 'until', 'commit'))
  return (
    f'. That is {name!r}, which was bundled until {until}: in a clone of gdc, '
    f'`git worktree add retired {commit}`; then --model '
    f'retired/gdc/pretrained/{name} decodes it.'
  )
