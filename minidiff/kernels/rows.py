"""Sums over rows: of all of them (a bias's gradient), and of those that share an index (an embedding's)."""

import numpy as np
from numba import get_num_threads

from . import memory
from .jit import device, kernel
from .launch import launch

BLOCK = 64  # lines that one job sums; their number is all that decides the order of the sums
LONG = 128  # numbers; a loop over fewer spends its time on beginning and ending
SERIAL_BELOW = 32_768  # numbers; fewer are done before the other threads have woken


def fold(rows: int, channels: int) -> int:
    """How many rows to take as one, a power of two that divides them, so that loops over them are LONG."""
    together = 1
    while together * channels < LONG and rows and rows % (2 * together) == 0:
        together *= 2
    return together


@device
def _sum_block(g, first, out):
    last = min(g.shape[0], first + BLOCK)
    out[:] = 0
    r = first
    while r + 4 <= last:
        r0, r1, r2, r3 = g[r], g[r + 1], g[r + 2], g[r + 3]
        for c in range(out.size):
            out[c] += (r0[c] + r1[c]) + (r2[c] + r3[c])
        r += 4
    while r < last:
        row = g[r]
        for c in range(out.size):
            out[c] += row[c]
        r += 1


@device
def _sum_share(share, shares, g, parts):
    blocks = parts.shape[0]
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        _sum_block(g, block * BLOCK, parts[block])


@kernel
def _sum_rows(g, out, threads):
    """g (lines, rows of a line · channels)."""
    blocks = (g.shape[0] + BLOCK - 1) // BLOCK
    parts = np.empty((blocks, g.shape[1]), np.float32)
    launch(_sum_share, threads, threads, g, parts)
    totals = np.zeros(g.shape[1])
    for block in range(blocks):
        part = parts[block]
        for c in range(part.size):
            totals[c] += part[c]
    for c in range(out.size):
        total = 0.0
        for again in range(c, totals.size, out.size):
            total += totals[again]
        out[c] = total


@kernel
def _scatter_rows(g, index, out):
    """Row after row, on one thread: rows that share an index must not meet."""
    for i in range(index.size):
        target, row = out[index[i]], g[i]
        for c in range(row.size):
            target[c] += row[c]


def sum_rows(g: np.ndarray) -> np.ndarray:
    out = memory.empty(g.shape[1:])
    together = fold(*g.shape)
    threads = 1 if g.size < SERIAL_BELOW else get_num_threads()
    _sum_rows(g.reshape(len(g) // together, -1 if g.size else g.shape[1]), out, threads)
    return out


def scatter_rows(g: np.ndarray, index: np.ndarray, rows: int) -> np.ndarray:
    out = memory.zeros((rows, g.shape[1]))
    _scatter_rows(g, np.ascontiguousarray(index, np.int64), out)
    return out
