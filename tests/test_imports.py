"""Imports run downwards only: one rule for each package. Read from the sources; nothing is executed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minidiff

PACKAGE = Path(minidiff.__file__).parent
ROOT = PACKAGE.parent

# What each package may import besides itself. Those of one file are `files`, `memory`, `options`, `progress` and
# `unpickling`.
BELOW = {
    "kernels": "",
    "autograd": "kernels",
    "nn": "autograd kernels memory",
    "diffusion": "memory",
    "files": "",
    "memory": "",
    "options": "",
    "progress": "",
    "unpickling": "",
    "datasets": "files memory options progress unpickling",
    "training": "diffusion nn autograd kernels datasets memory options",
    "evaluation": "diffusion nn autograd kernels datasets files memory",
    "weights": "nn files memory unpickling",
    "runs": "training evaluation weights diffusion nn autograd datasets files memory options progress",
    "cli": "runs training evaluation weights diffusion nn datasets files memory options progress",
    "__main__": "cli",
    "": "*",  # minidiff/__init__.py hands out the public names
}
RUN_TIME = {"numpy", "numba", "matplotlib", "PIL", "llvmlite"}
TEST_TIME = {"pytest", "hypothesis", "minidiff"}
# What compares with a framework: skipped without it, or run by hand.
WITH_FRAMEWORKS = {"test_with_diffusers.py", "make_fixtures.py", "make_inception_fixture.py"}


def module_name(path: Path) -> str:
    return ".".join(("minidiff", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(name: str, path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The full names of all that a module imports: submodules of ours as such, relative names resolved."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), top_level_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join((*(parents if node.level else ()), *filter(None, [node.module])))
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in MODULES or source == "minidiff" else source


def _nodes(tree: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    """All nodes; or those that run when the module is imported, hence none inside a function or `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        yield node
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if not (top_level_only and later):
            yield from _nodes(node, top_level_only)


def package_of(module: str) -> str:
    """'diffusion' for 'minidiff.diffusion.samplers.ddim'; '' for minidiff itself."""
    return module.split(".")[1] if "." in module else ""


def test_every_package_has_its_rule_and_every_rule_its_package():
    assert {package_of(name) for name in MODULES} == BELOW.keys()


def test_the_rules_themselves_run_downwards():
    done: set[str] = set()
    waiting = {name: set(below.split()) for name, below in BELOW.items() if name}
    while waiting:
        free = {name for name, below in waiting.items() if below <= done}
        assert free, f"these packages may import each other in a circle: {', '.join(sorted(waiting))}"
        done |= free
        waiting = {name: below for name, below in waiting.items() if name not in free}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_lies_below_it(name):
    here = package_of(name)
    allowed = BELOW[here].split()
    for imported in imported_by(name, MODULES[name]):
        ours = imported.split(".")[0] == "minidiff" and imported != "minidiff.__version__"
        if ours and "*" not in allowed:
            there = package_of(imported)
            assert there == here or there in allowed, f"{name} may not import {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_the_package_needs_nothing_beneath_but_what_is_declared(name):
    for imported in imported_by(name, MODULES[name]):
        top = imported.split(".")[0]
        assert top in sys.stdlib_module_names | RUN_TIME | {"minidiff"}, f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_only_kernels_know_of_numba(name):
    if package_of(name) != "kernels":
        outside = {imported.split(".")[0] for imported in imported_by(name, MODULES[name])}
        assert not outside & {"numba", "llvmlite"}


@pytest.mark.parametrize("name", MODULES)
def test_matplotlib_is_imported_only_where_something_is_drawn(name):
    if name != "minidiff.evaluation.plots":
        for imported in imported_by(name, MODULES[name], top_level_only=True):
            assert imported.split(".")[0] != "matplotlib" and imported != "minidiff.evaluation.plots"


def test_tests_and_demos_need_no_framework():
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "demos").rglob("*.py")]
    here = {module.stem for module in files}  # helpers beside the tests and the sessions
    for path in files:
        if path.name in WITH_FRAMEWORKS:
            continue
        for imported in imported_by(path.stem, path):
            top = imported.split(".")[0]
            assert top in sys.stdlib_module_names | RUN_TIME | TEST_TIME | here, f"{path} imports {imported}"


def fresh_process(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("imported", ["minidiff", "minidiff.cli"])
def test_importing_the_package_or_the_command_line_does_not_load_matplotlib(imported):
    program = f"import sys, {imported}; print(*sorted(m for m in sys.modules if m.startswith('matplotlib')))"
    assert fresh_process(program) == ""


def test_importing_the_package_loads_nothing_of_it():
    program = (
        "import sys, minidiff; print(*sorted(m for m in sys.modules if m.startswith(('minidiff', 'numpy'))))"
    )
    assert fresh_process(program) == "minidiff"


PUBLIC = sorted({*minidiff._PACKAGES, *minidiff._WHERE})


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_the_first_to_be_imported(name):
    assert name in fresh_process(f"from minidiff import {name} as found; print(found.__name__)")


def test_a_type_checker_sees_the_same_public_names():
    tree = ast.parse(MODULES["minidiff"].read_text(encoding="utf-8"))
    checked = next(
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node)
    )
    named = {alias.name: line.module for line in checked.body for alias in line.names}
    lazily = dict(minidiff._WHERE)
    assert named == lazily | dict.fromkeys(minidiff._PACKAGES, "minidiff")
    assert {*PUBLIC} <= {*dir(minidiff)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scheduels'"):
        minidiff.scheduels  # noqa: B018
