"""Multi-head scaled dot-product attention, forward and backward, on the microkernel.

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

from . import memory, pool
from .jit import device, kernel
from .launch import launch
from .math32 import exp
from .microkernel import FLOAT, MR, NR, address_of, copy_row, microkernel, transposed_microkernel

HALF = NR // 2  # lanes that the softmax processes at a time
KC = 256  # rows of a micro-panel that are used on all rows of A before the next: they stay in the L1 cache
SERIAL_BELOW = 250_000  # multiplications; fewer take less time than waking the other threads


@device
def _row_addresses(source, at, stride, rows, columns, copied, table):
    """table[r] = the address of row r, source[at + r · stride …], the first row's for r ≥ rows.

    MR columns are read at a time: where `columns` is not a multiple of MR, the rows are copied to the wider `copied`.
    """
    begin, step = address_of(source) + at * FLOAT, stride * FLOAT
    if columns % MR:
        begin, step = address_of(copied), copied.shape[1] * FLOAT
        for r in range(rows):
            for c in range(columns):
                copied[r, c] = source[at + r * stride + c]
    for r in range(table.size):
        table[r] = begin + (r if r < rows else 0) * step


@device
def _addresses_of_rows(array):
    """The addresses of the rows of a (rows, NR) array."""
    table = np.empty(array.shape[0], np.int64)
    for r in range(table.size):
        table[r] = address_of(array) + r * NR * FLOAT
    return table


@device
def _add_product(rows, run, micro_panel, out):
    """out[r, lane] += Σ_i A[r][i] · micro_panel[i, lane], i < run; A[r] begins at the address rows[r]."""
    step = NR * FLOAT
    for i in range(0, run, KC):
        for r in range(0, out.shape[0], MR):
            here = address_of(out) + r * step
            microkernel(
                address_of(rows) + r * 8, 0, 1, i * FLOAT, min(KC, run - i),
                address_of(micro_panel) + i * step, here, step, here, step,
            )  # fmt: skip


@device
def _add_transposed_product(rows, count, micro_panel, out):
    """out[p, lane] += Σ_j A[j][p] · micro_panel[j, lane], j < count; A[j] begins at the address rows[j]."""
    step = NR * FLOAT
    for p in range(0, out.shape[0], MR):
        transposed_microkernel(
            address_of(rows), p * FLOAT, count, address_of(micro_panel), address_of(out) + p * step, step
        )


@device
def _load(source, at, stride, count, width, block):
    """block[r, lane] = source[at + r · stride + lane], r < count and lane < width; other lanes are undefined."""
    for r in range(count):
        begin = at + r * stride
        if begin + NR <= source.size:
            copy_row(address_of(source) + begin * FLOAT, address_of(block) + r * NR * FLOAT)
        else:
            for lane in range(width):
                block[r, lane] = source[begin + lane]


@device
def _load_transposed(source, at, stride, count, block):
    """block[c, lane] = source[at + lane · stride + c], zeros from lane = count on."""
    if count < NR:
        block[:] = 0
    for lane in range(count):
        row = source[at + lane * stride : at + lane * stride + block.shape[0]]
        for c in range(row.size):
            block[c, lane] = row[c]


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
    return (n + MR - 1) // MR * MR


@device
def _attend(begin, end, shape, q, k, v, out, weights_out, k_copy, v_copy, q_block, weights, out_block):
    """Blocks begin … end − 1 of NR queries, counted through all heads of all images."""
    _, heads, queries, keys, size = shape
    channels, blocks, loaded = heads * size, (queries + NR - 1) // NR, np.int64(-1)
    k_rows, v_rows = np.empty(k_copy.shape[0], np.int64), np.empty(k_copy.shape[0], np.int64)
    scale = np.float32(1 / math.sqrt(size))
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
        _load_transposed(q, q_at, channels, count, q_block)
        weights[:] = 0
        _add_product(k_rows, size, q_block, weights)
        _softmax(weights, keys, count, scale)
        for j in range(keys):
            at = (head * keys + j) * queries + first
            target, row = weights_out[at : at + count], weights[j]
            for lane in range(count):
                target[lane] = row[lane]
        out_block[:] = 0
        _add_transposed_product(v_rows, keys, weights, out_block)
        _store_transposed(out_block, size, out, q_at, channels, count)


@device
def _matrix(scratch, at, rows, columns):
    """A matrix at `at` in the scratch memory, and the offset at which the next may begin."""
    end = at + rows * columns
    return scratch[at:end].reshape(rows, columns), end


@device
def _attend_worker(worker, workers, jobs, shape, q, k, v, out, weights_out, scratch):
    keys, size, scratch = shape[3], shape[4], scratch[worker]
    tall, wide = _round_up(keys), _round_up(size)
    q_block, at = _matrix(scratch, np.int64(0), size, NR)
    weights, at = _matrix(scratch, at, tall, NR)
    out_block, at = _matrix(scratch, at, wide, NR)
    k_copy, at = _matrix(scratch, at, tall, wide)
    v_copy, at = _matrix(scratch, at, tall, wide)
    begin, end = jobs * worker // workers, jobs * (worker + 1) // workers
    _attend(begin, end, shape, q, k, v, out, weights_out, k_copy, v_copy, q_block, weights, out_block)


@kernel
def _forward(shape, q, k, v, out, weights_out, scratch):
    jobs, threads = shape[0] * shape[1] * ((shape[2] + NR - 1) // NR), scratch.shape[0]
    launch(_attend_worker, threads, threads, jobs, shape, q, k, v, out, weights_out, scratch)


@device
def _differentiate(
    begin, end, shape, g, q, k, v, kept, dq, dk, dv,
    k_copy, v_copy, dk_sums, dv_sums, block, g_block, weights, dweights, dq_block,
):  # fmt: skip
    """Heads begin … end − 1, counted through all images."""
    _, heads, queries, keys, size = shape
    channels = heads * size
    k_rows, v_rows = np.empty(k_copy.shape[0], np.int64), np.empty(k_copy.shape[0], np.int64)
    weight_rows, dweight_rows = _addresses_of_rows(weights), _addresses_of_rows(dweights)
    scale = np.float32(1 / math.sqrt(size))
    for head in range(begin, end):
        image, channel = head // heads, head % heads * size
        k_at = image * keys * channels + channel
        _row_addresses(k, k_at, channels, keys, size, k_copy, k_rows)
        _row_addresses(v, k_at, channels, keys, size, v_copy, v_rows)
        dk_sums[:] = 0
        dv_sums[:] = 0
        for first in range(0, queries, NR):
            count = min(NR, queries - first)
            q_at = (image * queries + first) * channels + channel
            _load(kept, head * keys * queries + first, queries, keys, count, weights)
            _load_transposed(g, q_at, channels, count, g_block)
            dweights[:] = 0
            _add_product(v_rows, size, g_block, dweights)
            _softmax_backward(weights, dweights, keys, count, scale)
            dq_block[:] = 0
            _add_transposed_product(k_rows, keys, dweights, dq_block)
            _store_transposed(dq_block, size, dq, q_at, channels, count)
            for index in range(dk_sums.shape[0]):
                column = index * NR
                width = min(NR, size - column)
                _load(q, q_at + column, channels, count, width, block)
                _add_product(dweight_rows, count, block, dk_sums[index])
                _load(g, q_at + column, channels, count, width, block)
                _add_product(weight_rows, count, block, dv_sums[index])
        for index in range(dk_sums.shape[0]):
            column = index * NR
            width = min(NR, size - column)
            for j in range(keys):
                at = k_at + j * channels + column
                dk_row, dv_row = dk[at : at + width], dv[at : at + width]
                for lane in range(width):
                    dk_row[lane], dv_row[lane] = dk_sums[index, j, lane], dv_sums[index, j, lane]


@device
def _differentiate_worker(worker, workers, shape, g, q, k, v, kept, dq, dk, dv, scratch):
    keys, size, scratch = shape[3], shape[4], scratch[worker]
    tall, wide, blocks = _round_up(keys), _round_up(size), (size + NR - 1) // NR
    g_block, at = _matrix(scratch, np.int64(0), size, NR)
    block, at = _matrix(scratch, at, np.int64(NR), NR)
    weights, at = _matrix(scratch, at, tall, NR)
    dweights, at = _matrix(scratch, at, tall, NR)
    dq_block, at = _matrix(scratch, at, wide, NR)
    dk_sums, at = _matrix(scratch, at, blocks * tall, NR)
    dv_sums, at = _matrix(scratch, at, blocks * tall, NR)
    k_copy, at = _matrix(scratch, at, tall, wide)
    v_copy, at = _matrix(scratch, at, tall, wide)
    jobs = shape[0] * shape[1]
    begin, end = jobs * worker // workers, jobs * (worker + 1) // workers
    _differentiate(
        begin, end, shape, g, q, k, v, kept, dq, dk, dv, k_copy, v_copy, dk_sums.reshape(blocks, tall, NR),
        dv_sums.reshape(blocks, tall, NR), block, g_block, weights, dweights, dq_block,
    )  # fmt: skip


@kernel
def _backward(shape, g, q, k, v, kept, dq, dk, dv, scratch):
    threads = scratch.shape[0]
    launch(_differentiate_worker, threads, threads, shape, g, q, k, v, kept, dq, dk, dv, scratch)


def _scratch(q: np.ndarray, k: np.ndarray, heads: int) -> np.ndarray:
    """(threads, n): for each thread in use, memory for all matrices of a job, forward or backward."""
    threads = 1 if q.size * k.shape[1] < SERIAL_BELOW else pool.size()
    size = q.shape[2] // heads
    tall, wide = k.shape[1] + MR, size + NR
    room = (NR + size + 2 * tall + wide) * NR + 4 * tall * wide
    return memory.empty((threads, max(-(-room // NR) * NR, memory.SMALL // FLOAT)))


def _shape(q: np.ndarray, k: np.ndarray, heads: int) -> tuple[int, int, int, int, int]:
    """The numbers of images, heads, queries, keys and channels of a head."""
    return len(q), heads, q.shape[1], k.shape[1], q.shape[2] // heads


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1) for array in arrays]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    out, weights = memory.empty(q.shape), memory.empty((len(q), heads, k.shape[1], q.shape[1]))
    _forward(_shape(q, k, heads), *_flat(q, k, v, out, weights), _scratch(q, k, heads))
    return out, weights


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dq, dk, dv = memory.empty(q.shape), memory.empty(k.shape), memory.empty(v.shape)
    heads = weights.shape[1]
    _backward(_shape(q, k, heads), *_flat(g, q, k, v, weights, dq, dk, dv), _scratch(q, k, heads))
    return dq, dk, dv
