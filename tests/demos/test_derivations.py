"""Every line of every derivation of the sessions equals the one above it, at random numbers."""

import ast
import functools
from pathlib import Path

import course
import pytest

DEMOS = Path(course.__file__).parent
SESSIONS = [DEMOS / path.name for path in sorted((DEMOS / "exercises").glob("[0-9]*.py"))]


def is_derivation(node: ast.AST) -> bool:
    """The lines of a derivation are a list whose name ends in `_lines`."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_lines")


def is_constant(node: ast.AST) -> bool:
    """Whether it gives names to literals, as in `T, X0 = 3, 1`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name | ast.Tuple):
        return False
    return all(isinstance(each, ast.Constant | ast.Tuple | ast.expr_context) for each in ast.walk(node.value))


def derivations_of(tree: ast.Module) -> dict[str, list[course.Line]]:
    """The derivations of a session, by name, without running the rest: they use its imports, functions, constants."""
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    needed = [n for n in tree.body if isinstance(n, kinds) or is_derivation(n) or is_constant(n)]
    names: dict[str, object] = {}
    exec(compile(ast.Module(needed, []), "session", "exec"), names)
    return {name: lines for name, lines in names.items() if name.endswith("_lines")}


TREES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in SESSIONS}
DERIVATIONS = [(stem, name) for stem, tree in TREES.items() for name in derivations_of(tree)]


@pytest.mark.parametrize(("session", "name"), DERIVATIONS)
def test_each_line_of_a_derivation_equals_the_one_above(session, name):
    lines = derivations_of(TREES[session])[name]
    for seed in range(10):
        course.compare(name, lines, seed)


@pytest.mark.parametrize(("session", "name"), DERIVATIONS)
def test_an_error_of_a_thousandth_in_any_line_would_be_seen(session, name):
    lines = derivations_of(TREES[session])[name]
    for number, line in enumerate(lines):
        if hasattr(line, "relation"):  # which may be off by more
            continue
        wrong = functools.wraps(line)(lambda *symbols, line=line: line(*symbols) * 1.001)
        with pytest.raises(AssertionError, match="differs from the one above it"):
            course.compare(name, [*lines[:number], wrong, *lines[number + 1 :]])


def test_every_derivation_is_evaluated_in_its_session():
    for stem, tree in TREES.items():
        text = ast.unparse(tree)
        for name in derivations_of(tree):
            assert f", {name})" in text, f"{stem} does not compare the lines of {name}"


def test_a_line_that_differs_is_named():
    with pytest.raises(AssertionError, match="line 2 differs"):
        course.compare("unequal", [lambda x: x, lambda x: x + 1e-6, lambda x: x])
    with pytest.raises(AssertionError, match="line 3 differs"):
        course.compare("unequal", [lambda x: x, lambda x: x, lambda y: y])
    course.compare("a bound", [lambda x: x, course.at_least(lambda x: x + 1)])
    with pytest.raises(AssertionError, match="line 2 differs"):
        course.compare("no bound", [lambda x: x, course.at_least(lambda x: x - 1e-6)])
