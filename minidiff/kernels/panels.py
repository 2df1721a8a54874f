"""From tiles to blocks: what the products of `windows` and `multihead` share.

Panels are as `tile` wants them, (n, LANES) and contiguous; tables of addresses are (taps, rows), in bytes, with
their rows filled up to a multiple of ROWS.
"""

import numpy as np

from .jit import device
from .tile import FLOAT, LANES, ROWS, address_of, copy, rows_tile

REACH = 288  # rows of a panel that are used on all rows of A before the next: they stay in the L1 cache


@device
def pack(source, at, row_step, lane_step, rows, width, out):
    """out[i, lane] = source[at + i · row_step + lane · lane_step]; zeros from lane = width on."""
    for i in range(rows):
        begin, row = at + i * row_step, out[i]
        if width == LANES and lane_step == 1:
            copy(address_of(source) + begin * FLOAT, address_of(row), LANES)  # a count known to the compiler
        elif lane_step == 1:
            copy(address_of(source) + begin * FLOAT, address_of(row), width)
        else:
            for lane in range(width):
                row[lane] = source[begin + lane * lane_step]
        for lane in range(width, LANES):
            row[lane] = 0


@device
def multiply(addresses, count, run, panel, start, out, at, width, stride, spare):
    """out[at + r · stride + lane] = start[lane] + Σ_tap,i A[tap, r][i] · panel[tap · run + i, lane], r < count.

    Only `width` lanes are written. What sticks out over rows or lanes is made in `spare` (rows, LANES), with as
    many rows as the table of addresses.
    """
    taps, hop = addresses.shape[0], addresses.shape[1] * 8
    whole = count // ROWS * ROWS if width == LANES else 0
    together = max(1, REACH // run)
    for tap in range(0, taps, together):
        for i in range(0, run, REACH):
            panel_at = address_of(panel) + (tap * run + i) * LANES * FLOAT
            for r in range(0, count, ROWS):
                out_at, step = address_of(out) + (at + r * stride) * FLOAT, stride * FLOAT
                if r >= whole:
                    out_at, step = address_of(spare) + r * LANES * FLOAT, LANES * FLOAT
                start_at, start_step = (out_at, step) if tap + i > 0 else (address_of(start), 0)
                rows_tile(
                    address_of(addresses) + tap * hop + r * 8, hop, min(together, taps - tap), i * FLOAT,
                    min(REACH, run - i), panel_at, start_at, start_step, out_at, step,
                )  # fmt: skip
    for r in range(whole, count):
        copy(address_of(spare) + r * LANES * FLOAT, address_of(out) + (at + r * stride) * FLOAT, width)
