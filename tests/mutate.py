"""Would the tests notice? One sign, factor, axis, argument or comparison of a function is changed at a time.

The tests are collected once, and run once to see which of them enter which function. For each change a child process
puts the changed code into the function and runs those tests, the ones that bear its name first, until one fails. A
change under which all pass is printed, and counts as a survivor.

    python tests/mutate.py                    the rules of the engine, against tests/autograd
    python tests/mutate.py minidiff/diffusion/noising.py tests/properties/test_forward.py …       any module, any tests

`mutmut`, which is used for the mathematics, does not look into decorated functions; every rule is one.
"""

import ast
import copy
import importlib
import json
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 60  # seconds of processor time for the tests of one change; an endless loop counts as noticed

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


def changes(node: ast.AST, arguments: list[str]) -> Iterator[ast.AST]:
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
        case ast.Return(value=ast.Tuple(elts=parts, ctx=ctx)) if len(parts) > 2:  # two vjps change places
            for i in range(1, len(parts) - 1):
                swapped = [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]]
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


def places(node: ast.AST, path: tuple = ()) -> Iterator[tuple]:
    """The way to every node below that is run; annotations and the words of errors are not."""
    if isinstance(node, (ast.Raise, ast.JoinedStr)):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield (*path, (field, i))
                yield from places(child, (*path, (field, i)))


def follow(tree: ast.AST, path: tuple) -> ast.AST:
    for field, i in path:
        tree = getattr(tree, field) if i is None else getattr(tree, field)[i]
    return tree


def mutants(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each changed function, with its line, what stood there and what stands there now."""
    arguments = [a.arg for a in function.args.args]
    for path in places(function):
        node = follow(function, path)
        for change in changes(node, arguments):
            changed = copy.deepcopy(function)
            parent, (field, i) = follow(changed, path[:-1]), path[-1]
            new = ast.copy_location(copy.deepcopy(change), node)
            if i is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[i] = new
            told = f"{node.lineno}: {ast.unparse(node)}  →  {ast.unparse(new)}"
            yield told, ast.fix_missing_locations(changed)


def function_at(module: object, names: tuple[str, ...]) -> Callable:
    """The plain function behind a name, whatever its decorators made of it."""
    for name in names:
        module = vars(module)[name]
    for inside in ("__wrapped__", "fget", "func", "pyfunc"):
        module = getattr(module, inside, module)
    return module


class Mutation:
    """In place of pytest's own loop over the tests: that loop for each change."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed or not session.items:
            raise pytest.UsageError("there are no tests, or they cannot be collected")
        for path in self.paths:
            module = importlib.import_module(".".join(path.with_suffix("").parts))
            entered = lines_entered(session, module.__file__)
            count = survivors = 0
            for names, node in functions(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
                tests = tests_of(node, session.items, entered)
                for told, changed in mutants(node):
                    count += 1
                    if in_child(lambda: put(changed, module, names) or all_pass(session, tests), LONGEST):  # noqa: B023
                        survivors += 1
                        print(f"{path}:{told}", flush=True)
            print(f"{path}: {count - survivors} of {count} changes noticed", flush=True)
        return True


def lines_entered(session: pytest.Session, file: str) -> dict[str, list[int]]:
    """By the name of each test, the first lines of those functions of a file that it enters.

    Raises UsageError where the tests do not pass as things are.
    """
    entered = {item.nodeid: set() for item in session.items}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:

        def watch() -> bool:
            def note(frame: FrameType, event: str, _: object) -> None:
                if event == "call" and frame.f_code.co_filename == file:
                    lines.add(frame.f_code.co_firstlineno)

            for item in session.items:
                lines = entered[item.nodeid]
                sys.setprofile(note)
                threading.setprofile(note)
                passed = all_pass(session, [item])
                sys.setprofile(None)
                if not passed:
                    return False
            json.dump({name: sorted(lines) for name, lines in entered.items()}, told)
            told.flush()
            return True

        if not in_child(watch, resource.RLIM_INFINITY):
            raise pytest.UsageError("the tests fail before anything is changed")
        told.seek(0)
        return json.load(told)


def tests_of(
    function: ast.FunctionDef, tests: list[pytest.Item], entered: dict[str, list[int]]
) -> list[pytest.Item]:
    """Those tests that enter a function or one inside it, the ones that bear its name first."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    lines, name = range(first, function.end_lineno + 1), function.name.strip("_")
    reached = [test for test in tests if any(line in lines for line in entered[test.nodeid])]
    return sorted(reached, key=lambda test: name not in test.name)


def in_child(work: Callable[[], bool], seconds: int) -> bool:
    """Whether `work` comes to be true, in a process of its own, within so many seconds of processor time."""
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


def put(changed: ast.FunctionDef, module: object, names: tuple[str, ...]) -> None:
    """The changed code into the function of that name, so that all who hold the function have it.

    Raises whatever the changed code raises when it is made.
    """
    changed.decorator_list, made = [], {}
    exec(compile(ast.Module([changed], []), "changed", "exec"), vars(module), made)
    real, new = function_at(module, names), made[names[-1]]
    real.__code__, real.__defaults__, real.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def main(arguments: list[str]) -> None:
    os.environ.setdefault("MINIDIFF_KERNELS", "reference")  # no time to compile, and rarely much to compute
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    modules = [Path(a) for a in arguments if a.startswith("minidiff")]
    tests = [a for a in arguments if not a.startswith("minidiff")]
    modules = modules or [Path("minidiff/autograd/rules.py"), Path("minidiff/autograd/neural.py")]
    options = ["-q", "-s", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    pytest.main([*options, *(tests or ["tests/autograd"])], plugins=[Mutation(modules)])


if __name__ == "__main__":
    main(sys.argv[1:])
