"""Models that were in the box, and where they are now.

See docs/model_card.md, Old files.
"""
import json
import pathlib

LIST = pathlib.Path(__file__).parents[1] / 'pretrained' / 'retired.json'


def where(digest: str) -> str:
  """The end of an error: how to decode a file of another model.

  Args:
    digest: the first eight hex digits of the model's.
  """
  found = json.loads(LIST.read_text()).get(digest)
  if found is None:
    return (
      ': name the folder of the model that made it with --model FOLDER (in '
      'Python, gdc.load(FOLDER)).'
    )
  name, until, commit = (found[key] for key in ('name', 'until', 'commit'))
  return (
    f'. It was {name!r} in the box until {until}: in a clone of gdc, `git '
    f'worktree add former {commit}`; then --model former/gdc/pretrained/{name} '
    'decodes it.'
  )
