"""Sums over rows: over all of them (the gradient of a bias), and over those with one index (that of an embedding).

    for row in g:                                   for i, row in enumerate(g):
        out += row                                      out[index[i]] += row

Written so, the first adds one number after another in float32: the rounding errors of a long sum pile up, and one
thread does it all. Instead BLOCK lines at a time are summed in float32, on all threads, and these sums in float64, in
an order that depends on the number of rows alone. Several rows of few channels are treated as one *line*, since in a
loop over few numbers the overhead dominates. The second cannot be cut into blocks of rows, as two threads must not add
to the same row: each thread takes all rows of some columns.
"""

import numpy as np

from . import memory
from .jit import device, kernel
from .launch import ceil_div, launch_ranges, workers_for

BLOCK = 64  # lines in a partial sum
LONG = 128  # numbers; in a loop over fewer the overhead dominates
COLUMNS = 32  # of those with one index, at least so many to a thread
SERIAL_BELOW = 32_768  # numbers; fewer take less time than waking the other threads


def fold(rows: int, channels: int) -> int:
    """How many rows to treat as one line, a power of two that divides `rows`, so that loops over a line are LONG."""
    count = 1
    while count * channels < LONG and rows and rows % (2 * count) == 0:
        count *= 2
    return count


@device
def sum_lines(x, first, last, low, high, sums):
    """sums[c] = Σ_line x[line, low + c], first ≤ line < last, in float32."""
    sums[:] = 0
    whole = last - (last - first) % 4
    for line in range(first, whole, 4):
        x0, x1 = x[line, low:high], x[line + 1, low:high]
        x2, x3 = x[line + 2, low:high], x[line + 3, low:high]
        for c in range(sums.size):
            sums[c] += (x0[c] + x1[c]) + (x2[c] + x3[c])
    for line in range(whole, last):
        row = x[line, low:high]
        for c in range(sums.size):
            sums[c] += row[c]


@device
def add_up(partial_sums, out):
    """out[c] = the sum of all rows and of columns c, c + out.size, c + 2 · out.size, … of each, in float64."""
    totals = np.zeros(partial_sums.shape[1])
    for block in range(partial_sums.shape[0]):
        sums = partial_sums[block]
        for c in range(sums.size):
            totals[c] += sums[c]
    for c in range(out.size):
        total = 0.0
        for column in range(c, totals.size, out.size):
            total += totals[column]
        out[c] = total


@device
def _sum_blocks(worker, begin, end, g, partial_sums):
    for block in range(begin, end):
        first = block * BLOCK
        sum_lines(g, first, min(g.shape[0], first + BLOCK), 0, g.shape[1], partial_sums[block])


@kernel
def _sum_rows(g, out, workers):
    """g (lines, rows of a line · channels)."""
    partial_sums = np.empty((ceil_div(g.shape[0], BLOCK), g.shape[1]), np.float32)
    launch_ranges(_sum_blocks, partial_sums.shape[0], workers, g, partial_sums)
    add_up(partial_sums, out)


@device
def _add_columns(worker, begin, end, out, g, index):
    for i in range(index.size):
        target, row = out[index[i], begin:end], g[i, begin:end]
        for c in range(row.size):
            target[c] += row[c]


@kernel
def _add_rows(out, g, index, workers):
    launch_ranges(_add_columns, g.shape[1], workers, out, g, index)


def sum_rows(g: np.ndarray) -> np.ndarray:
    out = memory.empty(g.shape[1:])
    rows_in_line = fold(*g.shape)
    lines = g.reshape(len(g) // rows_in_line, rows_in_line * g.shape[1])
    _sum_rows(lines, out, workers_for(g.size, SERIAL_BELOW))
    return out


def add_rows(out: np.ndarray, g: np.ndarray, index: np.ndarray) -> None:
    workers = min(workers_for(g.size, SERIAL_BELOW), ceil_div(g.shape[1], COLUMNS))
    _add_rows(out, g, np.ascontiguousarray(index, np.int64), workers)


def scatter_rows(g: np.ndarray, index: np.ndarray, rows: int) -> np.ndarray:
    out = memory.zeros((rows, g.shape[1]))
    add_rows(out, g, index)
    return out
