"""Packing into micro-panels, and the loops around the microkernel, as BLIS has them.

`implicit_gemm`, `fused_mlp` and `winograd` build on these. Micro-panels are as `microkernel` takes them, (n, NR) and
contiguous; tables of addresses are (taps, rows), in bytes, with their rows filled up to a multiple of MR.
"""

import numpy as np

from .jit import device
from .microkernel import FLOAT, MR, NR, address_of, copy_row, microkernel, transposed_microkernel

KC = 288  # rows of a micro-panel that are used on all rows of A before the next: they stay in the L1 cache


@device
def pack(source, at, row_step, lane_step, rows, width, out):
    """out[i, lane] = source[at + i · row_step + lane · lane_step]; zeros from lane = width on."""
    for i in range(rows):
        begin = at + i * row_step
        if width == NR and lane_step == 1:
            copy_row(address_of(source) + begin * FLOAT, address_of(out) + i * NR * FLOAT)
        else:
            row = out[i]
            for lane in range(NR):
                row[lane] = source[begin + lane * lane_step] if lane < width else np.float32(0)


@device
def multiply(addresses, count, run, micro_panel, start, out, at, width, stride, scratch):
    """out[at + r · stride + lane] = start[lane] + Σ_tap,i A[tap, r][i] · micro_panel[tap · run + i, lane], r < count.

    Only `width` lanes are written. Edge cases, fewer than MR rows or NR lanes, are computed in `scratch` (rows, NR),
    with as many rows as the table of addresses.
    """
    taps, tap_stride = addresses.shape[0], addresses.shape[1] * 8
    whole = count // MR * MR if width == NR else 0
    taps_at_once = max(1, KC // run)
    for tap in range(0, taps, taps_at_once):
        for i in range(0, run, KC):
            b_at = address_of(micro_panel) + (tap * run + i) * NR * FLOAT
            for r in range(0, count, MR):
                out_at, step = address_of(out) + (at + r * stride) * FLOAT, stride * FLOAT
                if r >= whole:
                    out_at, step = address_of(scratch) + r * NR * FLOAT, NR * FLOAT
                start_at, start_step = (out_at, step) if tap + i > 0 else (address_of(start), 0)
                microkernel(
                    address_of(addresses) + tap * tap_stride + r * 8, tap_stride, min(taps_at_once, taps - tap),
                    i * FLOAT, min(KC, run - i), b_at, start_at, start_step, out_at, step,
                )  # fmt: skip
    for r in range(whole, count):
        for lane in range(width):
            out[at + r * stride + lane] = scratch[r, lane]


@device
def add_transposed(addresses, offset, count, micro_panel, out, at, rows, width, stride, scratch):
    """out[at + p · stride + lane] += Σ_j A[j][p] · micro_panel[j, lane], j < count, for p < rows and lane < width.

    A[j] begins `offset` bytes after addresses[j]; MR numbers are read there whatever `rows` is.
    """
    if rows == MR and width == NR:
        transposed_microkernel(
            address_of(addresses),
            offset,
            count,
            address_of(micro_panel),
            address_of(out) + at * FLOAT,
            stride * FLOAT,
        )
    else:
        for p in range(MR):
            for lane in range(NR):
                scratch[p, lane] = 0
        transposed_microkernel(
            address_of(addresses), offset, count, address_of(micro_panel), address_of(scratch), NR * FLOAT
        )
        for p in range(rows):
            for lane in range(width):
                out[at + p * stride + lane] += scratch[p, lane]
