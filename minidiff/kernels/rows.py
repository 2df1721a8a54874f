"""Sums over rows: over all of them (the gradient of a bias), and over those with one index (that of an embedding)."""

import numpy as np

from . import memory
from .jit import device, kernel
from .launch import launch_ranges, workers_for

BLOCK = 64  # lines in a partial sum; the order of the sums depends on their number alone
LONG = 128  # numbers; in a loop over fewer the overhead dominates
SERIAL_BELOW = 32_768  # numbers; fewer take less time than waking the other threads


def fold(rows: int, channels: int) -> int:
    """How many rows to treat as one line, a power of two that divides `rows`, so that loops over a line are LONG."""
    count = 1
    while count * channels < LONG and rows and rows % (2 * count) == 0:
        count *= 2
    return count


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
def _sum_blocks(worker, begin, end, g, partial_sums):
    for block in range(begin, end):
        _sum_block(g, block * BLOCK, partial_sums[block])


@kernel
def _sum_rows(g, out, workers):
    """g (lines, rows of a line · channels)."""
    blocks = (g.shape[0] + BLOCK - 1) // BLOCK
    partial_sums = np.empty((blocks, g.shape[1]), np.float32)
    launch_ranges(_sum_blocks, blocks, workers, g, partial_sums)
    totals = np.zeros(g.shape[1])
    for block in range(blocks):
        row_sums = partial_sums[block]
        for c in range(row_sums.size):
            totals[c] += row_sums[c]
    for c in range(out.size):
        total = 0.0
        for column in range(c, totals.size, out.size):
            total += totals[column]
        out[c] = total


@kernel
def _scatter_rows(g, index, out):
    """Row after row, on one thread: two threads must not add to the same row."""
    for i in range(index.size):
        target, row = out[index[i]], g[i]
        for c in range(row.size):
            target[c] += row[c]


def sum_rows(g: np.ndarray) -> np.ndarray:
    out = memory.empty(g.shape[1:])
    rows_in_line = fold(*g.shape)
    lines = g.reshape(len(g) // rows_in_line, rows_in_line * g.shape[1])
    _sum_rows(lines, out, workers_for(g.size, SERIAL_BELOW))
    return out


def scatter_rows(g: np.ndarray, index: np.ndarray, rows: int) -> np.ndarray:
    out = memory.zeros((rows, g.shape[1]))
    _scatter_rows(g, np.ascontiguousarray(index, np.int64), out)
    return out
