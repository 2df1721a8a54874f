"""Would the tests notice? One sign, factor, axis, argument or comparison of a module is changed at a time.

For each change a child process imports the changed module in place of the real one and runs the tests until the first
failure. A change under which all of them pass is printed, and counts as a survivor.

    python tests/mutate.py                    the rules of the engine, against tests/autograd
    python tests/mutate.py minidiff/noising.py tests/properties/test_forward.py …       any module, any tests

`mutmut`, which is used for the mathematics, does not look into decorated functions; every rule is one.
"""

import ast
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST = 60  # seconds for the tests of one change; an endless loop counts as noticed

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


def places(
    tree: ast.AST, path: tuple = (), arguments: tuple[str, ...] = ()
) -> Iterator[tuple[tuple, list[str]]]:
    """The way to every node that is run inside a function, with that function's arguments; errors are left out."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(
            tree, (ast.Raise, ast.JoinedStr)
        ):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                inside = arguments
                if isinstance(child, ast.FunctionDef) and not arguments:
                    inside = tuple(a.arg for a in child.args.args) or ("",)
                way = (*path, (field, i))
                if arguments:
                    yield way, list(arguments)
                yield from places(child, way, inside)


def follow(tree: ast.AST, path: tuple) -> ast.AST:
    for field, i in path:
        tree = getattr(tree, field) if i is None else getattr(tree, field)[i]
    return tree


def mutants(source: str) -> Iterator[tuple[str, str, ast.Module]]:
    """Each changed module: the function it is changed in, the line with what stood and what stands there, the tree."""
    tree = ast.parse(source)
    for path, arguments in places(tree):
        node = follow(tree, path)
        for change in changes(node, arguments):
            changed = copy.deepcopy(tree)
            parent, (field, i) = follow(changed, path[:-1]), path[-1]
            new = ast.copy_location(copy.deepcopy(change), node)
            if i is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[i] = new
            told = f"{node.lineno}: {ast.unparse(node)}  →  {ast.unparse(new)}"
            yield tree.body[path[0][1]].name, told, ast.fix_missing_locations(changed)


class Instead(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports a changed tree under the name of a module."""

    def __init__(self, name: str, path: Path, tree: ast.Module):
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname, path, target=None):
        if fullname == self.name:
            return importlib.util.spec_from_file_location(fullname, self.path, loader=self)
        return None

    def get_source(self, fullname):
        return self.path.read_text(encoding="utf-8")

    def get_code(self, fullname):
        return compile(self.tree, str(self.path), "exec")


def noticed(module: Path, tree: ast.Module, tests: list[str], function: str = "") -> bool:
    """Whether any test fails, or the module no longer imports, in a child that has the changed module.

    The tests that bear the name of the function come first, since most changes fail there.
    """
    if function and _fails(module, tree, [*tests, "-k", function]):
        return True
    return _fails(module, tree, tests)


def _fails(module: Path, tree: ast.Module, tests: list[str]) -> bool:
    child = os.fork()
    if child == 0:
        import pytest

        signal.alarm(LONGEST)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.meta_path.insert(0, Instead(".".join(module.with_suffix("").parts), ROOT / module, tree))
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
        code = int(pytest.main([*options, *tests]))
        os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)
    return os.waitpid(child, 0)[1] != 0


def main(arguments: list[str]) -> None:
    os.environ.setdefault("MINIDIFF_KERNELS", "reference")  # what is quick to start is quick to run so often
    modules = [Path(a) for a in arguments if a.startswith("minidiff")]
    tests = [a for a in arguments if not a.startswith("minidiff")]
    modules = modules or [Path("minidiff/autograd/rules.py"), Path("minidiff/autograd/neural.py")]
    tests = tests or ["tests/autograd"]
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    import hypothesis.extra.numpy  # noqa: F401
    import numba  # noqa: F401  all that is slow to import and not ours, once for all children
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    for module in modules:
        source = (ROOT / module).read_text(encoding="utf-8")
        if noticed(module, ast.parse(source), tests):
            sys.exit(f"{module}: the tests have to pass before anything is changed")
        count = survivors = 0
        for function, told, tree in mutants(source):
            count += 1
            if not noticed(module, tree, tests, function):
                survivors += 1
                print(f"{module}:{told}", flush=True)
        print(f"{module}: {count - survivors} of {count} changes noticed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
