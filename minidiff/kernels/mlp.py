"""A whole perceptron in one pass, forward and backward: a block of rows stays in cache through all its layers.

    z_l = h_{l−1} W_l + b_l + Σ_k table_k[index_k, l]      h_l = SiLU(z_l)      y = h_L W + b

A layer by itself would write its products, read them again to add and to bend them, and write them once more.
Here BLOCK rows go through every layer before the next rows begin, so all of it happens in the L2 cache. Only z is
kept for the way back, where one exponential gives both h and the slope of SiLU again.

The products between hidden layers run on the register tile. The first and the last layer are thin, one or two
numbers to or from a whole layer, and would leave most lanes of a tile empty: they are a few vector operations
for each row.

What becomes of a row depends on that row alone. Gradients of weights are sums over all rows: the blocks are shared
out to at most PARTS partial sums, which are then added in order; the batch alone decides which block is in which.
"""

from ctypes import addressof, c_char
from itertools import accumulate

import numpy as np
from numba import carray, get_num_threads, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import frozen, memory
from .jit import device, device_in_order, kernel
from .launch import launch
from .panels import add_transposed, multiply, pack
from .tile import FLOAT, LANES, ROWS, address_of

BLOCK = 64  # rows that go through the layers together: a multiple of every tile's rows
PARTS = 8  # partial sums of the weights' gradients
SERIAL_BELOW = 32_768  # numbers that are scattered; fewer are done before the other threads have woken

_NOTHING = np.empty(0, np.float32)
_NOT_PREPARED = np.empty((0, 0, 0, 0), np.float32), np.empty((0, 0), np.float32)


@intrinsic
def _pointer(typingctx, address):
    """An address as a pointer."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@device
def _vector(address, size):
    """The `size` float32 at an address, as an array."""
    return carray(_pointer(address), (size,), np.float32)


_f = np.float32
_MINUS_LOG2_E = _f(-1.4426950408889634)
# 2^r = 1 + C1 r + … + C5 r⁵ on |r| ≤ ½: the least worst relative error with 1 at 0, 9e-8
_C1, _C2, _C3 = _f(0.69314698), _f(0.24022242), _f(0.05550734)
_C4, _C5 = _f(0.00967151), _f(0.00132647)
_ROUND = _f(3 << 22)  # adding 1.5 · 2²³ to a small number rounds it to an integer, found in the low bits
_MANTISSA = np.int32(23)


# Not reassociated: t + _ROUND − _ROUND must not become t.
@device_in_order
def _sigmoid(x):
    """1 / (1 + e⁻ˣ), off by at most 3 roundings of 1; `math32` has it in roundings of itself, and half as fast.

    e⁻ˣ = 2ⁿ · 2ʳ, where n is added to the exponent of 2ʳ. From n = 128 on that makes infinity, as it should; n < −126
    is as good as −126. NaN stays NaN.
    """
    t = x * _MINUS_LOG2_E
    t = _f(128) if t > _f(128) else t
    t = _f(-126) if t < _f(-126) else t
    shifted = t + _ROUND
    r = t - (shifted - _ROUND)
    p = _f(((((_C5 * r + _C4) * r + _C3) * r + _C2) * r + _C1) * r + _f(1))
    power = np.int32(p.view(np.int32) + (_f(shifted).view(np.int32) << _MANTISSA)).view(np.float32)
    return _f(1) / (_f(1) + power)


@device
def _pack_transposed(w, width, column, lanes, out):
    """The panel of a transpose: out[i, lane] = w[column + lane, i], read along the rows of w."""
    for lane in range(LANES):
        if lane < lanes:
            row = _vector(w + (column + lane) * width * FLOAT, width)
            for i in range(width):
                out[i, lane] = row[i]
        else:
            for i in range(width):
                out[i, lane] = 0


@device
def _prepare(weights, width, outputs, transposed, panels, w_last):
    """The inner weights, or their transposes, as panels; the last weights transposed."""
    for layer in range(panels.shape[0]):
        for panel in range(panels.shape[1]):
            column = panel * LANES
            lanes = min(LANES, width - column)
            if transposed:
                _pack_transposed(weights[layer + 1], width, column, lanes, panels[layer, panel])
            else:
                w = _vector(weights[layer + 1], width * width)
                pack(w, column, width, np.int64(1), width, lanes, panels[layer, panel])
    w = _vector(weights[-1], width * outputs)
    for o in range(outputs):
        for c in range(width):
            w_last[o, c] = w[c * outputs + o]


@device
def _prepared(weights, width, outputs, transposed):
    """What `_prepare` makes: (hidden layers − 1, panels, width, LANES) and (outputs, width)."""
    panels = np.empty((weights.size - 2, (width + LANES - 1) // LANES, width, LANES), np.float32)
    w_last = np.empty((outputs, width), np.float32)
    _prepare(weights, width, outputs, transposed, panels, w_last)
    return panels, w_last


@device
def _rows_from(address, count, stride, out):
    """Where `count` rows begin, `stride` numbers apart; the tile reads whole ROWS, so the last one fills up."""
    for r in range(BLOCK):
        out[0, r] = address + min(r, count - 1) * stride * FLOAT


@device
def _product(addresses, count, width, panels, start, out, at, stride, spare):
    """out[at + r · stride + column] = start[column] + (row r) · (the matrix in `panels`)."""
    for panel in range(panels.shape[0]):
        column = panel * LANES
        lanes = min(LANES, width - column)
        multiply(
            addresses, count, width, panels[panel], start[column:], out, at + column, lanes, stride, spare
        )


@device
def _forward_block(first, count, x, weights, biases, tables, index, width, panels, w_last, y, z):
    inputs, outputs, depth = x.shape[1], y.shape[1], weights.size - 1
    row_bytes = width * FLOAT
    h = np.empty(BLOCK * width, np.float32)
    sums = np.empty(0 if z.size else BLOCK * width, np.float32)
    out, stride = (z, depth * width) if z.size else (sums, width)
    start = np.zeros(panels.shape[1] * LANES, np.float32)
    spare = np.empty((BLOCK, LANES), np.float32)
    h_rows = np.empty((1, BLOCK), np.int64)
    _rows_from(address_of(h), count, width, h_rows)
    for layer in range(depth):
        at = first * stride + layer * width if z.size else 0
        bias = _vector(biases[layer], width)
        if layer > 0:
            for c in range(width):
                start[c] = bias[c]
            _product(h_rows, count, width, panels[layer - 1], start, out, at, stride, spare)
        for r in range(count):
            row = _vector(address_of(out) + (at + r * stride) * FLOAT, width)
            bent = _vector(address_of(h) + r * row_bytes, width)
            if layer == 0:
                for i in range(inputs):
                    single, w = x[first + r, i], _vector(weights[0] + i * row_bytes, width)
                    before = bias if i == 0 else row
                    for c in range(width):
                        row[c] = before[c] + single * w[c]
            for k in range(1, tables.size):
                told = _vector(tables[k] + (index[k, first + r] * depth + layer) * row_bytes, width)
                for c in range(width):
                    row[c] += told[c]
            told = _vector(tables[0] + (index[0, first + r] * depth + layer) * row_bytes, width)
            for c in range(width):
                total = row[c] + told[c]
                row[c] = total
                bent[c] = total * _sigmoid(total)
    b_last = _vector(biases[depth], outputs)
    for r in range(count):
        row = _vector(address_of(h) + r * row_bytes, width)
        for o in range(outputs):
            total, w = np.float32(0), w_last[o]
            for c in range(width):
                total += row[c] * w[c]
            y[first + r, o] = total + b_last[o]


@device
def _forward_share(share, shares, x, weights, biases, tables, index, width, panels, w_last, y, z):
    """A thread's blocks. Each prepares weights that are not: to fetch them from another's cache takes longer."""
    blocks = (x.shape[0] + BLOCK - 1) // BLOCK
    if not w_last.size:
        panels, w_last = _prepared(weights, width, y.shape[1], False)
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] - first)
        _forward_block(first, count, x, weights, biases, tables, index, width, panels, w_last, y, z)


@kernel
def _forward(x, weights, biases, tables, index, width, panels, w_last, y, z, threads):
    shares = min((x.shape[0] + BLOCK - 1) // BLOCK, threads)
    launch(
        _forward_share, shares, shares, x, weights, biases, tables, index, width, panels, w_last, y, z
    )  # fmt: skip


@device
def _backward_blocks(begin, end, g, x, weights, width, panels, w_last, z, dx, part):
    """Rows begin … end − 1, block after block, into one partial sum."""
    inputs, outputs, depth = x.shape[1], g.shape[1], weights.size - 1
    stride, row_bytes = depth * width, width * FLOAT
    h = np.empty(BLOCK * width + ROWS, np.float32)
    dh = np.empty(BLOCK * width, np.float32)
    dz_panels = np.empty((panels.shape[1], BLOCK, LANES), np.float32)
    zeros = np.zeros(panels.shape[1] * LANES, np.float32)
    spare = np.empty((BLOCK, LANES), np.float32)
    h_rows, dz_rows = np.empty((1, BLOCK), np.int64), np.empty((1, BLOCK), np.int64)
    inner = inputs * width
    last = inner + (depth - 1) * width * width
    biases = last + outputs * width
    for i in range(part.size):
        part[i] = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        _rows_from(address_of(h), count, width, h_rows)
        for layer in range(depth - 1, -1, -1):
            at = first * stride + layer * width
            dz_at = address_of(z) + at * FLOAT
            b_sums = _vector(address_of(part) + (biases + layer * width) * FLOAT, width)
            for r in range(count):
                row = _vector(dz_at + r * stride * FLOAT, width)
                bent = _vector(address_of(h) + r * row_bytes, width)
                slope = _vector(address_of(dh) + r * row_bytes, width)
                if layer == depth - 1:
                    for c in range(width):
                        slope[c] = 0
                    for o in range(outputs):
                        single, w = g[first + r, o], w_last[o]
                        for c in range(width):
                            slope[c] += single * w[c]
                for c in range(width):
                    s = _sigmoid(row[c])
                    value = row[c] * s
                    bent[c] = value
                    dz = slope[c] * (s + value * (np.float32(1) - s))
                    row[c] = dz
                    b_sums[c] += dz
            if layer == depth - 1:
                for o in range(outputs):
                    w_sums = _vector(address_of(part) + (last + o * width) * FLOAT, width)
                    for r in range(count):
                        single, bent = g[first + r, o], _vector(address_of(h) + r * row_bytes, width)
                        part[biases + depth * width + o] += single
                        for c in range(width):
                            w_sums[c] += single * bent[c]
            else:
                w_at = inner + layer * width * width
                for panel in range(dz_panels.shape[0]):
                    column = panel * LANES
                    lanes = min(LANES, width - column)
                    for i in range(0, width, ROWS):
                        add_transposed(
                            h_rows[0], i * FLOAT, count, dz_panels[panel], part, w_at + i * width + column,
                            min(ROWS, width - i), lanes, width, spare,
                        )  # fmt: skip
            if layer > 0:
                for panel in range(dz_panels.shape[0]):
                    column = panel * LANES
                    lanes = min(LANES, width - column)
                    pack(z, at + column, stride, np.int64(1), count, lanes, dz_panels[panel])
                _rows_from(dz_at, count, stride, dz_rows)
                _product(dz_rows, count, width, panels[layer - 1], zeros, dh, np.int64(0), width, spare)
            else:
                for i in range(inputs):
                    w = _vector(weights[0] + i * row_bytes, width)
                    w_sums = _vector(address_of(part) + i * row_bytes, width)
                    for r in range(count):
                        row = _vector(dz_at + r * stride * FLOAT, width)
                        single, total = x[first + r, i], np.float32(0)
                        for c in range(width):
                            w_sums[c] += single * row[c]
                            total += row[c] * w[c]
                        dx[first + r, i] = total


@device
def _backward_share(share, shares, g, x, weights, width, z, dx, parts):
    """A thread's partial sums, each of its own blocks."""
    panels, w_last = _prepared(weights, width, g.shape[1], True)
    batch, count = x.shape[0], parts.shape[0]
    blocks = (batch + BLOCK - 1) // BLOCK
    for part in range(count * share // shares, count * (share + 1) // shares):
        first, last = blocks * part // count * BLOCK, min(batch, blocks * (part + 1) // count * BLOCK)
        _backward_blocks(first, last, g, x, weights, width, panels, w_last, z, dx, parts[part])


@kernel
def _backward(g, x, weights, width, z, dx, parts, threads):
    """The sum of all parts is left in the first."""
    shares = min(parts.shape[0], threads)
    launch(_backward_share, shares, shares, g, x, weights, width, z, dx, parts)
    for part in range(1, parts.shape[0]):
        total, more = parts[0], parts[part]
        for i in range(total.size):
            total[i] += more[i]


@device
def _add_columns(job, jobs, out, g, index):
    """Row after row: rows that share an index must not meet."""
    begin, end = g.shape[1] * job // jobs, g.shape[1] * (job + 1) // jobs
    for i in range(index.size):
        target, row = out[index[i], begin:end], g[i, begin:end]
        for c in range(row.size):
            target[c] += row[c]


@kernel
def _add_rows(out, g, index):
    jobs = 1 if g.size < SERIAL_BELOW else (g.shape[1] + LANES - 1) // LANES
    launch(_add_columns, jobs, jobs, out, g, index)


def _addresses(arrays: list[np.ndarray]) -> np.ndarray:
    """Where each array begins."""
    return np.array([addressof(c_char.from_buffer(a)) for a in arrays])


def _panels(weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What `_prepared` makes, made once."""
    width = len(weights[-1])
    count = -(-width // LANES)
    inner = np.zeros((len(weights) - 2, width, count * LANES), np.float32)
    for columns, w in zip(inner, weights[1:-1], strict=True):
        columns[:, :width] = w
    panels = inner.reshape(-1, width, count, LANES).swapaxes(1, 2)
    return np.ascontiguousarray(panels), np.ascontiguousarray(weights[-1].T)


def _layers(
    weights: list[np.ndarray], biases: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where weights and biases begin, and the prepared weights, or nothing where they may still change."""
    arrays = *weights, *biases
    purpose = "perceptron", *map(id, arrays)
    kept = frozen.kept(weights[-1], purpose)
    if kept is not None:
        return kept[0]
    unchanging = all(map(frozen.is_frozen, arrays))
    found = _addresses(weights), _addresses(biases), *(_panels(weights) if unchanging else _NOT_PREPARED)
    if unchanging:  # with the arrays: while these live nothing else has their ids
        frozen.keep(weights[-1], purpose, (found, arrays))
    return found


def perceptron(
    x: np.ndarray,
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    tables: list[np.ndarray],
    index: np.ndarray,
    keep: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    width, outputs = weights[-1].shape
    y = memory.empty((len(x), outputs))
    z = memory.empty((len(x), len(weights) - 1, width)) if keep else None
    flat = _NOTHING if z is None else z.reshape(-1)
    if x.size:
        w, b, panels, w_last = _layers(weights, biases)
        index = index.astype(np.int64, copy=False)
        _forward(x, w, b, _addresses(tables), index, width, panels, w_last, y, flat, get_num_threads())
    return y, z


def perceptron_backward(
    g: np.ndarray, x: np.ndarray, weights: list[np.ndarray], z: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    inputs, (width, outputs), depth = x.shape[1], weights[-1].shape, len(weights) - 1
    sizes = [inputs * width] + [width * width] * (depth - 1) + [outputs * width] + [width] * depth + [outputs]
    dx = memory.empty(x.shape)
    parts = memory.empty((min(PARTS, max(1, -(-len(x) // BLOCK))), sum(sizes)))
    _backward(g, x, _addresses(weights), width, z.reshape(-1), dx, parts, get_num_threads())
    sums = [parts[0, end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    dw, db = sums[: depth + 1], sums[depth + 1 :]
    dw = [d.reshape(w.shape) for d, w in zip(dw[:-1], weights, strict=False)]
    return dx, [*dw, sums[depth].reshape(outputs, width).T], db


def add_rows(out: np.ndarray, g: np.ndarray, index: np.ndarray) -> None:
    _add_rows(out, g, index.astype(np.int64, copy=False))
