"""Names and prose use the field's standard terms: the words that were replaced by them do not come back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("minidiff", "tests", "demos", "benchmarks")
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__).resolve()
]
PAGES = [
    *(ROOT / name for name in ("README.md", "EQUATIONS.md", "CONTRIBUTING.md")),
    *(page for folder in ("docs", *FOLDERS) for page in sorted((ROOT / folder).rglob("*.md"))),
]

# Nowhere in a name, as one of its words (`net_asked`, `AskedNet`).
WORDS = {
    *("told", "heard", "ask", "asks", "asked", "answer", "answers", "answered", "bent", "twin", "twins"),
    *("law", "laws", "ledger", "slip", "slips", "slope", "slopes", "within"),
}
# Not as a whole name: as one word of a name they may be something else (`in_place`, `share_memory`).
NAMES = {"place", "places", "share", "shares", "way", "ways", "deviation", "inverse_deviation"}
# Nor these in the kernels, where BLIS has words for them (`micro_panel` is one).
KERNEL_NAMES = {"tile", "tiles", "panel", "panels", "windows", "dense", "multihead"}

PHRASES = [
    *("ledger", "twin", "wing", "workshop", "front door", "tour of the house", "the documents"),
    *("is told", "are told", "asked for"),
    *("the words of the command", "how often each step is gone", "how long those are"),
]
PHRASE = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", flags=re.IGNORECASE)


def words_of(name: str) -> list[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module defines, and every keyword that it passes, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg:
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def is_replaced(name: str, kernel: bool = False) -> bool:
    """Whether a standard term has taken the place of this name, or of a word in it."""
    words = words_of(name)
    nonstandard = "deviation" in words and "standard" not in words
    return nonstandard or not WORDS.isdisjoint(words) or name in (NAMES | KERNEL_NAMES if kernel else NAMES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_word_that_was_replaced(path):
    kernel = "kernels" in path.parts
    names = [(path.stem, 0), *names_in(ast.parse(path.read_text(encoding="utf-8")))]
    found = [f"{name} (line {line})" for name, line in names if is_replaced(name, kernel)]
    assert not found, f"{path.relative_to(ROOT)}: {', '.join(found)}"


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_has_a_phrase_that_was_replaced(path):
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))  # a phrase may be broken over two lines
    found = [text[max(0, match.start() - 30) : match.end() + 30] for match in PHRASE.finditer(text)]
    assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "name", ["net_asked", "AskedNet", "deviation_of", "share", "within", "laws", "slope"]
)
def test_a_word_that_was_replaced_is_recognised_in_a_name(name):
    assert is_replaced(name)


@pytest.mark.parametrize(
    "name", ["shares_memory", "standard_deviation", "in_place", "outlaw", "task", "tile"]
)
def test_a_standard_term_is_no_such_word(name):
    assert not is_replaced(name)


def test_every_kind_of_definition_is_read():
    program = """
import numpy as asked_1
class Asked2(Base, asked_3=1):
    asked_4: int = 0
    def asked_5(self, asked_6, *asked_7, asked_8=1, **asked_9):
        self.asked_10, (asked_11, *asked_12) = f(asked_13=lambda asked_14: 0), x
        for asked_15 in [asked_16 := 1 for asked_17 in y]:
            np.tile(asked)
"""
    assert {name for name, _ in names_in(ast.parse(program)) if is_replaced(name)} == {
        "Asked2",
        *(f"asked_{n}" for n in range(1, 18) if n != 2),
    }
