"""The one pool of threads, Numba's, beside NumPy's BLAS, after a fork, and with callers in several Python threads.

**NumPy's BLAS** has a pool of its own. When OpenBLAS has finished a product its threads busy-wait for the next one for
some milliseconds, on the very cores that a kernel now needs. On two cores, the two alternating:

    a @ a of 128², then silu of 1024 × 128     alone 0.03 ms each; in turn 4 ms each; BLAS on one thread 0.05 and 0.03
    a @ a of 1024², then a 3×3 convolution     alone 11 and 3 ms; in turn 19 and 7…16; BLAS on one thread 22 and 3

So importing `minidiff.kernels` limits OpenBLAS to one thread, for the whole process: threads that busy-wait cannot be
paused while a kernel runs. For large NumPy products on all cores, with no kernels soon after them, call
`threads.limit_blas(n)`. Where NumPy brings no OpenBLAS (MKL, Accelerate) nothing happens.

**Little work** takes less time than waking the other threads: kernels then launch a single job, which `launch` runs
on the calling thread.

**A fork** copies a process without its threads. GNU OpenMP does not survive that, and Numba terminates a child that
would try. A child of a process whose threads had started is therefore single-threaded, with the same bits:
`launch` then runs all jobs on the calling thread.

**Several Python threads** take turns: one kernel at a time uses all cores anyway, and Numba's workqueue layer, which
is used where there is no OpenMP, aborts when two launch at once. A fork waits for the running kernel.

A known limit: OpenMP's threads busy-wait too before they sleep, which is at its worst beside another process that
keeps a core busy. The step of a small U-Net on two cores, idle and beside such a process, for GOMP_SPINCOUNT:

    default         23 ms    53…257 ms         1000     29 ms    55…62 ms
    10 000          24 ms    175…193 ms        0        49 ms    35…39 ms         one thread    30 ms    31 ms

No value is good in both cases, and an idle machine is the rule. Beside a busy process, set NUMBA_NUM_THREADS to the
number of cores that are left.
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
    """Limit the OpenBLAS that NumPy came with to `threads`; returns how many it had, None where there is none."""
    try:
        # Already loaded: this only looks it up.
        library = ctypes.CDLL(find_spec("numpy._core._multiarray_umath").origin)
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
    """Start Numba's threads, unless they run already, and let kernels launch their jobs on them."""
    numba.get_num_threads()
    launch.pool[:] = [binding.address_of_symbol(name) for name in ("get_num_threads", "numba_parallel_for")]


def _after_fork_in_child() -> None:
    try:
        numba.threading_layer()
        start()  # cached: from now on it does nothing
        launch.pool[:] = 0, 0
    except ValueError:  # no threads had been started: the child may start its own
        pass
    LAUNCH.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=LAUNCH.acquire, after_in_parent=LAUNCH.release, after_in_child=_after_fork_in_child
    )
