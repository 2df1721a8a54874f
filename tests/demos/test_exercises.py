"""Exercises: solutions are right, an empty blank and every wrong filling are refused, each in a line with a hint."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import check
import pytest
from check import Verdict

DEMOS = Path(check.__file__).parent
SKELETONS = sorted((DEMOS / "exercises").glob("*.py"))
WRONG = Path(__file__).parent / "wrong_fillings"
FILLINGS = [
    pytest.param(path.name, *filling, id=f"{path.stem}-{filling[0]}-{number}")
    for path in sorted(WRONG.glob("*.py"))
    for number, filling in enumerate(runpy.run_path(str(path))["FILLINGS"])
]


def functions_of(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if is_function(node)}


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def statements_with_values(function: ast.FunctionDef) -> list[ast.stmt]:
    """Those whose value could be a blank."""
    kinds = ast.Assign, ast.AugAssign, ast.Return
    return [node for node in ast.walk(function) if isinstance(node, kinds) and node.value is not None]


def verdict_on(function: str, text: str, name: str, folder: Path) -> Verdict:
    """On one function of a program, as the file of this name."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    (verdict,) = check.verdicts(path, {function: check.checks_of(path)[function]})
    return verdict


@pytest.mark.parametrize("path", SKELETONS, ids=lambda path: path.stem)
def test_each_exercise_has_a_blank_a_solution_a_check_and_wrong_fillings(path):
    skeletons, solutions = functions_of(path), functions_of(DEMOS / "solutions" / path.name)
    with_blanks = [name for name, function in skeletons.items() if check.has_blank(function)]
    assert len(with_blanks) == (10 if path.stem == "find_the_fault" else 3)
    assert with_blanks == list(check.checks_of(path))
    for name in with_blanks:
        skeleton, solution = skeletons[name], solutions[name]
        assert ast.unparse(skeleton.args) == ast.unparse(solution.args), f"{name} takes other arguments"
        assert ast.get_docstring(skeleton) == ast.get_docstring(solution), f"{name} has another docstring"
        assert not check.has_blank(solution)
    refused = {filling[0] for filling in runpy.run_path(str(WRONG / path.name))["FILLINGS"]}
    assert refused == set(with_blanks)


@pytest.mark.parametrize("path", SKELETONS, ids=lambda path: path.stem)
def test_the_solutions_are_right(path, capsys):
    assert check.main([str(DEMOS / "solutions" / path.name)]) == 0
    assert capsys.readouterr().out.count(": ok\n") == len(check.checks_of(path))


@pytest.mark.parametrize("path", SKELETONS, ids=lambda path: path.stem)
def test_the_skeletons_are_empty_and_each_has_a_hint(path, capsys):
    assert check.main([str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check.checks_of(path)) and all(
        ": empty, fill in each `...`. Hint: " in line for line in lines
    )


@pytest.mark.parametrize("path", SKELETONS, ids=lambda path: path.stem)
def test_every_blank_left_alone_is_seen(path, tmp_path):
    text = (DEMOS / "solutions" / path.name).read_text(encoding="utf-8")
    for name in check.checks_of(path):
        count = len(statements_with_values(functions_of(DEMOS / "solutions" / path.name)[name]))
        for number in range(count):
            tree = ast.parse(text)
            function = next(node for node in tree.body if is_function(node) and node.name == name)
            statements_with_values(function)[number].value = ast.Constant(...)
            assert verdict_on(name, ast.unparse(tree), path.name, tmp_path).state == "empty"


@pytest.mark.parametrize(("name", "function", "right", "wrong", "hint"), FILLINGS)
def test_a_wrong_filling_is_refused_with_a_hint(name, function, right, wrong, hint, tmp_path):
    text = (DEMOS / "solutions" / name).read_text(encoding="utf-8")
    source = ast.get_source_segment(text, functions_of(DEMOS / "solutions" / name)[function])
    begin = source.index('"""', source.index('"""') + 3)  # what the docstring says stays
    assert source.count(right, begin) == 1, f"{right!r} must occur once in {function}"
    filled = source[:begin] + source[begin:].replace(right, wrong)
    verdict = verdict_on(function, text.replace(source, filled), name, tmp_path)
    assert verdict.state == "wrong"
    assert hint in verdict.words
    assert "\n" not in verdict.words and len(verdict.words) < 400


PROGRAM = (DEMOS / "solutions" / "01_forward.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return x.no_such_attribute", "line 5 raised AttributeError"),
        ("raise SystemExit('a\\nwall\\nof text')", "line 5 raised SystemExit: a"),
        ("return None", "its result cannot be used: TypeError"),
        ("return 'nine'", "its result cannot be used"),
        ("return x[:, None]", "has the shape (4, 1), expected (4,)"),
        ("return x * float('nan')", "is nan"),
    ],
)
def test_an_exception_or_an_odd_result_is_one_line(body, words, tmp_path):
    tree = ast.parse(PROGRAM)
    next(node for node in tree.body if is_function(node)).body = ast.parse(body).body
    verdict = verdict_on("step", ast.unparse(tree), "01_forward.py", tmp_path)
    assert verdict.state == "wrong" and words in verdict.words and "\n" not in verdict.words


def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path, capsys):
    path = tmp_path / "01_forward.py"
    for text, words in (("def step(:\n", "line 1 raised SyntaxError"), ("1 / 0\n", "line 1 raised ZeroDiv")):
        path.write_text(text)
        assert check.main([str(path)]) == 1
        printed = capsys.readouterr().out
        assert printed.startswith("01_forward.py cannot be loaded: ") and words in printed
        assert printed.count("\n") == 1


def test_a_function_that_is_missing_is_named(tmp_path):
    text = PROGRAM.replace("def step(", "def stepp(")
    assert "has no function of this name" in verdict_on("step", text, "01_forward.py", tmp_path).words


def test_check_is_a_program():
    path = DEMOS / "solutions" / "01_forward.py"
    environment = os.environ | {"PYTHONPATH": str(DEMOS.parent), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(DEMOS / "check.py"), str(path)]
    run = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "step: ok\nalpha_bars: ok\njump: ok\n", "")


def test_what_cannot_be_checked_is_refused(tmp_path, capsys):
    other = tmp_path / "mine.py"
    other.touch()
    for arguments in ([], [str(tmp_path / "absent.py")], ["a", "b"], [str(other)]):
        assert check.main(arguments) == 2
    assert "there are no checks for mine.py" in capsys.readouterr().err


def test_an_ellipsis_in_an_index_is_no_blank():
    assert not check.has_blank(ast.parse("def f(x):\n    return x[..., 0] + x[...]"))
    assert check.has_blank(ast.parse("def f(x):\n    return x + ..."))
    assert check.has_blank(ast.parse("def f(x):\n    y = (...)[0]"))
