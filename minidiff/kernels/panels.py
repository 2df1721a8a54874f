"""From tiles to blocks: what the products of `windows` and `multihead` share.

Panels are as `tile` wants them, (n, LANES) and contiguous; tables of addresses are (taps, rows), in bytes, with
their rows filled up to a multiple of ROWS.
"""

import numpy as np

from .jit import device
from .tile import FLOAT, LANES, ROWS, address_of, columns_tile, copy_lanes, rows_tile

REACH = 288  # rows of a panel that are used on all rows of A before the next: they stay in the L1 cache


@device
def pack(source, at, row_step, lane_step, rows, width, out):
    """out[i, lane] = source[at + i · row_step + lane · lane_step]; zeros from lane = width on."""
    for i in range(rows):
        begin = at + i * row_step
        if width == LANES and lane_step == 1:
            copy_lanes(address_of(source) + begin * FLOAT, address_of(out) + i * LANES * FLOAT)
        else:
            row = out[i]
            for lane in range(LANES):
                row[lane] = source[begin + lane * lane_step] if lane < width else np.float32(0)


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
        for lane in range(width):
            out[at + r * stride + lane] = spare[r, lane]


@device
def add_transposed(addresses, offset, count, panel, out, at, rows, width, stride, spare):
    """out[at + p · stride + lane] += Σ_j A[j][p] · panel[j, lane], j < count, for p < rows and lane < width.

    A[j] begins `offset` bytes after addresses[j]; ROWS numbers are read there whatever `rows` is.
    """
    if rows == ROWS and width == LANES:
        columns_tile(
            address_of(addresses),
            offset,
            count,
            address_of(panel),
            address_of(out) + at * FLOAT,
            stride * FLOAT,
        )
    else:
        for p in range(ROWS):
            for lane in range(LANES):
                spare[p, lane] = 0
        columns_tile(
            address_of(addresses), offset, count, address_of(panel), address_of(spare), LANES * FLOAT
        )
        for p in range(rows):
            for lane in range(width):
                out[at + p * stride + lane] += spare[p, lane]
