"""Multi-head scaled dot-product attention, forward and backward, on the microkernel.

    for each image and head:
        for i in range(queries):
            scores = [q[i] @ k[j] / sqrt(d) for j in range(keys)]
            weights = exp(scores - max(scores))
            weights /= sum(weights)
            out[i] = sum(weights[j] * v[j] for j in range(keys))

Written so, the products with q[i] are of a matrix and one vector, which read the matrix again for every query. Instead
NR queries of one head are processed at a time: they are the lanes of the register tile, and the keys its rows. So the
softmax runs down the rows in every lane at once, and the block of weights, (keys, NR), already is the micro-panel of
the next product. Forward keeps all weights for backward, one row for each key. With S = q kᵀ / √d, P = softmax(S),
out = P v:

    dP = g vᵀ      dS = P (dP − Σ_keys P dP) / √d      dq = dS k      dk = dSᵀ q      dv = Pᵀ g

Every sum runs in one order, which does not depend on the threads: these divide among them the blocks of queries,
forward, and the heads, backward.
"""

import math

import numpy as np

from . import memory
from .jit import device, kernel
from .launch import ceil_div, launch_ranges, workers_for
from .math32 import exp
from .microkernel import FLOAT, MR, NR, address_of, microkernel
from .packing import add_all_transposed, fill_addresses, pack
from .reference import Array

HALF = NR // 2  # lanes that the softmax processes at a time
SERIAL_BELOW = 250_000  # multiplications; fewer take less time than waking the other threads


@device
def _row_addresses(source, at, stride, rows, columns, copied, table):
    """table[r] = the address of row r, source[at + r · stride …], the first row's for r ≥ rows.

    MR columns are read at a time: rows that would be read beyond the end of the source are copied, MR at most.
    """
    for r in range(table.size):
        row = r if r < rows else 0
        begin = at + row * stride
        table[r] = address_of(source) + begin * FLOAT
        if begin + copied.shape[1] > source.size:
            table[r] = address_of(copied) + row % MR * copied.shape[1] * FLOAT
            for c in range(columns):
                copied[row % MR, c] = source[begin + c]


@device
def _add_product(rows, run, micro_panel, out):
    """out[r, lane] += Σ_i A[r][i] · micro_panel[i, lane], i < run; A[r] begins at the address rows[r]."""
    step = NR * FLOAT
    for r in range(0, rows.size, MR):
        here = address_of(out) + r * step
        a = address_of(rows) + r * 8
        microkernel(a, 0, 1, 0, run, address_of(micro_panel), here, step, here, step)


@device
def _store(block, rows, width, out, at, stride):
    """out[at + r · stride + lane] = block[r, lane], r < rows and lane < width."""
    for r in range(rows):
        target, row = out[at + r * stride : at + r * stride + width], block[r]
        for lane in range(width):
            target[lane] = row[lane]


@device
def _store_transposed(block, size, out, at, stride, count):
    """out[at + lane · stride + c] = block[c, lane], c < size and lane < count."""
    for lane in range(count):
        row = out[at + lane * stride : at + lane * stride + size]
        for c in range(size):
            row[c] = block[c, lane]


@device
def _softmax(scores, keys, count, scale):
    """scores ← softmax(scale · scores) over the rows, in the first `count` lanes. A NaN fills its lane."""
    largest, total = np.empty(HALF, np.float32), np.empty(HALF, np.float32)
    for begin in range(0, count, HALF):
        largest[:] = -np.inf
        total[:] = 0
        for j in range(keys):
            row = scores[j, begin : begin + HALF]
            for lane in range(HALF):
                largest[lane] = row[lane] if row[lane] > largest[lane] else largest[lane]
        for j in range(keys):
            row = scores[j, begin : begin + HALF]
            for lane in range(HALF):
                row[lane] = exp((row[lane] - largest[lane]) * scale)
                total[lane] += row[lane]
        for lane in range(HALF):
            total[lane] = np.float32(1) / total[lane]
        for j in range(keys):
            row = scores[j, begin : begin + HALF]
            for lane in range(HALF):
                row[lane] *= total[lane]


@device
def _softmax_backward(weights, dweights, keys, count, scale):
    """dweights ← the gradient in the scores: weights · (dweights − Σ_keys weights · dweights) · scale."""
    mean = np.empty(HALF, np.float32)
    for begin in range(0, count, HALF):
        mean[:] = 0
        for j in range(keys):
            weight, dweight = weights[j, begin : begin + HALF], dweights[j, begin : begin + HALF]
            for lane in range(HALF):
                mean[lane] += weight[lane] * dweight[lane]
        for j in range(keys):
            weight, dweight = weights[j, begin : begin + HALF], dweights[j, begin : begin + HALF]
            for lane in range(HALF):
                dweight[lane] = weight[lane] * (dweight[lane] - mean[lane]) * scale


@device
def _round_up(n):
    """The next multiple of MR."""
    return ceil_div(n, MR) * MR


@device
def _attend(worker, begin, end, shape, arrays, scratch):
    """Blocks begin … end − 1 of NR queries, counted through all heads of all images."""
    heads, queries, keys, size = shape
    q, k, v, out, weights_out = arrays
    tall, wide, channels, blocks = _round_up(keys), _round_up(size), heads * size, ceil_div(queries, NR)
    q_block, weights, out_block = scratch[worker, 0], scratch[worker, 1, :tall], scratch[worker, 2, :wide]
    (k_rows, v_rows), (k_copy, v_copy) = np.empty((2, tall), np.int64), np.empty((2, MR, wide), np.float32)
    scale, loaded = np.float32(1 / math.sqrt(size)), np.int64(-1)
    for job in range(begin, end):
        head, first = job // blocks, job % blocks * NR
        image, channel = head // heads, head % heads * size
        count = min(NR, queries - first)
        if head != loaded:
            k_at = image * keys * channels + channel
            _row_addresses(k, k_at, channels, keys, size, k_copy, k_rows)
            _row_addresses(v, k_at, channels, keys, size, v_copy, v_rows)
            loaded = head
        q_at = (image * queries + first) * channels + channel
        pack(q, q_at, channels, True, size, count, q_block)
        weights[:] = 0
        _add_product(k_rows, size, q_block, weights)
        _softmax(weights, keys, count, scale)
        _store(weights, keys, count, weights_out, head * keys * queries + first, queries)
        out_block[:] = 0
        add_all_transposed(v_rows, keys, weights, out_block.reshape(-1), 0, wide, NR, NR)
        _store_transposed(out_block, size, out, q_at, channels, count)


@kernel
def _forward(q, k, v, out, weights, scratch):
    images, heads, keys, queries = weights.shape
    jobs, shape = images * heads * ceil_div(queries, NR), (heads, queries, keys, q.shape[2] // heads)
    arrays = q.reshape(-1), k.reshape(-1), v.reshape(-1), out.reshape(-1), weights.reshape(-1)
    launch_ranges(_attend, jobs, scratch.shape[0], shape, arrays, scratch)


@device
def _differentiate(worker, begin, end, shape, arrays, scratch):
    """Heads begin … end − 1, counted through all images."""
    heads, queries, keys, size = shape
    g, q, k, v, kept, dq, dk, dv = arrays
    tall, wide, channels, blocks = _round_up(keys), _round_up(size), heads * size, ceil_div(size, NR)
    g_block, block, dq_block = scratch[worker, 0], scratch[worker, 1], scratch[worker, 2, :wide]
    weights, dweights = scratch[worker, 3, :tall], scratch[worker, 4, :tall]
    dk_sums, dv_sums = scratch[worker, 5 : 5 + blocks], scratch[worker, 5 + blocks : 5 + 2 * blocks]
    (k_rows, v_rows), (k_copy, v_copy) = np.empty((2, tall), np.int64), np.empty((2, MR, wide), np.float32)
    weight_rows, dweight_rows = np.empty((2, tall), np.int64)
    fill_addresses(address_of(weights), NR, weight_rows)
    fill_addresses(address_of(dweights), NR, dweight_rows)
    scale = np.float32(1 / math.sqrt(size))
    for head in range(begin, end):
        image, channel = head // heads, head % heads * size
        k_at = image * keys * channels + channel
        _row_addresses(k, k_at, channels, keys, size, k_copy, k_rows)
        _row_addresses(v, k_at, channels, keys, size, v_copy, v_rows)
        for index in range(blocks):
            dk_sums[index, :tall] = 0
            dv_sums[index, :tall] = 0
        for first in range(0, queries, NR):
            count = min(NR, queries - first)
            q_at = (image * queries + first) * channels + channel
            pack(kept, head * keys * queries + first, queries, False, keys, count, weights)
            pack(g, q_at, channels, True, size, count, g_block)
            dweights[:] = 0
            _add_product(v_rows, size, g_block, dweights)
            _softmax_backward(weights, dweights, keys, count, scale)
            dq_block[:] = 0
            add_all_transposed(k_rows, keys, dweights, dq_block.reshape(-1), 0, wide, NR, NR)
            _store_transposed(dq_block, size, dq, q_at, channels, count)
            for index in range(blocks):
                at, width = q_at + index * NR, min(NR, size - index * NR)
                pack(q, at, channels, False, count, width, block)
                _add_product(dweight_rows, count, block, dk_sums[index])
                pack(g, at, channels, False, count, width, block)
                _add_product(weight_rows, count, block, dv_sums[index])
        for index in range(blocks):
            at, width = k_at + index * NR, min(NR, size - index * NR)
            _store(dk_sums[index], keys, width, dk, at, channels)
            _store(dv_sums[index], keys, width, dv, at, channels)


@kernel
def _backward(g, q, k, v, weights, dq, dk, dv, scratch):
    images, heads, keys, queries = weights.shape
    shape = heads, queries, keys, q.shape[2] // heads
    inputs = g.reshape(-1), q.reshape(-1), k.reshape(-1), v.reshape(-1), weights.reshape(-1)
    arrays = *inputs, dq.reshape(-1), dk.reshape(-1), dv.reshape(-1)
    launch_ranges(_differentiate, images * heads, scratch.shape[0], shape, arrays, scratch)


def _scratch(q: Array, k: Array, heads: int) -> Array:
    """(workers, blocks, rows, NR): for each worker all the blocks of NR lanes that it needs, forward or backward."""
    size = q.shape[2] // heads
    rows = max(k.shape[1], size, NR) + MR
    workers = workers_for(q.size * k.shape[1], SERIAL_BELOW)
    return memory.empty((workers, 5 + 2 * ceil_div(size, NR), rows, NR))


def attention(q: Array, k: Array, v: Array, heads: int) -> tuple[Array, Array]:
    out, weights = memory.empty(q.shape), memory.empty((len(q), heads, k.shape[1], q.shape[1]))
    _forward(q, k, v, out, weights, _scratch(q, k, heads))
    return out, weights


def attention_backward(g: Array, q: Array, k: Array, v: Array, weights: Array) -> tuple[Array, Array, Array]:
    dq, dk, dv = memory.empty(q.shape), memory.empty(k.shape), memory.empty(v.shape)
    _backward(g, q, k, v, weights, dq, dk, dv, _scratch(q, k, weights.shape[1]))
    return dq, dk, dv
