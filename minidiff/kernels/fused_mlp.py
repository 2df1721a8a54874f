"""A fused MLP: all layers in one pass, forward and backward; a block of rows stays in cache through all of them.

    h = x
    for l in range(depth):
        z[l] = h @ W[l] + b[l] + sum(table_k[index_k, l] for each table k)
        h = z[l] * sigmoid(z[l])
    y = h @ W[depth] + b[depth]

Written so, layer by layer, the products would be written to memory, read again to add the rest and apply SiLU, and
written once more. Here BLOCK rows go through every layer before the next rows begin, so all of it happens in the L2
cache. Only z is kept for backward, where one exponential gives both h and the derivative of SiLU again.

The products between hidden layers run on the microkernel. The first and the last layer map one or two numbers to or
from a whole layer, and would leave most lanes of a register tile empty: they are a few vector operations for each row.

The result of a row depends on that row alone. Gradients of weights are sums over all rows: the blocks are divided among
at most PARTIAL_SUMS partial sums, which are then added in order; the division depends only on the size of the batch.
"""

from ctypes import addressof, c_char

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from . import frozen, memory, pool
from .jit import device, kernel
from .launch import ceil_div, launch_ranges
from .math32 import fast_sigmoid
from .microkernel import FLOAT, MR, NR, address_of
from .packing import add_transposed, multiply, pack

BLOCK = 64  # rows that go through the layers together: a multiple of MR on every machine
PARTIAL_SUMS = 8  # partial sums of the weights' gradients

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
def _prepare(weights, transposed, packed, w_last):
    """Fill the arrays with the inner weights, or their transposes, in micro-panels, and with the last, transposed."""
    outputs, width = w_last.shape
    for layer in range(packed.shape[0]):
        w = _vector(weights[layer + 1], width * width)
        for index in range(packed.shape[1]):
            column = index * NR
            at, lanes = column * width if transposed else column, min(NR, width - column)
            pack(w, at, width, transposed, width, lanes, packed[layer, index])
    w = _vector(weights[-1], width * outputs)
    for o in range(outputs):
        for c in range(width):
            w_last[o, c] = w[c * outputs + o]


@device
def _prepared(weights, width, outputs, transposed):
    """The arrays of `_prepare`: (depth − 1, micro-panels, width, NR) and (outputs, width)."""
    packed = np.empty((weights.size - 2, ceil_div(width, NR), width, NR), np.float32)
    w_last = np.empty((outputs, width), np.float32)
    _prepare(weights, transposed, packed, w_last)
    return packed, w_last


@device
def _row_addresses(address, count, stride, out):
    """The addresses of `count` rows, `stride` numbers apart; the last repeats, since the microkernel reads MR rows."""
    for r in range(BLOCK):
        out[0, r] = address + min(r, count - 1) * stride * FLOAT


@device
def _product(addresses, count, packed, start, out, at, stride):
    """out[at + r · stride + column] = start[column] + (row r) · (column of the matrix in `packed`)."""
    width = packed.shape[1]
    for index in range(packed.shape[0]):
        column = index * NR
        lanes = min(NR, width - column)
        multiply(addresses, count, width, packed[index], start[column:], out, at + column, lanes, stride)


@device
def _forward_block(first, count, x, network, index, prepared, y, z, scratch):
    """Rows first … first + count − 1 through all layers; z is written where it is kept, else to scratch memory."""
    (weights, biases, tables), (packed, w_last), (h, not_kept, h_rows, start) = network, prepared, scratch
    (_, depth, width), keep = z.shape, z.shape[0] > 0
    all_z = z if keep else not_kept
    for layer in range(depth):
        z0, level = (first, layer) if keep else (0, 0)
        bias = _vector(biases[layer], width)
        if layer > 0:
            for c in range(width):
                start[c] = bias[c]
            at, stride = (z0 * all_z.shape[1] + level) * width, all_z.shape[1] * width
            _product(h_rows, count, packed[layer - 1], start, all_z.reshape(-1), at, stride)
        for r in range(count):
            row, h_row = all_z[z0 + r, level], h[r, 0]
            if layer == 0:
                for i in range(x.shape[1]):
                    scalar, w = x[first + r, i], _vector(weights[0] + i * width * FLOAT, width)
                    before = bias if i == 0 else row
                    for c in range(width):
                        row[c] = before[c] + scalar * w[c]
            for k in range(1, tables.size):
                embedding = _embedding(tables[k], index[k, first + r], layer, depth, width)
                for c in range(width):
                    row[c] += embedding[c]
            embedding = _embedding(tables[0], index[0, first + r], layer, depth, width)
            for c in range(width):
                total = row[c] + embedding[c]
                row[c] = total
                h_row[c] = total * fast_sigmoid(total)
    b_last = _vector(biases[depth], y.shape[1])
    for r in range(count):
        row = h[r, 0]
        for o in range(y.shape[1]):
            total, w = np.float32(0), w_last[o]
            for c in range(width):
                total += row[c] * w[c]
            y[first + r, o] = total + b_last[o]


@device
def _embedding(table, row, layer, depth, width):
    """The numbers that a row of a table, (rows, depth · width) at this address, adds to z of a layer."""
    return _vector(table + (row * depth + layer) * width * FLOAT, width)


@device
def _forward_range(worker, begin, end, x, network, index, prepared, y, z, all_scratch):
    """Some of the blocks. Weights that are not frozen are packed here: fetching them from another core is slower."""
    width = z.shape[2]
    if not prepared[1].size:
        prepared = _prepared(network[0], width, y.shape[1], False)
    h, not_kept, h_rows = all_scratch[0, worker], all_scratch[1, worker], np.empty((1, BLOCK), np.int64)
    scratch = h, not_kept, h_rows, np.zeros(ceil_div(width, NR) * NR, np.float32)
    for block in range(begin, end):
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] - first)
        _row_addresses(address_of(h), count, width, h_rows)
        _forward_block(first, count, x, network, index, prepared, y, z, scratch)


@kernel
def _forward(x, network, index, prepared, y, z, workers):
    """network: the addresses of weights, biases and tables; z (B, depth, width), or (0, depth, width): not kept."""
    blocks, scratch = ceil_div(x.shape[0], BLOCK), np.empty((2, workers, BLOCK, 1, z.shape[2]), np.float32)
    launch_ranges(_forward_range, blocks, workers, x, network, index, prepared, y, z, scratch)


@device
def _last_layer(first, count, g, w_last, dh):
    """dh = g · w_last."""
    for r in range(count):
        dh_row = dh[r]
        for c in range(dh_row.size):
            dh_row[c] = 0
        for o in range(g.shape[1]):
            scalar, w = g[first + r, o], w_last[o]
            for c in range(dh_row.size):
                dh_row[c] += scalar * w[c]


@device
def _activations(first, count, layer, z, h, dh, b_sums):
    """z ← dz = dh · SiLU′(z), and its sum over the rows is added to b_sums; h = SiLU(z)."""
    for r in range(count):
        row, h_row, dh_row = z[first + r, layer], h[r], dh[r]
        for c in range(row.size):
            s = fast_sigmoid(row[c])
            value = row[c] * s
            h_row[c] = value
            dz = dh_row[c] * (s + value * (np.float32(1) - s))
            row[c] = dz
            b_sums[c] += dz


@device
def _last_weights(first, count, g, h, w_sums, b_sums):
    """w_sums += gᵀ h and b_sums += the sum of g over the rows."""
    for o in range(g.shape[1]):
        sums = w_sums[o]
        for r in range(count):
            scalar, h_row = g[first + r, o], h[r]
            b_sums[o] += scalar
            for c in range(h_row.size):
                sums[c] += scalar * h_row[c]


@device
def _inner_weights(count, h_rows, dz_packed, w_sums):
    """w_sums += hᵀ dz of the next layer."""
    width = w_sums.shape[0]
    flat = w_sums.reshape(-1)
    for index in range(dz_packed.shape[0]):
        column = index * NR
        for i in range(0, width, MR):
            rows, lanes = min(MR, width - i), min(NR, width - column)
            at = i * width + column
            add_transposed(h_rows[0], i * FLOAT, count, dz_packed[index], flat, at, rows, lanes, width)


@device
def _first_layer(first, count, x, w, z, dx, w_sums):
    """w_sums += xᵀ dz and dx = dz · wᵀ."""
    for i in range(x.shape[1]):
        sums, w_row = w_sums[i], w[i]
        for r in range(count):
            row = z[first + r, 0]
            scalar, total = x[first + r, i], np.float32(0)
            for c in range(row.size):
                sums[c] += scalar * row[c]
                total += row[c] * w_row[c]
            dx[first + r, i] = total


@device
def _backward_block(first, count, g, x, w_first, prepared, z, dx, gradients, scratch):
    """Rows first … first + count − 1 back through all layers; their gradients in the weights are added."""
    (packed, w_last), (h, dh, dz_packed, h_rows, dz_rows, zeros) = prepared, scratch
    dw_first, dw_inner, dw_last, db, db_last = gradients
    _, depth, width = z.shape
    stride = depth * width
    _row_addresses(address_of(h), count, width, h_rows)
    _last_layer(first, count, g, w_last, dh)
    for layer in range(depth - 1, -1, -1):
        _activations(first, count, layer, z, h, dh, db[layer])
        if layer == depth - 1:
            _last_weights(first, count, g, h, dw_last, db_last)
        else:
            _inner_weights(count, h_rows, dz_packed, dw_inner[layer])
        if layer > 0:
            at = first * stride + layer * width
            for index in range(dz_packed.shape[0]):
                lanes = min(NR, width - index * NR)
                pack(z.reshape(-1), at + index * NR, stride, False, count, lanes, dz_packed[index])
            _row_addresses(address_of(z) + at * FLOAT, count, stride, dz_rows)
            _product(dz_rows, count, packed[layer - 1], zeros, dh.reshape(-1), np.int64(0), width)
    _first_layer(first, count, x, w_first, z, dx, dw_first)


@register_jitable
def _views(sums, inputs, depth, width, outputs):
    """The gradients in one vector of sums: of the first, inner and last (transposed) weights, and of the biases."""
    inner = inputs * width
    last = inner + (depth - 1) * width * width
    biases = last + outputs * width
    end = biases + depth * width
    return (
        sums[:inner].reshape(inputs, width),
        sums[inner:last].reshape(depth - 1, width, width),
        sums[last:biases].reshape(outputs, width),
        sums[biases:end].reshape(depth, width),
        sums[end:],
    )


@device
def _backward_range(worker, begin, end, g, x, weights, z, dx, partial_sums):
    """Some of the partial sums, each over its own blocks."""
    (_, depth, width), inputs, outputs = z.shape, x.shape[1], g.shape[1]
    prepared, w_first = _prepared(weights, width, outputs, True), _vector(weights[0], inputs * width)
    h, dh = np.empty((BLOCK + MR, width), np.float32), np.empty((BLOCK, width), np.float32)
    dz_packed = np.empty((ceil_div(width, NR), BLOCK, NR), np.float32)
    h_rows, dz_rows = np.empty((1, BLOCK), np.int64), np.empty((1, BLOCK), np.int64)
    scratch = h, dh, dz_packed, h_rows, dz_rows, np.zeros(dz_packed.shape[0] * NR, np.float32)
    blocks, count = ceil_div(x.shape[0], BLOCK), partial_sums.shape[0]
    for index in range(begin, end):
        sums = partial_sums[index]
        for i in range(sums.size):
            sums[i] = 0
        gradients = _views(sums, inputs, depth, width, outputs)
        for block in range(blocks * index // count, blocks * (index + 1) // count):
            first = block * BLOCK
            rows = min(BLOCK, x.shape[0] - first)
            w = w_first.reshape(inputs, width)
            _backward_block(first, rows, g, x, w, prepared, z, dx, gradients, scratch)


@kernel
def _backward(g, x, weights, z, dx, partial_sums, workers):
    """The total is left in the first of the partial sums."""
    launch_ranges(_backward_range, partial_sums.shape[0], workers, g, x, weights, z, dx, partial_sums)
    for index in range(1, partial_sums.shape[0]):
        total, more = partial_sums[0], partial_sums[index]
        for i in range(total.size):
            total[i] += more[i]


@kernel
def _pack_once(weights, width, outputs):
    """For weights that are frozen."""
    return _prepared(weights, width, outputs, False)


def _addresses(arrays: list[np.ndarray]) -> np.ndarray:
    """The address of each array."""
    return np.array([addressof(c_char.from_buffer(a)) for a in arrays])


def _layers(weights: list[np.ndarray], biases: list[np.ndarray]):
    """The addresses of weights and biases, and the prepared weights: empty arrays where they may still change."""
    arrays = *weights, *biases
    key = "perceptron", *map(id, arrays)
    entry = frozen.cached(weights[-1], key)
    if entry is not None:
        return entry[0]
    all_frozen = all(map(frozen.is_frozen, arrays))
    addresses = _addresses(weights), _addresses(biases)
    found = addresses, _pack_once(addresses[0], *weights[-1].shape) if all_frozen else _NOT_PREPARED
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
    z = memory.empty((len(x) if keep else 0, len(weights) - 1, width))
    if x.size:
        addresses, prepared = _layers(weights, biases)
        network = *addresses, _addresses(tables)
        _forward(x, network, index.astype(np.int64, copy=False), prepared, y, z, pool.active())
    return y, z if keep else None


def perceptron_backward(
    g: np.ndarray, x: np.ndarray, weights: list[np.ndarray], z: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    inputs, (width, outputs), depth = x.shape[1], weights[-1].shape, len(weights) - 1
    dx, size = memory.empty(x.shape), sum(w.size for w in weights) + depth * width + outputs
    partial_sums = memory.empty((min(PARTIAL_SUMS, max(1, ceil_div(len(x), BLOCK))), size))
    _backward(g, x, _addresses(weights), z, dx, partial_sums, pool.active())
    first, inner, last, db, db_last = _views(partial_sums[0], inputs, depth, width, outputs)
    return dx, [first, *inner, last.T], [*db, db_last]
