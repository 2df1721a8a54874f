"""Packing into micro-panels, and the loops around the microkernel, as BLIS has them.

    for r in range(rows):
        for column in range(columns):
            for i in range(n):
                out[r, column] += A[r, i] * B[i, column]

Written so, a matrix product reads B from memory again for every row, and does one multiplication at a time. In blocks
it reads each number once and uses it many times: `pack` brings NR columns of B into one contiguous block, a
micro-panel; for KC rows of it, which stay in the L1 cache, the loop over r runs MR rows at a time; and these MR × NR
sums stay in registers (`microkernel`).

A is given by a table of the addresses of its rows, in bytes, with as many as a multiple of MR, since these are read.
"""

import numpy as np

from .bf16 import PAIR, pair_microkernel
from .jit import device
from .microkernel import FLOAT, MR, NR, address_of, copy_row, microkernel, transposed_microkernel

KC = 288  # rows of a micro-panel that are used on all rows of A before the next: they stay in the L1 cache

LINE = 16  # numbers in a cache line


@device
def aligned(shape):
    """An uninitialised array that begins on a cache line, so that no vector straddles two; Numba's may not."""
    size = 1
    for length in shape:
        size *= length
    memory = np.empty(size + LINE, np.float32)
    skip = -(address_of(memory) // FLOAT) % LINE
    return memory[skip : skip + size].reshape(shape)


@device
def fill_addresses(first, step, table):
    """table[r] = the address `first` plus r times `step` numbers."""
    for r in range(table.size):
        table[r] = first + r * step * FLOAT


@device
def pack(source, at, stride, transposed, rows, width, out):
    """out[i, lane] = source[at + i · stride + lane], lane < width; the other lanes are undefined.

    If transposed, source[at + lane · stride + i].
    """
    if transposed:
        for lane in range(width):
            row = source[at + lane * stride : at + lane * stride + rows]
            for i in range(rows):
                out[i, lane] = row[i]
    else:
        for i in range(rows):
            begin = at + i * stride
            if begin + NR <= source.size:
                copy_row(address_of(source) + begin * FLOAT, address_of(out) + i * NR * FLOAT)
            else:
                for lane in range(width):
                    out[i, lane] = source[begin + lane]


@device
def _multiply_rows(addresses, first, last, run, micro_panel, start, out, step):
    """`multiply` for rows first … last − 1, MR at a time and all lanes; out: address of row 0, `step` numbers apart."""
    taps, tap_stride, step = addresses.shape[0], addresses.shape[1] * 8, step * FLOAT
    taps_at_once = max(1, KC // run)
    for tap in range(0, taps, taps_at_once):
        for i in range(0, run, KC):
            b_at = address_of(micro_panel) + (tap * run + i) * NR * FLOAT
            for r in range(first, last, MR):
                rows, here = address_of(addresses) + tap * tap_stride + r * 8, out + r * step
                start_at, start_step = (here, step) if tap + i > 0 else (address_of(start), 0)
                arguments = (
                    rows, tap_stride, min(taps_at_once, taps - tap), i * FLOAT, min(KC, run - i),
                    b_at, start_at, start_step, here, step,
                )  # fmt: skip
                if micro_panel.dtype == PAIR:
                    pair_microkernel(*arguments)
                else:
                    microkernel(*arguments)


@device
def multiply(addresses, count, run, micro_panel, start, out, at, width, stride):
    """out[at + r · stride + lane] = start[lane] + Σ_tap,i A[tap, r][i] · micro_panel[tap · run + i, lane], r < count.

    A[tap, r] begins at the address addresses[tap, r]; of the lanes, `width` are written. Edge cases, fewer than MR rows
    or NR lanes, are computed in scratch memory.
    """
    whole = count // MR * MR if width == NR else 0
    _multiply_rows(addresses, 0, whole, run, micro_panel, start, address_of(out) + at * FLOAT, stride)
    if whole < count:
        scratch = np.empty((addresses.shape[1], NR), np.float32)
        _multiply_rows(addresses, whole, count, run, micro_panel, start, address_of(scratch), NR)
        for r in range(whole, count):
            for lane in range(width):
                out[at + r * stride + lane] = scratch[r, lane]


@device
def add_transposed(addresses, offset, count, micro_panel, out, at, rows, width, stride):
    """out[at + p · stride + lane] += Σ_j A[j][p] · micro_panel[j, lane], j < count, for p < rows and lane < width.

    A[j] begins `offset` bytes after addresses[j]; MR numbers are read there whatever `rows` is.
    """
    a, b, out_at = address_of(addresses), address_of(micro_panel), address_of(out) + at * FLOAT
    if rows == MR and width == NR:
        transposed_microkernel(a, offset, count, b, out_at, stride * FLOAT)
    else:
        scratch = np.zeros((MR, NR), np.float32)
        transposed_microkernel(a, offset, count, b, address_of(scratch), NR * FLOAT)
        for p in range(rows):
            for lane in range(width):
                out[at + p * stride + lane] += scratch[p, lane]


@device
def add_all_transposed(addresses, count, micro_panel, out, at, rows, width, stride):
    """`add_transposed` for any number of rows; numbers are read up to the next multiple of MR."""
    for p in range(0, rows, MR):
        here, height = at + p * stride, min(MR, rows - p)
        add_transposed(addresses, p * FLOAT, count, micro_panel, out, here, height, width, stride)
