"""Parallel loops over a kernel's jobs, on the threads of the pool (pool.py).

Numba has `prange` for this, but makes a function of each such loop, which it compiles three times: by itself, in a
wrapper, and within the kernel. Here the loop's body is a helper like any other, and runs in parallel

    launch(function, jobs, x, y)                    function(job, x, y) for every job < jobs
    launch_ranges(function, jobs, workers, x, y)    function(worker, begin, end, x, y) for every worker < workers

The second cuts the jobs into equal ranges begin … end − 1, one for each worker. It is for bodies that prepare something
once for all of their jobs: allocate memory, pack a matrix. Scratch memory may be one row of an array for each worker.

Which thread runs a job or a range, and when, is left to the pool: a result must not depend on it, nor on the number of
ranges. A single one runs on the calling thread, as all do before the pool has been started.

Private parts of Numba relied upon, beside the extension API (tests/kernels/test_kernels_numba.py checks each): the
dispatcher of a function's type and its get_compile_result; active_code_library, call_conv, declare_function,
make_array, make_tuple and get_dummy_value of the target context; and types.StarArgTuple.from_types.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from . import pool

_word = ir.IntType(64)


@register_jitable
def ceil_div(n, size):
    """n / size rounded up: how many blocks of a size hold n. For Python and for kernels."""
    return (n + size - 1) // size


def workers_for(work: int, serial_below: int) -> int:
    """How many workers to launch: one where there is less work than it takes to wake the other threads."""
    return 1 if work < serial_below else pool.active()


@intrinsic
def launch(typingctx, function, jobs, *arguments):
    """function(job, *arguments) for every job < jobs, in parallel; what it returns is dropped.

    Raises MemoryError if a job failed: kernels raise nothing themselves, but the allocation of scratch arrays may fail.
    """
    return _parallel_loop(typingctx, function, arguments, ranges=False)


@intrinsic
def launch_ranges(typingctx, function, jobs, workers, *arguments):
    """function(worker, begin, end, *arguments) for min(jobs, workers) equal ranges of the jobs; else as `launch`."""
    return _parallel_loop(typingctx, function, arguments, ranges=True)


def _parallel_loop(typingctx, function, arguments: tuple[types.Type, ...], ranges: bool):
    """Type and code of both."""
    integers = [types.int64] * (3 if ranges else 1)
    called = typingctx.resolve_function_type(function, (*integers, *arguments), {})

    def generate(context, builder, signature, args):
        compiled = function.dispatcher.get_compile_result(called)
        context.active_code_library.add_linking_library(compiled.library)
        _, jobs, *workers, values = args
        pieces = builder.select(builder.icmp_signed("<", jobs, *workers), jobs, *workers) if ranges else jobs
        # Whether a job failed, jobs, pieces, arguments
        task_type = ir.LiteralStructType([_word, _word, _word, values.type])
        task = cgutils.alloca_once(builder, task_type)  # zeros
        for i, value in enumerate((jobs, pieces, values), 1):
            builder.store(value, cgutils.gep_inbounds(builder, task, 0, i))

        kind = ir.FunctionType(ir.VoidType(), [_word] * 3)
        run = ir.Function(builder.module, kind, builder.module.get_unique_name("run"))
        run.linkage = "internal"
        inner = ir.IRBuilder(run.append_basic_block())
        begin, end = run.args[1:]
        given = inner.inttoptr(run.args[0], task.type)
        jobs, count, values = (inner.load(cgutils.gep_inbounds(inner, given, 0, i)) for i in (1, 2, 3))
        values = cgutils.unpack_tuple(inner, values, len(arguments))
        values = [_borrow(context, inner, *pair) for pair in zip(arguments, values, strict=True)]
        callee = context.declare_function(inner.module, compiled.fndesc)
        with cgutils.for_range_slice(inner, begin, end, _word(1)) as (piece, _):
            bounds = (inner.sdiv(inner.mul(jobs, i), count) for i in (piece, inner.add(piece, _word(1))))
            status, _ = context.call_conv.call_function(
                inner, callee, called.return_type, called.args, [piece, *(bounds if ranges else ()), *values]
            )
            with cgutils.if_unlikely(inner, status.is_error):
                inner.store(_word(1), cgutils.gep_inbounds(inner, given, 0, 0))
        inner.ret_void()

        parallel_for = cgutils.get_or_insert_function(builder.module, kind, pool.PARALLEL_FOR)
        builder.call(parallel_for, [builder.ptrtoint(run, _word), builder.ptrtoint(task, _word), pieces])
        failed = builder.load(cgutils.gep_inbounds(builder, task, 0, 0))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(
                builder, MemoryError, ("no memory for a kernel's scratch arrays",)
            )
        return context.get_dummy_value()

    counts, packed = [types.int64] * (2 if ranges else 1), types.StarArgTuple.from_types(arguments)
    return types.void(function, *counts, packed), generate


def _borrow(context, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    """The value; of arrays, in tuples too, borrowed references: threads that count references to one would contend.

    The kernel keeps the arrays alive until all jobs are done.
    """
    if isinstance(kind, types.BaseTuple):
        items = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [_borrow(context, builder, *item) for item in items])
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = array.parent = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()
