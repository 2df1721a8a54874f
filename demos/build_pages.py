"""The course as pages to read and as notebooks, made of the sessions and what they print.

    python demos/build_pages.py [NN_title …]     docs/course/NN_title.md with pictures; all ten, or these
    python demos/build_pages.py --notebooks      demos/notebooks/NN_title.ipynb, without running them

Each session runs once, cell by cell. A page ends with the digest of its session; tests/demos/test_course_pages.py fails
where they differ, that is, where a session is newer than its page.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PAGES, NOTEBOOKS = HERE.parent / "docs" / "course", HERE / "notebooks"
SESSIONS = sorted(HERE.glob("[0-9][0-9]_*.py"))
COLOURS = 128  # of a picture on a page: enough for plots, in a third of the bytes
WROTE = re.compile(r"wrote demos/pictures/(\S+\.(?:png|gif))")
INTERACTIVE = (
    "[interactive.html](interactive.html), to be opened in a browser, has the 1-D mixture at every t, and two samplers "
    "side by side."
)


def cells(session: str) -> Iterator[tuple[bool, str]]:
    """The cells of a session's text: whether each is prose, and its Markdown or its code."""
    for cell in re.split(r"^# %%", session, flags=re.MULTILINE)[1:]:
        kind, _, text = cell.partition("\n")
        if "[markdown]" in kind:
            yield True, re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()
        elif text.strip():
            yield False, text.strip()


def joined(markdown: str) -> str:
    """The same with every formula in $…$ on one line, as web views want it."""
    lines: list[str] = []
    for line in markdown.splitlines():
        if lines and lines[-1].replace("$$", "").count("$") % 2:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def digest(session: str) -> str:
    """The last line of a page."""
    return f"<!-- made from a session with the SHA-256 {hashlib.sha256(session.encode()).hexdigest()} -->\n"


def page(path: Path) -> str:
    """Run a session and return it as Markdown: prose, code, what the code prints, and its pictures."""
    session = path.read_text(encoding="utf-8")
    variables = {"__name__": "__main__", "__file__": str(path)}
    blocks = []
    for prose, text in cells(session):
        if prose:
            blocks.append(joined(text).replace("](../", "](../../"))
            continue
        blocks.append(f"```python\n{text}\n```")
        above = "\n" * session[: session.index(text)].count(
            "\n"
        )  # so that line numbers are those of the file
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(above + text, path, "exec"), variables)
        printed, pictures = WROTE.sub("", output.getvalue()).rstrip(), WROTE.findall(output.getvalue())
        if printed:
            blocks.append(f"```text\n{printed}\n```")
        blocks += [f"![picture of {path.stem}]({copied(name)})" for name in pictures]
    neighbours = [other.stem for other in SESSIONS]
    links = " · ".join(f"[{int(stem[:2])}]({stem}.md)" for stem in neighbours)
    blocks.append(
        f"---\n\nSessions: {links}. {INTERACTIVE}\n\nThis page is [demos/{path.name}]"
        f"(../../demos/{path.name}), and what it prints."
    )
    return "\n\n".join(blocks) + "\n\n" + digest(session)


def copied(name: str) -> str:
    """Copy a picture beside the pages, in fewer bytes; returns its name there."""
    target = PAGES / Path(name).name
    with Image.open(HERE / "pictures" / name) as picture:
        if picture.format == "PNG":
            flat = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            flat.save(target, optimize=True)
        else:
            target.write_bytes((HERE / "pictures" / name).read_bytes())
    return target.name


def notebook(session: str) -> str:
    """A session as a Jupyter notebook, not run."""
    made = []
    for number, (prose, text) in enumerate(cells(session)):
        cell = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        kind = (
            {"cell_type": "markdown"}
            if prose
            else {"cell_type": "code", "execution_count": None, "outputs": []}
        )
        made.append(kind | cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False)


def main(arguments: list[str]) -> None:
    """Write the pages, or the notebooks."""
    names = [argument for argument in arguments if argument != "--notebooks"]
    chosen = [path for path in SESSIONS if not names or path.stem in names]
    if unknown := set(names) - {path.stem for path in SESSIONS}:
        raise SystemExit(f"no such session: {', '.join(sorted(unknown))}")
    sys.path.insert(0, str(HERE))  # where the sessions find `course`
    os.chdir(HERE.parent)
    folder = NOTEBOOKS if "--notebooks" in arguments else PAGES
    folder.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        if folder == NOTEBOOKS:
            target, content = folder / f"{path.stem}.ipynb", notebook(path.read_text(encoding="utf-8"))
        else:
            target, content = folder / f"{path.stem}.md", page(path)
        target.write_text(content, encoding="utf-8")
        print(f"wrote {target.relative_to(HERE.parent)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
