"""F(4×4, 3×3) of `winograd` with its 36 products in bf16, for frozen weights.

    V = bf16(Bᵀ d B)      U = bf16(G w Gᵀ)      M[e] = V[e] U[e]      Y = Aᵀ M A + bias

A bf16 has 8 bits, so it matters at which points the polynomials are evaluated. At 0, ±1, ±2 and ∞ the error is eleven
times that of the direct sum in bf16 (root mean square, over white images and kernels); at 0, ±2/3, ±3/2 and ∞, near to
the best of all, five times. F(2×2) would come to 1.7 times, but is hardly faster than F(4×4) in float32: it has 16
products for 4 outputs, where that has 36 for 16.
"""

import numpy as np

from . import memory, pool
from .bf16 import pair_microkernel, row_pairs
from .frozen import cache, cached
from .jit import device, kernel
from .launch import ceil_div, launch_ranges
from .microkernel import FLOAT, MR, NR, VECTORS, WIDTH, address_of
from .packing import fill_addresses
from .transform import both_sides
from .winograd import (
    _BUTTERFLY,
    LINE,
    NO_RESIDUAL,
    OUTPUT,
    PATCH,
    PIXELS,
    POINTS,
    _grid,
    _pixel_addresses,
)

BLOCK = 32  # patches that go through all stages while they are in the L2 cache
KEY = "winograd bf16"


def _matrices(a: float, b: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bᵀ, G and Aᵀ for the points 0, ±a, ±b and ∞, without _BUTTERFLY, which makes even ± odd powers of a point."""
    total, product = a * a + b * b, a * a * b * b
    over_a, over_b = 1 / (2 * a * a * (a * a - b * b)), 1 / (2 * b * b * (b * b - a * a))
    to_v = [
        [product, 0, -total, 0, 1, 0],
        [0, 0, -b * b, 0, 1, 0],
        [0, -a * b * b, 0, a, 0, 0],
        [0, 0, -a * a, 0, 1, 0],
        [0, -b * a * a, 0, b, 0, 0],
        [0, product, 0, -total, 0, 1],
    ]
    to_u = [
        [1 / product, 0, 0],
        [over_a, 0, a * a * over_a],
        [0, a * over_a, 0],
        [over_b, 0, b * b * over_b],
        [0, b * over_b, 0],
        [0, 0, 1],
    ]
    to_y = [
        [1, 1, 0, 1, 0, 0],
        [0, 0, a, 0, b, 0],
        [0, a * a, 0, b * b, 0, 0],
        [0, 0, a**3, 0, b**3, 1],
    ]
    return np.array(to_v), np.array(to_u), np.array(to_y)


_B, _G, _A = _matrices(2 / 3, 3 / 2)
_to_v = both_sides(_BUTTERFLY, _B, to_pairs=True)
_to_y = both_sides(_A, _BUTTERFLY)


@device
def _products(count, words, u, rows, of_m, zeros):
    """M[e] = V[e] U[e] of a block, for NR of the outputs."""
    v_step, u_step = BLOCK * words + LINE, words * NR + LINE
    for e in range(POINTS):
        for j in range(0, count, MR):
            pair_microkernel(
                address_of(rows) + j * 8, 0, 1, e * v_step * FLOAT, words, u + e * u_step * FLOAT,
                zeros, 0, of_m[e] + j * NR * FLOAT, NR * FLOAT,
            )  # fmt: skip


@device
def _convolve_range(worker, begin, end, splits, x, shift, u, bias, residual, y, scratch):
    """Some of the jobs: a block of patches and, where blocks are few, a range of the outputs."""
    v, m, zeros = scratch[0][worker], scratch[1][worker], scratch[2][worker]
    words, outputs, grid = x.shape[3] // 2, y.shape[3], _grid(y)
    each, micro_panels = grid[0] * grid[1], outputs // NR
    outside, discard = address_of(zeros), address_of(zeros) + (zeros.size - NR) * FLOAT
    patch, to_v, rows = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64), np.empty(BLOCK, np.int64)
    of_m, (to_y, starts, biases) = np.empty(POINTS, np.int64), np.empty((3, PIXELS), np.int64)
    fill_addresses(address_of(v), BLOCK * words + LINE, to_v)
    fill_addresses(address_of(v), words, rows)
    fill_addresses(address_of(m), BLOCK * NR + LINE, of_m)
    for job in range(begin, end):
        block, split = divmod(job, splits)
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] * each - first)
        for j in range(count):
            _pixel_addresses(x, grid, first + j, shift, PATCH, outside, patch)
            _to_v(address_of(patch), 0, address_of(to_v), j * words * FLOAT, 2 * words // WIDTH)
        for index in range(micro_panels * split // splits, micro_panels * (split + 1) // splits):
            column = index * NR * FLOAT
            u_at = address_of(u) + index * POINTS * (words * NR + LINE) * FLOAT
            _products(count, words, u_at, rows, of_m, outside)
            for j in range(count):
                _pixel_addresses(y, grid, first + j, (0, 0), OUTPUT, discard, to_y)
                _pixel_addresses(residual, grid, first + j, (0, 0), OUTPUT, outside, starts)
                own = (first + j) // each * outputs if bias.size > outputs else 0
                biases[:] = address_of(bias) + own * FLOAT + column
                for k in range(PIXELS):
                    to_y[k] += column if to_y[k] != discard else 0
                    starts[k] = starts[k] + column if residual.size > 0 else outside
                here = j * NR * FLOAT
                _to_y(
                    address_of(of_m), here, address_of(to_y), 0, VECTORS,
                    address_of(starts), address_of(biases),
                )  # fmt: skip


@kernel
def _convolve(jobs, splits, x, shift, u, bias, residual, y, scratch):
    workers = scratch[0].shape[0]
    launch_ranges(_convolve_range, jobs, workers, splits, x, shift, u, bias, residual, y, scratch)


def _prepare(w: np.ndarray) -> np.ndarray:
    """U in micro-panels: w (3, 3, C, O) → pairs, flat, (O / NR, 36, C / 2 · NR and LINE more)."""
    (_, _, inputs, outputs), g = w.shape, _BUTTERFLY @ _G
    u = np.einsum("ai,ijco,bj->abco", g, w, g, optimize=True).reshape(POINTS, inputs, outputs)
    pairs = row_pairs(u).reshape(POINTS, inputs // 2, outputs // NR, NR)
    micro_panels = np.moveaxis(pairs, 2, 0).reshape(outputs // NR, POINTS, -1)
    return np.pad(micro_panels, ((0, 0), (0, 0), (0, LINE))).reshape(-1)


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    size: tuple[int, int],
    shift: tuple[int, int],
    residual: np.ndarray | None,
) -> np.ndarray:
    """As `winograd.convolve`, of frozen weights (3, 3, C, O)."""
    batch, inputs, outputs, workers = x.shape[0], x.shape[3], w.shape[3], pool.active()
    y = memory.empty((batch, *size, outputs))
    u = cached(w, KEY)
    if u is None:
        u = _prepare(w)
        cache(w, KEY, u)
    blocks = ceil_div(batch * ceil_div(size[0], OUTPUT) * ceil_div(size[1], OUTPUT), BLOCK)
    splits = 1 if blocks >= 4 * workers else min(workers, outputs // NR)
    v = memory.empty((workers, POINTS * (BLOCK * inputs // 2 + LINE)))
    m = memory.empty((workers, POINTS * (BLOCK * NR + LINE)))
    scratch = v, m, np.zeros((workers, max(inputs, outputs) + NR), np.float32)
    residual = NO_RESIDUAL if residual is None else residual
    _convolve(blocks * splits, splits, x, shift, u, bias.reshape(-1), residual, y, scratch)
    return y
