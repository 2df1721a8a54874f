"""Mutation testing: would the tests fail if the code were wrong?

A mutant is the program with one sign, factor, axis, argument or comparison of a function changed. The tests are
collected once, and run once to record which of them enter which function and how long they take. For each mutant a
child process puts the changed code into the function and runs those tests, the ones that bear its name first, until one
fails: the mutant is killed. One that survives, because all tests pass, is printed.

    python tests/mutate.py                            every mutant of the rules and of the mathematics: hours
    python tests/mutate.py --sample 200 --seed 0      200 of them, drawn at random
    python tests/mutate.py minidiff/autograd/rules.py minidiff/autograd/neural.py             those of these files
    python tests/mutate.py minidiff/diffusion/noising.py tests/properties/test_forward.py     with these tests alone

The mathematics and its tests are the files that setup.cfg lists for `mutmut`, which does not mutate decorated
functions; every rule is one.
"""

import __future__

import argparse
import ast
import configparser
import copy
import importlib
import itertools
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
RULES = ["minidiff/autograd/rules.py", "minidiff/autograd/neural.py"]
SLACK = 20  # seconds of processor time, beyond thrice what the tests take: an endless loop counts as killed

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
OPERATORS |= {
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OPERATORS |= {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
OPERATORS |= {ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}


def replacements(node: ast.AST, arguments: list[str]) -> Iterator[ast.AST]:
    """What may stand in place of one node; `arguments` are those of the function around it."""
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPERATORS:
                yield ast.BinOp(left, OPERATORS[type(op)](), right)
            if isinstance(op, (ast.Mult, ast.Div, ast.Add, ast.Sub, ast.Pow)):
                yield left
            if isinstance(op, (ast.Mult, ast.Add)):
                yield right
            if isinstance(op, (ast.Sub, ast.Div, ast.MatMult)):
                yield ast.BinOp(right, op, left)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(OPERATORS[type(op)](), values)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for i, op in enumerate(ops):
                yield ast.Compare(left, [*ops[:i], OPERATORS[type(op)](), *ops[i + 1 :]], comparators)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
            if node.value:
                yield ast.UnaryOp(ast.USub(), node)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.Name(id=name, ctx=ast.Load()) if name in arguments and len(arguments) > 1:
            yield ast.Name(arguments[arguments.index(name) - 1], ast.Load())
        case ast.Lambda(args=parameters, body=body):  # a vjp, wrong by its sign and by a factor
            yield ast.Lambda(parameters, ast.UnaryOp(ast.USub(), body))
            yield ast.Lambda(parameters, ast.BinOp(ast.Constant(2), ast.Mult(), body))
        case ast.Call(func=function, args=given, keywords=keywords):
            for i in range(len(given) - 1):
                yield ast.Call(function, [*given[:i], given[i + 1], given[i], *given[i + 2 :]], keywords)
            for i in range(len(keywords)):
                yield ast.Call(function, given, keywords[:i] + keywords[i + 1 :])
        case ast.Return(value=ast.Tuple(elts=elements, ctx=ctx)) if len(elements) > 2:  # two vjps swapped
            for i in range(1, len(elements) - 1):
                swapped = [*elements[:i], elements[i + 1], elements[i], *elements[i + 2 :]]
                yield ast.Return(ast.Tuple(swapped, ctx))
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Tuple):
            yield ast.Return(ast.BinOp(ast.Constant(2), ast.Mult(), value))
        case ast.AugAssign(target=target, op=op, value=value):
            if type(op) in OPERATORS:
                yield ast.AugAssign(target, OPERATORS[type(op)](), value)
            yield ast.Pass()
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Subscript()]):
            yield ast.Pass()


def functions(
    tree: ast.AST, owners: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef]]:
    """Every function of a module and every method of its classes, with the names that lead to it."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node, (*owners, node.name))
        if isinstance(node, ast.FunctionDef):
            yield (*owners, node.name), node


def paths_below(node: ast.AST, path: tuple = ()) -> Iterator[tuple]:
    """The path to every node below that is executed: not annotations, nor the messages of errors."""
    if isinstance(node, (ast.Raise, ast.JoinedStr)):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield (*path, (field, i))
                yield from paths_below(child, (*path, (field, i)))


def follow(tree: ast.AST, path: tuple) -> ast.AST:
    for field, i in path:
        tree = getattr(tree, field) if i is None else getattr(tree, field)[i]
    return tree


class Mutant(NamedTuple):
    """One change of one function: `new` in place of the node at `path`."""

    file: Path
    names: tuple[str, ...]  # that lead to the function in its module
    function: ast.FunctionDef
    path: tuple
    new: ast.AST

    def __str__(self) -> str:
        old = follow(self.function, self.path)
        return f"{self.file}:{old.lineno}: {ast.unparse(old)}  →  {ast.unparse(self.new)}"

    def changed(self) -> ast.FunctionDef:
        """The whole function with the change, without its decorators."""
        changed = copy.deepcopy(self.function)
        changed.decorator_list = []
        parent, (field, i) = follow(changed, self.path[:-1]), self.path[-1]
        new = ast.copy_location(copy.deepcopy(self.new), follow(self.function, self.path))
        if i is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[i] = new
        return ast.fix_missing_locations(changed)


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file; functions that use `super()` are left out, since their code cannot be replaced."""
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    for names, function in functions(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if not function_at(module, names).__code__.co_freevars:
            arguments = [a.arg for a in function.args.args]
            for path in paths_below(function):
                for new in replacements(follow(function, path), arguments):
                    yield Mutant(file, names, function, path, new)


def function_at(module: object, names: tuple[str, ...]) -> Callable:
    """The undecorated function of a name."""
    for name in names:
        module = vars(module)[name]
    for inside in ("__wrapped__", "fget", "func", "pyfunc"):
        module = getattr(module, inside, module)
    return module


class Mutation:
    """A pytest plugin that replaces the loop over the tests: that loop for each mutant."""

    def __init__(self, files: list[Path], sample: int | None, seed: int, only: tuple[str, ...]) -> None:
        self.files, self.sample, self.seed, self.only = files, sample, seed, only

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed or not session.items:
            raise pytest.UsageError("there are no tests, or they cannot be collected")
        drawn = [mutant for file in self.files for mutant in mutants(file)]
        if self.sample is not None:
            count = min(self.sample, len(drawn))
            drawn = [drawn[i] for i in sorted(random.Random(self.seed).sample(range(len(drawn)), count))]
        runs = record(session, {str(ROOT / mutant.file) for mutant in drawn})
        for file, group in itertools.groupby(drawn, lambda mutant: mutant.file):
            module = importlib.import_module(".".join(file.with_suffix("").parts))
            count = survivors = 0
            for mutant in group:
                tests = self.tests_of(mutant, session.items, runs)
                limit = SLACK + int(3 * sum(runs[test.nodeid].seconds for test in tests))
                count += 1
                if in_child(lambda: put(mutant, module) or all_pass(session, tests), limit):  # noqa: B023
                    survivors += 1
                    print(mutant, flush=True)
            print(f"{file}: {count - survivors} of {count} mutants killed", flush=True)
        return True

    def tests_of(self, mutant: Mutant, tests: list[pytest.Item], runs: dict[str, "Run"]) -> list[pytest.Item]:
        """The tests that enter the mutant's function or one inside it, the ones that bear its name first.

        The rules are tested by tests/autograd alone, unless the tests to run were named.
        """
        function = mutant.function
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        lines, name = range(first, function.end_lineno + 1), function.name.strip("_")
        file = str(ROOT / mutant.file)
        entering = [
            t for t in tests if any(f == file and line in lines for f, line in runs[t.nodeid].entered)
        ]
        if not self.only and str(mutant.file) in RULES:
            entering = [test for test in entering if test.nodeid.startswith("tests/autograd/")]
        return sorted(entering, key=lambda test: name not in test.name)


class Run(NamedTuple):
    """One test of the unchanged program: its duration, and the file and first line of each function it enters."""

    seconds: float
    entered: list[tuple[str, int]]


def record(session: pytest.Session, files: set[str]) -> dict[str, Run]:
    """Run every test once and record, by its name, which functions of `files` it enters.

    Raises UsageError if one fails.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as store:

        def watch() -> bool:
            def note(frame: FrameType, event: str, _: object) -> None:
                if event == "call" and frame.f_code.co_filename in files:
                    entered.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

            runs = {}
            for item in session.items:
                entered, start = set(), time.process_time()
                sys.setprofile(note)
                threading.setprofile(note)
                passed = all_pass(session, [item])
                sys.setprofile(None)
                if not passed:
                    return False
                runs[item.nodeid] = Run(time.process_time() - start, sorted(entered))
            json.dump(runs, store)
            store.flush()
            return True

        if not in_child(watch, resource.RLIM_INFINITY):
            raise pytest.UsageError("the tests fail before anything is changed")
        store.seek(0)
        return {name: Run(*run) for name, run in json.load(store).items()}


def in_child(work: Callable[[], bool], seconds: int) -> bool:
    """Whether `work` returns True, in a process of its own, within so many seconds of processor time."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def all_pass(session: pytest.Session, tests: list[pytest.Item]) -> bool:
    """Whether these tests pass, up to the first that does not."""
    for test, following in zip(tests, [*tests[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
        if session.testsfailed:
            return False
    return True


def put(mutant: Mutant, module: object) -> None:
    """Replace the code of the function in place, so that every reference to the function has the mutant's.

    Raises whatever the changed definition raises, which kills the mutant.
    """
    made: dict[str, Callable] = {}
    code = compile(ast.Module([mutant.changed()], []), "mutant", "exec", __future__.annotations.compiler_flag)
    exec(code, vars(module), made)
    real, new = function_at(module, mutant.names), made[mutant.names[-1]]
    real.__code__, real.__defaults__, real.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def mathematics() -> tuple[list[str], list[str]]:
    """The files that mutmut mutates, and the tests that it runs (setup.cfg)."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = config["mutmut"]["only_mutate"].split()
    files = [
        path for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.name != "__init__.py"
    ]
    tests = config["mutmut"]["pytest_add_cli_args_test_selection"].split()
    return [str(path.relative_to(ROOT)) for path in files if path.suffix == ".py"], tests


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="files of the package to mutate, and tests to run")
    parser.add_argument("--sample", type=int, help="how many mutants to draw at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    options = parser.parse_args()
    os.environ.setdefault("MINIDIFF_KERNELS", "reference")  # nothing to compile, and rarely much to compute
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    files = [path for path in options.paths if path.startswith("minidiff")]
    only = [path for path in options.paths if not path.startswith("minidiff")]
    formulas, tests = mathematics()
    files = files or [*RULES, *formulas]
    tests = only or [
        *(["tests/autograd"] if {*files} & {*RULES} else []),
        *(tests if {*files} - {*RULES} else []),
    ]
    plugin = Mutation([Path(file) for file in files], options.sample, options.seed, tuple(only))
    arguments = ["-q", "-s", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", *tests]
    sys.exit(pytest.main(arguments, plugins=[plugin]))


if __name__ == "__main__":
    main()
