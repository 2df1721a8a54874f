"""The pages of the course are those of the sessions as they are now, and the notebooks hold the same cells."""

import json
import re

import build_pages
import pytest

MOST_BYTES = 3_000_000
sessions = pytest.mark.parametrize("path", build_pages.SESSIONS, ids=lambda path: path.stem)


@sessions
def test_the_page_is_not_older_than_its_session(path):
    page = (build_pages.PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    command = f"python demos/build_pages.py {path.stem}"
    assert page.endswith(build_pages.digest(path.read_text(encoding="utf-8"))), f"run {command}"


@sessions
def test_the_page_has_all_cells_and_its_pictures(path):
    page = (build_pages.PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    for prose, text in build_pages.cells(path.read_text(encoding="utf-8")):
        assert (build_pages.joined(text).replace("](../", "](../../") if prose else text) in page
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures and all((build_pages.PAGES / name).exists() for name in pictures)


@sessions
def test_formulas_of_a_page_are_closed_on_their_line(path):
    page = (build_pages.PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|\$\$.*?\$\$|`[^`\n]*`", "", page, flags=re.DOTALL)
    assert [line for line in prose.splitlines() if line.count("$") % 2] == []


@sessions
def test_the_notebook_has_the_cells_of_the_session(path):
    session = path.read_text(encoding="utf-8")
    cells = json.loads(build_pages.notebook(session))["cells"]
    kinds = {"markdown": True, "code": False}
    assert [(kinds[cell["cell_type"]], "".join(cell["source"])) for cell in cells] == [
        *build_pages.cells(session)
    ]
    lines = [
        f"# {line}" if cell["cell_type"] == "markdown" else line
        for cell in cells
        for line in "".join(cell["source"]).splitlines()
    ]
    whole = [line for line in session.splitlines() if not line.startswith("# %%")]
    assert [line for line in lines if line.strip("# ")] == [line for line in whole if line.strip("# ")]


def test_the_pages_are_small():
    assert sum(file.stat().st_size for file in build_pages.PAGES.iterdir()) <= MOST_BYTES
