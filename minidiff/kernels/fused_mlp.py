"""A fused MLP: all layers in one pass, forward and backward; a block of rows stays in cache through all of them.

    z_l = h_{l−1} W_l + b_l + Σ_k table_k[index_k, l]      h_l = SiLU(z_l)      y = h_L W + b

Layer by layer, the products would be written to memory, read again to add the rest and apply SiLU, and written once
more. Here BLOCK rows go through every layer before the next rows begin, so all of it happens in the L2 cache. Only z is
kept for backward, where one exponential gives both h and the derivative of SiLU again.

The products between hidden layers run on the microkernel. The first and the last layer map one or two numbers to or
from a whole layer, and would leave most lanes of a register tile empty: they are a few vector operations for each row.

The result of a row depends on that row alone. Gradients of weights are sums over all rows: the blocks are divided among
at most PARTIAL_SUMS partial sums, which are then added in order; the division depends only on the size of the batch.
"""

from ctypes import addressof, c_char
from itertools import accumulate

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import frozen, memory, pool
from .jit import device, kernel
from .launch import launch
from .math32 import fast_sigmoid
from .microkernel import FLOAT, MR, NR, address_of
from .packing import add_transposed, multiply, pack

BLOCK = 64  # rows that go through the layers together: a multiple of MR on every machine
PARTIAL_SUMS = 8  # partial sums of the weights' gradients

_EMPTY = np.empty(0, np.float32)
_NOT_PREPARED = np.empty((0, 0, 0, 0), np.float32), np.empty((0, 0), np.float32)


@intrinsic
def _pointer(typingctx, address):
    """An address as a pointer."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@device
def _vector(address, size):
    """`size` float32 from an address on, as an array."""
    return carray(_pointer(address), (size,), np.float32)


@device
def _prepare(weights, width, outputs, transposed, packed, w_last):
    """Pack the inner weights, or their transposes, into micro-panels; transpose the last weights."""
    for layer in range(packed.shape[0]):
        for index in range(packed.shape[1]):
            column = index * NR
            lanes = min(NR, width - column)
            w = _vector(weights[layer + 1], width * width)
            at = column * width if transposed else column
            pack(w, at, width, transposed, width, lanes, packed[layer, index])
    w = _vector(weights[-1], width * outputs)
    for o in range(outputs):
        for c in range(width):
            w_last[o, c] = w[c * outputs + o]


@device
def _prepared(weights, width, outputs, transposed):
    """The results of `_prepare`: (hidden layers − 1, micro-panels, width, NR) and (outputs, width)."""
    packed = np.empty((weights.size - 2, (width + NR - 1) // NR, width, NR), np.float32)
    w_last = np.empty((outputs, width), np.float32)
    _prepare(weights, width, outputs, transposed, packed, w_last)
    return packed, w_last


@device
def _row_addresses(address, count, stride, out):
    """The addresses of `count` rows, `stride` numbers apart; the last repeats, since the microkernel reads MR rows."""
    for r in range(BLOCK):
        out[0, r] = address + min(r, count - 1) * stride * FLOAT


@device
def _product(addresses, count, width, packed, start, out, at, stride, scratch):
    """out[at + r · stride + column] = start[column] + (row r) · (column of the matrix in `packed`)."""
    for index in range(packed.shape[0]):
        column = index * NR
        lanes = min(NR, width - column)
        multiply(addresses, count, width, packed[index], start[column:], out, at + column, lanes, stride)


@device
def _forward_block(first, count, x, weights, biases, tables, index, width, packed, w_last, y, z):
    inputs, outputs, depth = x.shape[1], y.shape[1], weights.size - 1
    row_bytes = width * FLOAT
    h = np.empty(BLOCK * width, np.float32)
    sums = np.empty(0 if z.size else BLOCK * width, np.float32)
    out, stride = (z, depth * width) if z.size else (sums, width)
    start = np.zeros(packed.shape[1] * NR, np.float32)
    scratch = np.empty((BLOCK, NR), np.float32)
    h_rows = np.empty((1, BLOCK), np.int64)
    _row_addresses(address_of(h), count, width, h_rows)
    for layer in range(depth):
        at = first * stride + layer * width if z.size else 0
        bias = _vector(biases[layer], width)
        if layer > 0:
            for c in range(width):
                start[c] = bias[c]
            _product(h_rows, count, width, packed[layer - 1], start, out, at, stride, scratch)
        for r in range(count):
            row = _vector(address_of(out) + (at + r * stride) * FLOAT, width)
            h_row = _vector(address_of(h) + r * row_bytes, width)
            if layer == 0:
                for i in range(inputs):
                    scalar, w = x[first + r, i], _vector(weights[0] + i * row_bytes, width)
                    before = bias if i == 0 else row
                    for c in range(width):
                        row[c] = before[c] + scalar * w[c]
            for k in range(1, tables.size):
                embedding = _vector(tables[k] + (index[k, first + r] * depth + layer) * row_bytes, width)
                for c in range(width):
                    row[c] += embedding[c]
            embedding = _vector(tables[0] + (index[0, first + r] * depth + layer) * row_bytes, width)
            for c in range(width):
                total = row[c] + embedding[c]
                row[c] = total
                h_row[c] = total * fast_sigmoid(total)
    b_last = _vector(biases[depth], outputs)
    for r in range(count):
        row = _vector(address_of(h) + r * row_bytes, width)
        for o in range(outputs):
            total, w = np.float32(0), w_last[o]
            for c in range(width):
                total += row[c] * w[c]
            y[first + r, o] = total + b_last[o]


@device
def _forward_worker(worker, workers, x, weights, biases, tables, index, width, packed, w_last, y, z):
    """One worker's blocks. It packs weights that are not frozen itself: fetching them from another core is slower."""
    blocks = (x.shape[0] + BLOCK - 1) // BLOCK
    if not w_last.size:
        packed, w_last = _prepared(weights, width, y.shape[1], False)
    for block in range(blocks * worker // workers, blocks * (worker + 1) // workers):
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] - first)
        _forward_block(first, count, x, weights, biases, tables, index, width, packed, w_last, y, z)


@kernel
def _forward(x, weights, biases, tables, index, width, packed, w_last, y, z, threads):
    workers = min((x.shape[0] + BLOCK - 1) // BLOCK, threads)
    launch(
        _forward_worker, workers, workers, x, weights, biases, tables, index, width, packed, w_last, y, z
    )  # fmt: skip


@device
def _backward_blocks(begin, end, g, x, weights, width, packed, w_last, z, dx, sums):
    """Rows begin … end − 1, block after block, into one partial sum."""
    inputs, outputs, depth = x.shape[1], g.shape[1], weights.size - 1
    stride, row_bytes = depth * width, width * FLOAT
    h = np.empty(BLOCK * width + MR, np.float32)
    dh = np.empty(BLOCK * width, np.float32)
    dz_packed = np.empty((packed.shape[1], BLOCK, NR), np.float32)
    zeros = np.zeros(packed.shape[1] * NR, np.float32)
    scratch = np.empty((BLOCK, NR), np.float32)
    h_rows, dz_rows = np.empty((1, BLOCK), np.int64), np.empty((1, BLOCK), np.int64)
    inner = inputs * width
    last = inner + (depth - 1) * width * width
    biases = last + outputs * width
    for i in range(sums.size):
        sums[i] = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        _row_addresses(address_of(h), count, width, h_rows)
        for layer in range(depth - 1, -1, -1):
            at = first * stride + layer * width
            dz_at = address_of(z) + at * FLOAT
            b_sums = _vector(address_of(sums) + (biases + layer * width) * FLOAT, width)
            for r in range(count):
                row = _vector(dz_at + r * stride * FLOAT, width)
                h_row = _vector(address_of(h) + r * row_bytes, width)
                dh_row = _vector(address_of(dh) + r * row_bytes, width)
                if layer == depth - 1:
                    for c in range(width):
                        dh_row[c] = 0
                    for o in range(outputs):
                        scalar, w = g[first + r, o], w_last[o]
                        for c in range(width):
                            dh_row[c] += scalar * w[c]
                for c in range(width):
                    s = fast_sigmoid(row[c])
                    value = row[c] * s
                    h_row[c] = value
                    dz = dh_row[c] * (s + value * (np.float32(1) - s))
                    row[c] = dz
                    b_sums[c] += dz
            if layer == depth - 1:
                for o in range(outputs):
                    w_sums = _vector(address_of(sums) + (last + o * width) * FLOAT, width)
                    for r in range(count):
                        scalar, h_row = g[first + r, o], _vector(address_of(h) + r * row_bytes, width)
                        sums[biases + depth * width + o] += scalar
                        for c in range(width):
                            w_sums[c] += scalar * h_row[c]
            else:
                w_at = inner + layer * width * width
                for index in range(dz_packed.shape[0]):
                    column = index * NR
                    lanes = min(NR, width - column)
                    for i in range(0, width, MR):
                        add_transposed(
                            h_rows[0], i * FLOAT, count, dz_packed[index], sums, w_at + i * width + column,
                            min(MR, width - i), lanes, width,
                        )  # fmt: skip
            if layer > 0:
                for index in range(dz_packed.shape[0]):
                    column = index * NR
                    lanes = min(NR, width - column)
                    pack(z, at + column, stride, False, count, lanes, dz_packed[index])
                _row_addresses(dz_at, count, stride, dz_rows)
                _product(dz_rows, count, width, packed[layer - 1], zeros, dh, np.int64(0), width, scratch)
            else:
                for i in range(inputs):
                    w = _vector(weights[0] + i * row_bytes, width)
                    w_sums = _vector(address_of(sums) + i * row_bytes, width)
                    for r in range(count):
                        row = _vector(dz_at + r * stride * FLOAT, width)
                        scalar, total = x[first + r, i], np.float32(0)
                        for c in range(width):
                            w_sums[c] += scalar * row[c]
                            total += row[c] * w[c]
                        dx[first + r, i] = total


@device
def _backward_worker(worker, workers, g, x, weights, width, z, dx, partial_sums):
    """The partial sums of one worker, each over its own blocks."""
    packed, w_last = _prepared(weights, width, g.shape[1], True)
    batch, count = x.shape[0], partial_sums.shape[0]
    blocks = (batch + BLOCK - 1) // BLOCK
    for index in range(count * worker // workers, count * (worker + 1) // workers):
        first, last = blocks * index // count * BLOCK, min(batch, blocks * (index + 1) // count * BLOCK)
        _backward_blocks(first, last, g, x, weights, width, packed, w_last, z, dx, partial_sums[index])


@kernel
def _backward(g, x, weights, width, z, dx, partial_sums, threads):
    """The total is left in the first of the partial sums."""
    workers = min(partial_sums.shape[0], threads)
    launch(_backward_worker, workers, workers, g, x, weights, width, z, dx, partial_sums)
    for index in range(1, partial_sums.shape[0]):
        total, more = partial_sums[0], partial_sums[index]
        for i in range(total.size):
            total[i] += more[i]


def _addresses(arrays: list[np.ndarray]) -> np.ndarray:
    """The address of each array."""
    return np.array([addressof(c_char.from_buffer(a)) for a in arrays])


def _pack_once(weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The results of `_prepared`, for weights that are frozen."""
    width = len(weights[-1])
    count = -(-width // NR)
    inner = np.zeros((len(weights) - 2, width, count * NR), np.float32)
    for columns, w in zip(inner, weights[1:-1], strict=True):
        columns[:, :width] = w
    packed = inner.reshape(-1, width, count, NR).swapaxes(1, 2)
    return np.ascontiguousarray(packed), np.ascontiguousarray(weights[-1].T)


def _layers(
    weights: list[np.ndarray], biases: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The addresses of weights and biases, and the prepared weights: empty arrays where they may still change."""
    arrays = *weights, *biases
    key = "perceptron", *map(id, arrays)
    entry = frozen.cached(weights[-1], key)
    if entry is not None:
        return entry[0]
    all_frozen = all(map(frozen.is_frozen, arrays))
    found = _addresses(weights), _addresses(biases), *(_pack_once(weights) if all_frozen else _NOT_PREPARED)
    if all_frozen:  # with the arrays: while these live nothing else has their ids
        frozen.cache(weights[-1], key, (found, arrays))
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
    flat = _EMPTY if z is None else z.reshape(-1)
    if x.size:
        w, b, packed, w_last = _layers(weights, biases)
        index = index.astype(np.int64, copy=False)
        _forward(x, w, b, _addresses(tables), index, width, packed, w_last, y, flat, pool.size())
    return y, z


def perceptron_backward(
    g: np.ndarray, x: np.ndarray, weights: list[np.ndarray], z: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    inputs, (width, outputs), depth = x.shape[1], weights[-1].shape, len(weights) - 1
    sizes = [inputs * width] + [width * width] * (depth - 1) + [outputs * width] + [width] * depth + [outputs]
    dx = memory.empty(x.shape)
    partial_sums = memory.empty((min(PARTIAL_SUMS, max(1, -(-len(x) // BLOCK))), sum(sizes)))
    _backward(g, x, _addresses(weights), width, z.reshape(-1), dx, partial_sums, pool.size())
    sums = [partial_sums[0, end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    dw, db = sums[: depth + 1], sums[depth + 1 :]
    dw = [d.reshape(w.shape) for d, w in zip(dw[:-1], weights, strict=False)]
    return dx, [*dw, sums[depth].reshape(outputs, width).T], db
