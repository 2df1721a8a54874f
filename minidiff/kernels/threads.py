"""One pool of threads: Numba's. What is done about the others, about a fork, and about callers in several threads.

**NumPy's BLAS** keeps threads of its own. When OpenBLAS has finished a product they watch for the next one for
some milliseconds, on the very cores that a kernel now wants. Two cores, one after the other and again:

    a @ a of 128², then silu of 1024 × 128     alone 0.03 ms each; in turn 4 ms each; BLAS on one thread 0.05 and 0.03
    a @ a of 1024², then a 3×3 convolution     alone 11 and 3 ms; in turn 19 and 7…16; BLAS on one thread 22 and 3

So importing `minidiff.kernels` holds OpenBLAS to one thread. This is the whole process's: threads that watch cannot
be called off for the length of a kernel. Who would rather have NumPy's large products on all cores, and no kernels
soon after them, says `threads.limit_blas(n)`. Where NumPy brings no OpenBLAS (MKL, Accelerate) nothing happens.

**Little work** is done before other threads have woken: a kernel that says so makes of it one job, and a single job
is done where it stands, which `launch` sees to.

**A fork** copies a process without its threads. GNU OpenMP does not survive that, and Numba ends a child that
would try. A child of a process whose threads had started therefore computes alone, with the same bits:
`launch` then does all jobs itself.

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
from functools import cache
from importlib.util import find_spec
from threading import RLock

import numba
from llvmlite import binding

from . import launch

LAUNCH = RLock()  # held while a kernel is compiled or runs


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


@cache
def start() -> None:
    """Start Numba's threads, if they have not been, and let kernels launch their jobs on them."""
    numba.get_num_threads()
    launch.pool[:] = [binding.address_of_symbol(name) for name in ("get_num_threads", "numba_parallel_for")]


def _after_fork_in_child() -> None:
    try:
        numba.threading_layer()
        start()  # which cannot happen again
        launch.pool[:] = 0, 0
    except ValueError:  # no threads had been started: the child may have its own
        pass
    LAUNCH.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=LAUNCH.acquire, after_in_parent=LAUNCH.release, after_in_child=_after_fork_in_child
    )
