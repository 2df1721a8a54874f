"""The kernels' threads: how many, beside NumPy's BLAS, after a fork, and with callers in several Python threads.

The threads themselves, and how they divide the work, are in `pool`.

**NumPy's BLAS** has a pool of its own. When OpenBLAS has finished a product its threads busy-wait for the next one for
some milliseconds, on the very cores that a kernel now needs. On two cores, the two alternating:

    a @ a of 128², then silu of 1024 × 128     alone 0.03 ms each; in turn 4 ms each; BLAS on one thread 0.05 and 0.03
    a @ a of 1024², then a 3×3 convolution     alone 11 and 3 ms; in turn 19 and 7…16; BLAS on one thread 22 and 3

So importing `minidiff.kernels` limits OpenBLAS to one thread, for the whole process: threads that busy-wait cannot be
paused while a kernel runs. For large NumPy products on all cores, with no kernels soon after them, call
`threads.limit_blas(n)`. Where NumPy brings no OpenBLAS (MKL, Accelerate) nothing happens.

**How many.** As many as NUMBA_NUM_THREADS in the environment, or else as the CPUs that the process may use, which may
be fewer than the machine has: a container or a batch job is limited by an affinity mask or by a quota of CPU time.
`threads.use(n)` changes it. The bits of a result do not depend on it.

**Little work** takes less time than waking the other threads: kernels then launch a single job, which `launch` runs
on the calling thread.

**A fork** copies a process without its threads, so a child starts a pool of its own at its first kernel. A fork waits
for the running kernel.

**Several Python threads** take turns: one kernel at a time uses all cores anyway.
"""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import RLock

from numba import config

from . import pool

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


def cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process may use: those in its affinity mask, or fewer by the quotas of its control groups.

    `root` is the folder in which proc and sys are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """How many CPUs each control group that this process is in may use, rounded up, where it has a limit.

    Linux limits a container to some CPU time in each period: in version 2 of control groups both are in cpu.max, in
    version 1 each has a file. A line of /proc/self/cgroup is `number:controllers:group`, without controllers in version
    2; the limits of the groups above apply too.
    """
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2) if line.count(":") >= 2 else ("", "none", "")
        names = ["cpu.max"] if controllers == "" else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        if controllers == "" or "cpu" in controllers.split(","):
            folder = mounted / controllers / group.strip("/")
            while folder.is_relative_to(mounted):
                try:
                    quota, period = " ".join((folder / name).read_text() for name in names).split()
                    if int(quota) > 0:
                        yield -(-int(quota) // int(period))
                except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
                    pass
                folder = folder.parent


@cache
def start() -> None:
    """Start the pool, unless it has been: NUMBA_NUM_THREADS threads, or as many as there are CPUs to use."""
    count = config.NUMBA_NUM_THREADS  # by default the CPUs of the affinity mask
    pool.resize(count if "NUMBA_NUM_THREADS" in os.environ else min(count, cpus()))


def use(threads: int) -> int:
    """Run kernels on this many threads from now on, the caller's included; returns how many it were."""
    with LAUNCH:
        start()
        before = pool.size()
        pool.resize(threads)
    return before


def _after_fork_in_child() -> None:
    pool.forget()
    start.cache_clear()
    LAUNCH.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=LAUNCH.acquire, after_in_parent=LAUNCH.release, after_in_child=_after_fork_in_child
    )
