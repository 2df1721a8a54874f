"""Where the results of kernels lie: float32 arrays on memory that is used again from step to step.

A training step asks for the same sizes as the one before. Memory fresh from the system costs a page fault for every
4 KB of it; what was in use a moment ago costs nothing and may still be in the cache. So each thread keeps the
buffers that it handed out, and hands one out again when nobody can see it any more: every array on a buffer, however
sliced, reshaped or wrapped, holds a reference to it, so one is free when its reference count is that of a buffer
which nobody was given.
"""

import math
import sys
import threading

import numpy as np
from numpy.typing import DTypeLike

LINE = 64  # bytes: arrays begin on a cache line, so that no vector straddles two
STEPS = 8  # sizes of buffers to a power of two, so that arrays of nearly one size take turns on a buffer
SMALL = 16_384  # bytes; less than this NumPy may find for itself
SLACK = 2  # a thread keeps at most so many times the most that it had in use at once

Kept = list[tuple[np.ndarray, int]]  # buffers, with the number of bytes in each before the first on a LINE


class _Pool(threading.local):
    """One thread's buffers by size, and the most bytes that were found in use at once."""

    def __init__(self) -> None:
        self.sizes: dict[int, Kept] = {}
        self.most = 0


_pool = _Pool()
_FREE = next(
    sys.getrefcount(pair[0]) for pair in [(np.empty(1, np.uint8), 0)]
)  # of a buffer that nobody sees


def _make_room(size: int) -> None:
    """Before a buffer of `size` is added: drop free ones, size after size, while more is kept than SLACK allows."""
    sizes = _pool.sizes
    free = {n: {id(p[0]) for p in kept if sys.getrefcount(p[0]) == _FREE} for n, kept in sizes.items()}
    total = size + sum(n * len(kept) for n, kept in sizes.items())
    _pool.most = max(_pool.most, total - sum(n * len(buffers) for n, buffers in free.items()))
    for n, buffers in free.items():
        if total > SLACK * _pool.most:
            sizes[n][:] = [pair for pair in sizes[n] if id(pair[0]) not in buffers]
            total -= n * len(buffers)


def rounded(size: int) -> int:
    """The next of the sizes that buffers have, at most an eighth more."""
    step = (1 << size.bit_length() - 1) // STEPS
    return -(-size // step) * step


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array with anything in it; one of float32 that is not small begins on a LINE, on memory used before."""
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
    """The same numbers one after the other, in a plain array."""
    copied = empty(array.shape, array.dtype)
    copied[...] = array
    return copied


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """The same, filled with zeros."""
    array = empty(shape)
    array.fill(0)
    return array
