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
from .packing import add_all_transposed, aligned, fill_addresses, multiply, pack
from .reference import Array

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
def _prepared(weights, width, outputs, transposed):
    """The inner weights, or their transposes, in micro-panels, and the last, transposed.

    (depth − 1, micro-panels, width, NR) and (outputs, width).
    """
    packed = aligned((weights.size - 2, ceil_div(width, NR), width, NR))
    for layer in range(packed.shape[0]):
        w = _vector(weights[layer + 1], width * width)
        for index in range(packed.shape[1]):
            column = index * NR
            at, lanes = column * width if transposed else column, min(NR, width - column)
            pack(w, at, width, transposed, width, lanes, packed[layer, index])
    w, w_last = _vector(weights[-1], width * outputs), np.empty((outputs, width), np.float32)
    for o in range(outputs):
        for c in range(width):
            w_last[o, c] = w[c * outputs + o]
    return packed, w_last


@device
def _scratch(width):
    """Two blocks, and a few numbers more, since MR are read from a row that may be shorter."""
    return aligned((2, BLOCK + MR, 1, width))


@device
def _blocks(scratch):
    """Both, as arrays to whose rows no references are counted: that takes longer than a row of a narrow layer."""
    size, (_, rows, _, width) = scratch.size // 2, scratch.shape
    both = address_of(scratch), address_of(scratch) + size * FLOAT
    return _vector(both[0], size).reshape(rows, 1, width), _vector(both[1], size).reshape(rows, 1, width)


@device
def _from_few(a, n, w, start, row):
    """row = start + Σ_i a[n, i] · w[i]: a row of a layer from few numbers."""
    for i in range(w.shape[0]):
        scalar, w_row, before = a[n, i], w[i], start if i == 0 else row
        for c in range(row.size):
            row[c] = before[c] + scalar * w_row[c]


@device
def _product(addresses, count, packed, start, out, first, layer):
    """out[first + r, layer] = start + (the row at addresses[0, r]) · (the matrix in `packed`), r < count."""
    width, flat, stride = packed.shape[1], out.reshape(-1), out.shape[1] * packed.shape[1]
    for index in range(packed.shape[0]):
        column = index * NR
        at, lanes = first * stride + layer * width + column, min(NR, width - column)
        multiply(addresses, count, width, packed[index], start[column:], flat, at, lanes, stride)


@device
def _embedding(table, row, layer, depth, width):
    """The numbers that a row of a table, (rows, depth · width) at this address, adds to z of a layer."""
    return _vector(table + (row * depth + layer) * width * FLOAT, width)


@device
def _forward_block(first, count, x, network, index, prepared, y, z, scratch):
    """Rows first … first + count − 1 through all layers; z is written where it is kept, else to scratch memory."""
    (weights, biases, tables), (packed, w_last), (memory, h_rows, start) = network, prepared, scratch
    h, not_kept = _blocks(memory)
    (inputs, outputs), (_, depth, width), keep = (x.shape[1], y.shape[1]), z.shape, z.shape[0] > 0
    all_z, w_first = z if keep else not_kept, _vector(weights[0], inputs * width).reshape(inputs, width)
    for layer in range(depth):
        z_first, z_layer = (first, layer) if keep else (0, 0)
        bias = _vector(biases[layer], width)
        if layer > 0:
            for c in range(width):
                start[c] = bias[c]
            _product(h_rows, count, packed[layer - 1], start, all_z, z_first, z_layer)
        for r in range(count):
            row, h_row = all_z[z_first + r, z_layer], h[r, 0]
            if layer == 0:
                _from_few(x, first + r, w_first, bias, row)
            for k in range(1, tables.size):
                embedding = _embedding(tables[k], index[k, first + r], layer, depth, width)
                for c in range(width):
                    row[c] += embedding[c]
            embedding = _embedding(tables[0], index[0, first + r], layer, depth, width)
            for c in range(width):
                total = row[c] + embedding[c]
                row[c] = total
                h_row[c] = total * fast_sigmoid(total)
    b_last = _vector(biases[depth], outputs)
    for r in range(count):
        row = h[r, 0]
        for o in range(outputs):
            total, w = np.float32(0), w_last[o]
            for c in range(width):
                total += row[c] * w[c]
            y[first + r, o] = total + b_last[o]


@device
def _forward_range(worker, begin, end, x, network, index, prepared, y, z):
    """Some of the blocks. Weights that are not frozen are packed here: fetching them from another core is slower."""
    width, memory = z.shape[2], _scratch(z.shape[2])
    if not prepared[1].size:
        prepared = _prepared(network[0], width, y.shape[1], False)
    h_rows, start = np.empty((1, BLOCK), np.int64), np.zeros(ceil_div(width, NR) * NR, np.float32)
    fill_addresses(address_of(memory), width, h_rows[0])
    for block in range(begin, end):
        first = block * BLOCK
        count = min(BLOCK, x.shape[0] - first)
        _forward_block(first, count, x, network, index, prepared, y, z, (memory, h_rows, start))


@kernel
def _forward(x, network, index, prepared, y, z, workers):
    """network: the addresses of weights, biases and tables; z (B, depth, width), or (0, depth, width): not kept."""
    launch_ranges(_forward_range, ceil_div(x.shape[0], BLOCK), workers, x, network, index, prepared, y, z)


@device
def _activations(first, count, layer, z, h, dh, b_sums):
    """z ← dz = dh · SiLU′(z), and its sum over the rows is added to b_sums; h = SiLU(z)."""
    for r in range(count):
        row, h_row, dh_row = z[first + r, layer], h[r, 0], dh[r, 0]
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
            scalar, h_row = g[first + r, o], h[r, 0]
            b_sums[o] += scalar
            for c in range(h_row.size):
                sums[c] += scalar * h_row[c]


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
    (packed, w_last), (memory, dz_packed, h_rows, dz_rows, zeros) = prepared, scratch
    h, dh = _blocks(memory)
    dw_first, dw_inner, dw_last, db, db_last = gradients
    _, depth, width = z.shape
    stride = depth * width
    for r in range(count):
        _from_few(g, first + r, w_last, zeros, dh[r, 0])
    for layer in range(depth - 1, -1, -1):
        _activations(first, count, layer, z, h, dh, db[layer])
        if layer == depth - 1:
            _last_weights(first, count, g, h, dw_last, db_last)
        else:
            dw = dw_inner[layer].reshape(-1)
            for index in range(dz_packed.shape[0]):
                column, lanes = index * NR, min(NR, width - index * NR)
                add_all_transposed(h_rows[0], count, dz_packed[index], dw, column, width, lanes, width)
        if layer > 0:
            at = first * stride + layer * width
            for index in range(dz_packed.shape[0]):
                column, lanes = index * NR, min(NR, width - index * NR)
                pack(z.reshape(-1), at + column, stride, False, count, lanes, dz_packed[index])
            for r in range(BLOCK):  # the last repeats, since the microkernel reads MR rows
                dz_rows[0, r] = address_of(z) + (at + min(r, count - 1) * stride) * FLOAT
            _product(dz_rows, count, packed[layer - 1], zeros, dh, 0, 0)
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
    prepared = _prepared(weights, width, outputs, True)
    w_first = _vector(weights[0], inputs * width).reshape(inputs, width)
    memory, dz_packed = _scratch(width), aligned((ceil_div(width, NR), BLOCK, NR))
    h_rows, dz_rows = np.empty((1, BLOCK), np.int64), np.empty((1, BLOCK), np.int64)
    fill_addresses(address_of(memory), width, h_rows[0])
    scratch = memory, dz_packed, h_rows, dz_rows, np.zeros(dz_packed.shape[0] * NR, np.float32)
    blocks, count = ceil_div(x.shape[0], BLOCK), partial_sums.shape[0]
    for index in range(begin, end):
        sums = partial_sums[index]
        for i in range(sums.size):
            sums[i] = 0
        gradients = _views(sums, inputs, depth, width, outputs)
        for block in range(blocks * index // count, blocks * (index + 1) // count):
            first = block * BLOCK
            rows = min(BLOCK, x.shape[0] - first)
            _backward_block(first, rows, g, x, w_first, prepared, z, dx, gradients, scratch)


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


def _addresses(arrays: list[Array]) -> Array:
    """The address of each array."""
    return np.array([addressof(c_char.from_buffer(a)) for a in arrays])


def _layers(weights: list[Array], biases: list[Array]):
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
    x: Array, weights: list[Array], biases: list[Array], tables: list[Array], index: Array, keep: bool
) -> tuple[Array, Array | None]:
    if frozen.precision_of(weights[-1]) == "bf16":
        raise ValueError("precision bf16 is for convolutions and linear layers: an MLP takes float32")
    width, outputs = weights[-1].shape
    y = memory.empty((len(x), outputs))
    z = memory.empty((len(x) if keep else 0, len(weights) - 1, width))
    if x.size:
        addresses, prepared = _layers(weights, biases)
        network, index = (*addresses, _addresses(tables)), index.astype(np.int64, copy=False)
        _forward(x, network, index, prepared, y, z, pool.active())
    return y, z if keep else None


def perceptron_backward(
    g: Array, x: Array, weights: list[Array], z: Array
) -> tuple[Array, list[Array], list[Array]]:
    inputs, (width, outputs), depth = x.shape[1], weights[-1].shape, len(weights) - 1
    dx, size = memory.empty(x.shape), sum(w.size for w in weights) + depth * width + outputs
    partial_sums = memory.empty((min(PARTIAL_SUMS, max(1, ceil_div(len(x), BLOCK))), size))
    _backward(g, x, _addresses(weights), z, dx, partial_sums, pool.active())
    first, inner, last, db, db_last = _views(partial_sums[0], inputs, depth, width, outputs)
    return dx, [first, *inner, last.T], [*db, db_last]
