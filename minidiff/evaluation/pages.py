"""Self-contained HTML pages: text, tables, pictures, and sliders through pictures. Nothing is loaded from elsewhere.

A page opens in any browser without a server. Every function returns HTML, and escapes the text that it is given.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { --ink: #1f2933; --accent: #b83247; --paper: #fbfaf7; --line: #d9d4c7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e1d6; --accent: #f0808f; --paper: #1b1f24; --line: #3c434b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
tr { border-bottom: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
td:last-child { overflow-wrap: anywhere; }
figure { margin: .75rem 0; }
figcaption { margin: .25rem 0; }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; background: #fbfaf7; }
@media (max-width: 40rem) {
  thead { display: none; }
  tr, th, td { display: block; padding: 0; }
  tr { padding: .4rem 0; }
  td[title]::before { content: attr(title) ": "; opacity: .7; }
}
input[type=range] { width: 100%; max-width: 30rem; height: 2rem; accent-color: var(--accent); }
"""

# A slider shows one of its pictures. Where it stood is kept over a reload, unless it stood at the end.
SCRIPT = """
for (const figure of document.querySelectorAll("figure.slider")) {
  const range = figure.querySelector("input"), pictures = figure.querySelectorAll("div");
  const kept = location.pathname + "#" + figure.id;
  const show = () => pictures.forEach((picture, i) => { picture.hidden = i != range.value; });
  try { range.value = sessionStorage.getItem(kept) ?? range.max; } catch { }
  range.addEventListener("input", () => {
    show();
    try {
      if (range.value == range.max) sessionStorage.removeItem(kept);
      else sessionStorage.setItem(kept, range.value);
    } catch { }
  });
  show();
}
"""


def page(title: str, blocks: Iterable[str], refresh: int | None = None) -> str:
    """A whole page of blocks; refresh: after how many seconds a browser loads it again."""
    again = "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{again}<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n<h1>{escape(title)}</h1>\n{''.join(blocks)}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>\n"


def paragraph(text: str) -> str:
    """A paragraph of text."""
    return f"<p>{escape(text)}</p>\n"


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table; the first cell of each row is its name. head: the names of the columns."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_cell, cells, head[1:] or [""] * len(cells)))}</tr>\n'
        for name, *cells in rows
    )
    return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _cell(text: str, head: str) -> str:
    """A cell; on a narrow screen, where cells stand below each other, its title stands before it."""
    if not text:
        return "<td></td>"
    return f'<td title="{escape(head)}">{escape(text)}</td>' if head else f"<td>{escape(text)}</td>"


def picture(png: bytes, caption: str) -> str:
    """A PNG with its caption, which also stands for it where it cannot be seen."""
    return f"<figure>{_image(png, caption)}<figcaption>{escape(caption)}</figcaption></figure>\n"


def slider(name: str, frames: Sequence[tuple[bytes, str]]) -> str:
    """PNGs with their captions, of which a slider shows one, at first the last; its name is unique in a page."""
    if len(frames) == 1:
        return picture(*frames[0])
    shown = "".join(
        f"<div{'' if i == len(frames) - 1 else ' hidden'}>{_image(png, caption)}"
        f"<figcaption>{escape(caption)}</figcaption></div>\n"
        for i, (png, caption) in enumerate(frames)
    )
    last = len(frames) - 1
    return (
        f'<figure class="slider" id="{escape(name)}">\n'
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="{escape(name)}">\n{shown}</figure>\n'
    )


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{b64encode(png).decode()}">'
