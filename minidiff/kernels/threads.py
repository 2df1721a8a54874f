"""One pool of threads: Numba's. What is done about the others, about a fork, and about callers in several threads.

**NumPy's BLAS** keeps threads of its own. When OpenBLAS has finished a product they watch for the next one for
some milliseconds, on the very cores that a kernel now wants. Two cores, one after the other and again:

    a @ a of 128², then silu of 1024 × 128     alone 0.03 ms each; in turn 4 ms each; BLAS on one thread 0.05 and 0.03
    a @ a of 1024², then a 3×3 convolution     alone 11 and 3 ms; in turn 19 and 7…16; BLAS on one thread 22 and 3

So importing `minidiff.kernels` holds OpenBLAS to one thread. This is the whole process's: threads that watch cannot
be called off for the length of a kernel. Who would rather have NumPy's large products on all cores, and no kernels
soon after them, says `threads.limit_blas(n)`. Where NumPy brings no OpenBLAS (MKL, Accelerate) nothing happens.

**Little work** is done before other threads have woken: a kernel that says so makes its loop one job long, and such
a loop is run where it stands. Kernels reach the threads through a few instructions of ours (`launch`), which see to it.

**A fork** copies a process without its threads. GNU OpenMP does not survive that, and Numba ends a child that
would try. A child of a process whose threads had started therefore computes alone, with the same bits:
`launch` then calls the loop's body itself.

**Several Python threads** take turns: one kernel at a time has all the cores anyway, and Numba's own layer, which
is used where there is no OpenMP, aborts when two launch at once. A fork waits for the kernel that is running.

Left as it is: OpenMP's threads, too, watch before they sleep, and that is at its worst beside another process which
keeps a core busy. The step of a small U-Net on two cores, quiet and beside such a process, for GOMP_SPINCOUNT:

    as it comes     23 ms    53…257 ms         1000     29 ms    55…62 ms
    10 000          24 ms    175…193 ms        0        49 ms    35…39 ms         one thread    30 ms    31 ms

No value is good in both, and a quiet machine is the rule. Beside a busy process, set NUMBA_NUM_THREADS to the
cores that are left.
"""

import ctypes
import os
from importlib.util import find_spec
from threading import RLock

import numba
from llvmlite import binding, ir

LAUNCH = RLock()  # held while a kernel is compiled or runs

_SYMBOL = "numba_parallel_for"  # what Numba's compiled code calls to have a loop done by all threads
_alone = ctypes.c_ssize_t(0)  # not 0 in a child whose parent's threads had started
_engine = None  # holds the machine code of `launch`


def limit_blas(threads: int) -> int | None:
    """Hold the OpenBLAS that NumPy came with to so many threads; how many it had, None where there is none."""
    try:
        library = ctypes.CDLL(find_spec("numpy._core._multiarray_umath").origin)  # loaded: this only finds it
    except (AttributeError, OSError):
        return None
    for form in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
        try:
            before = getattr(library, form.format("get"))()
            getattr(library, form.format("set"))(threads)
        except AttributeError:
            continue
        return before
    return None


def start() -> None:
    """Start Numba's threads, if they have not been, and put `launch` between them and the kernels to come."""
    global _engine
    if _engine is not None:
        return
    numba.get_num_threads()  # starts them
    module = ir.Module()
    module.triple = binding.get_process_triple()
    _write_launch(module, binding.address_of_symbol(_SYMBOL))
    machine = binding.Target.from_triple(module.triple).create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    binding.add_symbol(_SYMBOL, engine.get_function_address("launch"))
    _engine = engine


def _write_launch(module: ir.Module, parallel_for: int) -> None:
    """launch(body, args, shape, …) = body(args, shape, …) if alone or if only the first part has work to do.

    shape[0] counts the parts that Numba cut the loop into; args[0] holds first and last index of each, and of a
    part without work the last is before the first.
    """
    word = ir.IntType(8 * ctypes.sizeof(ctypes.c_ssize_t))
    launch = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 8), "launch")
    builder = ir.IRBuilder(launch.append_basic_block())
    body, args, shape = launch.args[:3]

    def entry(array: ir.Value, i: int) -> ir.Value:
        return builder.load(builder.gep(builder.inttoptr(array, word.as_pointer()), [word(i)]))

    def call(address: ir.Value, args: list[ir.Value]) -> None:
        kind = ir.FunctionType(ir.VoidType(), [word] * len(args))
        builder.call(builder.inttoptr(address, kind.as_pointer()), args)

    parts = entry(args, 0)
    alone = builder.icmp_signed("!=", entry(word(ctypes.addressof(_alone)), 0), word(0))
    alone = builder.or_(alone, builder.icmp_signed("==", entry(shape, 0), word(1)))
    with builder.if_else(alone) as (by_itself, in_parts):
        with by_itself:
            call(body, launch.args[1:5])
        with (
            in_parts,
            builder.if_else(builder.icmp_signed(">", entry(parts, 2), entry(parts, 3))) as (
                one_part,
                several,
            ),
        ):
            with one_part:
                call(body, launch.args[1:5])
            with several:
                call(word(parallel_for), launch.args)
    builder.ret_void()


def _after_fork_in_child() -> None:
    try:
        numba.threading_layer()
        _alone.value = 1
    except ValueError:  # no threads had been started: the child may have its own
        pass
    LAUNCH.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=LAUNCH.acquire, after_in_parent=LAUNCH.release, after_in_child=_after_fork_in_child
    )
