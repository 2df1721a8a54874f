"""Imports run downwards only: cli → workshop → mathematics | engine. Read from the sources, none is run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minidiff

PACKAGE = Path(minidiff.__file__).parent
ROOT = PACKAGE.parent

# Each room of the two wings with all that it may import besides itself. A room not named here is of the
# workshop, where the wings meet: it may import everything but the front door.
MATHEMATICS = {
    "schedules": set(),
    "noising": {"schedules"},
    "oracles": {"noising", "schedules"},
    "denoiser": {"noising", "schedules"},
    "guidance": {"denoiser", "noising", "schedules"},
    "samplers": {"denoiser", "oracles", "noising", "schedules"},
    "probability_flow": {"denoiser", "noising", "schedules"},
    "editing": {"samplers", "denoiser", "noising", "schedules"},
    "likelihood": {"denoiser", "oracles", "noising", "schedules"},
}
ENGINE = {
    "kernels": set(),
    "autograd": {"kernels"},
    "nn": {"autograd", "kernels"},
    "optim": {"nn", "autograd", "kernels"},
}
FRONT_DOOR = {"cli", "commands", "__main__"}
RUN_TIME = {"numpy", "numba", "matplotlib", "PIL", "llvmlite"}  # Pillow and llvmlite come with the others
TEST_TIME = {"pytest", "hypothesis", "minidiff"}


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
                yield whole if whole in MODULES else source


def _nodes(tree: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    """All nodes; or those that run when the module is imported, hence none inside a function or `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        yield node
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if not (top_level_only and later):
            yield from _nodes(node, top_level_only)


def room(module: str) -> str:
    """'samplers' for 'minidiff.samplers.ddim'; '' for the package itself."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_lies_below_it(name):
    allowed = {**MATHEMATICS, **ENGINE}.get(room(name))
    for imported in imported_by(name, MODULES[name]):
        if imported.split(".")[0] != "minidiff" or room(imported) == room(name):
            continue
        if allowed is not None:
            assert room(imported) in allowed, f"{name} may not import {imported}"
        elif room(name) not in FRONT_DOOR:
            assert room(imported) not in FRONT_DOOR, f"{name} may not import {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_the_package_needs_nothing_beneath_but_numpy_numba_and_matplotlib(name):
    for imported in imported_by(name, MODULES[name]):
        top = imported.split(".")[0]
        assert top in sys.stdlib_module_names | RUN_TIME | {"minidiff"}, f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_only_kernels_know_of_numba(name):
    if room(name) != "kernels":
        outside = {imported.split(".")[0] for imported in imported_by(name, MODULES[name])}
        assert not outside & {"numba", "llvmlite"}


@pytest.mark.parametrize("name", MODULES)
def test_matplotlib_is_imported_only_where_something_is_drawn(name):
    if room(name) != "plots":
        for imported in imported_by(name, MODULES[name], top_level_only=True):
            assert imported.split(".")[0] != "matplotlib" and imported != "minidiff.plots"


def test_tests_and_demos_need_no_framework():
    here = {module.stem for module in (ROOT / "tests").rglob("*.py")}  # helpers beside the tests
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "demos").rglob("*.py")]:
        for imported in imported_by(path.stem, path):
            top = imported.split(".")[0]
            assert top in sys.stdlib_module_names | RUN_TIME | TEST_TIME | here, f"{path} imports {imported}"


def test_every_room_of_the_house_plan_that_is_not_planned_for_later_is_there():
    rooms = {room(name) for name in MODULES}
    assert rooms >= MATHEMATICS.keys() | ENGINE.keys() | {"cli"}


@pytest.mark.parametrize("imported", ["minidiff", "minidiff.cli"])
def test_importing_the_front_door_does_not_load_matplotlib(imported):
    program = f"import sys, {imported}; print(*sorted(m for m in sys.modules if m.startswith('matplotlib')))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
