"""EQUATIONS.md is true of the project: every id of the ledger is there, and all that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
EQUATIONS, SLIPS = TEXT.split("\n## The slips\n")

# How many ids each family of the ledger has; R alone counts from 0.
IDS = [f"{family}{n}" for family, first, last in ("F19", "O13") for n in range(int(first), int(last) + 1)]
IDS += [f"R{n}" for n in range(8)] + [f"{family}{n}" for family in "VS" for n in range(1, 12)]
WITH_SLIPS = ["F2", "F3", "F4", "F5", "R1", "R2", "R3", "R4", "V1", "V3", "V7", "V8", "V9", "S2"]

CODE = re.compile(r"`(minidiff/[\w/]+\.py): ([\w., ]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def entries(part: str, heading: str) -> dict[str, str]:
    """The text below each heading, by id."""
    pieces = re.split(heading, part, flags=re.MULTILINE)
    ids = pieces[1::2]
    assert len(ids) == len(set(ids)), "an id has two entries"
    return dict(zip(ids, pieces[2::2], strict=True))


ENTRIES = entries(EQUATIONS, r"^### ([A-Z]\d+) · ")
SLIP_ENTRIES = entries(SLIPS, r"^### ✗ ([A-Z]\d+) · ")


def defined_in(path: Path) -> set[str]:
    """The functions and classes of a file, and the methods of its classes as Class.method."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{method.name}" for method in inner if isinstance(method, ast.FunctionDef)}
    return names


def test_every_id_has_exactly_one_entry():
    assert sorted(ENTRIES) == sorted(IDS)


@pytest.mark.parametrize("name", IDS)
def test_every_entry_names_its_code_and_a_test(name):
    assert CODE.search(ENTRIES[name]), f"{name} names no code"
    assert TEST.search(ENTRIES[name]), f"{name} names no test"


def test_every_erratum_is_described_in_full_and_its_equation_is_marked():
    assert list(SLIP_ENTRIES) == WITH_SLIPS
    for name, entry in SLIP_ENTRIES.items():
        assert "- printed: " in entry and TEST.search(entry), f"the slip {name} is not told in full"
    marked = re.findall(r"^### ([A-Z]\d+) · .* ✗$", EQUATIONS, flags=re.MULTILINE)
    assert sorted(marked) == sorted(WITH_SLIPS)


@pytest.mark.parametrize(("file", "names"), sorted(set(CODE.findall(TEXT))))
def test_named_code_exists(file, names):
    assert set(names.split(", ")) <= defined_in(ROOT / file)


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(TEXT))))
def test_named_tests_exist(file, name):
    assert name.startswith("test_") and name in defined_in(ROOT / file)


def test_every_code_and_test_line_is_checked():
    for line in TEXT.splitlines():
        if line.startswith("- code "):
            assert CODE.fullmatch(line.removeprefix("- code ")), line
        if line.startswith("- test "):
            assert TEST.fullmatch(line.removeprefix("- test ")), line


def test_every_property_test_with_an_id_has_an_entry():
    for path in (ROOT / "tests" / "properties").glob("test_*.py"):
        for name in defined_in(path):
            family = re.match(r"test_([A-Za-z]\d+)_", name)
            if family:
                assert family[1].upper() in IDS, (
                    f"{path.name}::{name} bears an id that the ledger does not have"
                )
