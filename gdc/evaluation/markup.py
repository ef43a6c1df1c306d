"""Pieces of HTML: escaped text, notes, sections, embedded files."""
import base64
import html


def text(content) -> str:
  """Escapes for content and quoted attributes; UTF-8 whatever is given.

  Names of files that are not UTF-8 come with lone surrogates, which no file
  can hold; they are shown as question marks.
  """
  return html.escape(str(content).encode('utf-8', 'replace').decode())


def join(parts) -> str:
  """Pieces one below the other."""
  return '\n'.join(parts)


def section(heading, name, parts, tag='div') -> str:
  """A section of the page, or nothing where there is nothing in it."""
  body = join(parts)
  return body and (
    f'<section><h2>{heading}</h2>\n<{tag} class="{name}">\n{body}\n</{tag}>'
    '</section>'
  )


def note(content) -> str:
  """A paragraph of small print, or nothing."""
  return f'<p class="note">{text(content)}</p>' if content else ''


def data_uri(kind: str, data: bytes) -> str:
  """An image file as an address that holds it."""
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
