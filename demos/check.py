"""Check the exercises of a session: `python demos/check.py demos/exercises/01_forward.py`.

Prints a line for each function of the file: ok, empty (a blank `...` is left) with a hint, or wrong, with the reason.
The exit status is 0 if all are right, 1 if not, and 2 if there is nothing to check.

The checks of `01_forward.py`, wherever that file lies, are the functions of `demos/checks/01_forward.py`: check_NAME
takes the student's function NAME and returns None, or what is wrong with it. Its docstring is the hint.
"""

import ast
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

CHECKS = Path(__file__).parent / "checks"

Check = Callable[[FunctionType], str | None]


class Verdict(NamedTuple):
    """On one function: "ok", "empty" or "wrong", and in words what to do."""

    name: str
    state: str
    words: str


def load(path: Path) -> dict[str, object]:
    """The names that a file defines."""
    names: dict[str, object] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    return names


def checks_of(path: Path) -> dict[str, Check]:
    """The checks of a file of exercises, by the name of the function that each takes."""
    names = load(CHECKS / path.name)
    return {name.removeprefix("check_"): check for name, check in names.items() if name.startswith("check_")}


def has_blank(node: ast.AST) -> bool:
    """Whether `...` occurs anywhere but in an index, as in x[..., 0]."""
    if isinstance(node, ast.Subscript):
        return has_blank(node.value)
    blank = isinstance(node, ast.Constant) and node.value is ...
    return blank or any(has_blank(child) for child in ast.iter_child_nodes(node))


def describe(error: BaseException, path: Path) -> str:
    """An exception on one line, with the last line of the student's file that led to it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
    where = f"line {lines[-1]} raised " if lines else "its result cannot be used: "
    first = (str(error).splitlines() or [""])[0]
    return f"{where}{type(error).__name__}: {first:.160}"


def verdict(name: str, check: Check, names: dict[str, object], blanks: set[str], path: Path) -> Verdict:
    """On the function `name` of a student's file, whose names are given."""
    hint = inspect.getdoc(check).replace("\n", " ")
    if not callable(names.get(name)):
        return Verdict(name, "wrong", f"{path.name} has no function of this name. Hint: {hint}")
    if name in blanks:
        return Verdict(name, "empty", f"fill in each `...`. Hint: {hint}")
    try:
        words = check(names[name])
    except (Exception, SystemExit) as error:
        words = describe(error, path)
    if words and "?" not in words:  # no common error was recognised
        words += f". Hint: {hint}"
    return Verdict(name, "wrong" if words else "ok", words or "")


def verdicts(path: Path, checks: dict[str, Check]) -> Iterator[Verdict]:
    """On each function that has a check. Raises what the file itself raises when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    blanks = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and has_blank(node)}
    names = load(path)
    for name, check in checks.items():
        yield verdict(name, check, names, blanks, path)


def main(arguments: list[str]) -> int:
    """Check the file that is named on the command line; returns the exit status."""
    path = Path(arguments[0]) if len(arguments) == 1 else None
    if path is None or not path.is_file():
        print("usage: python demos/check.py FILE, such as demos/exercises/01_forward.py", file=sys.stderr)
        return 2
    if not (CHECKS / path.name).is_file():
        known = ", ".join(sorted(each.name for each in CHECKS.glob("*.py")))
        print(f"check.py: there are no checks for {path.name}; there are some for {known}", file=sys.stderr)
        return 2
    right, checks = True, checks_of(path)
    try:
        for name, state, words in verdicts(path, checks):
            print(f"{name}: {state}{', ' if words else ''}{words}", flush=True)
            right &= state == "ok"
    except (Exception, SystemExit) as error:
        print(f"{path.name} cannot be loaded: {describe(error, path)}")
        return 1
    except KeyboardInterrupt:
        print("interrupted")
        return 1
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
