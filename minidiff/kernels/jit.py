"""The one place that says how a kernel is compiled.

`kernel` is for what Python calls: compiled at the first call, kept on disk. `device` is for what kernels call.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from numba import njit

# Never fastmath=True: it also promises that there are no NaNs, and a NaN must come out where one went in.
FASTMATH = {"reassoc", "nsz", "contract", "arcp"}
# What only Python or C would need to call a helper is not made: that costs time to compile.
FROM_KERNELS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def device(function: Callable) -> Callable:
    """Compile a helper that kernels call."""
    return njit(error_model="numpy", fastmath=FASTMATH, **FROM_KERNELS)(function)


def device_inlined(function: Callable) -> Callable:
    """The same for a helper so large that LLVM would keep it apart from the kernel, and whose sums it may reorder.

    A kernel just compiled calls such a helper's own first version, and one that was kept on disk calls its copy,
    which was optimised twice: other bits. For every helper this would double the time to compile.
    """
    return njit(error_model="numpy", fastmath=FASTMATH, forceinline=True, **FROM_KERNELS)(function)


def device_in_order(function: Callable) -> Callable:
    """As `device`, for arithmetic that is written in the only order in which it works."""
    return njit(error_model="numpy", fastmath=FASTMATH - {"reassoc", "arcp"}, **FROM_KERNELS)(function)


def kernel(function: Callable) -> Callable:
    """Compile a kernel whose `prange` loops run on all threads, and keep it on disk where there is a place to.

    The index of a `prange` is unsigned: make it np.int64 before it goes to a helper, which is compiled anew for
    every type and, mixed with signed numbers, would compute in floats.
    """
    return _compile(function, parallel=True)


def serial_kernel(function: Callable) -> Callable:
    """The same for a kernel that stays on one thread."""
    return _compile(function, parallel=False)


def _compile(function: Callable, parallel: bool) -> Callable:
    options = {"parallel": parallel, "error_model": "numpy", "fastmath": FASTMATH, "no_cfunc_wrapper": True}
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
