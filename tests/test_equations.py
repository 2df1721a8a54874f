"""EQUATIONS.md agrees with the project: every id has its entry, and the code, tests and names in it exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
EQUATIONS, ERRATA = TEXT.split("\n## Errata\n")

# The ids of each family; R alone counts from 0.
IDS = [f"{family}{n}" for family, first, last in ("F19", "O13") for n in range(int(first), int(last) + 1)]
IDS += [f"R{n}" for n in range(8)] + [f"{family}{n}" for family in "VS" for n in range(1, 12)]
WITH_ERRATA = ["F2", "F3", "F4", "F5", "R1", "R2", "R3", "R4", "V1", "V3", "V7", "V8", "V9", "S2"]

CODE = re.compile(r"`(minidiff/[\w/]+\.py): ([\w., ]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

GLOSSARY = re.search(r"^## Glossary\n\n((?:\|.*\n)+)", TEXT, flags=re.MULTILINE)
TERMS = [line.strip("| ").split(" | ") for line in GLOSSARY[1].splitlines()[2:]] if GLOSSARY else []
REQUIRED_TERMS = [
    *("β_t", "α_t", "ᾱ_t", "β̃_t", "σ_t", "ε", "z_t", "x̂_0", "v", "score", "SNR", "λ", "q", "p_θ", "η"),
    *("L_simple", "ELBO", "L_T", "L_{t−1}", "L_0", "NFE", "EMA"),
    *("classifier-free guidance", "probability-flow ODE"),
]
# A name in the glossary: a name of a module, package or class, and possibly a parameter of it.
NAME = re.compile(r"`(\w+\.\w+)(?:\((\w+)\))?`")


def entries(section: str, heading: str) -> dict[str, str]:
    """The text below each heading, by id."""
    pieces = re.split(heading, section, flags=re.MULTILINE)
    ids = pieces[1::2]
    assert len(ids) == len(set(ids)), "an id has two entries"
    return dict(zip(ids, pieces[2::2], strict=True))


ENTRIES = entries(EQUATIONS, r"^### ([A-Z]\d+) · ")
ERRATUM_ENTRIES = entries(ERRATA, r"^### ✗ ([A-Z]\d+) · ")


def defined_in(path: Path) -> set[str]:
    """The functions and classes of a file, and the methods of its classes as Class.method."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{method.name}" for method in inner if isinstance(method, ast.FunctionDef)}
    return names


@cache
def package_names() -> dict[str, set[str]]:
    """Every module.name, package.name, Class.field and Class.method of the package, with its parameters."""
    names: dict[str, set[str]] = {}
    for path in (ROOT / "minidiff").rglob("*.py"):
        package = path.name == "__init__.py"
        owner = path.parent.name if package else path.stem
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                names[f"{owner}.{node.name}"] = {a.arg for a in node.args.args + node.args.kwonlyargs}
            elif isinstance(node, ast.ClassDef):
                names[f"{owner}.{node.name}"] = set()
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        names[f"{node.name}.{member.name}"] = {a.arg for a in member.args.args}
                    elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                        names[f"{node.name}.{member.target.id}"] = set()
            elif isinstance(node, ast.ImportFrom) and package:
                names |= {f"{owner}.{alias.asname or alias.name}": set() for alias in node.names}
    return names


def test_every_id_has_exactly_one_entry():
    assert sorted(ENTRIES) == sorted(IDS)


@pytest.mark.parametrize("name", IDS)
def test_every_entry_names_its_code_and_a_test(name):
    assert CODE.search(ENTRIES[name]), f"{name} names no code"
    assert TEST.search(ENTRIES[name]), f"{name} names no test"


def test_every_erratum_is_described_in_full_and_its_equation_is_marked():
    assert list(ERRATUM_ENTRIES) == WITH_ERRATA
    for name, entry in ERRATUM_ENTRIES.items():
        assert "- printed: " in entry and TEST.search(entry), f"the erratum of {name} is incomplete"
    marked = re.findall(r"^### ([A-Z]\d+) · .* ✗$", EQUATIONS, flags=re.MULTILINE)
    assert sorted(marked) == sorted(WITH_ERRATA)


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
                assert family[1] in IDS, f"{path.name}::{name} has an id without an entry"


def test_the_page_begins_with_a_glossary_of_the_standard_terms():
    assert re.findall(r"^## (\w+)", TEXT, flags=re.MULTILINE)[0] == "Glossary"
    assert all(len(row) == 3 and all(row) for row in TERMS)
    explained = {term for row in TERMS for term in re.split(r", | = ", row[0])}
    assert {required for required in REQUIRED_TERMS if required not in explained} == set()


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row[0])
def test_names_in_the_glossary_exist(row):
    cell = row[2]
    assert re.fullmatch(rf"{NAME.pattern}(, {NAME.pattern})*", cell), f"expected `owner.name`, got {cell}"
    for name, parameter in NAME.findall(cell):
        assert name in package_names(), f"there is no {name}"
        assert not parameter or parameter in package_names()[name], f"{name} takes no {parameter}"
