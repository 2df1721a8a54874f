"""The one place that decides how a kernel is compiled.

`kernel` is for functions called from Python: compiled at the first call, cached on disk. `device` is for functions
called from kernels, and `c_function` for those called by their address.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from numba import _dynfunc, config, njit
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.sigutils import normalize_signature

from .cache import KernelCache, note

# Private parts of Numba relied upon (tests/kernels/test_kernels_numba.py checks each): the keyword pipeline_class of
# njit; the constructor of Compiler, and compile_extra; the flags no_compile, no_cpython_wrapper and no_cfunc_wrapper;
# JITCodeLibrary with _optimize_final_module, _finalize_final_module and _finalized; the fields entry_point, fndesc,
# library, environment and target_context of CompileResult; _dynfunc.make_function; insert_user_function of the target
# context; _cache of a dispatcher and of a CFunc; CFunc with compile; and sigutils.normalize_signature.
# cache.py relies on the methods of FunctionCache and IndexDataCacheFile that it overrides or calls.

# Never fastmath=True: it also promises that there are no NaNs, and a NaN in the input must reach the output.
FASTMATH = {"reassoc", "nsz", "contract", "arcp"}


class _UnoptimisedLibrary(JITCodeLibrary):
    """The LLVM code of a helper and of those that it calls, as Numba wrote it: optimising it is left to the kernels."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _HelperCompiler(Compiler):
    """Compiles a helper to LLVM code only: not to machine code, and with no entry point for Python or C.

    Numba's own compiler would optimise every helper, emit its machine code, and then do both again within all that
    calls it. That is most of the time that kernels take to compile, and none of it is ever run: a kernel contains
    copies of its helpers, and LLVM optimises them together.
    """

    def __init__(self, typing_context, target_context, library, args, return_type, flags, locals):
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        library = _UnoptimisedLibrary(target_context.codegen(), "helpers")
        super().__init__(typing_context, target_context, library, args, return_type, flags, locals)

    def compile_extra(self, function: Callable) -> CompileResult:
        """Numba looks compiled functions up by their Python entry point: give the helper one, which is never called."""
        compiled = super().compile_extra(function)
        module, name = compiled.fndesc.lookup_module(), compiled.fndesc.qualname
        entry = _dynfunc.make_function(module, name, "", 0, compiled.environment, ())
        compiled.target_context.insert_user_function(entry, compiled.fndesc, [compiled.library])
        return compiled._replace(entry_point=entry)


def device(function: Callable) -> Callable:
    """Compile a helper that kernels call.

    It is compiled anew for every type of an argument, and a literal number has a type of its own: pass `np.int64(0)`,
    not `0`.
    """
    return njit(pipeline_class=_HelperCompiler, error_model="numpy", fastmath=FASTMATH)(function)


def device_in_order(function: Callable) -> Callable:
    """The same, for arithmetic that is correct only in the order in which it is written."""
    fastmath = FASTMATH - {"reassoc", "arcp"}
    return njit(pipeline_class=_HelperCompiler, error_model="numpy", fastmath=fastmath)(function)


def kernel(function: Callable) -> Callable:
    """Compile a kernel, and cache it on disk where there is a writeable directory."""
    compiled = njit(error_model="numpy", fastmath=FASTMATH, no_cfunc_wrapper=True)(function)
    return compiled if config.DISABLE_JIT else _cached(compiled, function)


def _cached(compiled: Callable, function: Callable) -> Callable:
    try:
        compiled._cache = KernelCache(function)
    except RuntimeError as error:  # a read-only install and no home directory: there is nowhere to write
        note(Path(function.__code__.co_filename).parent, error)
    return compiled


class CFunction:
    """A function to be called by its address; compiled at the first use, and cached on disk as `kernel` does."""

    def __init__(self, function: Callable, signature: str) -> None:
        self.function, self.signature = function, signature

    @cached_property
    def compiled(self) -> CFunc:
        """What Numba makes of it, with its `address`, and `ctypes` to call it from Python."""
        signature = normalize_signature(self.signature)
        compiled = _cached(CFunc(self.function, signature, {}, {"error_model": "numpy"}), self.function)
        compiled.compile()
        return compiled


def c_function(signature: str) -> Callable[[Callable], CFunction]:
    """`@c_function("void(int64)")` makes a `CFunction`."""
    return lambda function: CFunction(function, signature)
