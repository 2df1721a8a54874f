"""A caching allocator for the results of kernels: float32 arrays on memory that is reused from step to step.

A training step needs arrays of the same sizes as the one before. Memory fresh from the system costs a page fault for
every 4 KB of it; memory in use a moment ago costs nothing and may still be in the cache. So each thread keeps the
buffers that it handed out, and reuses one when no reference to it is left: every array on a buffer, however sliced,
reshaped or wrapped, holds a reference to it, so a buffer is free when its reference count is that of one that was
never handed out.

What reference count that is depends on the version of Python: it is found at import, and if it did not tell a buffer
in use from a free one there, no memory would be reused.
"""

import math
import sys
import threading

import numpy as np
from numpy.typing import DTypeLike

LINE = 64  # bytes: arrays begin on a cache line, so that no vector straddles two
STEPS = 8  # sizes of buffers to a power of two, so that arrays of nearly one size share a buffer in turn
SMALL = 16_384  # bytes; smaller arrays are left to NumPy's own allocator
SLACK = 2  # a thread keeps at most so many times the most that it had in use at once

Buffer = tuple[np.ndarray, int]  # and how many of its bytes come before the first on a LINE


class _Pool(threading.local):
    """One thread's buffers by size, and the most bytes that were found in use at once."""

    def __init__(self) -> None:
        self.sizes: dict[int, list[Buffer]] = {}
        self.peak = 0


_pool = _Pool()


def _find(kept: list[Buffer], count: int) -> Buffer | None:
    """The first buffer whose reference count is `count`, that of one to which no array refers."""
    for pair in kept:
        if sys.getrefcount(pair[0]) == count:
            return pair
    return None


def _count_of_free() -> int | None:
    """The count with which `_find` finds a buffer if, and only if, no array refers to it; None without one."""
    kept = [(np.empty(LINE, np.uint8), 0)]
    count = next(sys.getrefcount(pair[0]) for pair in kept)

    before = _find(kept, count)
    array = np.ndarray((2,), np.float32, *kept[0])
    while_used = _find(kept, count)
    array = array[1:]
    while_viewed = _find(kept, count)
    del array
    is_reliable = before and not while_used and not while_viewed and _find(kept, count)
    return count if is_reliable else None


_FREE = _count_of_free()


def _make_room(size: int) -> None:
    """Before a buffer of `size` is added: drop free ones, size after size, while more is kept than SLACK allows."""
    sizes = _pool.sizes
    free = {n: {id(p[0]) for p in kept if sys.getrefcount(p[0]) == _FREE} for n, kept in sizes.items()}
    total = size + sum(n * len(kept) for n, kept in sizes.items())
    _pool.peak = max(_pool.peak, total - sum(n * len(buffers) for n, buffers in free.items()))
    for n, buffers in free.items():
        if total > SLACK * _pool.peak:
            sizes[n][:] = [pair for pair in sizes[n] if id(pair[0]) not in buffers]
            total -= n * len(buffers)


def rounded(size: int) -> int:
    """The next of the sizes that buffers have, at most an eighth more."""
    step = (1 << size.bit_length() - 1) // STEPS
    return -(-size // step) * step


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised array; one of float32 that is not SMALL begins on a LINE, on reused memory."""
    size = math.prod(shape) * 4
    if size < SMALL or dtype != np.float32 or _FREE is None:
        return np.empty(shape, dtype)
    size = rounded(size)
    kept = _pool.sizes.setdefault(size, [])
    pair = _find(kept, _FREE)
    if pair is not None:
        return np.ndarray(shape, np.float32, *pair)
    _make_room(size)
    buffer = np.empty(size + LINE, np.uint8)
    kept.append((buffer, -buffer.ctypes.data % LINE))
    return np.ndarray(shape, np.float32, *kept[-1])


def release() -> None:
    """Give back what this thread's buffers hold, but for those in use: before work that needs other sizes."""
    _pool.sizes.clear()
    _pool.peak = 0


def copy(array: np.ndarray) -> np.ndarray:
    """A contiguous copy, on memory from `empty`."""
    copied = empty(array.shape, array.dtype)
    copied[...] = array
    return copied


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """`empty`, filled with zeros."""
    array = empty(shape)
    array.fill(0)
    return array
