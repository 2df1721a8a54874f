"""3×3 convolution of stride 1 with a quarter of the multiplications: F(4×4, 3×3) of Winograd 1980, Lavin & Gray 2016.

    for i in range(3):
        for j in range(3):
            y[row, column] += x[row + i, column + j] @ w[i, j]

Correlating is multiplying polynomials, and a product of polynomials is determined by its values at enough points. From
a 6×6 patch d of the image and a 3×3 kernel w, the 4×4 outputs are

    Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A        36 products where the loop has 144.

B and G evaluate at 0, ±1, ±2 and ∞, A interpolates the result. Summed over channels, each of the 36 products ⊙ is a
matrix product, which runs on the microkernel:

    V[e] = (Bᵀ d B)_e   (patches, C)      U[e] = (G w Gᵀ)_e   (C, O)      M[e] = V[e] U[e]      Y = Aᵀ M A

The gradient in the input is the same convolution of the output's gradient, with the kernel rotated by 180° and its
channels exchanged. The gradient in the kernel follows the formulae backwards: Z[e] = (A dY Aᵀ)_e, then
dU[e] = V[e]ᵀ Z[e], then dw = Gᵀ dU G.

The transforms amplify rounding errors: an output is off by at most 64 roundings of the largest sum of magnitudes in its
image (128 for dw), as the tests hold, where the direct sum stays within 8 of its own. Patches are 4 pixels apart and
may extend beyond the padded image; outputs outside of the image are written to memory that is never read. Each patch
is computed by itself: its bits depend on no other, and not on threads or blocks.
"""

import numpy as np

from . import memory, pool
from .frozen import cache, cached
from .jit import device, kernel
from .launch import ceil_div, launch, launch_ranges
from .microkernel import (
    FLOAT,
    MR,
    NR,
    VECTORS,
    WIDTH,
    address_of,
    copy_row,
    microkernel,
    transposed_microkernel,
)
from .packing import fill_addresses, pack
from .transform import both_sides

PATCH, OUTPUT, TAPS = 6, 4, 9  # the sides of a patch and of its outputs; the weights of a kernel
POINTS, PIXELS = PATCH * PATCH, OUTPUT * OUTPUT
CENTRE = PATCH + 1  # the point whose entry in M enters all 16 outputs with weight 1: the bias is added there
BLOCK = 16  # patches that go through all stages while they are in the L2 cache
CHUNK = 192  # patches that are transformed before they are summed into dU: so many rows of Z[e] stay in L1
LINE = 16  # numbers in a cache line, as padding between the 36 matrices: else they conflict in the same cache sets
NO_RESIDUAL = np.empty((0, 0, 0, 0), np.float32)

_BUTTERFLY = np.eye(6)  # the values at 1 and −1, and at 2 and −2: even powers plus and minus odd ones
_BUTTERFLY[1:3, 1:3] = _BUTTERFLY[3:5, 3:5] = [[1, 1], [1, -1]]
_B = np.array(  # Bᵀ = _BUTTERFLY · _B
    [
        [4, 0, -5, 0, 1, 0],
        [0, 0, -4, 0, 1, 0],
        [0, -4, 0, 1, 0, 0],
        [0, 0, -1, 0, 1, 0],
        [0, -2, 0, 2, 0, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array(  # G = _BUTTERFLY · _G
    [[1 / 4, 0, 0], [-1 / 6, 0, -1 / 6], [0, -1 / 6, 0], [1 / 24, 0, 1 / 6], [0, 1 / 12, 0], [0, 0, 1]]
)
_A = np.array(  # Aᵀ = _A · _BUTTERFLY
    [[1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 2, 0], [0, 1, 0, 4, 0, 0], [0, 0, 1, 0, 8, 1]]
)

_to_v = both_sides(_BUTTERFLY, _B)  # Bᵀ d B
_to_u = both_sides(_BUTTERFLY, _G)  # G w Gᵀ
_to_y = both_sides(_A, _BUTTERFLY)  # Aᵀ M A + what is added
_to_z = both_sides(_BUTTERFLY.T, _A.T)  # A dY Aᵀ
_to_dw = both_sides(_G.T, _BUTTERFLY.T)  # Gᵀ dU G


@device
def _grid(y):
    """How many patches down and across an image whose outputs are y (B, H, W, O)."""
    return ceil_div(y.shape[1], OUTPUT), ceil_div(y.shape[2], OUTPUT)


@device
def _pixel_addresses(images, grid, patch, shift, side, outside, table):
    """table[i · side + j] = address of pixel (i, j) of a patch; the address `outside` beyond the image.

    shift: how many pixels the first patch begins above and to the left of the image.
    """
    _, height, width, channels = images.shape
    image, index = divmod(patch, grid[0] * grid[1])
    top, left = index // grid[1] * OUTPUT - shift[0], index % grid[1] * OUTPUT - shift[1]
    for i in range(side):
        for j in range(side):
            row, column = top + i, left + j
            at = ((image * height + row) * width + column) * channels
            inside = 0 <= row < height and 0 <= column < width
            table[i * side + j] = address_of(images) + at * FLOAT if inside else outside


@device
def _prepare(index, w, inputs, outputs, rotated, packed, u):
    """U (36, inputs, NR), NR of the outputs: w (9, inputs, outputs), or if rotated (9, outputs, inputs)."""
    packed = packed[index]
    sources, targets = np.empty(TAPS, np.int64), np.empty(POINTS, np.int64)
    size, column = inputs * outputs, index * NR
    for tap in range(TAPS):
        rows = packed[tap * inputs * NR : (tap + 1) * inputs * NR].reshape(inputs, NR)
        at, stride = tap * size + column, outputs
        if rotated:
            at, stride = (TAPS - 1 - tap) * size + column * inputs, inputs
        pack(w, at, stride, rotated, inputs, NR, rows)
    step = inputs * NR + LINE
    fill_addresses(address_of(packed), inputs * NR, sources)
    fill_addresses(address_of(u) + index * POINTS * step * FLOAT, step, targets)
    for i in range(inputs):
        row = i * NR * FLOAT
        _to_u(address_of(sources), row, address_of(targets), row, VECTORS)


@device
def _products(count, inputs, weights, rows, of_m, outside):
    """M[e] = V[e] U[e] of a block, for NR of the outputs; at the CENTRE M holds the bias already."""
    v_step, u_step = BLOCK * inputs + LINE, inputs * NR + LINE
    for e in range(POINTS):
        start, step = (of_m[e], NR * FLOAT) if e == CENTRE else (outside, 0)
        for j in range(0, count, MR):
            microkernel(
                address_of(rows) + j * 8, 0, 1, e * v_step * FLOAT, inputs, weights + e * u_step * FLOAT,
                start + j * step, step, of_m[e] + j * NR * FLOAT, NR * FLOAT,
            )  # fmt: skip


@device
def _convolve_range(worker, begin, end, x, shift, u, bias, residual, y, scratch):
    """Some of the blocks of patches, each through all three stages.

    bias: (outputs) or (batch, outputs), flat; residual: as y, or empty. scratch: V, M, and zeros that are read for
    pixels outside the image, max(inputs, outputs), then NR numbers for what is written outside; a row for each worker.
    """
    v, m, zeros = scratch[0][worker], scratch[1][worker], scratch[2][worker]
    inputs, outputs, grid = x.shape[3], y.shape[3], _grid(y)
    each = grid[0] * grid[1]
    outside, discard = address_of(zeros), address_of(zeros) + (zeros.size - NR) * FLOAT
    patch, to_v, rows = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64), np.empty(BLOCK, np.int64)
    of_m, to_y, starts = np.empty(POINTS, np.int64), np.empty(PIXELS, np.int64), np.empty(PIXELS, np.int64)
    fill_addresses(address_of(v), BLOCK * inputs + LINE, to_v)
    fill_addresses(address_of(v), inputs, rows)
    fill_addresses(address_of(m), BLOCK * NR + LINE, of_m)
    for block in range(begin, end):
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] * each - first)
        for j in range(count):
            _pixel_addresses(x, grid, first + j, shift, PATCH, outside, patch)
            _to_v(address_of(patch), 0, address_of(to_v), j * inputs * FLOAT, inputs // WIDTH)
        for column in range(0, outputs, NR):
            for j in range(count):
                own = (first + j) // each * outputs if bias.size > outputs else 0
                copy_row(address_of(bias) + (own + column) * FLOAT, of_m[CENTRE] + j * NR * FLOAT)
            weights = address_of(u) + column // NR * POINTS * (inputs * NR + LINE) * FLOAT
            _products(count, inputs, weights, rows, of_m, outside)
            for j in range(count):
                _pixel_addresses(y, grid, first + j, (0, 0), OUTPUT, discard, to_y)
                _pixel_addresses(residual, grid, first + j, (0, 0), OUTPUT, outside, starts)
                for k in range(PIXELS):
                    to_y[k] += column * FLOAT if to_y[k] != discard else 0
                    starts[k] = starts[k] + column * FLOAT if residual.size > 0 else outside
                here = j * NR * FLOAT
                _to_y(address_of(of_m), here, address_of(to_y), 0, VECTORS, address_of(starts))


@kernel
def _convolve(x, shift, w, rotated, packed, u, bias, residual, y, scratch):
    """u is ready where there is no memory to pack weights in."""
    grid = _grid(y)
    launch(_prepare, packed.shape[0], w, x.shape[3], y.shape[3], rotated, packed, u)
    blocks, workers = ceil_div(x.shape[0] * grid[0] * grid[1], BLOCK), scratch[0].shape[0]
    launch_ranges(_convolve_range, blocks, workers, x, shift, u, bias, residual, y, scratch)


@device
def _transform_range(worker, begin, end, first, x, g, shift, v, z, outside):
    """Some patches of a chunk: to V, and their gradients to Z, in micro-panels: (O / NR, 36, CHUNK, NR)."""
    inputs, outputs, grid = x.shape[3], g.shape[3], _grid(g)
    z_step = CHUNK * NR + LINE
    patch, pixels = np.empty(POINTS, np.int64), np.empty(PIXELS, np.int64)
    to_v, to_z = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    fill_addresses(address_of(v), CHUNK * inputs + LINE, to_v)
    for j in range(begin, end):
        _pixel_addresses(x, grid, first + j, shift, PATCH, address_of(outside), patch)
        _to_v(address_of(patch), 0, address_of(to_v), j * inputs * FLOAT, inputs // WIDTH)
        _pixel_addresses(g, grid, first + j, (0, 0), OUTPUT, address_of(outside), pixels)
        for column in range(0, outputs, NR):
            fill_addresses(address_of(z) + column // NR * POINTS * z_step * FLOAT, z_step, to_z)
            for k in range(PIXELS):
                pixels[k] += NR * FLOAT if column > 0 else 0
            _to_z(address_of(pixels), 0, address_of(to_z), j * NR * FLOAT, VECTORS)


@device
def _sum_range(worker, begin, end, first, count, inputs, v, z, du, rows):
    """Some of the 36 · O / NR matrices: dU[e] += V[e]ᵀ Z[e] for the patches of a chunk."""
    v_step, z_step, u_step = CHUNK * inputs + LINE, CHUNK * NR + LINE, inputs * NR + LINE
    for matrix in range(begin, end):
        if first == 0:
            du[matrix * u_step : (matrix + 1) * u_step] = 0
        micro_panel, out = address_of(z) + matrix * z_step * FLOAT, address_of(du) + matrix * u_step * FLOAT
        for i in range(0, inputs, MR):
            at = (matrix % POINTS * v_step + i) * FLOAT
            transposed_microkernel(address_of(rows), at, count, micro_panel, out + i * NR * FLOAT, NR * FLOAT)


@device
def _finish(index, du, dw):
    """dw = Gᵀ dU G for one micro-panel, NR of the outputs."""
    _, _, inputs, outputs = dw.shape
    step = inputs * NR + LINE
    sources, targets = np.empty(POINTS, np.int64), np.empty(TAPS, np.int64)
    fill_addresses(address_of(du) + index * POINTS * step * FLOAT, step, sources)
    fill_addresses(address_of(dw) + index * NR * FLOAT, inputs * outputs, targets)
    for i in range(inputs):
        _to_dw(address_of(sources), i * NR * FLOAT, address_of(targets), i * outputs * FLOAT, VECTORS)


@kernel
def _backward_weight(x, g, shift, v, z, du, dw, workers):
    inputs, outputs, grid = x.shape[3], g.shape[3], _grid(g)
    patches = x.shape[0] * grid[0] * grid[1]
    rows, outside = np.empty(CHUNK, np.int64), np.zeros(max(inputs, outputs), np.float32)
    fill_addresses(address_of(v), inputs, rows)
    for first in range(0, max(patches, 1), CHUNK):  # once for an empty batch too, or dU would not be zeroed
        count = min(CHUNK, patches - first)
        launch_ranges(_transform_range, count, workers, first, x, g, shift, v, z, outside)
        matrices = POINTS * outputs // NR
        launch_ranges(_sum_range, matrices, workers, first, count, inputs, v, z, du, rows)
    launch(_finish, outputs // NR, du, dw)


def suits(inputs: int, outputs: int, size: tuple[int, int]) -> bool:
    """Whether it is faster than the direct sum for a layer whose output has this height and width.

    The channels must fill the registers. The 36 matrices U are four times as large as the weights and are read from
    memory: with few patches to an image and many channels that costs more than it saves. The batch size must not enter:
    the bits of an image must not depend on the others.
    """
    patches = ceil_div(size[0], OUTPUT) * ceil_div(size[1], OUTPUT)
    fits = inputs % NR == 0 and outputs % NR == 0
    return fits and PIXELS * patches <= 2 * size[0] * size[1] and inputs * outputs <= 32_768 * patches


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    size: tuple[int, int],
    shift: tuple[int, int],
    rotated: bool,
    residual: np.ndarray | None,
) -> np.ndarray:
    """x (B, H, W, C) → (B, *size, O). w (3, 3, C, O), or (3, 3, O, C) if it is to be rotated by 180°.

    bias (O,) or (B, O); shift: rows of zeros above and columns of zeros to the left.
    """
    batch, inputs, outputs = x.shape[0], x.shape[3], w.shape[2] if rotated else w.shape[3]
    y = memory.empty((batch, *size, outputs))
    patches = batch * ceil_div(size[0], OUTPUT) * ceil_div(size[1], OUTPUT)
    workers = max(1, min(pool.active(), ceil_div(patches, BLOCK)))
    u = cached(w, ("winograd", rotated))
    packed = memory.empty((outputs // NR if u is None else 0, TAPS * inputs * NR))
    if u is None:
        u = memory.empty((POINTS * outputs // NR * (inputs * NR + LINE),))
    v = memory.empty((workers, POINTS * (BLOCK * inputs + LINE)))
    m = memory.empty((workers, POINTS * (BLOCK * NR + LINE)))
    scratch = v, m, np.zeros((workers, max(inputs, outputs) + NR), np.float32)
    residual = NO_RESIDUAL if residual is None else residual
    _convolve(x, shift, w.reshape(-1), rotated, packed, u, bias.reshape(-1), residual, y, scratch)
    cache(w, ("winograd", rotated), u)
    return y


def backward_weight(x: np.ndarray, g: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """x (B, H, W, C) and the output's gradient g (B, H', W', O) → (3, 3, C, O); shift as for `convolve`."""
    inputs, outputs = x.shape[3], g.shape[3]
    micro_panels = outputs // NR
    v = memory.empty((POINTS * (CHUNK * inputs + LINE),))
    z = memory.empty((POINTS * micro_panels * (CHUNK * NR + LINE),))
    du = memory.empty((POINTS * micro_panels * (inputs * NR + LINE),))
    dw = memory.empty((3, 3, inputs, outputs))
    _backward_weight(x, g, shift, v, z, du, dw, pool.active())
    return dw
