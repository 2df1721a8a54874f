"""3×3 convolution of stride 1 with a quarter of the multiplications (Winograd 1980; Lavin & Gray 2016).

Correlating is multiplying polynomials, and those can be multiplied by their values at enough points. From a 6×6
patch d of the image and a 3×3 kernel w, the 4×4 outputs are

    Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A        36 products where the definition has 144.

B and G evaluate at 0, ±1, ±2 and ∞, A reads off the result. Summed over channels, each of the 36 products ⊙ is a
matrix product, and runs on the register tile:

    V[e] = (Bᵀ d B)_e   (patches, C)      U[e] = (G w Gᵀ)_e   (C, O)      M[e] = V[e] U[e]      Y = Aᵀ M A

The gradient in the input is the same convolution of the output's gradient, with the kernel turned round and its
channels exchanged. The gradient in the kernel follows the formulae backwards: Z[e] = (A dY Aᵀ)_e, then
dU[e] = V[e]ᵀ Z[e], then dw = Gᵀ dU G.

The evaluations cost rounding: an output is off by at most 64 roundings of the largest sum of magnitudes in its
image (128 for dw), as the tests hold, where the direct sum stays within 8 of its own. Patches lie
4 pixels apart and reach beyond the image as it is padded; what they give outside of it goes to a place that
nobody reads. Each is computed by itself: its bits depend on no other, and not on threads or blocks.
"""

import numpy as np
from numba import get_num_threads

from . import memory
from .frozen import keep, kept
from .jit import device, kernel
from .launch import launch
from .panels import pack
from .tile import FLOAT, LANES, ROWS, VECTORS, WIDTH, address_of, columns_tile, copy_lanes, rows_tile
from .transform import both_sides

GRID, KEPT, TAPS = 6, 4, 9  # a patch and its outputs, to a side; the weights of a kernel
POINTS, PIXELS = GRID * GRID, KEPT * KEPT
CENTRE = GRID + 1  # the point whose entry in M reaches all 16 outputs with weight 1: the bias is added there
PATCHES = 16  # patches that go through all stages while they are in the L2 cache
CHUNK = 192  # patches that are transformed before they are summed into dU: so much of Z[e] stays in L1
LINE = 16  # numbers of a cache line, put between the 36 matrices: else they compete for the same cache sets

_BUTTERFLY = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, -1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, -1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
)
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
_to_y = both_sides(_A, _BUTTERFLY, add=True)  # Aᵀ M A + what is added
_to_z = both_sides(_BUTTERFLY.T, _A.T)  # A dY Aᵀ
_to_dw = both_sides(_G.T, _BUTTERFLY.T)  # Gᵀ dU G


@device
def _find(images, shape, grid, patch, shift, side, outside, table):
    """table[i · side + j] = address of pixel (i, j) of a patch; the address `outside` beyond the image.

    shape: (batch, height, width, channels) of the images; grid: patches down and across an image; shift: how far
    the first patch begins above and to the left of it.
    """
    _, height, width, channels = shape
    image, place = divmod(patch, grid[0] * grid[1])
    top, left = place // grid[1] * KEPT - shift[0], place % grid[1] * KEPT - shift[1]
    for i in range(side):
        for j in range(side):
            row, column = top + i, left + j
            at = ((image * height + row) * width + column) * channels
            inside = 0 <= row < height and 0 <= column < width
            table[i * side + j] = address_of(images) + at * FLOAT if inside else outside


@device
def _spread(first, step, table):
    """table[e] = the address `first` plus e times `step` numbers."""
    for e in range(table.size):
        table[e] = first + e * step * FLOAT


@device
def _prepare(panel, w, inputs, outputs, turned, packed, u):
    """U (36, inputs, LANES) of one panel of outputs: w (9, inputs, outputs), or if turned (9, outputs, inputs)."""
    packed = packed[panel]
    sources, targets = np.empty(TAPS, np.int64), np.empty(POINTS, np.int64)
    size, column = inputs * outputs, panel * LANES
    for tap in range(TAPS):
        rows = packed[tap * inputs * LANES : (tap + 1) * inputs * LANES].reshape(inputs, LANES)
        at, row_step, lane_step = tap * size + column, outputs, np.int64(1)
        if turned:
            at, row_step, lane_step = (TAPS - 1 - tap) * size + column * inputs, np.int64(1), inputs
        pack(w, at, row_step, lane_step, inputs, np.int64(LANES), rows)
    step = inputs * LANES + LINE
    _spread(address_of(packed), inputs * LANES, sources)
    _spread(address_of(u) + panel * POINTS * step * FLOAT, step, targets)
    for i in range(inputs):
        row = i * LANES * FLOAT
        _to_u(address_of(sources), row, address_of(targets), row, VECTORS)


@device
def _convolve_share(share, shares, x, shape, grid, shift, u, bias, residual, y, y_shape, v, m, spare):
    """This share's blocks of patches, each through all three stages.

    bias: (outputs) or (batch, outputs); residual: as y, or empty. spare: zeros, as many as are read at a pixel
    outside the image and at least outputs, then LANES numbers for what is written outside. v, m and spare have a
    row for each share.
    """
    v, m, spare = v[share], m[share], spare[share]
    inputs, outputs = shape[3], y_shape[3]
    each = grid[0] * grid[1]
    patches = shape[0] * each
    blocks = (patches + PATCHES - 1) // PATCHES
    v_step, m_step, u_step = PATCHES * inputs + LINE, PATCHES * LANES + LINE, inputs * LANES + LINE
    nothing, nowhere = address_of(spare), address_of(spare) + (spare.size - LANES) * FLOAT
    patch, to_v, rows = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64), np.empty(PATCHES, np.int64)
    of_m, to_y, starts = np.empty(POINTS, np.int64), np.empty(PIXELS, np.int64), np.empty(PIXELS, np.int64)
    _spread(address_of(v), v_step, to_v)
    _spread(address_of(v), inputs, rows)
    _spread(address_of(m), m_step, of_m)
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        first = block * PATCHES
        count = min(PATCHES, patches - first)
        for j in range(count):
            _find(x, shape, grid, first + j, shift, GRID, nothing, patch)
            _to_v(address_of(patch), 0, address_of(to_v), j * inputs * FLOAT, inputs // WIDTH)
        for column in range(0, outputs, LANES):
            for e in range(POINTS):
                weights = address_of(u) + (column // LANES * POINTS + e) * u_step * FLOAT
                start, step = nothing, 0
                if e == CENTRE:
                    start, step = of_m[e], LANES * FLOAT
                    for j in range(count):
                        own = (first + j) // each * outputs if bias.size > outputs else 0
                        copy_lanes(address_of(bias) + (own + column) * FLOAT, start + j * step)
                for j in range(0, count, ROWS):
                    rows_tile(
                        address_of(rows) + j * 8, 0, 1, e * v_step * FLOAT, inputs, weights,
                        start + j * step, step, of_m[e] + j * LANES * FLOAT, LANES * FLOAT,
                    )  # fmt: skip
            for j in range(count):
                _find(y, y_shape, grid, first + j, (0, 0), KEPT, nowhere, to_y)
                _find(residual, y_shape, grid, first + j, (0, 0), KEPT, nothing, starts)
                for k in range(PIXELS):
                    to_y[k] += column * FLOAT if to_y[k] != nowhere else 0
                    starts[k] = starts[k] + column * FLOAT if residual.size > 0 else nothing
                here = j * LANES * FLOAT
                _to_y(address_of(of_m), here, address_of(to_y), 0, VECTORS, address_of(starts))


@kernel
def _convolve(
    x, shape, grid, shift, w, turned, ready, packed, u, bias, residual, y, y_shape, v, m, spare, shares
):
    launch(_prepare, 0 if ready else y_shape[3] // LANES, w, shape[3], y_shape[3], turned, packed, u)
    launch(_convolve_share, shares, shares, x, shape, grid, shift, u, bias, residual, y, y_shape, v, m, spare)


@device
def _transform_share(share, shares, first, count, x, shape, g, g_shape, grid, shift, v, z, nothing):
    """This share of a chunk's patches to V, and their gradients to Z, as panels: (O / LANES, 36, CHUNK, LANES)."""
    inputs, outputs = shape[3], g_shape[3]
    v_step, z_step = CHUNK * inputs + LINE, CHUNK * LANES + LINE
    patch, pixels = np.empty(POINTS, np.int64), np.empty(PIXELS, np.int64)
    to_v, to_z = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    _spread(address_of(v), v_step, to_v)
    for j in range(count * share // shares, count * (share + 1) // shares):
        _find(x, shape, grid, first + j, shift, GRID, address_of(nothing), patch)
        _to_v(address_of(patch), 0, address_of(to_v), j * inputs * FLOAT, inputs // WIDTH)
        _find(g, g_shape, grid, first + j, (0, 0), KEPT, address_of(nothing), pixels)
        for column in range(0, outputs, LANES):
            _spread(address_of(z) + column // LANES * POINTS * z_step * FLOAT, z_step, to_z)
            for k in range(PIXELS):
                pixels[k] += LANES * FLOAT if column > 0 else 0
            _to_z(address_of(pixels), 0, address_of(to_z), j * LANES * FLOAT, VECTORS)


@device
def _sum_share(share, shares, first, count, inputs, outputs, v, z, du, rows):
    """This share of the 36 · O / LANES matrices dU[e] += V[e]ᵀ Z[e] of a chunk."""
    v_step, z_step, u_step = CHUNK * inputs + LINE, CHUNK * LANES + LINE, inputs * LANES + LINE
    matrices = POINTS * outputs // LANES
    for matrix in range(matrices * share // shares, matrices * (share + 1) // shares):
        if first == 0:
            du[matrix * u_step : (matrix + 1) * u_step] = 0
        panel, out = address_of(z) + matrix * z_step * FLOAT, address_of(du) + matrix * u_step * FLOAT
        for i in range(0, inputs, ROWS):
            at = (matrix % POINTS * v_step + i) * FLOAT
            columns_tile(address_of(rows), at, count, panel, out + i * LANES * FLOAT, LANES * FLOAT)


@device
def _finish(panel, du, inputs, outputs, dw):
    """dw = Gᵀ dU G for one panel of outputs."""
    step = inputs * LANES + LINE
    sources, targets = np.empty(POINTS, np.int64), np.empty(TAPS, np.int64)
    _spread(address_of(du) + panel * POINTS * step * FLOAT, step, sources)
    _spread(address_of(dw) + panel * LANES * FLOAT, inputs * outputs, targets)
    for i in range(inputs):
        _to_dw(address_of(sources), i * LANES * FLOAT, address_of(targets), i * outputs * FLOAT, VECTORS)


@kernel
def _backward_weight(x, shape, g, g_shape, grid, shift, v, z, du, rows, nothing, dw, shares):
    inputs, outputs = shape[3], g_shape[3]
    patches = shape[0] * grid[0] * grid[1]
    _spread(address_of(v), inputs, rows)
    for first in range(0, max(patches, 1), CHUNK):  # once for an empty batch too, or dU would not be zeroed
        count = min(CHUNK, patches - first)
        launch(
            _transform_share, shares, shares, first, count, x, shape, g, g_shape, grid, shift, v, z, nothing
        )
        launch(_sum_share, shares, shares, first, count, inputs, outputs, v, z, du, rows)
    launch(_finish, outputs // LANES, du, inputs, outputs, dw)


def suits(inputs: int, outputs: int, size: tuple[int, int]) -> bool:
    """Whether it wins for a layer whose output has this height and width.

    The channels must fill the registers. The 36 matrices U have four times the weights, which have to come from
    memory: with few patches an image and many channels that costs more than it saves. Never the batch's size:
    an image's bits must not depend on the others.
    """
    patches = -(-size[0] // KEPT) * -(-size[1] // KEPT)
    fits = inputs % LANES == 0 and outputs % LANES == 0
    return fits and PIXELS * patches <= 2 * size[0] * size[1] and inputs * outputs <= 32_768 * patches


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    size: tuple[int, int],
    shift: tuple[int, int],
    turned: bool,
    residual: np.ndarray | None,
) -> np.ndarray:
    """x (B, H, W, C) → (B, *size, O). w (3, 3, C, O), or if turned (3, 3, O, C), which is then also turned round.

    bias (O,) or (B, O); shift: rows of zeros above and columns of zeros to the left.
    """
    batch, inputs, outputs = x.shape[0], x.shape[3], w.shape[2] if turned else w.shape[3]
    y = memory.empty((batch, *size, outputs))
    grid = -(-size[0] // KEPT), -(-size[1] // KEPT)
    blocks = -(-batch * grid[0] * grid[1] // PATCHES)
    shares = max(1, min(get_num_threads(), blocks))
    u = kept(w, ("winograd", turned))
    ready = u is not None
    if not ready:
        u = memory.empty((POINTS * outputs // LANES * (inputs * LANES + LINE),))
    packed = memory.empty((0 if ready else outputs // LANES, TAPS * inputs * LANES))
    v = memory.empty((shares, POINTS * (PATCHES * inputs + LINE)))
    m = memory.empty((shares, POINTS * (PATCHES * LANES + LINE)))
    spare = np.zeros((shares, max(inputs, outputs) + LANES), np.float32)
    no_residual = np.empty(0, np.float32)
    _convolve(
        x.reshape(-1), x.shape, grid, shift, w.reshape(-1), turned, ready, packed, u, bias.reshape(-1),
        no_residual if residual is None else residual.reshape(-1), y.reshape(-1), y.shape, v, m, spare, shares,
    )  # fmt: skip
    keep(w, ("winograd", turned), u)
    return y


def backward_weight(x: np.ndarray, g: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """x (B, H, W, C) and the output's gradient g (B, H', W', O) → (3, 3, C, O); shift as for `convolve`."""
    inputs, outputs = x.shape[3], g.shape[3]
    panels = outputs // LANES
    grid = -(-g.shape[1] // KEPT), -(-g.shape[2] // KEPT)
    v = memory.empty((POINTS * (CHUNK * inputs + LINE),))
    z = memory.empty((POINTS * panels * (CHUNK * LANES + LINE),))
    du = memory.empty((POINTS * panels * (inputs * LANES + LINE),))
    dw = memory.empty((3, 3, inputs, outputs))
    rows, nothing = np.empty(CHUNK, np.int64), np.zeros(max(inputs, outputs), np.float32)
    _backward_weight(
        x.reshape(-1), x.shape, g.reshape(-1), g.shape, grid, shift, v, z, du, rows, nothing, dw.reshape(-1),
        get_num_threads(),
    )  # fmt: skip
    return dw
