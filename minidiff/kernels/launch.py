"""A parallel loop over a kernel's jobs, on the threads of Numba's pool.

Numba has `prange` for this, but makes a function of each such loop, which it compiles three times: by itself, in a
wrapper, and within the kernel. Here the loop's body is a helper like any other, and a call of `launch` runs it for
all jobs in parallel:

    launch(job_function, jobs, x, y)        for job in range(jobs): job_function(job, x, y)

The schedule is static: each thread gets one chunk of consecutive jobs, all of about the same size. A single job runs
on the calling thread, as all jobs do while there is no pool.

Private parts of Numba relied upon, beside the extension API (tests/kernels/test_kernels_numba.py checks each): the
dispatcher of a function's type and its get_compile_result; active_code_library, call_conv, declare_function, make_array
and get_dummy_value of the target context; types.StarArgTuple.from_types; and the machine-code function
numba_parallel_for, whose arguments `_write_parallel_for` lists.
"""

import ctypes

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# The addresses of get_num_threads and numba_parallel_for; zeros while there is no pool.
pool = (ctypes.c_ssize_t * 2)()

_PARALLEL_FOR = "minidiff_parallel_for"  # the symbol that kernels are linked against
_word = ir.IntType(8 * ctypes.sizeof(ctypes.c_ssize_t))
_void = ir.VoidType()


@intrinsic
def launch(typingctx, function, jobs, *arguments):
    """function(job, *arguments) for every job < jobs, in parallel; what it returns is dropped.

    Raises MemoryError if a job failed: kernels raise nothing themselves, but the allocation of scratch arrays may fail.
    """
    called = typingctx.resolve_function_type(function, (types.int64, *arguments), {})
    packed = types.StarArgTuple.from_types(arguments)

    def generate(context, builder, signature, args):
        compiled = function.dispatcher.get_compile_result(called)
        context.active_code_library.add_linking_library(compiled.library)
        _, jobs, values = args
        task = cgutils.alloca_once(builder, ir.LiteralStructType([_word, values.type]))  # zeros
        builder.store(values, cgutils.gep_inbounds(builder, task, 0, 1))

        run, inner = _function(builder.module, builder.module.get_unique_name("run"), 3)
        run.linkage = "internal"
        begin, end = run.args[1:]
        given = inner.inttoptr(run.args[0], task.type)
        values = inner.load(cgutils.gep_inbounds(inner, given, 0, 1))
        values = cgutils.unpack_tuple(inner, values, len(arguments))
        values = [_borrow(context, inner, *pair) for pair in zip(arguments, values, strict=True)]
        callee = context.declare_function(inner.module, compiled.fndesc)
        with cgutils.for_range_slice(inner, begin, end, _word(1)) as (job, _):
            status, _ = context.call_conv.call_function(
                inner, callee, called.return_type, called.args, [job, *values]
            )
            with cgutils.if_unlikely(inner, status.is_error):
                inner.store(_word(1), cgutils.gep_inbounds(inner, given, 0, 0))
        inner.ret_void()

        kind = ir.FunctionType(_void, [_word] * 3)
        parallel_for = cgutils.get_or_insert_function(builder.module, kind, _PARALLEL_FOR)
        builder.call(parallel_for, [builder.ptrtoint(run, _word), builder.ptrtoint(task, _word), jobs])
        failed = builder.load(cgutils.gep_inbounds(builder, task, 0, 0))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(
                builder, MemoryError, ("no memory for a kernel's scratch arrays",)
            )
        return context.get_dummy_value()

    return types.void(function, types.int64, packed), generate


def _borrow(context, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    """The value; of an array a borrowed reference, since threads that count references to it would contend.

    The kernel keeps the array alive until all jobs are done.
    """
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = array.parent = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


def _write_parallel_for(module: ir.Module) -> None:
    """parallel_for(run, task, jobs) = run(task, 0, jobs), in as many chunks as there are threads, in parallel.

    The pool calls chunks(args, shape, steps, data) with args[0] = the first chunk's index and shape[0] = their number.
    """
    chunks, builder = _function(module, "chunks", 4)
    args, shape, _, data = chunks.args
    run, task, jobs, threads = (_entry(builder, data, i) for i in range(4))
    first = _entry(builder, args, 0)
    last = builder.add(first, _entry(builder, shape, 0))
    begin, end = (builder.sdiv(builder.mul(jobs, index), threads) for index in (first, last))
    with builder.if_then(builder.icmp_signed("<", begin, end)):
        _call(builder, _void, run, task, begin, end)
    builder.ret_void()

    parallel_for, builder = _function(module, _PARALLEL_FOR, 3)
    run, task, jobs = parallel_for.args
    get_num_threads, numba_parallel_for = (
        _entry(builder, _word(ctypes.addressof(pool)), i) for i in range(2)
    )
    no_pool = builder.icmp_signed("==", numba_parallel_for, _word(0))
    one_job = builder.icmp_signed("<=", jobs, _word(1))
    with builder.if_else(builder.or_(no_pool, one_job)) as (serial, parallel):
        with serial:
            _call(builder, _void, run, task, _word(0), jobs)
        with parallel:
            threads = _call(builder, _word, get_num_threads)
            args, shape, steps = (_array(builder, entry) for entry in (_word(0), threads, _word(1)))
            data = _array(builder, run, task, jobs, threads)
            inner_axes, arrays = _word(0), _word(1)
            _call(
                builder, _void, numba_parallel_for,
                builder.ptrtoint(chunks, _word), args, shape, steps, data, inner_axes, arrays, threads,
            )  # fmt: skip
    builder.ret_void()


def _function(module: ir.Module, name: str, count: int) -> tuple[ir.Function, ir.IRBuilder]:
    """A function of `count` words that returns nothing, and a builder for its code."""
    function = ir.Function(module, ir.FunctionType(_void, [_word] * count), name)
    return function, ir.IRBuilder(function.append_basic_block())


def _call(builder: ir.IRBuilder, returned: ir.Type, address: ir.Value, *args: ir.Value) -> ir.Value:
    kind = ir.FunctionType(returned, [_word] * len(args))
    return builder.call(builder.inttoptr(address, kind.as_pointer()), args)


def _array(builder: ir.IRBuilder, *entries: ir.Value) -> ir.Value:
    """The address of an array of words; it lasts until the function returns."""
    array = builder.alloca(_word, len(entries))
    for i, entry in enumerate(entries):
        builder.store(entry, builder.gep(array, [_word(i)]))
    return builder.ptrtoint(array, _word)


def _entry(builder: ir.IRBuilder, array: ir.Value, i: int) -> ir.Value:
    return builder.load(builder.gep(builder.inttoptr(array, _word.as_pointer()), [_word(i)]))


def _make_parallel_for() -> binding.ExecutionEngine:
    """Compile it and register its symbol; the code lasts as long as the returned engine."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = ir.Module()
    module.triple = binding.get_process_triple()
    _write_parallel_for(module)
    machine = binding.Target.from_triple(module.triple).create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    binding.add_symbol(_PARALLEL_FOR, engine.get_function_address(_PARALLEL_FOR))
    return engine


_machine_code = _make_parallel_for()
