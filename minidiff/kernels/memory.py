"""A caching allocator for the results of kernels: float32 arrays on memory that is reused from step to step.

A training step needs arrays of the same sizes as the one before. Memory fresh from the system costs a page fault for
every 4 KB of it; memory in use a moment ago costs nothing and may still be in the cache. So each thread keeps the
buffers that it handed out, and reuses one when no reference to it is left: every array on a buffer, however sliced,
reshaped or wrapped, holds a reference to it, so a buffer is free when its reference count is that of one that was
never handed out.
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

Buffers = list[tuple[np.ndarray, int]]  # with the number of bytes in each before the first on a LINE


class _Pool(threading.local):
    """One thread's buffers by size, and the most bytes that were found in use at once."""

    def __init__(self) -> None:
        self.sizes: dict[int, Buffers] = {}
        self.peak = 0


_pool = _Pool()
_FREE = next(
    sys.getrefcount(pair[0]) for pair in [(np.empty(1, np.uint8), 0)]
)  # the reference count of a free buffer


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
    if size < SMALL or dtype != np.float32:
        return np.empty(shape, dtype)
    size = rounded(size)
    kept = _pool.sizes.setdefault(size, [])
    for pair in kept:
        if sys.getrefcount(pair[0]) == _FREE:
            return np.ndarray(shape, np.float32, *pair)
    _make_room(size)
    buffer = np.empty(size + LINE, np.uint8)
    kept.append((buffer, -buffer.ctypes.data % LINE))
    return np.ndarray(shape, np.float32, *kept[-1])


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
