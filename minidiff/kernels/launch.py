"""A parallel loop over a kernel's jobs, on the threads of the pool (pool.py).

Numba has `prange` for this, but makes a function of each such loop, which it compiles three times: by itself, in a
wrapper, and within the kernel. Here the loop's body is a helper like any other, and a call of `launch` runs it for
all jobs in parallel:

    launch(job_function, jobs, x, y)        for job in range(jobs): job_function(job, x, y)

Which thread runs a job, and when, is left to the pool: a job must not depend on it. A single job runs on the calling
thread, as all jobs do before the pool has been started.

Private parts of Numba relied upon, beside the extension API (tests/kernels/test_kernels_numba.py checks each): the
dispatcher of a function's type and its get_compile_result; active_code_library, call_conv, declare_function, make_array
and get_dummy_value of the target context; and types.StarArgTuple.from_types.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .pool import PARALLEL_FOR

_word = ir.IntType(64)


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

        kind = ir.FunctionType(ir.VoidType(), [_word] * 3)
        run = ir.Function(builder.module, kind, builder.module.get_unique_name("run"))
        run.linkage = "internal"
        inner = ir.IRBuilder(run.append_basic_block())
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

        parallel_for = cgutils.get_or_insert_function(builder.module, kind, PARALLEL_FOR)
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
