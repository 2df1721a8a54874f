"""The one place that says how a kernel is compiled.

`kernel` is for what Python calls: compiled at the first call, kept on disk. `device` is for what kernels call.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from numba import _dynfunc, njit
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult

# Never fastmath=True: it also promises that there are no NaNs, and a NaN must come out where one went in.
FASTMATH = {"reassoc", "nsz", "contract", "arcp"}


class _Helpers(JITCodeLibrary):
    """The code of a helper and of those that it calls, as Numba wrote it: LLVM's work on it is left to the kernels."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _HelperCompiler(Compiler):
    """How Numba compiles a helper: not to machine code, and for no call from Python or C.

    By itself it would optimise every helper, write it down for the machine, and then do so again with all that calls
    it. That is most of the time that kernels take to compile, and none of it is ever run: a kernel has copies of its
    helpers, and LLVM sees them all together.
    """

    def __init__(self, typing_context, target_context, library, args, returned, flags, locals):
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        library = _Helpers(target_context.codegen(), "helpers")
        super().__init__(typing_context, target_context, library, args, returned, flags, locals)

    def compile_extra(self, function: Callable) -> CompileResult:
        """Numba knows a compiled function by what Python would call, so there is something; it leads nowhere."""
        compiled = super().compile_extra(function)
        module, name = compiled.fndesc.lookup_module(), compiled.fndesc.qualname
        entry = _dynfunc.make_function(module, name, "", 0, compiled.environment, ())
        compiled.target_context.insert_user_function(entry, compiled.fndesc, [compiled.library])
        return compiled._replace(entry_point=entry)


def device(function: Callable) -> Callable:
    """Compile a helper that kernels call.

    It is compiled anew for every type of an argument, of which a literal number is one: so `np.int64(0)`, not `0`.
    """
    return njit(pipeline_class=_HelperCompiler, error_model="numpy", fastmath=FASTMATH)(function)


def device_in_order(function: Callable) -> Callable:
    """The same for arithmetic that is written in the only order in which it works."""
    fastmath = FASTMATH - {"reassoc", "arcp"}
    return njit(pipeline_class=_HelperCompiler, error_model="numpy", fastmath=fastmath)(function)


def kernel(function: Callable) -> Callable:
    """Compile a kernel, and keep it on disk where there is a place to."""
    options = {"error_model": "numpy", "fastmath": FASTMATH, "no_cfunc_wrapper": True}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # a read-only install and no home directory: Numba finds nowhere to write
        return njit(**options)(function)
    # Numba throws a kept kernel away when its own file has changed; here a helper may live in another file.
    compiled._cache._cache_file._source_stamp = _stamp()
    return compiled


@cache
def _stamp() -> str:
    """One for all that is written in this folder."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()
