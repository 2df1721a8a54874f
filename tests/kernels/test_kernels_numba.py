"""The private parts of Numba on which the kernels rely are there; the installed version is in the declared range.

Nothing private, and none of the kernels, is imported before a test runs: what is missing fails the test of it.
"""

import importlib.metadata
import inspect
import operator
import re
from configparser import ConfigParser
from pathlib import Path

import numba
import pytest
from numba import types

core = numba.core
SETUP = Path(__file__).parents[2] / "setup.cfg"


def parameters(function):
    """The names of a function's parameters, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def begins_with(function, *names):
    return parameters(function)[: len(names)] == list(names)


def defines(owner, *names):
    return all(hasattr(owner, name) for name in names)


def twice(x):
    return 2 * x


def flags_can_be_set():
    flags = core.compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    return flags.no_compile and flags.no_cpython_wrapper and flags.no_cfunc_wrapper


def make_function_makes_a_function():
    environment = numba._dynfunc.Environment(globals())
    return callable(numba._dynfunc.make_function(inspect, "name", "", 0, environment, ()))


def a_library_runs_its_hooks_at_finalize():
    source = inspect.getsource(core.codegen.CPUCodeLibrary.finalize)
    return "self._optimize_final_module()" in source and "self._finalize_final_module()" in source


def a_helper_is_linked_into_its_caller():
    from minidiff.kernels.jit import _UnoptimisedLibrary, device

    helper = device(twice)

    @numba.njit
    def caller(x):
        return helper(x)

    result, (compiled,) = caller(3), helper.overloads.values()
    return result == 6 and isinstance(compiled.library, _UnoptimisedLibrary) and compiled.library._finalized


def a_function_type_has_its_dispatcher():
    function = numba.njit(twice)
    return numba.typeof(function).dispatcher is function


def a_c_function_has_an_address():
    from minidiff.kernels.jit import c_function

    return c_function("int64(int64)")(twice).compiled.address != 0


FIELDS = {"entry_point", "fndesc", "library", "environment", "target_context"}
CGUTILS = (
    "add_global_variable", "alloca_once", "alloca_once_value", "for_range", "for_range_slice", "gep_inbounds",
    "get_null_value", "get_or_insert_function", "if_unlikely", "is_not_null", "unpack_tuple", "voidptr_t",
)  # fmt: skip

# (the modules that rely on it, the private part, whether it is there with the shape relied upon)
PRIVATE = [
    (
        "jit",
        "the keyword pipeline_class of njit",
        lambda: "pipeline_class" in parameters(core.decorators.jit),
    ),
    (
        "jit",
        "numba.core.compiler.Compiler(typingctx, targetctx, library, args, return_type, flags, locals)",
        lambda: (
            len(parameters(core.compiler.Compiler)) == 7
            and begins_with(
                core.compiler.Compiler, "typingctx", "targetctx", "library", "args", "return_type", "flags"
            )
        ),
    ),
    (
        "jit",
        "Compiler.compile_extra(func)",
        lambda: len(parameters(core.compiler.Compiler.compile_extra)) == 1,
    ),
    ("jit", "the flags no_compile, no_cpython_wrapper and no_cfunc_wrapper", flags_can_be_set),
    (
        "jit",
        "JITCodeLibrary(codegen, name)",
        lambda: parameters(core.codegen.JITCodeLibrary) == ["codegen", "name"],
    ),
    (
        "jit",
        "JITCodeLibrary._optimize_final_module, _finalize_final_module, _finalized",
        lambda: defines(
            core.codegen.JITCodeLibrary, "_optimize_final_module", "_finalize_final_module", "_finalized"
        ),
    ),
    ("jit", "CodeLibrary.finalize, which calls these two", a_library_runs_its_hooks_at_finalize),
    (
        "jit",
        "a helper compiled by these parts and linked into its caller",
        a_helper_is_linked_into_its_caller,
    ),
    (
        "jit",
        f"CompileResult as a named tuple with the fields {sorted(FIELDS)}",
        lambda: set(core.compiler.CompileResult._fields) >= FIELDS,
    ),
    ("jit", "_dynfunc.make_function(module, name, doc, 0, environment, ())", make_function_makes_a_function),
    (
        "jit",
        "FunctionDescriptor.lookup_module and qualname",
        lambda: defines(core.funcdesc.FunctionDescriptor, "lookup_module", "qualname"),
    ),
    (
        "jit",
        "insert_user_function(func, fndesc, libs) of the target context",
        lambda: parameters(core.base.BaseContext.insert_user_function) == ["func", "fndesc", "libs"],
    ),
    ("jit", "_cache of a dispatcher", lambda: "_cache" in vars(numba.njit(twice))),
    (
        "cache",
        "FunctionCache(py_func) with load_overload(sig, target_context), save_overload(sig, data), flush()",
        lambda: (
            parameters(core.caching.FunctionCache) == ["py_func"]
            and parameters(core.caching.FunctionCache.load_overload) == ["sig", "target_context"]
            and parameters(core.caching.FunctionCache.save_overload) == ["sig", "data"]
            and parameters(core.caching.FunctionCache.flush) == []
        ),
    ),
    (
        "cache",
        "_cache_file, _cache_path and _impl.filename_base of a FunctionCache",
        lambda: (
            {"_cache_file", "_cache_path"} <= set(vars(core.caching.FunctionCache(twice)))
            and isinstance(core.caching.FunctionCache(twice)._impl.filename_base, str)
        ),
    ),
    (
        "cache",
        "IndexDataCacheFile(cache_path, filename_base, source_stamp) with _index_name and _source_stamp",
        lambda: {"_index_name", "_source_stamp"} <= set(vars(core.caching.IndexDataCacheFile("", "", ""))),
    ),
    (
        "cache",
        "IndexDataCacheFile.save(key, data) and load(key), which call _save_data(name, data) and _load_data(name)",
        lambda: (
            "self._save_data(data_name, data)" in inspect.getsource(core.caching.IndexDataCacheFile.save)
            and "self._load_data(data_name)" in inspect.getsource(core.caching.IndexDataCacheFile.load)
        ),
    ),
    (
        "cache",
        "IndexDataCacheFile._dump(obj), _data_path(name) and _open_for_write(filepath)",
        lambda: (
            parameters(core.caching.IndexDataCacheFile._dump) == ["obj"]
            and parameters(core.caching.IndexDataCacheFile._data_path) == ["name"]
            and parameters(core.caching.IndexDataCacheFile._open_for_write) == ["filepath"]
        ),
    ),
    (
        "launch",
        "the dispatcher of a function's type, and its get_compile_result(sig)",
        lambda: (
            a_function_type_has_its_dispatcher()
            and parameters(core.dispatcher.Dispatcher.get_compile_result) == ["sig"]
        ),
    ),
    (
        "microkernel",
        "types.StarArgUniTuple(dtype, count)",
        lambda: types.StarArgUniTuple(types.intp, 3).count == 3,
    ),
    (
        "launch",
        "types.StarArgTuple.from_types",
        lambda: types.StarArgTuple.from_types((types.int64,)).count == 1,
    ),
    (
        "launch",
        "active_code_library and codegen of the target context; add_linking_library of a library",
        lambda: (
            defines(core.cpu.CPUContext, "active_code_library", "codegen")
            and parameters(core.codegen.CodeLibrary.add_linking_library) == ["library"]
        ),
    ),
    (
        "launch",
        "declare_function(module, fndesc), make_array(typ), make_tuple, get_dummy_value() of the target context",
        lambda: (
            parameters(core.base.BaseContext.declare_function) == ["module", "fndesc"]
            and parameters(core.base.BaseContext.make_array) == ["typ"]
            and parameters(core.base.BaseContext.make_tuple) == ["builder", "typ", "values"]
            and parameters(core.base.BaseContext.get_dummy_value) == []
        ),
    ),
    (
        "launch",
        "call_conv.call_function(builder, callee, resty, argtys, args), with a status that has is_error",
        lambda: (
            begins_with(
                core.callconv.CPUCallConv.call_function, "builder", "callee", "resty", "argtys", "args"
            )
            and "is_error" in core.callconv.Status._fields
        ),
    ),
    (
        "launch",
        "call_conv.return_user_exc(builder, exc, exc_args)",
        lambda: begins_with(core.callconv.CPUCallConv.return_user_exc, "builder", "exc", "exc_args"),
    ),
    (
        "launch, microkernel",
        "arrays as structures with meminfo, parent and data",
        lambda: (
            {"meminfo", "parent", "data"} <= set(core.datamodel.default_manager[types.float32[::1]]._fields)
        ),
    ),
    (
        "jit",
        "CFunc(pyfunc, sig, locals, options) with _cache, compile, address and ctypes",
        lambda: (
            begins_with(core.ccallback.CFunc, "pyfunc", "sig", "locals", "options")
            and defines(core.ccallback.CFunc, "compile", "address", "ctypes")
            and "self._cache.load_overload" in inspect.getsource(core.ccallback.CFunc.compile)
        ),
    ),
    ("jit", "sigutils.normalize_signature, and a C function made with these", a_c_function_has_an_address),
    (
        "microkernel",
        "config.CPU_NAME and CPU_FEATURES",
        lambda: defines(numba.config, "CPU_NAME", "CPU_FEATURES"),
    ),
    (
        "launch, atomics, microkernel, transform, fused_mlp",
        f"cgutils with {CGUTILS}",
        lambda: defines(core.cgutils, *CGUTILS),
    ),
]


@pytest.mark.parametrize("modules, api, is_there", PRIVATE, ids=[api for _, api, _ in PRIVATE])
def test_private_parts_of_numba_are_as_relied_upon(modules, api, is_there):
    try:
        found, reason = is_there(), "not of the shape relied upon"
    except Exception as error:
        found, reason = False, repr(error)
    if not found:
        pytest.fail(
            f"Numba {numba.__version__}: a private part is missing, {api} ({reason}). minidiff/kernels relies on it in "
            f"{modules}: adapt that code, and reconsider the upper bound on numba in setup.cfg",
            pytrace=False,
        )


COMPARISONS = {">=": operator.ge, "<": operator.lt, ">": operator.gt, "<=": operator.le, "!=": operator.ne}


def declared():
    """The version specifiers of numba: those of setup.cfg, or without the sources those of the installed package."""
    if SETUP.exists():
        settings = ConfigParser()
        settings.read(SETUP, encoding="utf-8")
        requirements = settings["options"]["install_requires"].split("\n")
    else:
        requirements = importlib.metadata.requires("minidiff")
    (found,) = (r for r in requirements if re.match(r"numba\b", r))
    return found.removeprefix("numba")


def release(version):
    """(major, minor) of a version."""
    return tuple(map(int, version.split(".")[:2]))


def is_in_range(version, specifiers):
    bounds = re.findall(r"([<>!]=?)\s*([\d.]+)", specifiers)
    return all(COMPARISONS[sign](release(version), release(bound)) for sign, bound in bounds)


def test_the_installed_numba_is_in_the_declared_range():
    assert is_in_range(numba.__version__, declared()), (
        f"Numba {numba.__version__} is outside of {declared()}, the range for which the kernels were tested: run the "
        "tests above with it, and reconsider the upper bound on numba in setup.cfg"
    )


@pytest.mark.parametrize(
    "version, expected", [("0.60.0", False), ("0.61.2", True), ("0.68.1", True), ("0.69.0rc1", False)]
)
def test_a_version_is_compared_with_both_bounds(version, expected):
    assert is_in_range(version, ">=0.61,<0.69") is expected
